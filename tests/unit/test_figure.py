"""Figures: one JSON file each, with all that is needed to measure it again and no path in it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eval.task import figure as module
from eval.task.figure import Figure, command_line, commit, hardware, versions, write_figure

FIELDS = "figure value unit n interval notes command commit date hardware versions".split()


def test_a_figure_has_the_fields_that_are_promised(tmp_path: Path) -> None:
    path = write_figure(Figure("check_ms", 1.5, "ms", 1026), tmp_path / "new" / "results")
    record = json.loads(path.read_text())
    assert path == tmp_path / "new" / "results" / "check_ms.json"
    assert sorted(record) == sorted(FIELDS)
    assert (record["figure"], record["value"], record["unit"]) == ("check_ms", 1.5, "ms")
    assert (record["n"], record["interval"], record["notes"]) == (1026, None, "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"])
    assert record["versions"]["python"].startswith("3.")


def test_interval_and_rows_are_kept(tmp_path: Path) -> None:
    figure = Figure("é", 0.5, "share", 2, (0.1, 0.9), "≥", [{"clients": 1}])
    record = json.loads(write_figure(figure, tmp_path).read_text(encoding="utf-8"))
    assert record["interval"] == [0.1, 0.9]
    assert record["rows"] == [{"clients": 1}]
    assert record["notes"] == "≥"


def test_a_figure_is_written_over(tmp_path: Path) -> None:
    write_figure(Figure("a", 1.0, "s", 1, rows=[{}]), tmp_path)
    write_figure(Figure("a", 2.0, "s", 1), tmp_path)
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["value"] == 2.0 and "rows" not in record
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def run_module(tmp_path: Path, *words: str) -> str:
    """The command line that `python -m tool.run WORDS` sees."""
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__init__.py").touch()
    code = "import json, sys\nfrom eval.task.figure import command_line\nprint(command_line())\n"
    (tmp_path / "tool" / "__main__.py").write_text(code)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", START, str(root), *words]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    return run.stdout.strip()


START = """
import runpy, sys
sys.path[:0] = [".", sys.argv.pop(1)]
runpy.run_module("tool", run_name="__main__", alter_sys=True)
"""


def test_the_command_is_written_as_a_user_types_it(tmp_path: Path) -> None:
    data = tmp_path / "in.jsonl"
    data.touch()
    assert run_module(tmp_path, "--n", "3", str(data)) == "python -m tool --n 3 in.jsonl"


def test_no_absolute_path_stands_in_the_command(tmp_path: Path) -> None:
    """Neither in `--name=PATH` nor as a path that is yet to be made."""
    line = run_module(tmp_path, f"--out={tmp_path / 'a.json'}", "--store", str(tmp_path / "new"))
    assert str(tmp_path) not in line
    assert line.startswith("python -m tool --out=a.json --store new")


def test_the_address_of_a_database_is_left_as_it_is(tmp_path: Path) -> None:
    url = "mariadb://reader@/{db_id}?unix_socket=/run/mysqld/mysqld.sock"
    assert run_module(tmp_path, "--databases", url).strip() == f"python -m tool --databases {url}"


def test_a_console_script_is_named_without_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/sqlwright-eval", "score", "3"])
    assert command_line() == "sqlwright-eval score 3"


def test_the_commit_is_taken_from_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    assert re.fullmatch(r"[0-9a-f]{7,12}", commit())
    (tmp_path / "a").write_text("1")
    subprocess.run([*git, "add", "a"], check=True)
    assert re.fullmatch(r"[0-9a-f]{7,12}\+", commit())


def test_without_git_the_commit_is_told_or_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("SQLWRIGHT_COMMIT", raising=False)
    assert commit() == "unknown"
    monkeypatch.setenv("SQLWRIGHT_COMMIT", "abc1234")
    assert commit() == "abc1234"


class FakeCuda:
    """As much of torch as `hardware` asks."""

    def __init__(self, count: int) -> None:
        self.cuda = self
        self.count = count

    def device_count(self) -> int:
        return self.count

    def get_device_name(self, _: int) -> str:
        return "NVIDIA H200"


def test_hardware_is_the_gpus_or_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeCuda(4))
    assert hardware() == "4 x NVIDIA H200"
    monkeypatch.setitem(sys.modules, "torch", FakeCuda(0))
    monkeypatch.delenv("SQLWRIGHT_HARDWARE", raising=False)
    assert re.fullmatch(r"\d+ cores, \w+", hardware())
    monkeypatch.setenv("SQLWRIGHT_HARDWARE", "a laptop")
    assert hardware() == "a laptop"


def test_versions_hold_only_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("sqlglot", "no-such-package"))
    assert set(versions()) == {"python", "sqlglot"}
