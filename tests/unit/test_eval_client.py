"""The client against a real HTTP server on this machine that answers what it was told."""

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from eval.ask.api import APIS, Answer
from eval.ask.client import ask_all
from eval.ask.connection import Server, ServerError
from tests.unit.serving import Handler, Script, good, listing, refused, serving

API = APIS["generate-sql"]


async def ask(
    handler: Handler, num_bodies: int = 1, models: Handler | None = None, **options: Any
) -> tuple[dict[str, Answer], list[float]]:
    """Ask with pauses that take no time; the answers by key and the pauses."""
    pauses: list[float] = []
    answers: dict[str, Answer] = {}

    async def sleep(seconds):
        pauses.append(seconds)

    async with serving(handler, models) as url:
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


async def test_all_hold_back_while_the_server_wants_a_pause():
    calls: list[int] = []
    seen_during_pause: list[int] = []

    async def answer(request):
        number = (await request.json())["number"]
        calls.append(number)
        return refused(429, **{"Retry-After": "9"}) if calls.count(1) == 1 == number else good()

    async def sleep(seconds):
        for _ in range(50):  # what the others would need to send what they have
            await asyncio.sleep(0.002)
        seen_during_pause.extend(calls)

    answers: dict[str, Answer] = {}
    async with serving(answer) as url:
        server = Server(url, sleep=sleep, jitter=lambda: 0.5, concurrency=2)
        bodies = {f"k{i}": {"number": i} for i in range(9)}
        await ask_all(server, API, bodies, answers.__setitem__)
    assert set(seen_during_pause) <= {0, 1, 2, 3}
    assert all(answer.error is None for answer in answers.values())
    assert (len(answers), len(calls)) == (9, 10)


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
    [
        (401, "SQLWRIGHT_API_KEY"),
        (404, "--model"),
        (402, "account"),
        (405, "--api"),
        (422, "--model"),
    ],
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


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_missing_model_is_said_with_those_that_the_server_offers(status):
    models = listing(*({"id": name} for name in ("base", "spider", "spider@0123456789ab")))
    script = Script(lambda: refused(status, param="model"))
    with pytest.raises(ServerError) as caught:
        await ask(script, 5, models, retries=0)
    assert f"{status}: not now; later; check --model" in str(caught.value)
    assert "the server offers base, spider, spider@0123456789ab" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "param", "text"),
    [
        (400, None, "not now"),
        (400, "ddl", "not now"),
        (422, "ddl", "not now"),
        (422, "natural_language_query", "not now"),
        (400, "number", "maximum context length is 9 tokens"),
        (400, "input_tokens", "too long"),
        (413, None, "not now"),
        (500, None, "not now"),
    ],
)
async def test_a_refusal_of_the_first_question_alone_is_an_item_with_an_error(status, param, text):
    body = {"error": {"message": text, "param": param}}
    script = Script(lambda: web.json_response(body, status=status), good)
    answers, _ = await ask(script, 3)
    assert [a.error for a in answers.values()] == [f"{status}: {text}", None, None]


async def test_a_field_that_the_server_can_not_take_stops_the_evaluation():
    with pytest.raises(ServerError, match="400: not now"):
        await ask(Script(lambda: refused(400, param="number")), 5)


@pytest.mark.parametrize("status", [401, 402])
async def test_a_key_that_ends_midway_stops_the_evaluation(status):
    script = Script(good, good, lambda: refused(status))
    with pytest.raises(ServerError, match=f"{status}: not now"):
        await ask(script, 9, concurrency=1)
    assert len(script.bodies) == 3


async def test_a_redirect_names_the_address_to_give():
    there = {"Location": "https://there.example/v1"}
    script = Script(lambda: web.Response(status=308, headers=there))
    with pytest.raises(ServerError, match=r"redirects to https://there\.example/v1: give"):
        await ask(script, 5, api_key="s3cret")


def dying_after(num_answers: int, say: Any = None) -> Handler:
    calls = []

    async def answer(request):
        calls.append(1)
        if len(calls) > num_answers:
            if say:
                return say()
            request.transport.close()
        return good()

    return answer


@pytest.mark.parametrize("say", [None, lambda: refused(503), lambda: refused(429)])
@pytest.mark.parametrize(("concurrency", "retries"), [(1, 5), (4, 1), (3, 0), (16, 5)])
async def test_a_server_that_died_stops_the_evaluation_soon(concurrency, retries, say):
    kept: dict[str, Answer] = {}

    async def no_pause(_):
        await asyncio.sleep(0)

    async with serving(dying_after(20, say)) as url:
        server = Server(url, concurrency=concurrency, retries=retries, sleep=no_pause)
        bodies = {f"k{i}": {"number": i} for i in range(500)}
        with pytest.raises(ServerError, match=r"the last \d+ requests got no answer .*goes on"):
            await ask_all(server, API, bodies, kept.__setitem__)
    assert sum(answer.error is None for answer in kept.values()) == 20
    assert len(kept) <= 20 + 5 + concurrency


async def test_a_server_that_hangs_stops_the_evaluation():
    release = asyncio.Event()

    async def hang(request):
        if (await request.json())["number"] >= 3:
            await release.wait()
        return good()

    with pytest.raises(ServerError, match=r"the last 5 requests .*\(no response within 0.2 s\)"):
        await ask(hang, 50, timeout_seconds=0.2, concurrency=3)
    release.set()


async def test_a_question_that_cuts_the_connection_each_time_costs_that_question_only():
    async def poisoned(request):
        if (await request.json())["number"] == 7:
            request.transport.close()
        return good()

    answers, _ = await ask(poisoned, 40, concurrency=4, retries=2)
    assert [key for key, answer in answers.items() if answer.error] == ["k7"]


async def test_a_server_that_restarts_costs_nothing():
    calls = []

    async def restarting(request):
        calls.append(1)
        if 10 < len(calls) < 30:
            request.transport.close()
        return good()

    answers, _ = await ask(restarting, 60, concurrency=8)
    assert (len(answers), {answer.error for answer in answers.values()}) == (60, {None})


async def test_an_endless_response_is_an_item_with_an_error():
    async def flood(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * (1 << 20))

    answers, _ = await ask(flood)
    assert answers["k0"].error == "the response is over 16 MiB"


async def test_nothing_goes_on_after_an_evaluation_was_stopped():
    kept = []

    def full_disk(key: str, answer: Answer) -> None:
        kept.append(key)
        if len(kept) == 3:
            raise OSError("no space left")

    async with serving(Script(good)) as url:
        bodies = {f"k{i}": {"number": i} for i in range(50)}
        with pytest.raises(OSError, match="no space left"):
            await ask_all(Server(url), API, bodies, full_disk)
        num_kept = len(kept)
        await asyncio.sleep(0.05)
    assert len(kept) == num_kept < 50


def test_an_interrupt_leaves_at_once_whatever_is_under_way():
    code = (
        "import asyncio, sys; from eval.ask.api import APIS; from eval.ask.client import ask_all\n"
        "from eval.ask.connection import Server\n"
        "async def main():\n"
        "    async def hang(reader, writer):\n"
        "        print('asked', flush=True); await asyncio.sleep(600)\n"
        "    server = await asyncio.start_server(hang, '127.0.0.1', 0)\n"
        "    url = f'http://127.0.0.1:{server.sockets[0].getsockname()[1]}'\n"
        "    await ask_all(Server(url), APIS['chat'], {'a': {}}, lambda *_: None)\n"
        "try: asyncio.run(main())\n"
        "except KeyboardInterrupt: print('left')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "asked\n"
    os.kill(process.pid, signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "left\n"
    assert process.returncode == 0
