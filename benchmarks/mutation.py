"""`python -m benchmarks.mutation`: how many small changes of a part's code its tests notice.

mutmut changes one operator, constant or argument at a time and runs the tests that reach the place.
It works on a copy of the code, so that the tree stays as it is. The part is the guard, or what
admits adapters. Writes `guard_mutation_score` or `admission_mutation_score`: the share of the
changes that some test fails on, or that take it past its time. Module-level data, such as the
allow-lists, is not changed by mutmut. All of the guard's take hours; `--share` draws some of them.
"""

import ast
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer

from benchmarks.guard import wilson
from eval.task.figure import RESULTS, Figure, write_figure

GUARD = "sql"
# Which tables there are is read elsewhere, and tested there.
NOT_THE_GUARD = frozenset({"ddl", "schema", "tables"})
# Exit codes of mutmut's children, see `mutmut.stats.status_by_exit_code`.
SURVIVED = {0: "survived", 33: "no tests", 5: "no tests", None: "not checked"}
# Of pytest: a test failed. Others mean that time ran out or that the process died.
KILLED = 1
SKIPPED = 34
SEED = 20261202


@dataclass(frozen=True)
class Part:
    """What is changed: `modules` of the folder `package`; none: all that the check imports.

    `tests` are those beside the ones named like a module, `left_out` those of them that start
    processes, or play for seconds: the others reach the same code. `first` is what mutmut is asked
    to run where others are drawn: only then their names are known.
    """

    figure: str
    what: str
    package: str
    tests: tuple[str, ...]
    copied: tuple[str, ...]
    first: str
    modules: tuple[str, ...] = ()
    left_out: str = ""

    @property
    def packages(self) -> list[str]:
        """What of the copy is no test."""
        return [name for name in self.copied if not name.startswith("tests")]


PARTS = {
    "guard": Part(
        "guard_mutation_score",
        "the guard's code",
        "eval/task",
        ("check_sql*", "hostile_corpus"),
        ("eval", "benchmarks", "tests/unit", "tests/fuzz", "tests/fixtures"),
        "eval.task.violation.*",
        left_out="not small_stack and not no_text_ever_raises",
    ),
    "admission": Part(
        "admission_mutation_score",
        "the code that admits adapters",
        "server/adapters",
        ("server_admission*",),
        ("eval", "benchmarks", "server", "tests/unit", "tests/conftest.py"),
        "server.adapters.refusal.*",
        ("admission", "base_shapes", "config", "files", "refusal", "tensors"),
    ),
}
Codes = dict[str, dict[str, int | None]]


class MutationError(RuntimeError):
    """mutmut did not come to an end; the message is the end of what it said."""


def guard_modules(root: Path) -> tuple[str, ...]:
    """The names of the modules of `eval/task` that the check imports, itself included."""
    found: set[str] = set()
    waiting = [GUARD]
    while waiting:
        module = waiting.pop()
        path = root / f"eval/task/{module}.py"
        if module in found | NOT_THE_GUARD or not path.is_file():
            continue
        found.add(module)
        names = (
            getattr(node, "module", None) or "" for node in ast.walk(ast.parse(path.read_text()))
        )
        waiting += [
            name.removeprefix("eval.task.") for name in names if name.startswith("eval.task.")
        ]
    return tuple(sorted(found))


def copy_tree(root: Path, folder: Path, part: Part, modules: Sequence[str]) -> None:
    """Copy what the tests need from `root` to `folder`, with mutmut's configuration.

    Raises:
        MutationError: `root` holds none of the modules or tests.
    """
    for name in part.copied:
        if (root / name).is_file():
            shutil.copy(root / name, folder / name)
        else:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, folder / name, ignore=ignored)
    paths = [f"{part.package}/{module}.py" for module in modules]
    paths = [path for path in paths if (root / path).is_file()]
    tests = [
        str(path.relative_to(root))
        for name in (*part.tests, *modules)
        for path in sorted(root.glob(f"tests/unit/test_{name}.py"))
    ]
    if not paths or not tests:
        raise MutationError(f"{root}: no module or no test to run; run from the repository's root")
    (folder / "pyproject.toml").write_text(_configuration(part, paths, tests), encoding="utf-8")


def _configuration(part: Part, paths: list[str], tests: list[str]) -> str:
    options = ["-p", "no:cacheprovider", *(["-k", part.left_out] if part.left_out else [])]
    return "\n".join(
        [
            "[tool.pytest.ini_options]",
            'pythonpath = ["."]',
            'addopts = ["--import-mode=importlib", "--noconftest"]',
            "[tool.mutmut]",
            f"source_paths = [{json.dumps(part.package)}]",
            f"only_mutate = {json.dumps(paths)}",
            f"also_copy = {json.dumps(part.packages)}",
            f"pytest_add_cli_args = {json.dumps(options)}",
            f"pytest_add_cli_args_test_selection = {json.dumps(tests)}",
            "",
        ]
    )


