"""Swaps under load: each fault that the benchmark is for is planted, and seen."""

import asyncio
import json
import math
from collections.abc import Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import typer
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from benchmarks import swaps as command
from benchmarks.load import MonotonicClock
from benchmarks.plan import Api, BenchError
from benchmarks.reference import References, Tokens, distance, scale_of
from benchmarks.reference_engine import ask_engine, references_of
from benchmarks.swap_report import figures_of, round_record
from benchmarks.swapping import Answer, Load, Swap, Task, verdict
from benchmarks.swaps import Swaps, candidates, keep_settings, run_rounds
from benchmarks.variants import BUNDLED, factors, make_variants
from benchmarks.workload import Question
from eval.task.bundle import CONFIG, WEIGHTS, read_bundle, read_version, write_manifest
from eval.task.store import Alias, point_alias, read_aliases

VERSIONS = [digit * 12 for digit in "abcd"]
QUESTIONS = tuple(Question(f"q{n}", "shop", "sqlite", f"schema, question {n}") for n in range(3))


def tokens(logprob: float, *chosen: str) -> Tokens:
    words = chosen or ("SELECT", "1")
    return Tokens(words, tuple({word: logprob, "x": logprob - 2} for word in words))


def said_by(version: str, versions: list[str] = VERSIONS) -> Tokens:
    return tokens(-0.1 - versions.index(version))


REFERENCES = References({q.prompt: {v: said_by(v) for v in VERSIONS} for q in QUESTIONS})


class Server:
    """Follows its store as ours does, and answers for its versions; `fault` is what is wrong."""

    def __init__(self, store: Path, fault: str = "") -> None:
        self.store = store
        self.fault = fault
        self.versions = VERSIONS
        self.asked: list[str] = []
        self.numbers: Iterator[int] = count()

    def version(self, *, behind: bool = False) -> str:
        entry = read_aliases(self.store)["swaps"]
        return (behind and entry.previous) or entry.active

    async def models(self, _: web.Request) -> web.Response:
        entry = read_aliases(self.store).get("swaps")
        return web.json_response({"data": [], "root": f"swaps@{entry.active}" if entry else ""})

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(request.path)
        faulty = next(self.numbers) % 5 == 4 and len(self.asked) > 60
        if faulty and self.fault == "failed":
            return web.json_response({"error": {"message": "no room"}}, status=500)
        version = self.version(behind=faulty and self.fault == "stale")
        model = body["model"] if self.fault == "unnamed" else f"swaps@{version}"
        other = self.versions[(self.versions.index(version) + 1) % len(self.versions)]
        found = said_by(other if faulty and self.fault == "mixed" else version, self.versions)
        logprobs = {"tokens": found.chosen, "top_logprobs": found.likely}
        choices = [{"text": "SELECT 1", "logprobs": logprobs}]
        return web.json_response({"model": model, "choices": choices, "sql_query": "SELECT 1"})

    @asynccontextmanager
    async def load(self, clients: int = 2):
        app = web.Application()
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/v1/models/swaps", self.models)
        app.router.add_post("/{path:.*}", self.answer)
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{server.port}"
            task = Task(url, self.store, "swaps", QUESTIONS, clients)
            yield Load(session, task, REFERENCES, MonotonicClock())


PLAN = Swaps(swaps=8, rounds=2, answers_each=5, steady_seconds=0.05)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.mark.parametrize("fault", ["", "failed", "stale", "mixed"])
async def test_a_planted_fault_is_found_and_no_other(store: Path, fault: str) -> None:
    server = Server(store, fault)
    async with server.load() as load:
        records, _ = await run_rounds(load, PLAN, VERSIONS, store.parent)
    figures = {figure.figure: figure for figure in figures_of(records, "")}
    rows = figures["swap_failed"].rows
    found = {name: sum(row[name] for row in rows) for name in ("failed", "mixed", "stale")}
    assert {name for name, number in found.items() if number} == ({fault} if fault else set())
    assert sum(row["swaps"] for row in rows) == 8
    assert figures["swap_stale"].value == found["stale"]
    assert {"/v1/completions", "/generate-sql"} == set(server.asked)


