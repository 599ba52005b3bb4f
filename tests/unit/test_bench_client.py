"""One request: what is read from scripted bytes, at which times, and which failures are which."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.client import ReplyError, check_model, error_text, read_stream, send
from benchmarks.plan import Api, BenchError, Target
from benchmarks.workload import Question

QUESTION = Question("Who?", "shop", "sqlite", "-- prompt\n")
USAGE = {"prompt_tokens": 40, "completion_tokens": 7, "total_tokens": 47}
SQL_ANSWER = {
    "sql_query": "SELECT 1",
    "model": "spider@3f2a3f2a3f2a",
    "usage": USAGE,
    "timings_ms": {"engine": 5.0, "repair": None},
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def event(record: dict[str, Any] | str) -> bytes:
    data = record if isinstance(record, str) else json.dumps(record)
    return f"data: {data}\n\n".encode()


def text(words: str, finish: str | None = None) -> bytes:
    return event({"model": "base", "choices": [{"text": words, "finish_reason": finish}]})


def delta(**fields) -> bytes:
    return event({"choices": [{"delta": fields}]})


END = event({"choices": [], "usage": USAGE}) + event("[DONE]")


async def arriving(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def ticking() -> Callable[[], float]:
    """A clock that shows 1, 2, 3, … each time it is read."""
    ticks = count(1)
    return lambda: float(next(ticks))


async def test_times_are_those_of_chunks_with_text():
    """A role, a held-back character and usage are no text; the finish ends the answer."""
    chunks = [delta(role="assistant", content=""), delta(content="SEL"), delta(content=""),
              delta(content="ECT"), delta(), END]  # fmt: skip
    reply = await read_stream(arriving(*chunks), ticking())
    assert reply.text_times == [2.0, 4.0]
    assert reply.ended == 5.0
    assert reply.record["usage"] == USAGE


async def test_events_cut_anywhere_are_put_together():
    whole = text("SELECT") + text(" é") + text("", "stop") + END
    bytewise = [whole[i : i + 1] for i in range(len(whole))]
    reply = await read_stream(arriving(*bytewise), ticking())
    assert len(reply.text_times) == 2
    assert reply.record["usage"] == USAGE


async def test_events_that_arrive_together_have_one_time():
    reply = await read_stream(arriving(text("a") + text("b"), text("c"), END), ticking())
    assert reply.text_times == [1.0, 1.0, 2.0]


async def test_windows_line_ends_and_comments_are_read_over():
    raw = b": ping\r\n\r\n" + (text("a") + END).replace(b"\n", b"\r\n")
    assert (await read_stream(arriving(raw), ticking())).text_times == [1.0]


@pytest.mark.parametrize(
    ("chunks", "kind"),
    [
        ([text("a")], "truncated"),
        ([END], "truncated"),
        ([], "truncated"),
        ([text("a"), event({"error": {"message": "out of memory"}}), END], "stream"),
        ([text("a"), event("{"), END], "malformed"),
        ([event("[1]"), END], "malformed"),
    ],
)
async def test_a_stream_that_is_no_whole_answer_is_an_error(chunks, kind):
    with pytest.raises(ReplyError) as caught:
        await read_stream(arriving(*chunks), ticking())
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"error": {"message": "no such database", "code": "x"}}', "no such database"),
        (b"<html>Bad\n Gateway</html>", "<html>Bad Gateway</html>"),
        (b'{"error": "plain"}', '{"error": "plain"}'),
        (b"\xff", "\ufffd"),
    ],
)
def test_an_error_answer_gives_its_message_on_one_line(raw, expected):
    assert error_text(raw) == expected


async def ask(handler: Handler, api: Api = Api.GENERATE_SQL, **settings):
    """One request to a real server that answers by `handler`, on a ticking clock."""
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    timeout = aiohttp.ClientTimeout(total=settings.get("timeout_seconds", 30))
    async with TestServer(app) as server, aiohttp.ClientSession(timeout=timeout) as session:
        target = Target(f"http://127.0.0.1:{server.port}", api, "base", **settings)
        return await send(session, target, QUESTION, intended=0.5, now=ticking())


def answers(record: object, status: int = 200) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(record, status=status)

    return handler


def streams(*chunks: bytes) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        return response

    return handler


async def test_generate_sql_is_timed_from_the_intended_send():
    outcome = await ask(answers(SQL_ANSWER))
    assert (outcome.error, outcome.model) == (None, "spider@3f2a3f2a3f2a")
    assert outcome.send_lag_ms == 500.0  # sent at 1.0, intended at 0.5
    assert outcome.e2el_ms == 1500.0  # answered at 2.0
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (40, 7)
    assert outcome.server_ms == {"engine": 5.0}
    assert outcome.ttft_ms is None


async def test_several_tokens_in_a_chunk_are_counted_by_usage():
    """Two chunks of text, seven tokens: a count of chunks would give a TPOT six times as long."""
    handler = streams(text("SELECT count"), text("(*) FROM t"), text("", "stop"), END)
    outcome = await ask(handler, Api.COMPLETIONS, stream=True)
    assert outcome.completion_tokens == 7
    assert len(outcome.gaps_ms) == 1
    assert outcome.ttft_ms == 1500.0  # sent at 1.0; the first bytes are read at 2.0
    assert outcome.tpot_ms == (outcome.e2el_ms - 1500.0) / 6


@pytest.mark.parametrize("status", [404, 422, 429, 500, 503])
async def test_an_error_status_is_the_outcome_and_has_no_latency(status):
    outcome = await ask(answers({"error": {"message": "sorry"}}, status))
    assert (outcome.error, outcome.message) == (str(status), "sorry")
    assert outcome.e2el_ms != outcome.e2el_ms  # not a number


@pytest.mark.parametrize("record", [{}, {"choices": []}, [], "text"])
async def test_a_200_without_an_answer_is_malformed(record):
    assert (await ask(answers(record))).error == "malformed"


async def test_a_closed_connection_is_a_failure_of_its_own():
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    assert (await ask(handler)).error == "connection"


async def test_an_answer_that_never_comes_is_a_timeout():
    async def handler(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    outcome = await ask(handler, timeout_seconds=0.2)
    assert (outcome.error, outcome.message) == ("timeout", "no whole answer in 0.2 s")


async def models(record: object, status: int, api: Api, model: str | None) -> str | None:
    app = web.Application()
    app.router.add_get("/v1/models", answers(record, status))
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        target = Target(f"http://127.0.0.1:{server.port}/v1", api, model)
        return await check_model(session, target)


LIST = {"data": [{"id": "base"}, {"id": "spider"}]}
ONE = {"data": [{"id": "base"}]}


@pytest.mark.parametrize(
    ("record", "status", "api", "model", "chosen"),
    [
        (LIST, 200, Api.GENERATE_SQL, None, None),
        (LIST, 200, Api.GENERATE_SQL, "spider", "spider"),
        (ONE, 200, Api.CHAT, None, "base"),
        ({}, 404, Api.CHAT, "any", "any"),
    ],
)
async def test_the_model_that_is_asked_for(record, status, api, model, chosen):
    assert await models(record, status, api, model) == chosen


@pytest.mark.parametrize(
    ("record", "status", "api", "model", "named"),
    [
        (LIST, 200, Api.CHAT, "nobody", "unknown model 'nobody'; known: base, spider"),
        (LIST, 200, Api.CHAT, None, "name one of the server's: base, spider"),
        ({}, 404, Api.CHAT, None, "--model"),
        ({}, 401, Api.CHAT, "base", "SQLWRIGHT_API_KEY"),
        ({"error": {"message": "starting"}}, 503, Api.CHAT, "base", r"\(503\): starting"),
        ({"models": []}, 200, Api.CHAT, "base", "lists no models"),
    ],
)
async def test_a_model_that_cannot_be_asked_is_one_clear_line(record, status, api, model, named):
    with pytest.raises(BenchError, match=named) as caught:
        await models(record, status, api, model)
    assert "\n" not in str(caught.value)
