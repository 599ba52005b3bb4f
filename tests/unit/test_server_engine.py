"""The engine's client against a scripted HTTP server, over TCP and over a UNIX socket."""

import asyncio
import contextlib
import json
import shutil
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from server.completions import Completion, Sampling
from server.engine import RETRIES, VllmEngine
from server.errors import EngineFailed, EngineTimeout, NotReady, ServerError
from tests.conftest import assert_error, make_client

USAGE = {"prompt_tokens": 7, "completion_tokens": 2}
TEXT = {
    "text": "SELECT 1",
    "logprobs": {"token_logprobs": [-0.5, -0.25], "tokens": ["SELECT", " 1"]},
    "finish_reason": "stop",
    "prompt_token_ids": [5, 6, 7],
    "token_ids": [8, 9],
}
MESSAGE = {
    "message": {"content": "SELECT 1"},
    "logprobs": {
        "content": [{"logprob": -0.5, "token": "SELECT"}, {"logprob": -0.25, "token": " 1"}]
    },
    "finish_reason": "length",
    "token_ids": [8, 9],
}
REPLY = {"choices": [MESSAGE], "prompt_token_ids": [5, 6, 7], "usage": USAGE}
FOUND = Completion("SELECT 1", (-0.5, -0.25), "stop", (5, 6, 7), (8, 9), ("SELECT", " 1"))
GRAMMAR = "start: /x/"
WHOLE = {"choices": [TEXT], "usage": USAGE}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Script:
    """Answers with `answer`, and remembers paths and bodies."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answer: Handler = self.whole

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.path, body))
        return await self.answer(request)

    async def whole(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(WHOLE)

    def says(self, status: int, body: object) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            text = body if isinstance(body, str) else json.dumps(body)
            return web.Response(status=status, text=text, content_type="application/json")

        self.answer = answer


@pytest.fixture
def short_folder():
    """pytest's own folders are too deep for the path of a socket."""
    folder = Path(tempfile.mkdtemp(prefix="e"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["tcp", "unix"])
async def pair(request, short_folder) -> AsyncIterator[tuple[VllmEngine, Script]]:
    script = Script()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.serve)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    port, path = unused_port(), short_folder / "s"
    if request.param == "unix":
        await web.UnixSite(runner, path).start()
        engine = VllmEngine(socket=path, timeout=5)
    else:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        engine = VllmEngine(url=f"http://127.0.0.1:{port}/", timeout=5)
    yield engine, script
    await engine.close()
    await runner.cleanup()


async def test_a_completion_is_greedy_with_its_logprobs_and_tokens(pair):
    engine, script = pair
    assert await engine.complete("spider@1", "prompt", max_tokens=9) == [FOUND]
    body = {"model": "spider@1", "prompt": "prompt", "max_tokens": 9, "temperature": 0}
    assert script.asked == [("/v1/completions", body | {"logprobs": 0, "return_token_ids": True})]


async def test_a_prompt_may_be_token_ids(pair):
    engine, script = pair
    await engine.complete("spider@1", (1, 2), max_tokens=9)
    assert script.asked[0][1]["prompt"] == [1, 2]


async def test_samples_have_a_temperature_and_a_seed_so_that_they_come_again(pair):
    engine, script = pair
    script.says(200, WHOLE | {"choices": [TEXT, TEXT | {"text": "SELECT 2"}]})
    found = await engine.complete("base", "x", max_tokens=9, sampling=Sampling(2, 0.5))
    assert [one.text for one in found] == ["SELECT 1", "SELECT 2"]
    body = script.asked[0][1]
    assert (body["n"], body["temperature"], body["seed"]) == (2, 0.5, 0)


@pytest.mark.parametrize("how", ["complete", "reply"])
async def test_what_was_decoded_under_a_grammar_has_masked_logprobs(pair, how):
    engine, script = pair
    script.says(200, REPLY if how == "reply" else WHOLE)
    ask = engine.reply if how == "reply" else engine.complete
    (found,) = await ask("base", "x", max_tokens=9, sampling=Sampling(grammar=GRAMMAR))
    assert found.is_masked
    assert script.asked[0][1]["structured_outputs"] == {"grammar": GRAMMAR}


async def test_a_score_has_the_logprobs_of_the_completions_tokens_only(pair):
    engine, script = pair
    entries = [None, {"6": {"logprob": -9}}, {"8": {"logprob": -0.5}}, {"9": {"logprob": -1}}]
    script.says(200, {"choices": [TEXT | {"prompt_logprobs": entries}], "usage": USAGE})
    assert await engine.score("spider@1", (5, 6), (8, 9)) == (-0.5, -1.0)
    body = {"model": "spider@1", "prompt": [5, 6, 8, 9], "max_tokens": 1, "temperature": 0}
    assert script.asked == [("/v1/completions", body | {"prompt_logprobs": 0})]


