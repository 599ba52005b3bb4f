"""A real rollout as a benchmark: it asks until the evidence has decided, and says what came."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from aiohttp import web
from typer.testing import CliRunner

from benchmarks import rollout
from benchmarks.rollout import Rollout, begin, figure_of, measure
from benchmarks.workload import load_workload
from eval.task.store import read_aliases
from server.adapters.operations import Operations
from tests.conftest import make_bundle
from tests.unit.serving import good, refused, serving

QUESTIONS = load_workload("samples").questions


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path]:
    return make_bundle(tmp_path / "one"), make_bundle(tmp_path / "two", tag="two")


class Decides:
    """A server that drops the candidate with its `after`-th answer; one in `failing` fails."""

    def __init__(self, store: Path, after: int, failing: int = 0) -> None:
        self.store, self.after, self.failing = store, after, failing
        self.bodies: list[Any] = []

    async def __call__(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        if len(self.bodies) == self.after:
            entry = read_aliases(self.store)["rollout"]
            Operations(self.store, "rollout").decide("rollout", entry, "roll_back", "worse")
        if self.failing and len(self.bodies) % self.failing == 0:
            return refused(502)
        return good()


async def run(store: Path, handler: Decides, most: int = 100) -> tuple[Rollout, float]:
    async with serving(handler) as url:
        return await measure(url.rstrip("/"), store, "rollout", QUESTIONS, 2, most)


async def test_it_asks_until_the_evidence_has_decided(tmp_path, bundles):
    store = tmp_path / "store"
    begin(store, "rollout", bundles, "shadow", 0.5)
    server = Decides(store, 20, failing=7)
    found, seconds = await run(store, server)
    figure = figure_of(found, seconds, "shadow", ("one", "two"))
    assert 18 <= figure.value <= 22
    assert "roll_back" in figure.notes
    assert "worse" in figure.notes
    assert f"{len(found.failed)} requests failed" in figure.notes
    assert found.failed
    assert {body["model"] for body in server.bodies} == {"rollout"}
    assert len({body.get("user") for body in server.bodies}) > 10


async def test_what_is_undecided_is_said(tmp_path, bundles, monkeypatch):
    monkeypatch.setattr(rollout, "SETTLE_SECONDS", 0.1)
    store = tmp_path / "store"
    begin(store, "rollout", bundles, "canary", 0.5)
    found, seconds = await run(store, Decides(store, 1000), most=10)
    figure = figure_of(found, seconds, "canary", ("one", "two"))
    assert (figure.value, "undecided" in figure.notes) == (10, True)


@pytest.mark.parametrize(("mode", "word"), [("both", "--mode"), ("shadow", "rollout: error")])
def test_an_error_is_one_line_and_the_name_is_gone(tmp_path, bundles, mode, word):
    app = typer.Typer()
    app.command()(rollout.main)
    store = tmp_path / "store"
    words = ["--base-url", "http://127.0.0.1:1", "--store", str(store), "--data", "samples"]
    words += ["--active", str(bundles[0]), "--candidate", str(bundles[1]), "--mode", mode]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert word in result.output
    assert not store.exists() or json.loads((store / "aliases.json").read_text()) == {}
