"""The OpenAI-compatible routes: what is passed on, what is refused, and how a stream ends."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from server.errors import BadRequest, EngineFailed, NotReady
from tests.conftest import assert_error, client_of, publish_new

COMPLETION = {"model": "spider", "prompt": "SELECT"}
CHAT = {"model": "spider", "messages": [{"role": "user", "content": "hello"}]}
ROUTES: dict[str, dict[str, Any]] = {"/v1/completions": COMPLETION, "/v1/chat/completions": CHAT}
EVENTS = [b'data: {"a": 1}\n\n', b"data: [DONE]\n\n"]
BROKEN = EngineFailed("the engine broke off its answer")

SHARED: dict[str, Any] = {
    "max_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.9,
    "n": 2,
    "stop": ["a", "b"],
    "seed": -1,
    "presence_penalty": 0.1,
    "frequency_penalty": -0.1,
    "logit_bias": {"1": 2.0},
}
OWN: dict[str, dict[str, Any]] = {
    "/v1/completions": {"logprobs": 3, "echo": True},
    "/v1/chat/completions": {"logprobs": True, "top_logprobs": 2, "max_completion_tokens": 9},
}


@pytest.mark.parametrize("path", ROUTES)
async def test_the_engine_gets_the_version_and_every_field_that_was_sent(
    client, engine, generator, path
):
    sent = ROUTES[path] | SHARED | OWN[path]
    response = await client.post(path, json=sent | {"user": "me"})
    assert (response.status_code, response.content) == (200, engine.chunks[0])
    asked = engine.questions[0]
    name = generator.adapters.active["spider"].name
    assert asked.text == path
    assert asked.body.items() >= (sent | {"model": name}).items()
    assert "user" not in asked.body


@pytest.mark.parametrize("path", ROUTES)
async def test_a_field_that_was_not_sent_is_not_made_up(client, engine, path):
    await client.post(path, json=ROUTES[path])
    extra = set(engine.questions[0].body) - set(ROUTES[path])
    assert extra <= {"n", "stream", "echo"}


async def test_an_adapter_stops_where_it_was_trained_to(client, engine, generator):
    routes = generator.adapters.routes
    served = replace(routes["spider"].active, stop_token_ids=(7,))
    routes["spider"] = replace(routes["spider"], active=served)
    await client.post("/v1/completions", json=COMPLETION)
    assert engine.questions[0].body["stop_token_ids"] == [7]


@pytest.mark.parametrize("path", ROUTES)
async def test_an_unknown_model_never_reaches_the_engine(client, engine, path):
    response = await client.post(path, json=ROUTES[path] | {"model": "nope"})
    assert assert_error(response, 404, "adapter_not_found")["param"] == "model"
    assert not engine.questions


# Fault 6.
OUT_OF_RANGE: dict[str, list[Any]] = {
    "n": [-1, 0, 17, 2**63, 10**30, "3", True, 1.0, 1.5, None, [], {}],
    "max_tokens": [-1, 0, 2**63, 10**30, "3", True, 1.0, 1.5],
    "logprobs": [-1, 21, 2**63, 10**30, "3", True, 1.0],
    "best_of": [0, 2, 2**63, "1", True, 1.0],
    "stop": [-1, 0, 2**63, 10**30, True, 1.5, ["a"] * 5, [1], {}],
    "seed": [2**63, -(2**63) - 1, "3", True, 1.5],
    "temperature": [-0.1, 2.1, 10**30, "1", True],
    "top_p": [0, 1.1, "1", True],
    "stream": [0, 1, "true", 1.5],
    "logit_bias": [1, {"a": "b"}, {str(i): 0.5 for i in range(301)}],
    "stream_options": [{"x": True}, {"include_usage": 1}, 1],
    "prompt": [1, [], [1], [["a"]], ["a"] * 65, {}],
    "suffix": ["x"],
    "model": [1, None, "a" * 81],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in OUT_OF_RANGE.items() for value in values],
    ids=lambda value: str(value)[:20],
)
async def test_a_value_of_another_type_or_range_is_named(client, engine, field, value):
    response = await client.post("/v1/completions", json=COMPLETION | {field: value})
    assert response.status_code == 422
    param = response.json()["error"]["param"]
    assert assert_error(response, 422, response.json()["error"]["code"])
    assert param.split(".")[0] == field
    assert not engine.questions


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0), ("temperature", 2), ("top_p", 1), ("max_tokens", 1), ("logprobs", 0),
     ("stop", None), ("stop", []), ("stop", "x"), ("prompt", ["a", "b"]), ("best_of", 1),
     ("stream_options", {"include_usage": True}), ("logit_bias", {"1": -100}), ("suffix", None)],
    ids=str,
)  # fmt: skip
async def test_a_value_within_its_range_is_passed_on(client, engine, field, value):
    response = await client.post("/v1/completions", json=COMPLETION | {field: value})
    assert response.status_code == 200
    assert engine.questions[0].body.get(field) == value


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "hello",
        [{"role": "tool", "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": [{"type": "image_url"}]}],
        [{"role": "user", "content": "x", "tool_calls": []}],
        [{"role": "user", "content": "x"}] * 257,
    ],
)
async def test_messages_of_another_form_are_refused(client, engine, messages):
    response = await client.post("/v1/chat/completions", json=CHAT | {"messages": messages})
    assert response.status_code == 422
    assert response.json()["error"]["param"].startswith("messages")
    assert not engine.questions


async def test_models_are_the_base_the_aliases_and_their_versions(client, generator, store):
    publish_new(store, alias="bird", tag="two")
    await generator.adapters.refresh()
    names = {alias: served.name for alias, served in generator.adapters.active.items()}
    body = (await client.get("/v1/models")).json()
    found = {model["id"]: (model["root"], model["parent"]) for model in body["data"]}
    assert body["object"] == "list"
    assert len(body["data"]) == 5
    assert found["base"] == ("base", None)
    assert found["bird"] == found[names["bird"]] == (names["bird"], "base")
    assert found["spider"] == found[names["spider"]] == (names["spider"], "base")


async def test_every_listed_model_can_be_looked_up_and_asked(client):
    for model in (await client.get("/v1/models")).json()["data"]:
        assert (await client.get(f"/v1/models/{model['id']}")).json() == model
        body = COMPLETION | {"model": model["id"]}
        assert (await client.post("/v1/completions", json=body)).status_code == 200


@pytest.mark.parametrize("path", ROUTES)
async def test_a_stream_is_passed_on_as_it_comes(client, engine, path):
    engine.chunks, engine.content_type = list(EVENTS), "text/event-stream"
    response = await client.post(path, json=ROUTES[path] | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.content == b"".join(EVENTS)
    assert engine.questions[0].body["stream"] is True
    assert engine.forwards_open == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (BadRequest("no such thing"), 400, "bad_request"),
        (NotReady("down", retry_after=2), 503, "not_ready"),
    ],
)
async def test_a_refusal_of_the_engine_is_an_error_response_streamed_or_not(
    client, engine, stream, failure, status, code
):
    engine.fail(failure)
    response = await client.post("/v1/completions", json=COMPLETION | {"stream": stream})
    assert_error(response, status, code)


async def test_an_answer_that_breaks_off_is_the_engines_error(client, engine):
    engine.chunks = [b'{"object":', BROKEN]
    assert_error(await client.post("/v1/completions", json=COMPLETION), 502, "engine_error")
    assert engine.forwards_open == 0


async def test_a_stream_that_breaks_off_ends_with_a_typed_event(client, engine):
    engine.chunks = [EVENTS[0], b'data: {"half', BROKEN]
    response = await client.post("/v1/completions", json=COMPLETION | {"stream": True})
    assert response.status_code == 200
    last = response.text.strip().split("\n\n")[-1]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["code"], error["type"]) == ("engine_error", "server_error")
    assert error["request_id"] == response.headers["x-request-id"]
    assert engine.forwards_open == 0


async def test_a_client_that_leaves_a_stream_frees_the_engine(app, engine):
    """Plain ASGI, since httpx reads a whole answer before it gives it."""

    class GoneError(Exception):
        pass

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield EVENTS[0]

    engine._chunks = endless
    body = json.dumps(COMPLETION | {"stream": True}).encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/completions",
        "query_string": b"",
        "headers": [(b"host", b"server"), (b"content-type", b"application/json")],
    }
    parts = 0

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, object]) -> None:
        nonlocal parts
        parts += message["type"] == "http.response.body"
        if parts == 3:
            raise GoneError

    with pytest.raises(GoneError):
        await app(scope | {"asgi": {"spec_version": "2.4"}}, receive, send)
    assert engine.forwards_open == 0


async def test_the_routes_of_the_engine_that_are_not_ours_are_not_there(app):
    async with client_of(app) as client:
        for path in ("/v1/load_lora_adapter", "/tokenize", "/invocations", "/v1/embeddings"):
            assert_error(await client.post(path, json={}), 404, "not_found")