@pytest.mark.parametrize(
    "entries",
    [None, [], [{"8": {"logprob": -1}}], [{"1": {"logprob": -1}}] * 2, [{"8": {}}] * 2, [None] * 2],
    ids=str,
)
async def test_a_score_that_can_not_be_read_is_the_engines_failure(pair, entries):
    engine, script = pair
    script.says(200, {"choices": [TEXT | {"prompt_logprobs": entries}], "usage": USAGE})
    with pytest.raises(EngineFailed):
        await engine.score("spider@1", (), (8, 9))


@pytest.mark.parametrize(
    ("logprobs", "expected"), [((-0.5, -0.25), -0.75), ((), float("-inf"))], ids=str
)
def test_the_logprob_of_a_completion_is_the_sum(logprobs, expected):
    assert replace(FOUND, logprobs=logprobs).logprob == expected


async def test_stop_tokens_are_sent_where_there_are_any(pair):
    engine, script = pair
    await engine.complete("spider@1", "prompt", max_tokens=9, stop_token_ids=(3, 4))
    assert script.asked[0][1]["stop_token_ids"] == [3, 4]


async def test_a_reply_goes_through_the_chat_template(pair):
    engine, script = pair
    script.says(200, REPLY)
    found = await engine.reply("base", "hello", max_tokens=9)
    assert found == [replace(FOUND, finish_reason="length")]
    path, body = script.asked[0]
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert body["logprobs"] is True


async def test_an_empty_reply_is_empty_text(pair):
    engine, script = pair
    empty = MESSAGE | {"message": {"content": None}, "logprobs": {"content": []}}
    script.says(200, REPLY | {"choices": [empty]})
    (found,) = await engine.reply("base", "hello", max_tokens=9)
    assert found.text == ""


def error(message: str, **fields: object) -> dict[str, object]:
    return {"error": {"message": message, "type": "x", "param": None, "code": 400} | fields}


NO_NUMBER = {"logprobs": {"token_logprobs": [None], "tokens": ["x"]}}
TOO_LONG = "This model's maximum context length is 2048 tokens. However, you requested 3000."
TOO_LONG_TOO = "The decoder prompt (length 9) is longer than the maximum model length of 8."
REFUSALS: list[tuple[int, object, int, str]] = [
    (400, error("top_p must be in (0, 1]"), 400, "bad_request"),
    (400, error(TOO_LONG), 400, "context_length_exceeded"),
    (400, error(TOO_LONG_TOO), 400, "context_length_exceeded"),
    (400, "no JSON", 400, "bad_request"),
    (400, [], 400, "bad_request"),
    (400, {"error": "text"}, 400, "bad_request"),
    (400, {"error": None}, 400, "bad_request"),
    (422, error("no"), 422, "invalid_value"),
    (404, error("The model `x` does not exist."), 502, "engine_error"),
    (401, error("no"), 502, "engine_error"),
    (500, error("CUDA error at /root/x.py"), 502, "engine_error"),
    (500, "Internal Server Error", 502, "engine_error"),
    (200, "", 502, "engine_error"),
    (200, "no JSON", 502, "engine_error"),
    (200, "null", 502, "engine_error"),
    (200, "[]", 502, "engine_error"),
    (200, {}, 502, "engine_error"),
    (200, WHOLE | {"choices": []}, 502, "engine_error"),
    (200, WHOLE | {"choices": [TEXT | {"logprobs": None}]}, 502, "engine_error"),
    (200, WHOLE | {"choices": [TEXT | {"text": None}]}, 502, "engine_error"),
    (200, WHOLE | {"choices": [TEXT | NO_NUMBER]}, 502, "engine_error"),
    (200, WHOLE | {"choices": [TEXT | {"token_ids": None}]}, 502, "engine_error"),
    (200, WHOLE | {"choices": [TEXT, TEXT]}, 502, "engine_error"),
    (503, error("busy"), 503, "not_ready"),
    (429, error("busy"), 503, "not_ready"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "ours", "code"), REFUSALS, ids=lambda value: str(value)[:20]
)
async def test_what_the_engine_says_amiss_is_a_typed_error(pair, status, body, ours, code):
    engine, script = pair
    script.says(status, body)
    with pytest.raises(ServerError) as caught:
        await engine.complete("base", "x", max_tokens=1)
    assert (caught.value.status, caught.value.code) == (ours, code)
    assert (caught.value.retry_after > 0) == (ours == 503)
    assert ours < 500 or "/root" not in caught.value.message


async def test_a_refusal_keeps_the_engines_message_and_field(pair):
    engine, script = pair
    script.says(400, error("top_p must be in (0, 1]", param="top_p"))
    with pytest.raises(ServerError, match="top_p must be in") as caught:
        await engine.complete("base", "x", max_tokens=1)
    assert caught.value.param == "top_p"


async def test_an_answer_that_does_not_come_in_time_is_a_time_out(pair):
    engine, script = pair
    never = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    script.answer = wait
    engine.timeout = type(engine.timeout)(total=0.05)
    with pytest.raises(EngineTimeout):
        await engine.complete("base", "x", max_tokens=1)


