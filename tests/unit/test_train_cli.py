"""`sqlwright-train` answers a mistake with one line that names it, and publishes nothing."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from trainer.__main__ import main

app = typer.Typer()
app.command()(main)

GOOD = "alias: mine\ndata: [DATA]\n"


def run(tmp_path: Path, recipe: str | None, *words: str) -> tuple[int, str]:
    path = tmp_path / "recipe.yaml"
    if recipe is not None:
        path.write_text(recipe)
    store, runs = tmp_path / "store", tmp_path / "runs"
    result = CliRunner().invoke(
        app, [str(path), *words, "--store", str(store), "--runs", str(runs)]
    )
    assert not store.exists()
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("recipe", "words", "said"),
    [
        (None, [], "recipe.yaml: can't be read"),
        ("alias: [", [], "recipe.yaml: can't be read"),
        ("just text", [], "must hold keys and values"),
        ("rank: 8", [], "alias: missing"),
        (GOOD + "rnak: 8", [], "unknown key 'rnak'"),
        (GOOD, ["rank"], "key=value"),
        (GOOD, ["rank=8192"], "rank: 8192 is not served"),
        (GOOD, ["batch_size=3", "device_batch_size=2"], "batch_size"),
        (GOOD, [], "DATA: can't be read"),
    ],
)
def test_a_mistake_is_one_line_and_exit_1(tmp_path: Path, recipe, words, said) -> None:
    code, stderr = run(tmp_path, recipe, *words)
    assert code == 1
    assert said in stderr
    assert stderr.count("\n") == 1


def test_a_malformed_line_of_data_is_named_with_its_number(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"id": "1", "db_id": "shop", "question": "?", "sql": "SELECT 1"}\nnot json\n')
    code, stderr = run(tmp_path, f"alias: mine\ndata: [{data}]\n")
    assert (code, f"{data}:2: not JSON" in stderr) == (1, True)


def test_data_without_its_schema_is_refused_by_name(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"id": "1", "db_id": "zoo", "question": "?", "sql": "SELECT 1"}\n')
    code, stderr = run(tmp_path, f"alias: mine\ndata: [{data}]\n")
    assert (code, "no schema of 'zoo'" in stderr) == (1, True)
