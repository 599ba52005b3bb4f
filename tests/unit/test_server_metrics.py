"""Metrics move with what happens, and their number stays the same whatever clients send."""

import asyncio
import random

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from server.metrics import Metrics
from tests.conftest import QUESTION, make_client, make_table, publish_new

OPENAI = {"model": "spider", "prompt": "x"}
WORDS = "abcdefghijklmnopqrstuvwxyz0123456789-._~%"


async def series(client) -> dict[str, float]:
    """Every sample by its name with its labels."""
    text = (await client.get("/metrics")).text
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: dict[str, float], name: str, **labels: str) -> float:
    return found.get(f"{name}{sorted(labels.items())}", 0.0)


# Fault 20.
async def test_no_path_method_or_name_of_a_client_makes_a_new_series(client):
    pick = random.Random(7)

    def word() -> str:
        return "".join(pick.choices(WORDS, k=9)).replace("%", "%2f")

    async def one(text: str) -> None:
        await client.request(text.upper().replace("%2F", "X").replace("~", "-"), "/databases")
        await client.get(f"/{text}")
        await client.get(f"/static/{text}")
        await client.get(f"/v1/models/{text}")
        await client.get("/databases", headers={"Origin": f"https://{text}", "X-Request-ID": text})
        await client.post("/v1/completions", json=OPENAI | {"model": text})
        body = QUESTION | {"model": text, "database": text, "dialect": text, text: text}
        await client.post("/generate-sql", json=body)

    # Each kind of answer first, so that its series is there.
    for text in ("abc", "ABC", "a/b", "%2fa", "a~b"):
        await one(text)
    before = await series(client)
    for _ in range(150):
        await one(word())
    after = await series(client)
    assert set(after) == set(before)
    total = sum(v for name, v in after.items() if name.startswith("sqlwright_http_requests_total"))
    assert total > 800


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
async def test_a_known_method_is_counted_as_itself(client, method):
    await client.request(method, "/databases")
    found = await series(client)
    labels = {"handler": "/databases", "method": method, "status": "405"}
    assert value(found, "sqlwright_http_requests_total", **labels) == 1


async def test_answers_are_counted_by_outcome_with_their_tokens(client, engine):
    engine.enqueue("SELECT name FROM users")
    engine.enqueue("DROP TABLE users")
    engine.enqueue("SELECT name FROM", finish_reason="length")
    for _ in range(3):
        await client.post("/generate-sql", json=QUESTION | {"decoding": "free"})
    found = await series(client)
    assert value(found, "sqlwright_decodings_total", decoding="free") == 3
    for outcome in ("valid", "invalid", "truncated"):
        assert value(found, "sqlwright_answers_total", outcome=outcome) == 1
    for stage in ("prompt", "engine", "check"):
        assert value(found, "sqlwright_stage_seconds_count", stage=stage) == 3
    assert value(found, "sqlwright_tokens_total", kind="prompt") == 30
    assert value(found, "sqlwright_tokens_total", kind="completion") == 6
    assert value(found, "sqlwright_confidence_count") == 3


async def test_a_users_mistake_is_never_counted_as_an_error_of_ours(client):
    for body in ({}, QUESTION | {"x": 1}, QUESTION | {"model": "nope"}, QUESTION | {"ddl": "x"}):
        await client.post("/generate-sql", json=body)
    found = await series(client)
    ours = [name for name in found if "http_requests_total" in name and "'5" in name]
    assert ours == []
    assert any("'422'" in name for name in found)


async def test_refusals_at_the_door_are_counted_by_reason(generator, engine):
    engine.gate = asyncio.Event()
    async with make_client(generator, max_inflight=1, max_body_bytes=1024) as client:
        running = asyncio.create_task(client.post("/generate-sql", json=QUESTION))
        while not engine.questions:
            await asyncio.sleep(0)
        assert value(await series(client), "sqlwright_inflight_requests") == 1
        await client.post("/generate-sql", json=QUESTION)
        await client.post("/generate-sql", json={"natural_language_query": "x" * 2000})
        engine.gate.set()
        await running
        found = await series(client)
    assert value(found, "sqlwright_rejected_total", reason="overloaded") == 1
    assert value(found, "sqlwright_rejected_total", reason="too_large") == 1
    assert value(found, "sqlwright_inflight_requests") == 0


async def test_adapters_are_counted_as_they_come_and_fail(client, generator, store):
    before = await series(client)
    assert value(before, "sqlwright_adapters") == 1
    publish_new(store, alias="bird", tag="two", rank=999)
    with capture_logs():
        await generator.adapters.refresh()
    found = await series(client)
    assert value(found, "sqlwright_adapters") == 1
    assert value(found, "sqlwright_adapter_loads_total", outcome="served") == 1
    assert value(found, "sqlwright_adapter_loads_total", outcome="refused") == 1


@pytest.mark.parametrize("healthy", [True, False])
async def test_readiness_says_whether_the_engine_answers(client, engine, healthy):
    engine.healthy = healthy
    response = await client.get("/health/ready")
    assert response.status_code == (200 if healthy else 503)
    assert ("retry-after" in response.headers) is not healthy
    assert value(await series(client), "sqlwright_engine_ready") == healthy
    assert (await client.get("/health/live")).status_code == 200


async def test_readiness_waits_for_the_default_adapter(generator, engine, tmp_path):
    empty = make_table(tmp_path / "none", engine)
    object.__setattr__(generator, "adapters", empty)
    async with make_client(generator) as client:
        response = await client.get("/health/ready")
    assert response.status_code == 503
    assert "spider" in response.json()["error"]["message"]


async def test_restarts_of_the_engine_are_followed(client, generator):
    restarts = [0]
    generator.metrics.follow_restarts(lambda: restarts[0])
    assert value(await series(client), "sqlwright_engine_restarts") == 0
    restarts[0] = 3
    assert value(await series(client), "sqlwright_engine_restarts") == 3


def test_two_sets_of_metrics_share_nothing():
    first, second = Metrics(), Metrics()
    first.answers.labels("valid").inc()
    assert second.answers.labels("valid")._value.get() == 0
