"""`sqlwright-train` answers a mistake with one line that names it, and publishes nothing."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import trainer.run
from trainer.__main__ import main

app = typer.Typer()
app.command()(main)

GOOD = "alias: mine\ndata: [DATA]\n"
OWN = '{"id": "1", "db_id": "shop", "question": "?", "sql": "SELECT 1"}\n'
WITH_DDL = '{"question": "How many?", "sql": "SQL", "ddl": "CREATE TABLE t (a int)"}\n'
ERROR = "sqlwright-train: error: "


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SQLWRIGHT_CACHE", str(tmp_path / "cache"))
    for library in ("TRANSFORMERS", "DATASETS", "HF_HUB"):  # the command sets them
        monkeypatch.setenv(f"{library}_VERBOSITY", "error")
    monkeypatch.setenv("TQDM_DISABLE", "1")


def invoke(tmp_path: Path, recipe: str | None, *words: str) -> tuple[int, list[str]]:
    """The exit status and the lines on stderr."""
    path = tmp_path / "recipe.yaml"
    if recipe is not None:
        path.write_text(recipe)
    places = ["--store", str(tmp_path / "store"), "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(app, [str(path), *places, *words])
    assert not (tmp_path / "store").is_dir()
    assert isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr.splitlines()


def refused(tmp_path: Path, recipe: str | None, *words: str) -> str:
    """The one line that a mistake is answered with, after those on how far it came."""
    code, lines = invoke(tmp_path, recipe, *words)
    assert code == 1
    assert [line.startswith(ERROR) for line in lines] == [False] * (len(lines) - 1) + [True]
    assert all(line.startswith("sqlwright-train: ") for line in lines)
    return lines[-1].removeprefix(ERROR)


@pytest.mark.parametrize(
    ("recipe", "words", "said"),
    [
        (None, [], "recipe.yaml: can't be read: No such file"),
        ("alias: [", [], "recipe.yaml: can't be read"),
        ("just text", [], "must hold keys and values"),
        ("rank: 8", [], "alias: missing"),
        ("alias: base", [], "alias: 'base' is the base model's own name"),
        (GOOD + "rnak: 8", [], "unknown key 'rnak'"),
        (GOOD + "template: [a, b]", [], "template: must be str"),
        (GOOD, ["rank"], "key=value"),
        (GOOD, ["rank=8192"], "rank: 8192 is not served"),
        (GOOD, ["batch_tokens=30000"], "batch_tokens: must be a multiple of device_tokens"),
        (GOOD, ["use_dora=true"], "use_dora: the engine refuses DoRA adapters"),
        (GOOD, ["scheduler=sharp"], "scheduler: must be one of cosine"),
        (GOOD, ["report_to=nowhere"], "report_to: 'nowhere' is not installed"),
        (GOOD, ["data=no.jsonl"], "no.jsonl: no such file"),
        ("alias: mine", ["schemas=/no/folder"], "schemas: /no/folder is no folder"),
        ("alias: mine", ["split=third"], "samples: no split 'third'"),
        ("alias: mine", ["augment=[turn]", "copies=1"], "augment: unknown kind 'turn'"),
        ("alias: mine", ["max_examples=4", "held_out=no.jsonl"], "held_out: no.jsonl: can't be"),
    ],
)
def test_a_mistake_is_one_line_and_exit_1(tmp_path: Path, recipe, words, said) -> None:
    assert said in refused(tmp_path, recipe, *words)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", b"", "rows.jsonl: holds no rows"),
        ("rows.jsonl", b'{"a": 1}\n', "its columns are of no known set: a; say what they hold"),
        ("rows.jsonl", b"\xff\xfe", "rows.jsonl:1: not UTF-8"),
        ("rows.jsonl", OWN.encode() + b"not json\n", "rows.jsonl:1: no schema of 'shop'"),
        ("rows.jsonl", WITH_DDL.encode() + b"not json\n", "rows.jsonl:2: not JSON"),
        ("rows.jsonl", b'{"question": 5, "sql": "", "ddl": ""}', "column 'question' must be text"),
        ("rows.parquet", b"PAR1", "rows.parquet: can't be read as Parquet"),
        ("rows.jsonl", WITH_DDL.replace("SQL", "DROP TABLE t").encode(), "(writes 1)"),
        ("rows.jsonl", WITH_DDL.replace("SQL", "SELECT b FROM t").encode(), "(unknown_column 1)"),
    ],
)
def test_data_that_can_not_be_used_are_named(tmp_path: Path, name, content, said) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refused(tmp_path, f"alias: mine\ndata: [{tmp_path / name}]\n")


@pytest.mark.parametrize("place", ["--runs", "--store"])
@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_the_place_of_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place, below
) -> None:
    monkeypatch.setattr(trainer.run, "prepare", lambda run: None)
    (tmp_path / "file").write_text("")
    said = refused(tmp_path, "alias: mine", place, str(tmp_path / "file" / below))
    assert f"can't read or write {tmp_path / 'file'}" in said


def test_ctrl_c_is_one_line_and_the_status_that_shells_expect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(run: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer.run, "prepare", interrupted)
    code, lines = invoke(tmp_path, "alias: mine")
    assert code == 130
    assert lines == [f"{ERROR}stopped; the same command goes on from the last checkpoint"]