async def test_an_answer_that_stops_half_way_is_a_time_out_too(pair):
    engine, script = pair
    never = asyncio.Event()

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"choices"')
        await never.wait()
        return response

    script.answer = half
    engine.timeout = type(engine.timeout)(total=0.1)
    with pytest.raises(EngineTimeout):
        await engine.complete("base", "x", max_tokens=1)


async def cut(request: web.Request) -> web.StreamResponse:
    """Break the connection off within the answer."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b'{"choices"')
    assert request.transport
    request.transport.close()
    return response


async def test_an_answer_that_breaks_off_is_the_engines_failure(pair):
    engine, script = pair
    script.answer = cut
    with pytest.raises(EngineFailed):
        await engine.complete("base", "x", max_tokens=1)


@pytest.mark.parametrize("stream", [False, True])
async def test_through_the_facade_a_broken_answer_is_an_error_too(
    pair, generator, monkeypatch, stream
):
    engine, script = pair
    script.answer = cut
    object.__setattr__(generator, "engine", engine)
    body = {"model": "spider", "prompt": "x", "stream": stream}
    async with make_client(generator) as client:
        response = await client.post("/v1/completions", json=body)
    if stream:
        assert '"code": "engine_error"' in response.text.split("\n\n")[-2]
    else:
        assert_error(response, 502, "engine_error")


async def test_a_forwarded_answer_comes_as_it_is(pair):
    engine, script = pair
    async with engine.forward("/v1/x", {"model": "base"}) as reply:
        content = b"".join([chunk async for chunk in reply.chunks])
    assert (reply.content_type, json.loads(content)) == ("application/json", WHOLE)
    assert script.asked == [("/v1/x", {"model": "base"})]


async def test_a_refusal_of_a_forwarded_request_is_raised(pair):
    engine, script = pair
    script.says(400, error("no"))
    with pytest.raises(ServerError, match="no"):
        async with engine.forward("/v1/x", {"model": "base"}):
            pass


async def test_who_stops_reading_a_stream_ends_it_at_the_engine(pair):
    engine, script = pair
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"data: {}\n\n")
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    script.answer = endless
    async with engine.forward("/v1/x", {"model": "base"}) as reply:
        assert await anext(reply.chunks) == b"data: {}\n\n"
    await asyncio.wait_for(ended.wait(), 5)


async def test_whoever_is_cancelled_frees_the_engine(pair):
    engine, script = pair
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return web.Response()

    script.answer = wait
    task = asyncio.create_task(engine.complete("base", "x", max_tokens=1))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize("where", ["tcp", "unix", "nowhere"])
async def test_an_engine_that_is_not_there_is_not_ready(short_folder, where):
    url = {"tcp": f"http://127.0.0.1:{unused_port()}", "nowhere": "http://no.invalid"}.get(
        where, ""
    )
    engine = VllmEngine(url=url, socket=None if url else short_folder / "none", timeout=5)
    assert await engine.is_healthy() is False
    with pytest.raises(NotReady) as caught:
        await engine.complete("base", "x", max_tokens=1)
    assert caught.value.retry_after > 0
    await engine.close()


@pytest.mark.parametrize(("status", "is_up"), [(200, True), (503, False), (500, False)])
async def test_health_is_the_engines_own(pair, status, is_up):
    engine, script = pair
    script.says(status, "")
    assert await engine.is_healthy() is is_up
    assert script.asked == [("/health", None)]


async def test_an_engine_that_was_never_asked_can_be_closed():
    engine = VllmEngine(url="http://127.0.0.1:1")
    await engine.close()
    assert await engine.is_healthy() is False
    await engine.close()


@contextlib.asynccontextmanager
async def keep_alive(last: str, served: int) -> AsyncIterator[tuple[VllmEngine, list[int]]]:
    """A server that answers `served` requests on each connection, then ends it so: by "close" or
    "reset" when the next one has come."""
    body = json.dumps(WHOLE).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(0)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"}")
                if connections[-1] >= served:
                    break
                connections[-1] += 1
                writer.write(head % len(body) + body)
        if last == "reset":
            # Without lingering a close is a reset.
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine = VllmEngine(url=f"http://127.0.0.1:{port}", timeout=5)
    async with server:
        try:
            yield engine, connections
        finally:
            await engine.close()


@pytest.mark.parametrize("last", ["close", "reset"])
async def test_a_kept_connection_that_the_server_ended_is_no_error(last):
    async with keep_alive(last, served=1) as (engine, connections):
        for _ in range(3):
            assert await engine.complete("base", "x", max_tokens=1) == [FOUND]
        assert connections == [1, 1, 1]


@pytest.mark.parametrize("last", ["close", "reset"])
async def test_a_server_that_always_hangs_up_is_not_ready_after_a_few_tries(last):
    async with keep_alive(last, served=0) as (engine, connections):
        with pytest.raises(NotReady):
            await engine.complete("base", "x", max_tokens=1)
        assert len(connections) == RETRIES + 1
