"""API keys: every guarded route asks for one, and neither answer nor log tells anything of it."""

import hmac

import pytest
from structlog.testing import capture_logs

from tests.conftest import QUESTION, assert_error, make_client

KEY = "s3cret-Key"
OPEN = {"/", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"}
BODIES = {
    "/generate-sql": QUESTION,
    "/v1/completions": {"model": "spider", "prompt": "x"},
    "/v1/chat/completions": {"model": "spider", "messages": [{"role": "user", "content": "x"}]},
}
GUARDED = [
    ("POST", "/generate-sql"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/databases"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/spider"),
]
# Fault 21: each is a list of Authorization headers.
WRONG = [
    [],
    [b""],
    [b"Bearer"],
    [b"Bearer "],
    [b"Bearer wrong"],
    [b"Bearer S3CRET-KEY"],
    [b"Bearer s3cret-Key "],
    [b"Bearer  s3cret-Key"],
    [b"Bearer s3cret-Key,other"],
    [b"bearer s3cret-Key"],
    [b"BEARER s3cret-Key"],
    [b"Basic s3cret-Key"],
    [b"s3cret-Key"],
    [b"Bearer\ts3cret-Key"],
    [b"Bearer s3cret-Key", b"Bearer s3cret-Key"],
    [b"Bearer wrong", b"Bearer s3cret-Key"],
    ["Bearer ключ".encode()],
    [b"Bearer " + b"a" * 100_000],
]


@pytest.fixture
async def locked(generator):
    async with make_client(generator, api_keys=f"{KEY}, other-key") as client:
        yield client


async def test_every_route_is_either_guarded_or_open_on_purpose(locked):
    paths = (await locked.get("/openapi.json")).json()["paths"]
    found = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    guarded = {(method, path.replace("/spider", "/{model}")) for method, path in GUARDED}
    assert {(method, path) for method, path in found if path not in OPEN} == guarded


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_a_guarded_route_refuses_without_a_key_and_answers_with_one(
    locked, engine, method, path
):
    body = BODIES.get(path)
    refused = await locked.request(method, path, json=body)
    assert_error(refused, 401, "invalid_api_key")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert not engine.questions
    for key in (KEY, "other-key"):
        headers = {"Authorization": f"Bearer {key}"}
        assert (await locked.request(method, path, json=body, headers=headers)).status_code == 200


@pytest.mark.parametrize("given", WRONG, ids=lambda given: str(given)[:40])
async def test_anything_but_one_exact_key_is_401(locked, engine, given, caplog):
    headers = [(b"authorization", value) for value in given]
    with capture_logs() as logs:
        response = await locked.post("/generate-sql", json=QUESTION, headers=headers)
    assert_error(response, 401, "invalid_api_key")
    assert KEY not in response.text
    assert not logs
    assert not caplog.records
    assert not engine.questions


async def test_a_key_in_the_query_is_not_looked_at(locked):
    response = await locked.get(f"/databases?api_key={KEY}&authorization=Bearer+{KEY}")
    assert_error(response, 401, "invalid_api_key")


async def test_a_bad_body_is_not_looked_into_without_a_key(locked):
    response = await locked.post("/generate-sql", json={"natural_language_query": 1, "x": 2})
    assert_error(response, 401, "invalid_api_key")


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_health_metrics_and_the_page_need_no_key(locked, path):
    assert (await locked.get(path)).status_code == 200


async def test_without_keys_every_header_passes(client):
    for headers in ({}, {"Authorization": "Bearer anything"}):
        assert (await client.get("/databases", headers=headers)).status_code == 200


@pytest.mark.parametrize("key", [KEY, "other-key", "wrong", ""])
async def test_every_key_is_compared_whichever_is_given(locked, monkeypatch, key):
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    await locked.get("/databases", headers={"Authorization": f"Bearer {key}"})
    assert len(compared) == 2
    assert all(len(left) == len(right) == 32 for left, right in compared)


async def test_refusals_are_counted(locked, generator):
    for _ in range(3):
        await locked.get("/databases")
    assert generator.metrics.rejected.labels("unauthorized")._value.get() == 3
