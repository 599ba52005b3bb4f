"""The client against a real HTTP server on this machine that answers what it was told."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from eval.api import APIS, Answer
from eval.client import (
    Server,
    ServerError,
    ask_all,
    check_api_key,
    check_base_url,
    error_message,
    retry_after_seconds,
)

API = APIS["generate-sql"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def good(sql: str = "SELECT 1") -> web.Response:
    return web.json_response({"sql_query": sql, "confidence": 0.5, "valid": True, "model": "m@1"})


def refused(status: int, **headers: str) -> web.Response:
    body = {"error": {"message": "not now", "hint": "later"}}
    return web.json_response(body, status=status, headers=headers)


class Script:
    """Answers in turn what it was given, the last one for ever, and remembers what it was asked."""

    def __init__(self, *answers: Callable[[], web.Response]) -> None:
        self.answers = list(answers)
        self.bodies: list[Any] = []
        self.headers: list[Mapping[str, str]] = []

    async def __call__(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer()


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    async def route(request):
        return await handler(request)

    app = web.Application()
    app.router.add_post("/generate-sql", route)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def ask(
    handler: Handler, num_bodies: int = 1, **options: Any
) -> tuple[dict[str, Answer], list[float]]:
    """Ask with pauses that take no time; the answers by key and the pauses."""
    pauses: list[float] = []
    answers: dict[str, Answer] = {}

    async def sleep(seconds):
        pauses.append(seconds)

    async with serving(handler) as url:
        server = Server(url, sleep=sleep, jitter=lambda: 0.5, **options)
        bodies = {f"k{i}": {"number": i} for i in range(num_bodies)}
        await ask_all(server, API, bodies, answers.__setitem__)
    return answers, pauses


async def test_every_body_is_sent_once_and_answered_under_its_key():
    async def echo(request):
        return good(f"SELECT {(await request.json())['number']}")

    answers, _ = await ask(echo, 50)
    assert {k: a.predicted for k, a in answers.items()} == {
        f"k{i}": f"SELECT {i}" for i in range(50)
    }
    assert all(answer.latency_ms and answer.error is None for answer in answers.values())


async def test_a_503_is_asked_again_until_it_is_answered():
    script = Script(lambda: refused(503), lambda: refused(502), good)
    answers, pauses = await ask(script)
    assert answers["k0"].predicted == "SELECT 1"
    assert script.bodies == [{"number": 0}] * 3
    assert pauses == [0.375, 0.75]  # half of 0.5 and of 1 second, and half of the rest


async def test_retry_after_in_seconds_is_honoured():
    script = Script(lambda: refused(429, **{"Retry-After": "7"}), good)
    answers, pauses = await ask(script)
    assert answers["k0"].error is None
    assert pauses == [7.5]


async def test_a_pause_of_an_hour_is_not_waited_for():
    script = Script(lambda: refused(429, **{"Retry-After": "3600"}), good)
    answers, pauses = await ask(script)
    assert answers["k0"].error == "429: not now; later"
    assert pauses == []


NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Fri, 02 Jan 2026 12:01:30 GMT", 90.0),
        ("Fri, 02 Jan 2026 12:01:30 -0000", 90.0),
        ("Fri, 02 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(header, seconds):
    assert retry_after_seconds(header, NOON) == seconds


async def test_a_permanent_500_is_an_item_with_an_error_and_is_not_asked_again():
    script = Script(lambda: refused(500))
    answers, pauses = await ask(script, 3)
    assert [a.error for a in answers.values()] == ["500: not now; later"] * 3
    assert (len(script.bodies), pauses) == (3, [])


async def test_retries_end():
    script = Script(lambda: refused(503))
    answers, pauses = await ask(script, retries=2)
    assert answers["k0"].error == "503: not now; later"
    assert (len(script.bodies), len(pauses)) == (3, 2)


async def test_a_late_404_is_an_item_with_an_error():
    script = Script(good, lambda: refused(404))
    answers, _ = await ask(script, 2, concurrency=1)
    assert [a.error for a in answers.values()] == [None, "404: not now; later"]


@pytest.mark.parametrize("cut", [1, 2])
async def test_a_cut_connection_is_asked_again(cut):
    calls = []

    async def cut_once(request):
        calls.append(1)
        if len(calls) == cut:
            request.transport.close()
        return good()

    answers, pauses = await ask(cut_once, 2, concurrency=1)
    assert [a.error for a in answers.values()] == [None, None]
    assert (len(calls), len(pauses)) == (3, 1)


async def test_a_request_that_runs_out_of_time_is_not_asked_again():
    calls, release = [], asyncio.Event()

    async def hang(request):
        calls.append(1)
        await release.wait()
        return good()

    answers, _ = await ask(hang, timeout_seconds=0.2)
    release.set()
    assert answers["k0"].error == "no response within 0.2 s"
    assert len(calls) == 1


@pytest.mark.parametrize(
    "body",
    ["", "<html>", "[]", "null", '{"sql": "SELECT 1"}', '{"sql_query": 5}', "[" * 100_000],
)
async def test_a_body_of_another_shape_is_an_item_with_an_error(body):
    script = Script(lambda: web.Response(text=body))
    answers, _ = await ask(script)
    assert answers["k0"].error == f"the response is not one of /generate-sql: {body[:80]!r}"


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_never_more_requests_at_a_time_than_allowed(concurrency):
    open_now = most = 0
    full = asyncio.Event()

    async def count(request):
        nonlocal open_now, most
        number = (await request.json())["number"]
        open_now += 1
        most = max(most, open_now)
        if open_now == concurrency:
            full.set()
        if number:  # the first request goes alone
            await full.wait()
        await asyncio.sleep(0.002)
        open_now -= 1
        return good()

    answers, _ = await ask(count, 24, concurrency=concurrency)
    assert most == concurrency
    assert all(answer.error is None for answer in answers.values())


async def test_the_key_goes_as_a_bearer_token():
    script = Script(good)
    await ask(script, api_key="s3cret")
    assert script.headers[0]["Authorization"] == "Bearer s3cret"
    await ask(script)
    assert "Authorization" not in script.headers[1]


async def test_a_server_that_is_not_there_stops_the_evaluation():
    server = Server(f"http://127.0.0.1:{unused_port()}")
    kept: dict[str, Answer] = {}
    with pytest.raises(ServerError, match=f"can't reach {server.base_url}/generate-sql"):
        await ask_all(server, API, {"a": {}, "b": {}}, kept.__setitem__)
    assert kept == {}


async def test_what_does_not_speak_http_stops_the_evaluation():
    async def greet(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServerError, match=f"can't reach http://127.0.0.1:{port}/generate-sql"):
            await ask_all(Server(f"http://127.0.0.1:{port}"), API, {"a": {}}, lambda *_: None)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "SQLWRIGHT_API_KEY"), (404, "--model"), (405, "--api"), (422, "GET /v1/models")],
)
async def test_a_first_answer_that_all_would_get_stops_the_evaluation(status, remedy):
    script = Script(lambda: refused(status))
    with pytest.raises(ServerError, match=f"{status}: not now") as caught:
        await ask(script, 5)
    assert remedy in str(caught.value)
    assert len(script.bodies) == 1


async def test_an_answer_that_can_not_be_kept_stops_the_evaluation():
    def full_disk(key: str, answer: Answer) -> None:
        raise OSError("no space left")

    async with serving(Script(good)) as url:
        with pytest.raises(OSError, match="no space left"):
            await ask_all(Server(url), API, {"a": {}, "b": {}}, full_disk)


@pytest.mark.parametrize("base", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_a_base_url_may_end_as_openai_clients_have_it(base):
    assert Server(base).url("/v1/completions") == "http://h:1/v1/completions"


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://h", "http://", "h", "", "http://[::1", "http://h:x", "http://h:0"],
)
def test_what_is_no_http_address_is_refused(url):
    with pytest.raises(ServerError, match="must look like http://HOST:PORT"):
        check_base_url(url)


def test_a_password_in_the_address_is_refused_and_not_shown():
    with pytest.raises(ServerError) as caught:
        check_base_url("http://me:hunter2@h:1")
    assert "hunter2" not in str(caught.value)


def test_a_key_is_taken_without_the_line_break_of_its_file():
    assert check_api_key("s3cret\n") == "s3cret"
    assert check_api_key(" ") is None
    assert check_api_key(None) is None


@pytest.mark.parametrize("key", ["a\nb", "a\x00b", "kéy"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key):
    with pytest.raises(ServerError, match="printable ASCII") as caught:
        check_api_key(key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "a", "hint": "b"}}, "a; b"),
        ({"error": {"message": "a", "hint": None}}, "a"),
        ({"object": "error", "message": "the model does not exist"}, "the model does not exist"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"other": 1}, '{"other": 1}'),
        ([1], "[1]"),
    ],
)
def test_the_message_of_an_error_is_found_in_every_shape(body, said):
    assert error_message(json.dumps(body)) == said


def test_an_error_without_json_shows_its_first_words():
    assert error_message("<h1>Bad\n Gateway</h1>") == "<h1>Bad Gateway</h1>"
    assert error_message("") == "no message"
    assert len(error_message("x" * 9999)) == 300
