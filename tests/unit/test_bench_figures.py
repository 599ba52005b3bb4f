"""Figures on files of our own: what stands, what falls short, what is malformed."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.aims import AIMS, Aim
from benchmarks.figures import FigureError, main, read_figure, read_figures, rows
from eval.task.figure import Figure, write_figure

app = typer.Typer()
app.command()(main)
runner = CliRunner()


def write(folder: Path, name: str, value: float, interval=None) -> Path:
    return write_figure(Figure(name, value, "ms", 7, interval), folder)


def spoil(path: Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("aim", "value", "verdict"),
    [
        (Aim("a", "", 0.9, None, "at_least"), 0.9, "met"),
        (Aim("a", "", 0.9, 0.95, "at_least"), 0.89, "falls short"),
        (Aim("a", "", 3, None, "at_most"), 3, "met"),
        (Aim("a", "", 0, None, "at_most"), 1, "falls short"),
        (Aim("a", "", None, 0.95, "at_least"), 0.1, "report only"),
        (Aim("a", ""), 5, "report only"),
    ],
)
def test_must_decides_and_its_bound_is_met(aim, value, verdict):
    assert aim.verdict(value) == verdict


def test_every_aim_is_consistent_and_named_once():
    assert len({aim.name for aim in AIMS}) == len(AIMS) > 40
    for aim in AIMS:
        assert (aim.direction == "report") == (aim.must is None and aim.aim is None)
        if aim.must is not None and aim.aim is not None:
            better = aim.aim >= aim.must if aim.direction == "at_least" else aim.aim <= aim.must
            assert better, aim.name


def test_what_a_benchmark_writes_is_read(tmp_path):
    path = write(tmp_path, "check_ms_p50", 1.25, (1.0, 1.5))
    assert read_figure(path)["interval"] == [1.0, 1.5]


def test_rows_say_what_stands(tmp_path):
    write(tmp_path, "check_ms_p50", 1.25)
    write(tmp_path, "page_kib", 301)
    write(tmp_path, "setup_serve_seconds", 90)
    write(tmp_path, "of_no_aim", 1)
    found = {row.name: row for row in rows(read_figures(tmp_path))}
    verdicts = [found[n].verdict for n in ("check_ms_p50", "page_kib", "setup_serve_seconds")]
    assert verdicts == ["met", "falls short", "report only"]
    assert found["of_no_aim"].verdict == "report only"
    assert found["drain_lost"].verdict == "not measured"
    assert found["drain_lost"].value is None
    assert len(found) == len(AIMS) + 1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"value": "fast"}, "'value'"),
        ({"value": True}, "'value'"),
        ({"value": float("nan")}, "'value'"),
        ({"figure": "other"}, "'figure'"),
        ({"interval": [2.0, 1.0]}, "'interval'"),
        ({"interval": [1.0]}, "'interval'"),
        ({"interval": "1-2"}, "'interval'"),
        ({"n": 1.5}, "'n'"),
        ({"n": True}, "'n'"),
        ({"n": -1}, "'n'"),
        ({"date": "yesterday"}, "'date'"),
        ({"versions": []}, "'versions'"),
    ],
)
def test_a_malformed_file_names_file_and_field(tmp_path, fields, named):
    path = write(tmp_path, "page_kib", 1)
    spoil(path, **fields)
    with pytest.raises(FigureError, match=rf"page_kib\.json: field {named}"):
        read_figure(path)


@pytest.mark.parametrize("name", ["figure", "value", "interval", "unit", "commit", "hardware"])
def test_a_missing_field_is_named(tmp_path, name):
    path = write(tmp_path, "page_kib", 1)
    record = json.loads(path.read_text())
    del record[name]
    path.write_text(json.dumps(record))
    with pytest.raises(FigureError, match=rf"page_kib\.json: field '{name}' is missing"):
        read_figure(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_a_file_that_holds_no_object_is_named(tmp_path, text):
    path = tmp_path / "page_kib.json"
    path.write_text(text)
    with pytest.raises(FigureError, match=r"page_kib\.json: "):
        read_figure(path)


def test_the_command_prints_a_table(tmp_path):
    write(tmp_path, "spider_dev_ex_bundled", 0.5, (0.47, 0.53))
    result = runner.invoke(app, ["--results", str(tmp_path)])
    (line,) = [line for line in result.stdout.splitlines() if "spider_dev_ex_bundled" in line]
    assert result.exit_code == 0
    for part in ("0.5", "0.47–0.53", "≥ 0.45 (≥ 0.55)", "met"):
        assert part in line


def test_the_command_prints_json(tmp_path):
    write(tmp_path, "page_kib", 12)
    result = runner.invoke(app, ["--json", "--results", str(tmp_path)])
    found = {row["name"]: row for row in json.loads(result.stdout)}
    assert (found["page_kib"]["value"], found["page_kib"]["verdict"]) == (12, "met")
    assert found["drain_lost"]["verdict"] == "not measured"


def test_the_command_only_reads(tmp_path):
    path = write(tmp_path, "page_kib", 12)
    before = path.read_bytes()
    runner.invoke(app, ["--results", str(tmp_path)])
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]


def test_a_malformed_file_is_one_line_and_exit_1(tmp_path):
    spoil(write(tmp_path, "page_kib", 12), value=None)
    result = runner.invoke(app, ["--results", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "page_kib.json: field 'value'" in result.stderr


def test_a_missing_folder_is_said():
    result = runner.invoke(app, ["--results", "nowhere"])
    assert result.exit_code == 1
    assert "no folder nowhere" in result.stderr
