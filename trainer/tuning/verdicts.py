"""Whether one answer is right: do the predicted query and the gold query return the same rows?

The rules are those of `eval`'s execution accuracy: rows as a bag, in the gold's order where its
outermost query has an ORDER BY, rows that tie under it in any order. Where there is no database,
the queries' canonical spellings are compared. `serve` judges in a process of its own. Knows nothing
of models or totals.
"""

import pickle
import sys
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from sqlite3 import Connection
from typing import Literal, cast
from zlib import crc32

from eval.task.ordering import is_ordered
from eval.task.rows import same_blocks, same_rows
from eval.task.sql import check_sql
from eval.task.sqlite_judge import Answer, open_readonly, run_query
from eval.task.statement import SQLGLOT_FAILURES, normalize_sql
from eval.task.ties import tied_blocks
from trainer.pipeline.row import Row
from trainer.pipeline.spelling import canonical_sql

TIMEOUT_SECONDS = 5.0
MAX_CONNECTIONS = 64
MAX_GOLDS = 20_000

# `right` and `wrong` compare rows, `failed` does not run, `unjudged`: the gold query itself fails.
Status = Literal["right", "wrong", "failed", "unjudged"]
# What is wrong with it; `query`: another query, where there is no database.
Fault = Literal["", "no_sql", "error", "columns", "num_rows", "order", "values", "query", "gold"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one answer; `detail` says in words what `fault` names.

    `is_valid`: `check_sql` passes; False where the row has no schema. `is_telling`: the gold
    query's answer is neither empty nor a single zero or NULL, which wrong queries return as well;
    False where nothing was run.
    """

    status: Status
    fault: Fault = ""
    detail: str = ""
    is_valid: bool = False
    is_telling: bool = False

    @property
    def is_judged(self) -> bool:
        return self.status != "unjudged"


@dataclass(frozen=True, slots=True)
class Case:
    """A query that was predicted for a row."""

    row: Row
    predicted: str

    @property
    def gold_key(self) -> int:
        """Equal for equal golds, in every process."""
        return crc32(f"{self.row.database}\0{self.row.sql}".encode())


def verdict_of(case: Case) -> Verdict:
    """Run both queries and compare.

    Raises:
        JudgeError: the row's database is missing.
    """
    if not case.row.database:
        return _verdict_by_text(case)
    gold, valid = _gold_answer(case.row.database, case.row.sql), _is_valid(case)
    if gold.error is not None:
        return Verdict("unjudged", "gold", f"gold query fails: {gold.error}", valid)
    telling = not _is_trivial(gold)
    if not case.predicted.strip():
        return Verdict("failed", "no_sql", "no SQL", is_telling=telling)
    found = _predicted_answer(case, gold)
    if found is None:
        return Verdict("wrong", "num_rows", f"over {len(gold.rows)} rows", valid, telling)
    if found.error is not None:
        return Verdict("failed", "error", found.error, valid, telling)
    fault, detail = _difference(gold, found, case.row)
    return Verdict("wrong" if fault else "right", fault, detail, valid, telling)


def _verdict_by_text(case: Case) -> Verdict:
    valid = _is_valid(case)
    if canonical(case.predicted, case.row) == canonical(case.row.sql, case.row):
        return Verdict("right", is_valid=valid)
    return Verdict("wrong", "query", "another query", valid)


def canonical(sql: str, row: Row) -> str:
    """One spelling for queries on the schema that differ in aliases, names' case or space only."""
    if row.schema is not None:
        try:
            sql = canonical_sql(sql, row.schema, row.dialect, names="full")
        except SQLGLOT_FAILURES:
            return " ".join(sql.split())
    return normalize_sql(sql, row.dialect)


def _is_valid(case: Case) -> bool:
    schema = case.row.schema
    return schema is not None and check_sql(case.predicted, schema, case.row.dialect).valid


def _is_trivial(gold: Answer) -> bool:
    return not gold.rows or gold.rows in (((0,),), ((None,),))


@lru_cache(maxsize=MAX_CONNECTIONS)
def _connection(database: str) -> Connection:
    return open_readonly(Path(database))


@lru_cache(maxsize=MAX_GOLDS)
def _gold_answer(database: str, sql: str) -> Answer:
    return run_query(_connection(database), sql)


def _predicted_answer(case: Case, gold: Answer) -> Answer | None:
    """None where it has more rows than the gold query's: no need to fetch a cross join's."""
    limit = len(gold.rows)
    database = _connection(case.row.database)
    found = run_query(database, case.predicted, timeout=TIMEOUT_SECONDS, max_rows=limit)
    return None if found.error == f"over {limit} rows" else found


def _difference(gold: Answer, found: Answer, row: Row) -> tuple[Fault, str]:
    """In what the answers differ; `("", "")` where they are the same."""
    for fault, wanted, got in (
        ("columns", len(gold.columns), len(found.columns)),
        ("num_rows", len(gold.rows), len(found.rows)),
    ):
        if wanted != got:
            return cast(Fault, fault), f"{got} {fault.removeprefix('num_')}, not {wanted}"
    if not same_rows(gold.rows, found.rows, ordered=False):
        return "values", "other values"
    if not is_ordered(row.sql) or same_rows(gold.rows, found.rows, ordered=True):
        return "", ""
    blocks = tied_blocks(row.sql, gold, lambda sql: _gold_answer(row.database, sql))
    in_blocks = same_blocks(gold.rows, found.rows, blocks)
    return ("", "") if in_blocks else ("order", "another order")


def serve() -> None:
    """Judge pickled cases from standard input until it ends; a pickled tuple answers each."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            case = pickle.load(source)
        except EOFError:
            return
        pickle.dump(astuple(verdict_of(case)), target)
        target.flush()