async def test_rounds_that_were_run_are_not_run_again(store: Path) -> None:
    async with Server(store).load() as load:
        first, _ = await run_rounds(load, PLAN, VERSIONS, store.parent)
        (store.parent / "round-02.json").unlink()
        again, _ = await run_rounds(load, PLAN, VERSIONS, store.parent)
    assert again[0] == first[0]
    assert again[1] != first[1]


async def test_a_server_that_names_no_version_is_refused(store: Path) -> None:
    async with Server(store, "unnamed").load() as load:
        with pytest.raises(BenchError, match="names '' as its model"):
            await command.calibrate(load, VERSIONS)


async def test_a_server_that_does_not_follow_is_said(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.swapping.ACK_SECONDS", 0.02)
    other = store.parent / "other"
    other.mkdir()
    point_alias(other, "swaps", VERSIONS[0])
    async with Server(other).load() as load:
        load.task = Task(load.task.url, store, "swaps", QUESTIONS, 1)
        with pytest.raises(BenchError, match="did not take version bbbbbbbbbbbb"):
            await load.swap(VERSIONS[1])


HISTORY = [Swap("a" * 12, 0, 1), Swap("b" * 12, 10, 11), Swap("c" * 12, 20, 21)]


@pytest.mark.parametrize(
    ("started", "ended", "version", "expected"),
    [
        (2, 3, "a", "right"),
        (10.5, 12, "a", "right"),  # sent before the server said that it had b
        (10.5, 12, "b", "right"),
        (11.5, 12, "a", "stale"),
        (11.5, 20.5, "c", "right"),  # c came while it ran
        (11.5, 19, "c", "stale"),  # c had not been asked for yet
        (22, 23, "b", "stale"),
    ],
)
def test_what_an_answer_may_name(started, ended, version, expected) -> None:
    answer = Answer(Api.COMPLETIONS, started, ended, version * 12)
    assert verdict(answer, HISTORY, 0.1) == expected


@pytest.mark.parametrize("away", [0.2, math.inf, math.nan])
def test_an_answer_that_is_not_its_versions_is_mixed(away: float) -> None:
    answer = Answer(Api.COMPLETIONS, 2, 3, "a" * 12, away)
    assert verdict(answer, HISTORY, 0.1) == "mixed"
    assert verdict(answer, HISTORY, 0.3) == ("right" if away == 0.2 else "mixed")


def test_answers_are_compared_as_long_as_they_go_the_same_way() -> None:
    expected = Tokens(("a", "b", "c"), ({"a": -1.0}, {"b": -1.0}, {"c": -1.0}))
    seen = Tokens(("a", "z", "c"), ({"a": -1.0}, {"z": -1.0, "b": -1.5}, {"c": -9.0}))
    assert distance(seen, expected) == pytest.approx(0.25)


def test_a_token_that_is_not_among_the_likeliest_counts_from_the_least_of_them() -> None:
    expected = Tokens(("a",), ({"a": -1.0, "b": -8.0},))
    assert distance(Tokens(("a",), ({"a": -1.0, "c": -3.0},)), expected) == 0


def test_prompts_are_chosen_that_tell_the_versions_apart() -> None:
    alike = {v: tokens(-0.1) for v in VERSIONS}
    references = References({"alike": alike, **REFERENCES.of})
    assert references.separation("alike") == 0
    assert set(references.best(3).of) == set(REFERENCES.of)


def test_variants_that_can_not_be_told_apart_are_refused() -> None:
    scale = scale_of(REFERENCES, [0.0, 0.1])
    assert scale.noise == 0.1
    assert scale.separation == pytest.approx(0.5)
    assert scale.noise < scale.tolerance < scale.separation
    for noise in (0.2, math.nan):
        with pytest.raises(BenchError, match="can't be told apart"):
            scale_of(REFERENCES, [noise])


def test_prompts_share_long_beginnings() -> None:
    chosen = candidates("samples", 4)
    assert len(chosen) == len({q.prompt for q in chosen}) == 8
    schemas = {q.prompt[:600] for q in chosen}
    assert len(schemas) == len({q.db_id for q in chosen}) == 4


def test_rounds_of_other_settings_are_not_taken_for_ones_own(tmp_path: Path) -> None:
    keep_settings(tmp_path, {"swaps": 10})
    keep_settings(tmp_path, {"swaps": 10})
    with pytest.raises(BenchError, match="other settings"):
        keep_settings(tmp_path, {"swaps": 20})


def test_the_ratio_is_of_all_answers_and_only_completions() -> None:
    def block(ms: float) -> list[Answer]:
        slow = Answer(Api.GENERATE_SQL, 2, 2 + 9, "a" * 12)
        return [Answer(Api.COMPLETIONS, 2, 2 + ms / 1000, "a" * 12), slow]

    blocks = {"steady": block(100), "swaps": block(150)}
    record = json.loads(json.dumps(round_record(blocks, HISTORY, 0.1, swaps=2)))
    assert record["ack_seconds"] == [1, 1]
    assert figures_of([record], "")[2].value == pytest.approx(1.5)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with two small tensors."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / CONFIG).write_bytes((BUNDLED / CONFIG).read_bytes())
    ones = {f"q.lora_{side}.weight": torch.ones(2, 2, dtype=torch.bfloat16) for side in "AB"}
    save_file(ones, folder / WEIGHTS)
    write_manifest(folder, read_bundle(BUNDLED).manifest)
    return folder


def test_variants_differ_in_the_scale_of_b_alone(bundle: Path, store: Path) -> None:
    from safetensors.torch import load_file

    versions = make_variants(bundle, store, factors(3, 0.5))
    assert versions == make_variants(bundle, store, [1.0, 0.75, 0.5])
    found = [load_file(read_version(store, v).folder / WEIGHTS) for v in versions]
    assert [float(t["q.lora_B.weight"][0, 0]) for t in found] == [1.0, 0.75, 0.5]
    assert [float(t["q.lora_A.weight"][0, 0]) for t in found] == [1.0, 1.0, 1.0]


def test_no_bundle_is_said(tmp_path: Path, store: Path) -> None:
    with pytest.raises(BenchError, match="--bundle"):
        make_variants(tmp_path, store, [1.0])


async def test_references_are_what_the_engine_says_of_each_version(store: Path) -> None:
    server = Server(store)
    point_alias(store, "swaps", VERSIONS[0])
    async with server.load() as load:
        found = await ask_engine(load.session, load.task, ["swaps"], load.task.url)
        assert found.of[QUESTIONS[0].prompt]["swaps"] == said_by(VERSIONS[0])
        server.fault, server.asked = "failed", [""] * 99
        with pytest.raises(BenchError, match="500: no room"):
            for _ in range(2):
                await ask_engine(load.session, load.task, ["swaps"], load.task.url)


async def test_references_that_were_asked_for_stay(store: Path) -> None:
    kept = {p: {v: vars_of(t) for v, t in each.items()} for p, each in REFERENCES.of.items()}
    record = {"versions": VERSIONS, "of": kept}
    (store.parent / "references.json").write_text(json.dumps(record))
    async with Server(store).load() as load:
        found = await references_of(load.session, load.task, VERSIONS, store.parent, "none")
    assert found == REFERENCES


def vars_of(found: Tokens) -> dict[str, Any]:
    return {"chosen": found.chosen, "likely": found.likely}


async def test_the_command_leaves_no_name_behind(
    bundle: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(store)
    server.versions = versions = make_variants(bundle, store, factors(4, 0.25))

    async def known(_: Any, task: Task, *rest: Any) -> References:
        said = {version: said_by(version, versions) for version in versions}
        return References({question.prompt: said for question in task.questions})

    monkeypatch.setattr(command, "references_of", known)
    monkeypatch.setattr(command, "resolve_base_model", lambda _: "none")
    app = typer.Typer()
    app.command()(command.main)
    async with server.load() as load:
        words = f"--base-url {load.task.url} --store {store} --swaps 4 --rounds 2 --concurrency 2"
        words += f" --steady-seconds 0.05 --prompts 2 --bundle {bundle}"
        words += f" --folder {tmp_path}/rounds --results {tmp_path}/results"
        point_alias(store, "spider", "a" * 12)
        done = await asyncio.to_thread(CliRunner().invoke, app, words.split())
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["swap_failed"], summary["swap_stale"]) == (0, 0)
    assert len(summary["rows"]) == 2
    assert read_aliases(store) == {"spider": Alias("a" * 12)}
