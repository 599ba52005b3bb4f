"""What is known of gold queries before any prediction is judged: do they run, can they mislead?

A flag says why a verdict on the item means little. A flag that can't be determined, as row order
on a server, is absent. Knows nothing of predictions.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eval.execution import Database, Limits, Target, open_database
from eval.task.rows import same_rows
from eval.task.sqlite_judge import Answer, JudgeError, restrict, run_query
from eval.ties import limit_parts_ties

EMPTY = "empty_gold"  # every query that finds nothing is right
ZERO = "zero_gold"  # one row of zeros and NULLs, easily hit by accident
# One of several right answers: rows tie at a LIMIT, or a bare column stands beside GROUP BY.
ROW_ORDER = "row_order_dependent"
FLAGS = (EMPTY, ZERO, ROW_ORDER)

# Copies live in memory, have no index, and are a side issue.
MAX_COPIED_BYTES = 256 << 20
COPY_TIMEOUT_SECONDS = 3.0
TABLES = (
    "SELECT name, sql LIKE '%COLLATE%' FROM original.sqlite_master "
    "WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
)
VIEWS = "SELECT sql FROM original.sqlite_master WHERE type = 'view' ORDER BY rowid"
COLUMNS = "SELECT name, type FROM pragma_table_xinfo(?, 'original') WHERE hidden <> 1"

# How a query is answered on some arrangement of the same rows.
Run = Callable[[str], Answer]


@dataclass(frozen=True, slots=True)
class GoldFacts:
    """Facts on the gold queries of one item: `has_rows` if all answers hold one, each flag that
    any of them has, and the first error."""

    has_rows: bool = False
    flags: tuple[str, ...] = ()
    error: str | None = None


def gold_facts(
    database: Target, golds: Sequence[Sequence[str]], limits: Limits | None = None
) -> list[GoldFacts]:
    """The facts on the golds of each item; all items are on `database`."""
    limits = limits or Limits()
    try:
        with (
            closing(open_database(database, limits)) as opened,
            _arrangements(database, limits) as others,
        ):
            return [_merged([_facts(sql, opened, others) for sql in item]) for item in golds]
    except JudgeError as error:
        return [GoldFacts(error=str(error)) for _ in golds]


def _facts(sql: str, database: Database, others: Sequence[Run]) -> GoldFacts:
    answer = database.run(sql)
    if answer.error is not None:
        return GoldFacts(error=answer.error)
    checks = {
        EMPTY: not answer.rows,
        ZERO: len(answer.rows) == 1 and not any(_says_something(v) for v in answer.rows[0]),
        ROW_ORDER: limit_parts_ties(sql, database) or _differs(sql, answer, others),
    }
    return GoldFacts(bool(answer.rows), tuple(flag for flag in FLAGS if checks[flag]))


def _differs(sql: str, answer: Answer, others: Sequence[Run]) -> bool:
    """True if the rows of `sql` (as a bag) are others on some arrangement where it runs."""
    found = [other(sql) for other in others]
    return any(
        other.error is None and not same_rows(answer.rows, other.rows, ordered=False)
        for other in found
    )


def _says_something(cell: object) -> bool:
    return cell is not None and cell != 0


def _merged(facts: Sequence[GoldFacts]) -> GoldFacts:
    errors = [fact.error for fact in facts if fact.error is not None]
    return GoldFacts(
        all(fact.has_rows for fact in facts),
        tuple(flag for flag in FLAGS if any(flag in fact.flags for fact in facts)),
        errors[0] if errors else None,
    )


@contextmanager
def _arrangements(database: Target, limits: Limits) -> Iterator[list[Run]]:
    """The rows of a SQLite file without keys, in their own order and in the opposite one; none of
    a server, or of a file that is too large or can't be copied."""
    if isinstance(database, str) or database.stat().st_size > MAX_COPIED_BYTES:
        yield []
        return
    with (
        closing(sqlite3.connect("file::memory:", uri=True)) as forward,
        closing(sqlite3.connect("file::memory:", uri=True)) as backward,
    ):
        try:
            _copy(database, forward, "ASC")
            _copy(database, backward, "DESC")
        except sqlite3.Error:
            yield []
        else:
            yield [partial(_run, db, limits) for db in (forward, backward)]


def _run(copy: sqlite3.Connection, limits: Limits, sql: str) -> Answer:
    timeout = min(limits.timeout_seconds, COPY_TIMEOUT_SECONDS)
    return run_query(
        copy, sql, timeout=timeout, max_rows=limits.max_rows, max_bytes=limits.max_bytes
    )


def _copy(path: Path, db: sqlite3.Connection, direction: str) -> None:
    """Fill `db` with all rows of `path`. Its tables have no keys: an INTEGER PRIMARY KEY would
    sort them.

    Raises:
        sqlite3.Error: it can't be copied.
    """
    db.execute("ATTACH ? AS original", (f"{path.absolute().as_uri()}?mode=ro&immutable=1",))
    for table, has_collation in db.execute(TABLES).fetchall():
        if has_collation:
            raise sqlite3.NotSupportedError("a column's collation can't be asked for")
        _copy_table(db, table, direction)
    views = [sql for (sql,) in db.execute(VIEWS)]
    db.commit()
    db.execute("DETACH original")
    for sql in views:
        db.execute(sql)
    db.commit()
    restrict(db)


def _copy_table(db: sqlite3.Connection, table: str, direction: str) -> None:
    columns = db.execute(COLUMNS, (table,)).fetchall()
    names = ", ".join(_quoted(name) for name, _ in columns)
    types = ", ".join(f"{_quoted(name)} {_quoted(type_)}" for name, type_ in columns)
    db.execute(f"CREATE TABLE main.{_quoted(table)} ({types})")
    numbered = f"SELECT *, ROW_NUMBER() OVER () AS sqlwright_row FROM original.{_quoted(table)}"
    db.execute(
        f"INSERT INTO main.{_quoted(table)} ({names}) SELECT {names} FROM ({numbered}) "
        f"ORDER BY sqlwright_row {direction}"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
