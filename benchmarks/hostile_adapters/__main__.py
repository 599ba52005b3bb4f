"""`python -m benchmarks.hostile_adapters`: how many adapters our server admits that it must not.

Spoils a good bundle in each way of `kinds.py`, and has `sqlwright-adapters validate` look at the
copies. Writes `adapters_hostile_accepted`: how many were admitted, and of each kind the code and
the processor time beyond hashing. Good copies go along, and must be admitted.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks.hostile_adapters.draft import Kind, Spoil, copied
from benchmarks.hostile_adapters.files import ADDRESSES, MARK
from benchmarks.hostile_adapters.kinds import GOOD, KINDS
from benchmarks.plan import BenchError
from benchmarks.variants import BUNDLED
from eval.task.base_model import BASE_MODEL, BaseModelError, resolve_base_model
from eval.task.figure import RESULTS, Figure, write_figure

SECONDS = 600
MOST_MS = 50.0


@dataclass(frozen=True)
class Case:
    """What is looked at, and the code that it is due; "" if it is good. `make` puts it at a path,
    or gives another."""

    name: str
    row: int
    code: str
    make: Callable[[Path], Path]


@dataclass(frozen=True)
class Looked:
    """What was said of a case, each time that it was looked at."""

    case: Case
    records: Sequence[Mapping[str, Any]]

    @property
    def code(self) -> str:
        """The code that it was refused with; "" if it was ever admitted."""
        return "" if any(r["admitted"] for r in self.records) else str(self.records[0]["code"])

    def row(self) -> dict[str, Any]:
        ms = round(median(record["ms"] for record in self.records), 1)
        found = {"kind": self.case.name, "fault": self.case.row, "code": self.code, "ms": ms}
        return found if self.code == self.case.code else found | {"due": self.case.code}


def cases(bundle: Path) -> list[Case]:
    """What can be made of `bundle`: good copies, hostile ones, and what is no folder at all."""

    def good(spoil: Spoil, path: Path) -> Path:
        draft = copied(bundle, path)
        spoil(draft)
        draft.sign()
        return path

    def hostile(kind: Kind, path: Path) -> Path:
        kind.make(bundle, path)
        return path

    return [
        *(Case(f"good: {name}", 0, "", partial(good, spoil)) for name, spoil in GOOD.items()),
        *(Case(kind.name, kind.row, kind.code, partial(hostile, kind)) for kind in KINDS),
        *(
            Case(each, 33, "missing", partial(lambda each, _: Path(each), each))
            for each in ADDRESSES
        ),
    ]


def look(some: Mapping[Path, Case], first: Path, base: Path, repeats: int) -> list[Looked]:
    """Have the command look at each of `some` so often; what it says of `first` is not counted,
    since it then imports what it needs.

    Raises:
        BenchError: it ended otherwise than by saying something of each.
    """
    paths = [first, *(path for path in some for _ in range(repeats))]
    command = [sys.executable, "-m", "server.adapters", "validate", *map(str, paths)]
    try:
        done = subprocess.run(
            [*command, "--base", str(base), "--json"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        records = [json.loads(line) for line in done.stdout.splitlines()]
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise BenchError(f"validate hangs, or prints no JSON: {error}"[:500]) from error
    if len(records) != len(paths):
        raise BenchError(f"validate said {len(records)} of {len(paths)}: {done.stderr[-500:]}")
    said = iter(records[1:])
    return [Looked(case, tuple(islice(said, repeats))) for case in some.values()]


def figure_of(looked: Sequence[Looked]) -> Figure:
    hostile = [each for each in looked if each.case.code]
    good = [each for each in looked if not each.case.code]
    rows = [each.row() for each in (*hostile, *good)]
    slowest = max(rows[: len(hostile)], key=lambda row: float(row["ms"]))
    faults = sorted({each.case.row for each in hostile})
    codes = {each.code for each in hostile if each.code}
    notes = (
        f"{len(codes)} codes; {sum('due' in row for row in rows)} kinds got another code than is "
        f"due; {sum(not each.code for each in good)} of {len(good)} good copies admitted; "
        "ms: processor time beyond hashing the files once; "
        f"{sum(row['ms'] > MOST_MS for row in rows)} over {MOST_MS:g}, slowest kind: "
        f"{slowest['kind']}, {slowest['ms']}; "
        f"fault: row of faults.md, here {', '.join(map(str, faults))}"
    )
    accepted = sum(not each.code for each in hostile)
    return Figure(
        "adapters_hostile_accepted",
        value=accepted,
        unit="kinds of hostile adapters that the server admits",
        n=len(hostile),
        notes=notes,
        rows=rows,
    )


def failures(looked: Sequence[Looked]) -> list[str]:
    """What is wrong with our server, in words. Slow is not: the machine may be busy."""
    wrong = [f"{x.case.name}: {x.code or 'admitted'}" for x in looked if x.code != x.case.code]
    return wrong + (["a pickle was read"] if Path(MARK).exists() else [])


def run(bundle: Path, base: Path, repeats: int, batch: int) -> list[Looked]:
    """Raises BenchError where the command fails, OSError where copies can't be made."""
    looked: list[Looked] = []
    waiting = iter(cases(bundle))
    while some := list(islice(waiting, batch)):
        with tempfile.TemporaryDirectory(prefix="sqlwright-hostile-") as folder:
            made = {case.make(Path(folder) / str(n)): case for n, case in enumerate(some)}
            looked += look(made, bundle, base, repeats)
    return looked


def main(
    bundle: Annotated[Path, typer.Option(help="The good one that is spoilt.")] = BUNDLED,
    base: Annotated[
        str, typer.Option(help="Its base model; default: the embedded one.")
    ] = BASE_MODEL,
    repeats: Annotated[int, typer.Option(min=1, help="Looks at each; ms is their median.")] = 3,
    batch: Annotated[int, typer.Option(min=1, help="Copies for one process.")] = 64,
    results: Annotated[Path, typer.Option(help="Where the figure is written.")] = RESULTS,
) -> None:
    """Have our server look at hostile adapters."""
    try:
        looked = run(bundle, Path(resolve_base_model(base)), repeats, batch)
    except (BenchError, BaseModelError, OSError, ValueError) as error:
        typer.echo(f"hostile_adapters: error: {error}", err=True)
        raise typer.Exit(1) from error
    figure = figure_of(looked)
    path = write_figure(figure, results)
    typer.echo(json.dumps({"figure": str(path), "value": figure.value, "n": figure.n}))
    if wrong := failures(looked):
        typer.echo("\n".join(wrong), err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
