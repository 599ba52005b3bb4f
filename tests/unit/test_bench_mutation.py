"""Mutation testing of a part: what is copied, how mutants are counted, and what fails."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import mutation
from benchmarks.mutation import (
    PARTS,
    MutationError,
    copy_tree,
    drawn,
    figure_of,
    guard_modules,
    main,
    rows_of,
)

ROOT = Path(__file__).parents[2]
GUARD, ADMISSION = PARTS["guard"], PARTS["admission"]
CODES: dict[str, dict[str, int | None]] = {
    "sql": {"a_1": 1, "a_2": 0, "a_3": 36, "a_4": 33, "a_5": None, "a_6": 34},
    "names": {"b_1": 1, "b_2": -11},
    "grants": {"c_1": None},
}


def test_a_copy_holds_what_the_tests_need(tmp_path: Path) -> None:
    copy_tree(ROOT, tmp_path, GUARD, ("sql", "dialect", "nonesuch"))
    found = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]["mutmut"]
    assert found["only_mutate"] == ["eval/task/sql.py", "eval/task/dialect.py"]
    tests = found["pytest_add_cli_args_test_selection"]
    assert {"tests/unit/test_check_sql.py", "tests/unit/test_hostile_corpus.py"} <= set(tests)
    assert all((tmp_path / name).is_file() for name in (*tests, *found["only_mutate"]))
    assert (tmp_path / "tests/fixtures/hostile").is_dir()
    assert not list(tmp_path.rglob("__pycache__"))
    assert found["source_paths"] == ["eval/task"]
    assert found["also_copy"] == ["eval", "benchmarks"]
    assert found["pytest_add_cli_args"][-2:] == ["-k", GUARD.left_out]


def test_another_part_is_copied_with_its_own_code_and_tests(tmp_path: Path) -> None:
    copy_tree(ROOT, tmp_path, ADMISSION, ADMISSION.modules)
    found = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]["mutmut"]
    assert found["source_paths"] == ["server/adapters"]
    assert len(found["only_mutate"]) == len(ADMISSION.modules)
    assert found["also_copy"] == ["eval", "benchmarks", "server"]
    tests = found["pytest_add_cli_args_test_selection"]
    assert "tests/unit/test_server_admission.py" in tests
    assert "-k" not in found["pytest_add_cli_args"]
    assert all((tmp_path / name).is_file() for name in (*tests, *found["only_mutate"]))
    assert (tmp_path / "tests/conftest.py").is_file()


def test_the_guard_is_what_the_check_imports() -> None:
    found = guard_modules(ROOT)
    assert {"sql", "names", "functions", "dialect", "grants"} <= set(found)
    assert not {"schema", "prompt", "sqlite_judge"} & set(found)
    assert all((ROOT / f"eval/task/{name}.py").is_file() for name in found)


def test_a_tree_without_the_guard_is_refused(tmp_path: Path) -> None:
    for name in GUARD.copied:
        (tmp_path / "root" / name).mkdir(parents=True)
    with pytest.raises(MutationError, match="no module or no test"):
        copy_tree(tmp_path / "root", tmp_path / "copy", GUARD, ["sql"])


def test_rows_count_by_module_and_name_what_went_unseen() -> None:
    assert rows_of(CODES) == [
        {
            "module": "sql", "mutants": 4, "killed": 1, "survived": 1, "ended otherwise": 1,
            "no tests": 1, "unseen": ["a_2", "a_4"],
        },
        {"module": "names", "mutants": 2, "killed": 1, "ended otherwise": 1, "unseen": []},
    ]  # fmt: skip


def test_the_figure_is_the_share_noticed() -> None:
    figure = figure_of(CODES, GUARD)
    assert (figure.figure, figure.value, figure.n) == ("guard_mutation_score", 0.6667, 6)
    with pytest.raises(MutationError, match="no mutant"):
        figure_of({"sql": {"a_1": None}}, GUARD)
    assert figure_of(CODES, ADMISSION).figure == "admission_mutation_score"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """What mutmut is asked to run; it leaves CODES behind."""
    asked = []

    def run(folder: Path, children: int, only: list[str]) -> None:
        asked.append((children, only))
        for package in ("eval/task", "server/adapters"):
            place = folder / "mutants" / package
            place.mkdir(parents=True, exist_ok=True)
            (place / "sql.py.meta").write_text(json.dumps({"exit_code_by_key": CODES["sql"]}))

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(mutation, "run_mutmut", run)
    return asked


def run_command(
    folder: Path, *options: str, figure: str = "guard_mutation_score"
) -> dict[str, Any]:
    app = typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, [*options, "--results", str(folder)])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads((folder / f"{figure}.json").read_text())
    return found


def test_the_command_writes_the_figure(asked: list[Any], tmp_path: Path) -> None:
    found = run_command(tmp_path, "--only", "eval.task.sql.*", "--children", "1")
    assert asked == [(1, ["eval.task.sql.*"])]
    assert (found["value"], found["n"]) == (0.5, 4)
    assert "random" not in found["notes"]


def test_a_share_is_drawn_from_all_mutants_and_counted_alone(
    asked: list[Any], tmp_path: Path
) -> None:
    found = run_command(tmp_path, "--share", "0.5")
    (_, first), (_, names) = asked
    assert first == [GUARD.first]
    assert names == drawn({"sql": CODES["sql"]}, 0.5)
    assert len(set(names)) == 3 and set(names) <= set(CODES["sql"])
    run = [name for name in names if CODES["sql"][name] not in (None, mutation.SKIPPED)]
    assert found["n"] == len(run)
    assert found["notes"].startswith("a random 50% of all mutants; ")


def test_a_part_has_a_figure_of_its_own(asked: list[Any], tmp_path: Path) -> None:
    found = run_command(tmp_path, "--part", "admission", figure="admission_mutation_score")
    assert (asked, found["value"], found["n"]) == ([(2, [])], 0.5, 4)
    assert found["unit"].startswith("share of mutants of the code that admits adapters")
    app = typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, ["--part", "nonesuch"])
    assert done.exit_code == 2
    assert "guard or admission" in done.output


def test_what_mutmut_says_of_a_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.mutation.sys.executable", "/bin/false")
    with pytest.raises(MutationError):
        mutation.run_mutmut(tmp_path, 1, [])
