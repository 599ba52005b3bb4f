"""Sweeps: read strictly, each variant measured once, a stopped sweep goes on."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

import trainer.sweep
from tests.unit.planted import build_databases
from trainer.config import RecipeError, TrainConfig
from trainer.sweep import Questions, asked, load_sweep, main

SWEEPS = Path(__file__).parents[2] / "trainer" / "sweeps"
GOOD: dict[str, Any] = {
    "recipe": {"alias": "sweep", "data": ["samples"]},
    "measure": {"own": {"data": "samples"}},
    "variants": {"one": None, "two": {"rank": 8}},
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return path


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_sweep_of_the_project_loads_and_begins_with_its_command(path: Path) -> None:
    assert len(load_sweep(path).variants) > 1
    assert path.read_text().startswith(f"# python -m trainer.sweep trainer/sweeps/{path.name}\n")


def test_there_are_sweeps() -> None:
    assert list(SWEEPS.glob("*.yaml"))


def test_a_variant_is_the_recipe_with_its_changes(tmp_path: Path) -> None:
    sweep = load_sweep(written(tmp_path))
    assert (sweep.variants["one"].rank, sweep.variants["two"].rank) == (16, 8)
    assert sweep.questions == (Questions("own", "samples"),)


def test_a_recipe_may_be_a_file(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("alias: other\nrank: 4\n")
    assert load_sweep(written(tmp_path, recipe=str(recipe))).variants["one"].rank == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipes": {}}, "unknown key 'recipes'; known: measure, recipe, variants"),
        ({"variants": {"one": {"rnak": 8}}}, "variants.one: unknown key 'rnak'"),
        ({"measure": {"own": "samples"}}, "measure.own: must have data"),
        ({"measure": {"own": {"data": "a", "limit": 3}}}, "measure.own: must have data"),
    ],
)
def test_a_mistake_names_its_key(tmp_path: Path, changes, message) -> None:
    with pytest.raises(RecipeError, match=message):
        load_sweep(written(tmp_path, **changes))


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: {}\nmeasure: {}\n")
    with pytest.raises(RecipeError, match="missing key 'variants'"):
        load_sweep(path)


def test_questions_may_be_those_of_some_databases() -> None:
    rows = Questions("own", "samples", ("farm",)).rows()
    assert {row.db_id for row in rows} == {"farm"}
    with pytest.raises(RecipeError, match=r"measure\.own: samples has no row of these databases"):
        Questions("own", "samples", ("moon",)).rows()


def test_a_variant_with_hints_is_asked_with_hints(tmp_path: Path) -> None:
    (tmp_path / "databases").mkdir()
    build_databases(tmp_path / "databases")
    record = {"id": "one", "db_id": "harbour", "question": "Ships of Malta?", "sql": "SELECT 1"}
    (tmp_path / "own.jsonl").write_text(json.dumps(record))
    questions = Questions("own", str(tmp_path / "own.jsonl"))
    (row,) = asked(questions, TrainConfig("sweep"))
    (hinted,) = asked(questions, TrainConfig("sweep", hints=True))
    assert row.question == "Ships of Malta?"
    assert hinted == row.with_(question="Ships of Malta? (ship.flag = 'Malta')")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The variants that were trained, by a stand-in that trains nothing."""
    names: list[str] = []

    def run_variant(name, config, *_):
        names.append(name)
        measured = {"accuracy": 0.25, "stderr": 0.1, "valid": 0.5, "n": 4, "seconds": 1.0}
        row = {"variant": name, "recipe": config.digest, "tokens": 10, "loss": 1.0, "seconds": 2.0}
        return {**row, "measured": {"own": measured}}

    monkeypatch.setattr(trainer.sweep, "run_variant", run_variant)
    return names


def run(tmp_path: Path, *words: str) -> Any:
    app = typer.Typer()
    app.command()(main)
    runs = tmp_path / "runs"
    runs.mkdir(exist_ok=True)
    return CliRunner().invoke(app, [str(written(tmp_path)), "--runs", str(runs), *words])


def test_each_variant_is_measured_once_and_has_a_line(tmp_path: Path, trained) -> None:
    line = "two: own 25.0 % ± 10.0, 50.0 % valid (n=4); 10 tokens, loss 1.000, 2 s"
    assert run(tmp_path, "--only", "two").stdout.splitlines() == [line]
    result = run(tmp_path)
    assert trained == ["two", "one"]
    assert result.stdout.splitlines()[1] == line
    rows = (tmp_path / "runs" / "mine.jsonl").read_text().splitlines()
    assert [json.loads(row)["variant"] for row in rows] == ["two", "one"]


def test_a_variant_that_is_not_there_is_refused_by_name(tmp_path: Path, trained) -> None:
    result = run(tmp_path, "--only", "three")
    assert (result.exit_code, trained) == (1, [])
    assert "--only three: no such variant; one, two" in result.stderr
