"""Policies of decoding: what is asked for each, how their results are paired, what fails."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.policies import AUTO, EXECUTE, POLICIES, Asking, main, row_of
from server.schemas import GenerateRequest
from tests.unit.evaluating import make_world

app = typer.Typer()
app.command()(main)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    return make_world(tmp_path)


def run(url: str, *words: str) -> Any:
    return CliRunner().invoke(app, ["--base-url", url, "--data", "dev.jsonl", *words])


@pytest.mark.parametrize("policy", POLICIES)
def test_the_server_takes_what_every_policy_asks(policy: str) -> None:
    GenerateRequest.model_validate({"natural_language_query": "x", **POLICIES[policy]})


def test_execution_names_the_databases_that_the_server_knows(tmp_path: Path) -> None:
    asking = Asking("http://h", "dev.jsonl", tmp_path)
    assert "--by-name" in asking.command(EXECUTE)
    assert "--by-name" not in asking.command(AUTO)
    assert len({asking.result(policy) for policy in POLICIES}) == len(POLICIES)


def test_a_row_counts_every_question() -> None:
    items = [
        {"latency_ms": ms, "completion_tokens": 10, "server_valid": valid}
        for ms, valid in ((1.0, True), (3.0, None))
    ]
    estimated = {"value": 0.5, "stderr": None, "interval": None}
    measures = {"execution_accuracy": estimated, "runs": estimated}
    row = row_of("free", {"items": items, "measures": measures, "num_errors": 1})
    assert (row["valid"], row["latency_ms_p50"], row["failed"]) == (0.5, 2.0, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--policy", "magic"), "--policy 'magic'; known: ['free'"),
        (("--data", "gone.jsonl"), "gone.jsonl: can't be read"),
    ],
)
def test_what_can_not_be_measured_is_said(asked: Path, words: tuple[str, ...], said: str) -> None:
    done = run("http://127.0.0.1:9", *words)
    assert (done.exit_code, said in done.stderr) == (1, True), done.output
