"""Many adapters, ours against plain vLLM: both get the same requests and the same settings."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import typer
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from benchmarks import adapters as command
from benchmarks.adapters import (
    OURS,
    PLAIN,
    Case,
    Measured,
    Setting,
    figure_of,
    measure,
    our_server,
    write_generation,
)
from benchmarks.children import MODULES, Child, PlainEngine
from benchmarks.measures import Block, Outcome
from benchmarks.plan import BenchError, Plan
from benchmarks.variants import BUNDLED
from benchmarks.workload import load_workload
from server import supervisor
from server.settings import Settings

SETTING = Setting(8, 129, 0.4, Plan(requests=20, concurrency=2, warmup=2), 2, 16)


def test_spreads_are_what_they_say_and_the_same_each_time() -> None:
    uniform, zipf = (
        Counter(islice(Case(8, spread).names(0), 4000)) for spread in ("uniform", "zipf")
    )
    assert set(uniform) == set(zipf) == {f"a{number:03}" for number in range(8)}
    assert max(uniform.values()) < 1.3 * min(uniform.values())
    assert zipf["a000"] / zipf["a003"] == pytest.approx(4, rel=0.3)
    first, again = (list(islice(Case(8, "zipf").names(5), 9)) for _ in range(2))
    assert first == again


class Server:
    """Streams one answer to all, and remembers who was asked what."""

    def __init__(self, known: int) -> None:
        self.known = known
        self.asked: list[tuple[str, str]] = []

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": f"a{n:03}"} for n in range(self.known)]})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append((body["model"], body["prompt"]))
        response = web.StreamResponse()
        await response.prepare(request)
        usage = {"completion_tokens": 3}
        for record in ({"choices": [{"text": "SELECT"}]}, {"choices": [], "usage": usage}):
            await response.write(f"data: {json.dumps(record)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response


async def measured_on(ours: Server, plain: Server, *cases: Case) -> list[Measured]:
    async with AsyncExitStack() as stack:
        urls = {}
        for name, server in ((OURS, ours), (PLAIN, plain)):
            app = web.Application()
            app.router.add_get("/v1/models", server.models)
            app.router.add_post("/v1/completions", server.answer)
            running = await stack.enter_async_context(TestServer(app))
            urls[name] = f"http://127.0.0.1:{running.port}"
        return await measure(urls, cases, SETTING, load_workload("samples"))


async def test_both_servers_get_the_same_requests() -> None:
    ours, plain = Server(4), Server(4)
    cases = [Case(number, spread) for number in (2, 4) for spread in ("uniform", "zipf")]
    measured = await measured_on(ours, plain, *cases)
    assert sorted(ours.asked) == sorted(plain.asked)
    assert len(ours.asked) == len(cases) * 2 * (20 + 2)
    rows = figure_of(measured, SETTING).rows
    assert len(rows) == 8
    assert {row["requests"] for row in rows} == {40}
    assert {row["tokens_per_request"] for row in rows} == {3.0}
    assert all(row["ttft_ms_p50"] <= row["ttft_ms_p99"] for row in rows)


async def test_a_server_that_lacks_an_adapter_is_said_before_any_is_measured() -> None:
    ours, plain = Server(4), Server(3)
    with pytest.raises(BenchError, match="unknown model 'a003'"):
        await measured_on(ours, plain, Case(4, "uniform"))
    assert ours.asked == []


def block(seconds: float, *errors: str | None) -> Block:
    return Block(tuple(Outcome(e2el_ms=1.0, error=error) for error in errors), seconds)


def test_the_figure_is_of_the_most_adapters_evenly_and_counts_failures() -> None:
    def case(adapters: int, spread: str, seconds: float) -> Measured:
        blocks = {OURS: [block(1, None, None, "500")] * 2, PLAIN: [block(seconds, None, None)] * 2}
        return Measured(Case(adapters, spread), blocks)

    measured = [case(2, "uniform", 5), case(128, "uniform", 0.5), case(128, "zipf", 7)]
    figure = figure_of(measured, SETTING)
    assert figure.value == 0.5
    assert [row["failed"] for row in figure.rows] == [2, 0] * 3
    assert [row.get("ratio") for row in figure.rows] == [5, None, 0.5, None, 7, None]


def flags(words: list[str]) -> dict[str, tuple[str, ...]]:
    """What follows each option."""
    found: dict[str, tuple[str, ...]] = {}
    name = ""
    for word in words[3:]:
        name = word if word.startswith("--") else name
        found[name] = (*found.get(name, ()), *(() if word.startswith("--") else (word,)))
    return found


def test_plain_vllm_runs_with_the_flags_of_our_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = our_server(tmp_path / "store", 1, SETTING, tmp_path / "log")
    # The rank is what `fitted` chooses for 24.
    for name, value in {**child.env, "SQLWRIGHT_MAX_LORA_RANK": "32"}.items():
        monkeypatch.setenv(name, value)
    settings = Settings()  # type: ignore[call-arg]
    ours = flags(supervisor.launch(settings, "model", tmp_path / "socket").command)
    engine = PlainEngine("model", {"a": tmp_path}, 1, 8, 129, gpu_share=0.4)
    plain = flags(engine.command())
    only_ours = {"--uds", "--shutdown-timeout", "--structured-outputs-config"}
    assert {name: plain.get(name) for name in ours if name not in only_ours} == {
        name: value for name, value in ours.items() if name not in only_ours
    }
    assert plain.keys() - ours.keys() == {"--host", "--port", "--lora-modules"}
    assert plain["--lora-modules"] == (f"a={tmp_path}",)
    assert MODULES == supervisor.MODULES


def test_a_reference_engine_has_no_prefix_cache() -> None:
    engine = PlainEngine("model", {}, 1, has_prefix_cache=False, is_quick=True)
    assert {"--no-enable-prefix-caching", "--enforce-eager"} <= flags(engine.command()).keys()


def test_plain_vllm_stops_where_ours_does(tmp_path: Path) -> None:
    added = [{"content": "<|im_start|>", "id": 1}, {"content": "<|im_end|>", "id": 2}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 2}))
    folder = write_generation(BUNDLED, tmp_path, tmp_path / "generation")
    assert json.loads((folder / "generation_config.json").read_text()) == {"eos_token_id": [1, 2]}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": []}))
    with pytest.raises(BenchError, match="the base model has no token"):
        write_generation(BUNDLED, tmp_path, tmp_path / "generation")


def child(tmp_path: Path, code: str) -> Child:
    return Child("it", [sys.executable, "-c", code], {}, "http://127.0.0.1:9", tmp_path / "log")


def test_a_child_that_dies_says_its_last_words(tmp_path: Path) -> None:
    with child(tmp_path, "print('no room')") as running, pytest.raises(BenchError, match="no room"):
        running.wait_ready()


FORKING = """
import os, time
if not os.fork():
    import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open("draft", "w").write(str(os.getpid())); os.rename("draft", "pid")
time.sleep(600)
"""


def test_the_children_of_a_child_end_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with child(tmp_path, FORKING):
        while not Path("pid").exists():
            time.sleep(0.02)
        grandchild = Path("/proc") / Path("pid").read_text() / "cmdline"
        assert grandchild.read_bytes()
    while grandchild.exists() and grandchild.read_bytes():  # a zombie has no command line
        time.sleep(0.02)


def test_a_child_ends_with_a_benchmark_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from benchmarks.children import Child\n"
        "c = Child('it', [sys.executable, '-c', 'import time; time.sleep(600)'], {}, '', "
        "Path('log'))\n"
        "with c: Path('pid').write_text(str(c._process.pid)); time.sleep(600)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment) as bench:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert bench.poll() is None
            time.sleep(0.02)
        bench.send_signal(signal.SIGKILL)
    left = Path("/proc") / (tmp_path / "pid").read_text() / "cmdline"
    while left.exists() and left.read_bytes():
        time.sleep(0.02)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command.main)
    words = ["--data", str(tmp_path / "gone.jsonl"), "--folder", str(tmp_path)]
    done: Any = CliRunner().invoke(app, words)
    assert (done.exit_code, "gone.jsonl" in done.stderr) == (1, True), done.output
