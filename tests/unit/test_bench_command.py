"""The command against a scripted server: what it prints, writes and exits with."""

import asyncio
import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.figures import read_figure

USAGE = {"prompt_tokens": 40, "completion_tokens": 7, "total_tokens": 47}
EVENTS = [
    {"model": "base", "choices": [{"text": "SELECT"}]},
    {"model": "base", "choices": [{"text": " 1 + 1"}]},
    {"model": "base", "choices": [{"text": "", "finish_reason": "stop"}]},
    {"model": "base", "choices": [], "usage": USAGE},
]


class ScriptedServer:
    """Answers each request with the next status of its script, and remembers all bodies."""

    def __init__(self, *statuses: int) -> None:
        self.statuses: Iterator[int] = cycle(statuses or (200,))
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.barrier = asyncio.Barrier(1)
        self.under_way = self.most = 0

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "base"}]})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.barrier.wait()
        self.under_way -= 1
        body = await request.json()
        self.bodies.append(body)
        self.keys.add(request.headers.get("Authorization"))
        status = next(self.statuses)
        if status != 200:
            return web.json_response({"error": {"message": f"no {status}"}}, status=status)
        if body.get("stream"):
            return await self.stream(request)
        record = {"sql_query": "SELECT 1", "choices": [{"text": "SELECT 1"}], "usage": USAGE}
        return web.json_response({**record, "model": "base", "timings_ms": {"check": 0.5}})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for record in EVENTS:
            await response.write(f"data: {json.dumps(record)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    async def bench(self, *arguments: str, env: dict[str, str] | None = None) -> Any:
        """Run the command with `arguments` against this server."""
        scripted = web.Application()
        scripted.router.add_get("/v1/models", self.models)
        scripted.router.add_post("/{path:.*}", self.answer)
        async with TestServer(scripted) as server:
            url = f"http://127.0.0.1:{server.port}"
            words = [*arguments, "--base-url", url]
            return await asyncio.to_thread(lambda: CliRunner().invoke(app, words, env=env))


def last_line(result: Any) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


async def test_latency_asks_generate_sql_one_at_a_time_by_default():
    server = ScriptedServer()
    result = await server.bench("latency", "--requests", "5", "--warmup", "2")
    found = last_line(result)
    assert result.exit_code == 0, result.output
    assert len(server.bodies) == 7
    assert set(server.bodies[0]) == {"natural_language_query", "database"}
    regime = found["regime"]
    expected = {"loop": "closed", "concurrency": 1, "rate": None, "api": "generate-sql",
                "data": "samples", "warmup": 2, "blocks": 1, "requests": 5, "stream": False,
                "prompt_tokens_p50": 40, "prompt_tokens_p95": 40, "answered_by": ["base"],
                }  # fmt: skip
    assert {name: regime[name] for name in expected} == expected
    assert (found["bench"], found["sent"], found["completed"]) == ("latency", 5, 5)
    assert {"e2el_ms_p99", "server_check_ms_p50"} <= set(found["measures"])
    assert not [name for name in found["measures"] if name.startswith(("ttft", "send_lag"))]


async def test_latency_streams_completions_and_counts_tokens_by_usage():
    server = ScriptedServer()
    result = await server.bench("latency", "--api", "completions", "--requests", "3")
    measures = last_line(result)["measures"]
    assert result.exit_code == 0, result.output
    assert {body["max_tokens"] for body in server.bodies} == {128}
    assert all(body["stream_options"] == {"include_usage": True} for body in server.bodies)
    assert {"ttft_ms_p50", "itl_ms_p50", "tpot_ms_p50", "e2el_ms_p50"} <= set(measures)
    # Seven tokens by usage against two chunks of text.
    rates = measures["output_throughput"]["mean"], measures["request_throughput"]["mean"]
    assert rates[0] == pytest.approx(7 * rates[1])


async def test_throughput_reports_blocks_with_an_interval():
    server = ScriptedServer()
    result = await server.bench("throughput", "--requests", "20", "--blocks", "3", "--warmup", "0")
    found = last_line(result)
    rate = found["measures"]["request_throughput"]
    assert (found["regime"]["concurrency"], found["completed"]) == (16, 60)
    assert len(rate["blocks"]) == len(found["seconds"]) == 3
    assert rate["interval"][0] <= rate["mean"] <= rate["interval"][1]
    assert rate["pooled"] == pytest.approx(60 / sum(found["seconds"]))


async def test_the_open_loop_shows_how_late_the_client_was():
    result = await ScriptedServer().bench("throughput", "--rate", "500", "--requests", "10")
    found = last_line(result)
    assert found["regime"]["loop"] == "open"
    assert found["regime"]["concurrency"] is None
    assert "send_lag_ms_p99" in found["measures"]


async def test_a_server_sees_so_many_requests_at_once_as_concurrency_says():
    server = ScriptedServer()
    server.barrier = asyncio.Barrier(5)  # with fewer clients it never opens
    words = ("--requests", "20", "--concurrency", "5", "--warmup", "0", "--timeout", "30")
    result = await server.bench("throughput", *words)
    assert (last_line(result)["completed"], server.most) == (20, 5)


async def test_failures_are_counted_by_status_and_apart():
    server = ScriptedServer(200, 429, 200, 503)
    result = await server.bench("latency", "--requests", "8", "--warmup", "0")
    found = last_line(result)
    assert result.exit_code == 0
    assert (found["completed"], found["failed"]) == (4, 4)
    assert found["errors"] == {"429": 2, "503": 2}
    assert found["first_error"] == "no 429"
    assert "failed: 2 x 429" in result.stdout


async def test_all_requests_failing_is_exit_1_and_no_figure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = await ScriptedServer(500).bench("latency", "--requests", "3", "--figure", "x")
    assert result.exit_code == 1
    assert last_line(result)["errors"] == {"500": 3}
    assert "all 3 requests failed; the first: no 500" in result.stderr
    assert not list(tmp_path.iterdir())


async def test_the_output_file_holds_what_the_last_line_holds(tmp_path):
    path = tmp_path / "out.json"
    result = await ScriptedServer().bench("latency", "--requests", "2", "--output", str(path))
    assert json.loads(path.read_text()) == last_line(result)


async def test_an_output_that_cannot_be_written_is_one_line_after_the_result(tmp_path):
    path = tmp_path / "missing" / "out.json"
    result = await ScriptedServer().bench("latency", "--requests", "2", "--output", str(path))
    assert result.exit_code == 1
    assert last_line(result)["completed"] == 2
    assert "can't write" in result.stderr


async def test_a_figure_is_written_and_readable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--requests", "4", "--blocks", "2", "--figure", "speed", "--measure", "e2el_ms_p90")
    result = await ScriptedServer().bench("latency", *words)
    figure = read_figure(tmp_path / "benchmarks" / "results" / "speed.json")
    measure = last_line(result)["measures"]["e2el_ms_p90"]
    assert (figure["value"], figure["interval"]) == (measure["mean"], measure["interval"])
    assert (figure["unit"], figure["n"]) == ("ms", 8)
    assert "closed loop, concurrency 1" in figure["notes"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--figure", "../evil"), "--figure"),
        (("--measure", "speed"), "--measure"),
        (("--figure", "x", "--api-key", "secret"), "SQLWRIGHT_API_KEY"),
        (("--rate", "1", "--concurrency", "2"), "--concurrency or --rate"),
        (("--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--model", "nobody"), "unknown model 'nobody'; known: base"),
    ],
)
async def test_a_mistake_is_one_line_before_anything_is_measured(words, named):
    server = ScriptedServer()
    result = await server.bench("latency", *words)
    assert result.exit_code == 1
    assert named in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert (result.stdout, server.bodies) == ("", [])


async def test_the_key_is_sent_and_never_printed():
    server = ScriptedServer()
    env = {"SQLWRIGHT_API_KEY": "sk-secret"}
    result = await server.bench("latency", "--requests", "1", env=env)
    assert server.keys == {"Bearer sk-secret"}
    assert "sk-secret" not in result.output


def test_an_unreachable_server_is_one_line_and_exit_1(unused_tcp_port: int):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    result = CliRunner().invoke(app, ["latency", "--base-url", url])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert f"can't reach {url}" in result.stderr


async def test_a_file_of_ones_own_is_asked_with_its_ddl(tmp_path: Path):
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "stage.sql").write_text("CREATE TABLE singer (id INTEGER)")
    row = {"id": "1", "db_id": "stage", "question": "How many?", "sql": "SELECT 1"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    server = ScriptedServer()
    words = ("latency", "--requests", "1", "--data", str(tmp_path / "mine.jsonl"))
    result = await server.bench(*words)
    assert last_line(result)["regime"]["data"] == "mine.jsonl"
    assert server.bodies[0]["ddl"] == "CREATE TABLE singer (id INTEGER)"
