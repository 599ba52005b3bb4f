"""Runs queries on SQLite so that they can't hurt, and says whether two gave the same answer.

The judge of execution accuracy: bags of rows are compared; order counts only where the gold query
has a top-level ORDER BY (asked of the tree, not of the text); columns in their order; floats to
9 significant digits. BIRD compares sets, Spider's test-suite code permutes columns: see README.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlglot import exp
from sqlglot.errors import SqlglotError

from eval.task.dialect import parse_statements

TIMEOUT_SECONDS = 10.0
MAX_ROWS = 100_000
MAX_CELL_BYTES = 10_000_000
MAX_SQL_BYTES = 1_000_000
# How many of SQLite's virtual machine steps pass between two looks at the clock.
STEPS_PER_TICK = 10_000
READ_ACTIONS = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query, or why there are none."""

    rows: tuple[Row, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What execution said of one predicted query."""

    correct: bool
    runs: bool
    error: str | None = None


class JudgeError(ValueError):
    """The gold query or its database is at fault, so nothing can be judged."""


def open_readonly(path: Path) -> sqlite3.Connection:
    """Open the SQLite file `path` so that a query can only read.

    Raises:
        JudgeError: the file is missing.
    """
    if not path.is_file():
        raise JudgeError(f"no database file {path}")
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    db = sqlite3.connect(uri, uri=True, check_same_thread=False)
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL_BYTES)  # `zeroblob(1000000000)`
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    db.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in READ_ACTIONS else sqlite3.SQLITE_DENY
    )
    return db


def run_query(
    db: sqlite3.Connection, sql: str, *, timeout: float = TIMEOUT_SECONDS, max_rows: int = MAX_ROWS
) -> Answer:
    """Run `sql` for at most `timeout` seconds and `max_rows` rows; every failure is a value."""
    deadline = time.monotonic() + timeout
    db.set_progress_handler(lambda: int(time.monotonic() > deadline), STEPS_PER_TICK)
    try:
        cursor = db.execute(sql)
        if cursor.description is None:
            return Answer(error="not a query")
        rows = cursor.fetchmany(max_rows + 1)
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
        reason = f"over {timeout:g} s" if time.monotonic() > deadline else str(error)
        return Answer(error=reason)
    finally:
        db.set_progress_handler(None, 0)
    return Answer(error=f"over {max_rows} rows") if len(rows) > max_rows else Answer(tuple(rows))


def judge(
    database: Path, gold: str, predicted: str, *, timeout: float = TIMEOUT_SECONDS
) -> Verdict:
    """Execute both queries on `database` and compare the answers.

    Raises:
        JudgeError: the database is missing or the gold query fails.
    """
    with closing(open_readonly(database)) as db:
        expected = run_query(db, gold, timeout=timeout)
        if expected.error is not None:
            raise JudgeError(f"gold query fails on {database.name}: {expected.error}")
        found = run_query(db, predicted, timeout=timeout)
    if found.error is not None:
        return Verdict(correct=False, runs=False, error=found.error)
    same = same_rows(expected.rows, found.rows, ordered=is_ordered(gold))
    return Verdict(correct=same, runs=True)


def same_rows(expected: Sequence[Row], found: Sequence[Row], *, ordered: bool) -> bool:
    """True if both hold the same rows: as a list if `ordered`, else as a bag."""
    if len(expected) != len(found):
        return False
    left, right = [_canonical(row) for row in expected], [_canonical(row) for row in found]
    return left == right if ordered else Counter(left) == Counter(right)


def is_ordered(sql: str, dialect: str = "sqlite") -> bool:
    """True if the outermost query has an ORDER BY; False where it can't be parsed."""
    try:
        found = parse_statements(sql, dialect, max_bytes=MAX_SQL_BYTES, max_tokens=MAX_SQL_BYTES)
    except SqlglotError:
        return False
    is_query = len(found) == 1 and isinstance(found[0], exp.Query)
    return is_query and found[0].args.get("order") is not None


def _canonical(row: Row) -> Row:
    return tuple(_rounded(v) if isinstance(v, float) else v for v in row)


def _rounded(value: float) -> float:
    """`value` to 9 significant digits, or to a whole number, as a SUM may be, if it has more."""
    return float(round(value)) if 1e9 <= abs(value) < 2**53 else float(f"{value:.9g}")
