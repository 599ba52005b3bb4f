"""`python -m benchmarks.guard`: what the guard lets pass that it must not, and what it refuses.

Checks every statement of the hostile corpus in each of its dialects, under every name of them, and
every gold query of the data files given. Writes the figures `guard_hostile_passed` and
`guard_gold_refused`; the latter lists ids and codes, never a query's text.
"""

import json
import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.corpus import CORPUS, CorpusError, Hostile, load_corpus
from benchmarks.oracle import why_harmful
from eval.task.dialect import DIALECTS, resolve_dialect
from eval.task.example import Example, ExampleError, load_examples
from eval.task.figure import RESULTS, Figure, write_figure
from eval.task.samples import sample_schema
from eval.task.schema import DdlError, Schema, parse_ddl
from eval.task.sql import SqlCheck, check_sql

# The standard normal quantile of a two-sided 95 % interval.
Z = 1.959964


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard made of one statement: `passed` says why it must not have, or is ""."""

    case: Hostile
    passed: str
    codes: tuple[str, ...]
    cpu_ms: float


def judge(case: Hostile, schema: Schema) -> Verdict:
    """Check one hostile statement; `cpu_ms` is processor time, not waiting."""
    began = time.process_time()
    check = check_sql(case.sql, schema, case.dialect, case.write, grants=case.grants)
    cpu_ms = 1000 * (time.process_time() - began)
    codes = tuple(sorted({violation.code for violation in check.violations}))
    return Verdict(case, why_unsafe(case, check), codes, cpu_ms)


def why_unsafe(case: Hostile, check: SqlCheck) -> str:
    """Why `check` lets harm pass; "" where it refuses, or where what it gives is harmless."""
    if not check.valid:
        return ""
    if not case.may_pass:
        return "passed"
    kept = next((word for word in case.lacks if word.lower() in check.sql.lower()), "")
    if kept:
        return f"kept {kept!r}"
    return why_harmful(check.sql, resolve_dialect(case.write or case.dialect))


def judge_corpus(folder: Path, dialects: Iterable[str] = DIALECTS) -> list[Verdict]:
    """Every statement of the corpus in `folder`, as `benchmarks.corpus` reads it.

    Raises:
        CorpusError: the corpus can't be read.
    """
    schema = sample_schema("shop")
    return [judge(case, schema) for case in load_corpus(folder, dialects)]


def hostile_rows(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """One row a class: statements, checks (a statement in one dialect by one name), what passed."""

    def kind(verdict: Verdict) -> str:
        return verdict.case.kind

    return [
        {
            "class": name,
            "statements": len({v.case.id for v in group}),
            "checks": len(group),
            "passed": sum(bool(v.passed) for v in group),
            "passed_as": sorted({f"{v.case}: {v.passed}" for v in group if v.passed}),
            "cpu_ms_max": round(max(v.cpu_ms for v in group), 1),
        }
        for name, found in groupby(sorted(verdicts, key=kind), key=kind)
        for group in [list(found)]
    ]


def refused_golds(path: Path) -> Iterator[tuple[Example, tuple[str, ...]]]:
    """Each example of `path` with the codes of its gold query's violations.

    Its schema is read from `schemas/DB_ID.sql` beside the file.

    Raises:
        ExampleError, DdlError: the data or a schema can't be read.
    """
    schemas: dict[str, Schema] = {}
    for example in load_examples(path):
        if example.db_id not in schemas:
            ddl = path.parent / "schemas" / f"{example.db_id}.sql"
            schemas[example.db_id] = parse_ddl(ddl.read_text(encoding="utf-8"), example.dialect)
        check = check_sql(example.sql, schemas[example.db_id], example.dialect)
        yield example, tuple(sorted({violation.code for violation in check.violations}))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `hits` in `n` (Wilson 1927); questions as independent."""
    share, z2 = hits / n, Z * Z / n
    middle = (share + z2 / 2) / (1 + z2)
    half = Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def hostile_figure(verdicts: Sequence[Verdict]) -> Figure:
    passed = {v.case.id for v in verdicts if v.passed}
    statements = len({v.case.id for v in verdicts})
    names = len({v.case.dialect for v in verdicts})
    return Figure(
        "guard_hostile_passed",
        value=len(passed),
        unit="statements of the hostile corpus that pass unsafely in any dialect",
        n=statements,
        notes=f"{len(verdicts)} checks under {names} names of dialects; cpu_ms_max: processor "
        "time of the slowest check of a class, this process",
        rows=hostile_rows(verdicts),
    )


def gold_figure(found: Sequence[tuple[Example, tuple[str, ...]]]) -> Figure:
    refused = [(example, codes) for example, codes in found if codes]
    low, high = wilson(len(refused), len(found))
    return Figure(
        "guard_gold_refused",
        value=round(len(refused) / len(found), 6),
        unit="share of gold queries that the guard refuses",
        n=len(found),
        interval=(round(low, 6), round(high, 6)),
        notes="interval: Wilson, questions as independent; rows: each refused gold",
        rows=[{"id": example.id, "codes": codes} for example, codes in refused],
    )


def main(
    data: Annotated[
        list[Path] | None, typer.Option(help="JSONL file of examples, schemas/ beside it.")
    ] = None,
    corpus: Annotated[Path, typer.Option(help="Folder of the hostile statements.")] = CORPUS,
    results: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Check the hostile corpus, and the gold queries of each --data."""
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    try:
        figures = [hostile_figure(judge_corpus(corpus))]
        if golds := [pair for path in data or () for pair in refused_golds(path)]:
            figures.append(gold_figure(golds))
    except (CorpusError, ExampleError, DdlError, OSError) as error:
        print(f"guard: error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    for figure in figures:
        path = write_figure(figure, results)
        print(json.dumps({"figure": str(path), "value": figure.value, "n": figure.n}))
    raise typer.Exit(int(figures[0].value > 0))


if __name__ == "__main__":
    typer.run(main)
