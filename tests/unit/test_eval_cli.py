"""The command from end to end, against a small HTTP server in a thread."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Set
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from aiohttp.test_utils import unused_port
from typer.testing import CliRunner, Result

from eval.__main__ import main
from eval.task.samples import sample_examples

ROOT = Path(__file__).parents[2]
GOLDS = {example.question: example.sql for example in sample_examples("test")}
SAMPLES = ["--data", "samples"]


class Engine:
    """Answers gold SQL; a 500 to the `broken` request numbers, nothing from `hang_at` on."""

    def __init__(
        self, *, broken: Set[int] = frozenset(), hang_at: int | None = None, status: int = 200
    ) -> None:
        self.broken = broken
        self.hang_at = hang_at
        self.status = status
        self.asked: list[dict[str, Any]] = []
        self.hanging = threading.Event()
        self.released = threading.Event()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(body)
        number = len(self.asked) - 1
        if self.hang_at is not None and number >= self.hang_at:
            self.hanging.set()
            self.released.wait(60)
        if self.status != 200 or number in self.broken:
            status = self.status if self.status != 200 else 500
            return status, {"error": {"message": "model 'nope' is not known"}}
        if path == "/v1/completions":
            gold = next(
                sql for question, sql in GOLDS.items() if f"-- {question}\n" in body["prompt"]
            )
            choice = {"text": f" {gold};", "finish_reason": "stop"}
            return 200, {"model": "base", "choices": [choice], "usage": {"completion_tokens": 5}}
        gold = GOLDS[body["natural_language_query"]]
        return 200, {"sql_query": gold, "confidence": 0.5, "valid": True, "model": "spider@3f2a"}


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that was interrupted is no news."""


@contextmanager
def serving(engine: Engine) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = engine.answer(self.path, body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with QuietServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            engine.released.set()
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SQLWRIGHT_API_KEY", raising=False)
    return tmp_path


def sqlwright_eval(*args: object) -> Result:
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_the_samples_are_asked_judged_and_reported(folder):
    engine = Engine()
    with serving(engine) as url:
        done = sqlwright_eval("--base-url", url, *SAMPLES, "--model", "spider")
    assert done.exit_code == 0, done.output
    (path,) = folder.glob("runs/*")
    assert path.match("runs/eval-spider-*Z.json")
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"execution_accuracy 1.000 ± 0.000 (n={len(GOLDS)}) · runs 1.000")
    assert last.endswith(f"· result {path.relative_to(folder)}")
    record = json.loads(path.read_text())
    assert record["versions_used"] == ["spider@3f2a"]
    assert [item["id"] for item in record["items"]] == [e.id for e in sample_examples("test")]
    assert url not in path.read_text()
    assert len(engine.asked) == len(GOLDS)
    assert all(body["model"] == "spider" for body in engine.asked)


def test_completions_reaches_a_server_that_only_has_openai_routes(folder):
    engine = Engine()
    with serving(engine) as url:
        done = sqlwright_eval(
            "--base-url", f"{url}/v1", *SAMPLES, "--api", "completions", "--limit", 3,
            "--max-tokens", 77, "--output", "out/r.json",
        )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert [body["max_tokens"] for body in engine.asked] == [77] * 3
    record = json.loads((folder / "out/r.json").read_text())
    assert record["measures"]["execution_accuracy"]["value"] == 1.0
    assert [item["completion_tokens"] for item in record["items"]] == [5] * 3


def test_failed_requests_count_as_wrong_and_are_told(folder):
    with serving(Engine(broken={1, 3})) as url:
        done = sqlwright_eval(
            "--base-url", url, *SAMPLES, "--limit", 4, "--concurrency", 1, "--output", "r.json"
        )
    assert done.exit_code == 0, done.output
    assert "2 requests failed and count as wrong; the first: 500: model 'nope'" in done.stderr
    items = json.loads((folder / "r.json").read_text())["items"]
    assert [item["correct"] for item in items] == [True, False, True, False]
    assert items[1]["error"] == "500: model 'nope' is not known"


def test_a_figure_is_written_where_it_is_asked_for(folder):
    with serving(Engine()) as url:
        done = sqlwright_eval(
            "--base-url",
            url,
            *SAMPLES,
            "--limit",
            2,
            "--figure",
            "some_ex",
            "--output",
            "r.json",
        )
    assert done.exit_code == 0, done.output
    record = json.loads((folder / "benchmarks/results/some_ex.json").read_text())
    assert (record["figure"], record["value"], record["n"]) == ("some_ex", 1.0, 2)
    assert "model spider@3f2a" in record["notes"]


