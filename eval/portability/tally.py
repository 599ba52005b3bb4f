"""Goes through a data set on three engines and counts. Knows nothing of the command line."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.dataset import Dataset, DatasetError, Question
from eval.execution import Target, open_database
from eval.portability.agreement import Case, NotPortable, cases, on_engines
from eval.portability.copies import Copies
from eval.portability.reasons import REASONS, reason_of_difference, reason_of_error
from eval.task.figure import Figure

ENGINES = ("sqlite", "postgres", "mysql")
SHOWN_IDS = 5
REGIME = (
    "Distinct gold queries that all three engines run, each judged against itself, itself with "
    "the sides of comparisons exchanged, near misses and another gold query of the database; "
    "translated by sqlglot, LIKE without case. Copies: PostgreSQL LC_COLLATE C; MariaDB "
    "utf8mb4_nopad_bin, default sql_mode, div_precision_increment 12; columns typed by their values"
)


@dataclass
class Tally:
    """What was counted so far; predictions by their kind, differences by their reason."""

    not_portable: Counter[str] = field(default_factory=Counter)
    num_golds: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    agreeing: Counter[str] = field(default_factory=Counter)
    differences: dict[str, list[Case]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return self.kinds.total()

    @property
    def share(self) -> float:
        """The share of predictions with the same verdict on all engines; 0 where there are none."""
        return self.agreeing.total() / self.n if self.n else 0.0

    def add(self, case: Case | NotPortable) -> None:
        if isinstance(case, NotPortable):
            self.left_out[reason_of_error(case.error)] += 1
            return
        self.kinds[case.kind] += 1
        self.right[case.kind] += case.verdicts["sqlite"]
        self.agreeing[case.kind] += case.agrees
        if not case.agrees:
            self.differences.setdefault(reason_of_difference(case), []).append(case)


def sqlite_files(data: Dataset) -> dict[str, Path]:
    """The SQLite file of each db_id.

    Raises:
        DatasetError: a database is on a server.
    """
    found = {}
    for question in data.questions:
        if not isinstance(question.database, Path):
            raise DatasetError(f"{question.example.db_id}: only SQLite files can be copied")
        found[question.example.db_id] = question.database
    return found


def measure(data: Dataset, copies: Copies, *, num_mutants: int) -> Iterator[Tally]:
    """Judge all distinct gold queries, database by database; the counts so far after each."""
    tally = Tally()
    for db_id, path in sqlite_files(data).items():
        asked = [q for q in data.questions if q.example.db_id == db_id]
        distinct = list({question.example.sql: question for question in asked}.values())
        targets: list[Target] = [path, *(copies.urls[dialect][db_id] for dialect in ENGINES[1:])]
        _measure_database(distinct, targets, tally, num_mutants=num_mutants)
        yield tally


def _measure_database(
    questions: list[Question], targets: list[Target], tally: Tally, *, num_mutants: int
) -> None:
    golds = [question.example.sql for question in questions]
    with ExitStack() as stack:
        databases = [open_database(target) for target in targets]
        for database in databases:
            stack.callback(database.close)
        for question in questions:
            engines = on_engines(question, databases)
            if isinstance(engines, NotPortable):
                tally.not_portable[reason_of_error(engines.error)] += 1
                continue
            tally.num_golds += 1
            for case in cases(question, engines, golds, num_mutants=num_mutants):
                tally.add(case)


def figure_of(name: str, tally: Tally) -> Figure:
    """The share of equal verdicts, with counts by reason and kind; holds ids, no queries."""
    golds = {"portable": tally.num_golds, **tally.not_portable}
    rows: list[dict[str, Any]] = [
        {"part": "gold queries", "reason": reason, "n": n} for reason, n in golds.items()
    ]
    rows.append({"part": "predictions left out", "n": tally.left_out.total(), **tally.left_out})
    rows += [
        {
            "part": "differences",
            "reason": reason,
            "n": len(found),
            "explanation": REASONS[reason],
            "ids": list(dict.fromkeys(case.id for case in found))[:SHOWN_IDS],
        }
        for reason, found in tally.differences.items()
    ]
    rows += [
        {"part": "predictions", "kind": kind, "n": n, "right": tally.right[kind],
         "same_verdict": tally.agreeing[kind]}
        for kind, n in tally.kinds.items()
    ]  # fmt: skip
    return Figure(name, tally.share, "share of verdicts", tally.n, notes=REGIME, rows=rows)
