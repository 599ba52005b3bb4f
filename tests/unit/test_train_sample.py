"""Sampling further rows and pairs from a bundle: what is asked, and what is written."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from trainer.pipeline.load import load_source
from trainer.sample import main, rows_of, write

BUNDLED = Path(__file__).parents[2] / "server" / "bundled" / "spider"


def test_gold_queries_are_spelled_as_the_adapter_learnt_them() -> None:
    full = rows_of("samples", {"names": "full"}, 5)
    qualified = rows_of("samples", {"names": "qualified"}, 5)
    assert len(full) == len(qualified) == 5
    assert [row.id for row in full] == [row.id for row in load_source("samples", limit=5).rows]
    assert all("." in row.sql for row in qualified)
    assert any("." not in row.sql for row in full)


def test_a_file_is_written_whole_with_a_record_a_line(tmp_path: Path) -> None:
    def records() -> Any:
        yield {"question": "Größe?"}
        if broken:
            raise RuntimeError

    broken = False
    path = tmp_path / "new" / "rows.jsonl"
    write(path, records())
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"question": "Größe?"}]
    broken = True
    with pytest.raises(RuntimeError):
        write(path, records())
    assert list(path.parent.iterdir()) == [path]
    assert path.read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--samples", "1"], "--samples must be at least 2"),
        (["--temperature", "0"], "--temperature above 0"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, words: list[str], said: str) -> None:
    app = typer.Typer()
    app.command()(main)
    usual = ["--data", "samples", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [str(BUNDLED), *usual, *words])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert said in result.stderr
    assert not (tmp_path / "out").exists()
