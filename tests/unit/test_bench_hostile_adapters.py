"""How many hostile adapters are admitted: what is looked at, how it is counted, and what fails."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.hostile_adapters import __main__ as command
from benchmarks.hostile_adapters.__main__ import Case, Looked, cases, failures, figure_of, look
from benchmarks.hostile_adapters.files import ADDRESSES, MARK
from benchmarks.hostile_adapters.kinds import GOOD, KINDS
from benchmarks.hostile_adapters.weights import Tensor, join, pack, split, unpack, value_bits
from benchmarks.plan import BenchError
from tests.conftest import make_bundle

ADMITTED = {"admitted": True, "ms": 9.0}


def refused(code: str, ms: float = 1.0) -> dict[str, Any]:
    return {"admitted": False, "code": code, "ms": ms}


def looked(name: str, due: str, *records: dict[str, Any]) -> Looked:
    return Looked(Case(name, 30, due, Path), records)


GOOD_ONE = looked("good: x", "", ADMITTED)


def test_all_kinds_good_ones_and_addresses_are_looked_at(tmp_path: Path) -> None:
    found = cases(make_bundle(tmp_path / "bundle"))
    assert len(found) == len(GOOD) + len(KINDS) + len(ADDRESSES)
    good, hostile, address = found[0], found[len(GOOD)], found[-1]
    assert (good.make(tmp_path / "a"), good.code) == (tmp_path / "a", "")
    assert (tmp_path / "a").is_dir()
    assert (hostile.make(tmp_path / "b"), hostile.code) == (tmp_path / "b", KINDS[0].code)
    assert (address.make(tmp_path / "c"), address.code) == (Path(ADDRESSES[-1]), "missing")


def test_the_figure_counts_what_was_admitted() -> None:
    found = [
        GOOD_ONE,
        looked("right", "bad_dtype", refused("bad_dtype"), refused("bad_dtype", 3.0)),
        looked("other code", "bad_dtype", refused("bad_field")),
        looked("sometimes", "bad_dtype", refused("bad_dtype", 60.0), ADMITTED | {"ms": 60.0}),
    ]
    figure = figure_of(found)
    assert (figure.figure, figure.value, figure.n) == ("adapters_hostile_accepted", 1, 3)
    assert figure.rows == [
        {"kind": "right", "fault": 30, "code": "bad_dtype", "ms": 2.0},
        {"kind": "other code", "fault": 30, "code": "bad_field", "ms": 1.0, "due": "bad_dtype"},
        {"kind": "sometimes", "fault": 30, "code": "", "ms": 60.0, "due": "bad_dtype"},
        {"kind": "good: x", "fault": 30, "code": "", "ms": 9.0},
    ]
    assert figure.notes.startswith(
        "2 codes; 2 kinds got another code than is due; 1 of 1 good copies admitted; "
    )
    assert "1 over 50, slowest kind: sometimes, 60.0;" in figure.notes
    assert failures(found) == ["other code: bad_field", "sometimes: admitted"]


def test_a_good_one_that_is_refused_is_a_failure() -> None:
    assert failures([GOOD_ONE]) == []
    assert failures([looked("good: y", "", refused("other"))]) == ["good: y: other"]


def test_a_pickle_that_was_read_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(MARK).mkdir()
    assert failures([GOOD_ONE]) == ["a pickle was read"]


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[[list[str]], str]) -> None:
    """What the command prints, given the folders that it is asked for."""

    def run(words: list[str], **_: object) -> object:
        paths = words[4 : words.index("--base")]
        return SimpleNamespace(stdout=answer(paths), stderr="broken")

    monkeypatch.setattr(subprocess, "run", run)


def test_each_is_looked_at_so_often_after_a_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(paths: list[str]) -> str:
        asked.extend(paths)
        return "".join(json.dumps(refused(path)) + "\n" for path in paths)

    answering(monkeypatch, answer)
    some = {Path("x"): Case("x", 30, "x", Path), Path("y"): Case("y", 30, "y", Path)}
    found = look(some, Path("first"), Path("base"), 2)
    assert asked == ["first", "x", "x", "y", "y"]
    assert [(each.code, len(each.records)) for each in found] == [("x", 2), ("y", 2)]


@pytest.mark.parametrize("printed", ["", "no json", '{"admitted": true}\n'])
def test_a_command_that_says_less_is_an_error(
    monkeypatch: pytest.MonkeyPatch, printed: str
) -> None:
    answering(monkeypatch, lambda _: printed)
    with pytest.raises(BenchError, match="validate"):
        look({Path("x"): Case("x", 30, "x", Path)}, Path("first"), Path("base"), 1)


def test_a_command_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(_: list[str]) -> str:
        raise subprocess.TimeoutExpired("validate", 600)

    answering(monkeypatch, hang)
    with pytest.raises(BenchError, match="hangs"):
        look({}, Path("first"), Path("base"), 1)


@pytest.mark.parametrize(("code", "status"), [("", 1), ("missing", 0)])
def test_the_command_writes_the_figure_and_fails_where_one_is_admitted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, status: int
) -> None:
    seen: list[Path] = []

    def looks(some: dict[Path, Case], *_: object) -> list[Looked]:
        assert all(path.is_dir() for path in some)
        seen.extend(some)
        return [Looked(case, [refused(code) if code else ADMITTED]) for case in some.values()]

    def made(path: Path) -> Path:
        path.mkdir()
        return path

    def two(bundle: Path) -> list[Case]:
        return [Case(name, 30, "missing", made) for name in "ab"]

    monkeypatch.setattr(command, "look", looks)
    monkeypatch.setattr(command, "cases", two)
    app = typer.Typer()
    app.command()(command.main)
    words = ["--base", str(tmp_path), "--batch", "1", "--results", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == status, done.output
    found = json.loads((tmp_path / "adapters_hostile_accepted.json").read_text())
    assert (found["value"], found["n"]) == (2 if status else 0, 2)
    assert len(seen) == 2 and not any(path.exists() for path in seen)


def test_weights_are_taken_apart_and_put_together() -> None:
    tensors = {"a": Tensor("F32", (1, 2), value_bits("F32", 1.5) * 2)}
    content = pack(tensors)
    assert unpack(content) == tensors
    assert join(*split(content)) == content


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_values_keep_their_worth_in_other_dtypes(dtype: str) -> None:
    wide = Tensor("F32", (2,), value_bits("F32", 1.5) + value_bits("F32", -0.25))
    narrow = wide.cast(dtype)
    assert narrow.data == value_bits(dtype, 1.5) + value_bits(dtype, -0.25)
    assert narrow.cast("F32") == wide
    assert narrow.filled(value_bits(dtype, 2.0), -1).cast("F32").data[4:] == value_bits("F32", 2.0)
