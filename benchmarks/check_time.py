"""`python -m benchmarks.check_time`: how long the check of one answer takes with a cached schema.

Asks the gold queries of our six sample databases, each over a schema of 30 tables: the tables of
its database, then those of the others. Beside them, kinds of answers that take other ways through
the check: a misspelled name in each, another dialect asked for, grants. Writes the figure
`check_ms_p50`, of the first kind.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from eval.task.example import Example
from eval.task.figure import RESULTS, Figure, write_figure
from eval.task.grants import Grants
from eval.task.samples import sample_examples, sample_names, sample_schema
from eval.task.schema import Schema
from eval.task.sql import SqlCheck, check_sql

NUM_TABLES = 30


@dataclass(frozen=True)
class Kind:
    """One way through the check; `check` is what is timed."""

    name: str
    check: Callable[[Example, Schema], SqlCheck]
    is_valid: bool = True


@cache
def wide_schema(name: str) -> Schema:
    """The sample database `name` with tables of the others behind its own, 30 in all."""
    others = [other for other in sample_names() if other != name]
    tables = {
        table.name.lower(): table
        for database in (*others, name)
        for table in sample_schema(database).tables
    }
    own = sample_schema(name).tables
    rest = [table for table in tables.values() if table not in own]
    return Schema((*own, *rest)[:NUM_TABLES])


def misspelled(sql: str, schema: Schema) -> str:
    """`sql` with the first table in it one letter short."""
    found = [(sql.find(table.name), table.name) for table in schema.tables if table.name in sql]
    _, name = min(found)
    return sql.replace(name, name[:-1])


@cache
def all_of(schema: Schema) -> Grants:
    return Grants.parse(f'"{table.name}"' for table in schema.tables)


def _misspelled(example: Example, schema: Schema) -> SqlCheck:
    return check_sql(misspelled(example.sql, schema), schema)


KINDS = (
    Kind("as asked, regenerated in its dialect", lambda e, s: check_sql(e.sql, s)),
    Kind("with grants", lambda e, s: check_sql(e.sql, s, grants=all_of(s))),
    Kind("regenerated for PostgreSQL", lambda e, s: check_sql(e.sql, s, "sqlite", "postgres")),
    Kind("a misspelled table", _misspelled, is_valid=False),
)


def time_once(kind: Kind, examples: Sequence[Example]) -> list[float]:
    """Milliseconds of each check, in the order of `examples`."""
    taken = []
    for example in examples:
        schema = wide_schema(example.db_id)
        began = time.perf_counter()
        kind.check(example, schema)
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def row_of(kind: Kind, runs: Sequence[Sequence[float]], num_valid: int) -> dict[str, Any]:
    """p50, p90 and p99 of each run, as the median over the runs; the range of the p50."""
    cuts = [statistics.quantiles(run, n=100, method="inclusive") for run in runs]
    middles = sorted(cut[49] for cut in cuts)
    return {
        "answer": kind.name,
        "n": len(runs[0]),
        "valid": num_valid,
        "runs": len(runs),
        "ms_p50": round(statistics.median(middles), 3),
        "ms_p50_min": round(middles[0], 3),
        "ms_p50_max": round(middles[-1], 3),
        "ms_p90": round(statistics.median(cut[89] for cut in cuts), 3),
        "ms_p99": round(statistics.median(cut[98] for cut in cuts), 3),
    }


def measure(examples: Sequence[Example], runs: int) -> Iterator[dict[str, Any]]:
    """One row a kind, measured in turn after one run that does not count."""
    found: dict[str, list[list[float]]] = {kind.name: [] for kind in KINDS}
    for number in range(runs + 1):
        for kind in KINDS:
            taken = time_once(kind, examples)
            if number:
                found[kind.name].append(taken)
    for kind in KINDS:
        num_valid = sum(kind.check(e, wide_schema(e.db_id)).valid for e in examples)
        yield row_of(kind, found[kind.name], num_valid)


def main(
    runs: Annotated[int, typer.Option(min=1, help="Runs over all queries.")] = 5,
    results: Annotated[Path, typer.Option(help="Folder of the figure.")] = RESULTS,
) -> None:
    """Check the sample databases' gold queries; say how long one takes."""
    examples = [*sample_examples("train"), *sample_examples("test")]
    rows = list(measure(examples, runs))
    first = rows[0]
    figure = Figure(
        "check_ms_p50",
        value=first["ms_p50"],
        unit=f"ms per answer, schema of {NUM_TABLES} tables read before",
        n=first["n"],
        interval=(first["ms_p50_min"], first["ms_p50_max"]),
        notes=f"median and range of the p50 over {runs} runs in turn, one thread, wall time",
        rows=rows,
    )
    typer.echo(json.dumps({"rows": rows, "figure": str(write_figure(figure, results))}))


if __name__ == "__main__":
    typer.run(main)
