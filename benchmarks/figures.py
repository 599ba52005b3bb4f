"""`python -m benchmarks.figures`: every measured figure beside its aim; prints, never writes."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.aims import AIMS, Aim
from eval.task.figure import RESULTS

WIDTH = 160  # where the output is no terminal

TYPES: dict[str, tuple[type, ...]] = {
    "figure": (str,),
    "value": (int, float),
    "interval": (list, type(None)),
    "n": (int,),
    "unit": (str,),
    "command": (str,),
    "commit": (str,),
    "date": (str,),
    "hardware": (str,),
    "versions": (dict,),
    "notes": (str,),
}


class FigureError(ValueError):
    """A result file that is no figure; the message names file and field."""


@dataclass(frozen=True)
class Row:
    """One figure beside its aim; the measured fields are None where nothing was measured."""

    name: str
    verdict: str
    must: float | None
    aim: float | None
    direction: str
    value: float | None = None
    interval: list[float] | None = None
    n: int | None = None
    unit: str | None = None
    date: str | None = None
    commit: str | None = None


def read_figures(folder: Path) -> dict[str, dict[str, Any]]:
    """The figures of `folder` by name.

    Raises:
        FigureError: the folder is missing or a file is malformed.
    """
    if not folder.is_dir():
        raise FigureError(f"no folder {folder}; run this at the root of the repository")
    return {path.stem: read_figure(path) for path in sorted(folder.glob("*.json"))}


def read_figure(path: Path) -> dict[str, Any]:
    """Read one figure; further fields than the required ones are let be.

    Raises:
        FigureError: a field is missing, of another type or out of range.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FigureError(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(record, dict):
        raise FigureError(f"{path}: must hold an object, holds {type(record).__name__}")
    for name, types in TYPES.items():
        _check_type(path, record, name, types)
    _check_values(path, record)
    return record


def _check_type(path: Path, record: dict[str, Any], name: str, types: tuple[type, ...]) -> None:
    if name not in record:
        raise FigureError(f"{path}: field {name!r} is missing; measure it again")
    value = record[name]
    if not isinstance(value, types) or isinstance(value, bool):
        wanted = " or ".join("null" if t is type(None) else t.__name__ for t in types)
        raise FigureError(f"{path}: field {name!r} must be {wanted}, is {type(value).__name__}")


def _check_values(path: Path, record: dict[str, Any]) -> None:
    if record["figure"] != path.stem:
        raise FigureError(
            f"{path}: field 'figure' must be the file's name, is {record['figure']!r}"
        )
    if not _is_finite(record["value"]):
        raise FigureError(f"{path}: field 'value' must be finite, is {record['value']}")
    interval = record["interval"]
    if interval is not None and not _is_interval(interval):
        raise FigureError(f"{path}: field 'interval' must be [low, high] or null, is {interval}")
    if record["n"] < 0:
        raise FigureError(f"{path}: field 'n' must be at least 0, is {record['n']}")
    try:
        date.fromisoformat(record["date"])
    except ValueError as error:
        raise FigureError(f"{path}: field 'date' must be YYYY-MM-DD: {error}") from error


def _is_finite(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type]


def _is_interval(interval: Sequence[Any]) -> bool:
    return len(interval) == 2 and all(map(_is_finite, interval)) and interval[0] <= interval[1]


def rows(figures: dict[str, dict[str, Any]]) -> list[Row]:
    """One row for each aim, in their order, then one for each figure that has no aim."""
    known = {aim.name for aim in AIMS}
    others = [Aim(name, "") for name in sorted(set(figures) - known)]
    return [_row(aim, figures.get(aim.name)) for aim in (*AIMS, *others)]


def _row(aim: Aim, figure: dict[str, Any] | None) -> Row:
    if figure is None:
        return Row(aim.name, "not measured", aim.must, aim.aim, aim.direction)
    measured = {name: figure[name] for name in ("value", "interval", "n", "unit", "date", "commit")}
    verdict = aim.verdict(figure["value"])
    return Row(aim.name, verdict, aim.must, aim.aim, aim.direction, **measured)


def table(shown: Sequence[Row]) -> Table:
    """The rows as a table for people."""
    result = Table(box=box.SIMPLE)
    for name in ("figure", "value", "interval", "n", "unit", "must (aim)", "stands"):
        result.add_column(name, overflow="fold")
    for name in ("date", "commit"):
        result.add_column(name)
    for row in shown:
        interval = "–".join(map(_number, row.interval or ()))
        numbers = _number(row.value), interval, _number(row.n), row.unit or ""
        end = row.verdict, row.date or "", row.commit or ""
        result.add_row(row.name, *numbers, _aim_text(row), *end)
    return result


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _aim_text(row: Row) -> str:
    sign = "≥" if row.direction == "at_least" else "≤"
    must = "report" if row.must is None else f"{sign} {_number(row.must)}"
    return must if row.aim is None else f"{must} ({sign} {_number(row.aim)})"


def main(
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON list in place of a table.")
    ] = False,
    results: Annotated[Path, typer.Option(help="Folder of the figures' files.")] = RESULTS,
) -> None:
    """Print every figure with its interval, its aim and whether it stands."""
    try:
        shown = rows(read_figures(results))
    except FigureError as error:
        typer.echo(f"benchmarks.figures: error: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in shown], indent=1))
    else:
        Console(width=None if sys.stdout.isatty() else WIDTH).print(table(shown), markup=False)


if __name__ == "__main__":
    typer.run(main)