def run_mutmut(folder: Path, children: int, only: Sequence[str]) -> None:
    """Run mutmut in `folder`; `only` are patterns of mutants' names, all of them if empty.

    Raises:
        MutationError: it failed, as it does where a test fails without any change.
    """
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(children), *only]
    with (folder / "mutmut.log").open("w+", encoding="utf-8") as log:
        done = subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        log.seek(0)
        if done.returncode:
            raise MutationError(log.read()[-2000:])


def read_codes(folder: Path, part: Part) -> Codes:
    """The exit code of each mutant's tests, by module; None for one that was not run."""
    found = {}
    for path in sorted(folder.glob(f"mutants/{part.package}/*.py.meta")):
        found[path.name.removesuffix(".py.meta")] = json.loads(path.read_text())["exit_code_by_key"]
    return found


def rows_of(codes: Codes) -> list[dict[str, Any]]:
    """One row a module: how many changes were noticed, and the names of those that were not."""
    rows = []
    for module, by_name in codes.items():
        ran = {name: c for name, c in by_name.items() if c is not None and c != SKIPPED}
        counts = Counter(_status(code) for code in ran.values())
        unseen = sorted(name for name, code in ran.items() if code in SURVIVED)
        rows.append({"module": module, "mutants": len(ran), **counts, "unseen": unseen})
    return [row for row in rows if row["mutants"]]


def _status(code: int | None) -> str:
    return SURVIVED.get(code, "killed" if code == KILLED else "ended otherwise")


def drawn(codes: Codes, share: float) -> list[str]:
    """The names of a random `share` of all mutants, the same ones each time."""
    names = sorted(name for by_name in codes.values() for name in by_name)
    return sorted(Random(SEED).sample(names, max(1, round(share * len(names)))))


def only_of(codes: Codes, names: Sequence[str]) -> Codes:
    kept = set(names)
    return {m: {n: c for n, c in by_name.items() if n in kept} for m, by_name in codes.items()}


def figure_of(codes: Codes, part: Part, share: float = 1.0) -> Figure:
    """Raises MutationError where no mutant was run."""
    rows = rows_of(codes)
    n = sum(row["mutants"] for row in rows)
    if not n:
        raise MutationError("no mutant was run")
    seen = n - sum(len(row["unseen"]) for row in rows)
    low, high = wilson(seen, n)
    return Figure(
        part.figure,
        value=round(seen / n, 4),
        unit=f"share of mutants of {part.what} that its tests notice",
        n=n,
        interval=(round(low, 4), round(high, 4)),
        notes=("" if share == 1 else f"a random {share:.0%} of all mutants; ")
        + "mutmut; ended otherwise: past its time, or the process died; unseen: names of "
        "the others, as `mutmut show` takes them",
        rows=rows,
    )


def main(
    part: Annotated[str, typer.Option(help=f"{' or '.join(PARTS)}.")] = "guard",
    module: Annotated[list[str] | None, typer.Option(help="Modules; default: the part's.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Patterns of mutants' names; default: all.")
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.001, max=1, help="Of all mutants, drawn at random.")
    ] = 1.0,
    children: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    keep: Annotated[Path | None, typer.Option(help="Work here, and leave it.")] = None,
    results: Annotated[Path, typer.Option(help="Where the figure is written.")] = RESULTS,
) -> None:
    """Run mutation testing on a part."""
    if part not in PARTS:
        raise typer.BadParameter(f"must be {' or '.join(PARTS)}", param_hint="--part")
    found = PARTS[part]
    folder = keep or Path(tempfile.mkdtemp(prefix="sqlwright-mutation-"))
    try:
        copy_tree(Path.cwd(), folder, found, module or found.modules or guard_modules(Path.cwd()))
        names = only or []
        if share < 1:
            run_mutmut(folder, children, [found.first])
            names = drawn(read_codes(folder, found), share)
        run_mutmut(folder, children, names)
        codes = read_codes(folder, found)
        figure = figure_of(only_of(codes, names) if share < 1 else codes, found, share)
    except (MutationError, OSError) as error:
        print(f"mutation: error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    path = write_figure(figure, results)
    print(json.dumps({"figure": str(path), "value": figure.value, "n": figure.n}))


if __name__ == "__main__":
    typer.run(main)