def test_a_stopped_evaluation_goes_on_with_what_is_missing(folder):
    command = [sys.executable, "-m", "eval", *SAMPLES, "--limit", "8", "--concurrency", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    engine = Engine(hang_at=5)
    with serving(engine) as url:
        process = subprocess.Popen(
            [*command, "--base-url", url], stderr=subprocess.PIPE, text=True, env=environment
        )
        assert engine.hanging.wait(60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said
    (partial,) = folder.glob("runs/*")
    assert len(partial.read_text().splitlines()) == 5

    second = Engine()
    with serving(second) as url:  # at another port
        done = sqlwright_eval("--base-url", url, *command[3:])
    assert done.exit_code == 0, done.output
    assert "3 of 8 requests are left" in done.stderr
    asked = [body["natural_language_query"] for body in engine.asked[:5] + second.asked]
    assert asked == [example.question for example in sample_examples("test")[:8]]
    (path,) = folder.glob("runs/*")
    assert path.name == partial.name.removesuffix(".partial.jsonl")
    assert json.loads(path.read_text())["measures"]["execution_accuracy"]["n"] == 8


def fails(*args: object) -> str:
    """The one line on stderr with which the command ends."""
    done = sqlwright_eval(*args)
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line.removeprefix("sqlwright-eval: error: ")


def test_a_server_that_is_not_there_is_named(folder):
    url = f"http://127.0.0.1:{unused_port()}"
    line = fails("--base-url", url, *SAMPLES, "--limit", 1)
    assert line.startswith(f"can't reach {url}/generate-sql: ")
    assert line.endswith("is the server running?")
    assert list(folder.glob("runs/*")) == []


@pytest.mark.parametrize("status", [404, 422])
def test_an_unknown_model_ends_it_after_one_request(status):
    engine = Engine(status=status)
    with serving(engine) as url:
        line = fails("--base-url", url, *SAMPLES, "--limit", 3, "--model", "nope")
    assert f"{status}: model 'nope' is not known; check --model" in line
    assert len(engine.asked) == 1


ROW = {"id": "x1", "db_id": "gone", "question": "How many?", "sql": "SELECT 1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps(ROW) + '\n{"id": ', "dev.jsonl:2: not JSON"),
        (json.dumps(ROW | {"lang": "en"}), "dev.jsonl:1: unknown field 'lang'"),
        ("", "dev.jsonl: holds no examples"),
        (json.dumps(ROW), "dev.jsonl: item 'x1': no database file"),
        (json.dumps(ROW | {"dialect": "klingon"}), "unknown dialect 'klingon'"),
    ],
)
def test_bad_data_is_named_before_any_request(folder, text, said):
    (folder / "dev.jsonl").write_text(text)
    engine = Engine()
    with serving(engine) as url:
        assert said in fails("--base-url", url, "--data", folder / "dev.jsonl")
    assert engine.asked == []


def test_a_gold_query_that_fails_is_named_before_any_request(folder):
    (folder / "dev.jsonl").write_text(json.dumps(ROW | {"sql": "SELECT x FROM t"}))
    (folder / "databases").mkdir()
    (folder / "schemas").mkdir()
    (folder / "databases/gone.sqlite").write_text("no database, whatever its name says, but words")
    (folder / "schemas/gone.sql").write_text("CREATE TABLE t (x int)")
    engine = Engine()
    with serving(engine) as url:
        line = fails("--base-url", url, "--data", "dev.jsonl")
    assert line == "item 'x1': gold query fails on gone.sqlite: file is not a database"
    assert engine.asked == []


def test_a_place_that_can_not_be_written_is_named(folder):
    (folder / "file").write_text("")
    line = fails("--base-url", "http://h:1", *SAMPLES, "--limit", 1, "--output", "file/r.json")
    assert "can't read or write file" in line


@pytest.mark.parametrize("url", ["localhost:8000", "http://me:pw@h"])
def test_an_address_that_can_not_be_asked_is_refused(url):
    assert fails("--base-url", url, *SAMPLES).startswith("--base-url")


@pytest.mark.parametrize("name", ["../x", "Spider", "a b", ""])
def test_a_figure_has_a_plain_name(name):
    assert "--figure" in fails("--base-url", "http://h:1", *SAMPLES, "--figure", name)


def test_a_figure_never_holds_the_key(monkeypatch):
    """A figure records the command line and is committed."""
    args = ["--base-url", "http://h:1", *SAMPLES, "--figure", "f", "--api-key", "s3cret"]
    monkeypatch.setattr(sys, "argv", ["sqlwright-eval", *args])
    line = fails(*args)
    assert "SQLWRIGHT_API_KEY" in line
    assert "s3cret" not in line
