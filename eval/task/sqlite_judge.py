"""Runs queries on SQLite so that they can't hurt.

A query can only read: the file is opened read-only, and an authoriser refuses all else. It has a
time, a number of rows, a size of the answer and a size of SQLite's own memory. The clock is looked
at between steps of SQLite's virtual machine and between rows; a single step that takes minutes
(`instr` of two long texts) is not interrupted: `eval.workers` kills the process. What differs from
run to run (`random()`, `'now'`) is left as it is. Knows nothing of golds or scores.
"""

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from eval.task.rows import Row

TIMEOUT_SECONDS = 10.0
MAX_ROWS = 100_000
MAX_ANSWER_BYTES = 64 << 20
MAX_CELL_BYTES = 10_000_000
# Of this process, for all that SQLite holds. Sorting stays within it too: a runaway query would
# fill the disk with temporary files.
MAX_HEAP_BYTES = 512 << 20
MAX_PATTERN_BYTES = 1000  # LIKE takes time in proportion to text × pattern, within one step
# How many of SQLite's virtual machine steps pass between two looks at the clock.
STEPS_PER_TICK = 1000
READ_ACTIONS = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)
# `fts3_tokenizer` takes the address of code to call, where SQLite is built with it (Debian).
DENIED_FUNCTIONS = frozenset({"fts3_tokenizer", "load_extension"})


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query under their column names, or why there are none."""

    rows: tuple[Row, ...] = ()
    error: str | None = None
    columns: tuple[str, ...] = ()


class JudgeError(ValueError):
    """The gold query or its database is at fault, so nothing can be judged."""


class TooMuchError(Exception):
    """An answer that takes more than its limits; the message says which."""


def open_readonly(path: Path) -> sqlite3.Connection:
    """Open the SQLite file `path` so that a query can only read.

    Raises:
        JudgeError: the file is missing.
    """
    if not path.is_file():
        raise JudgeError(f"no database file {path}")
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    db = sqlite3.connect(uri, uri=True, check_same_thread=False)
    restrict(db)
    return db


def restrict(db: sqlite3.Connection) -> None:
    """Leave nothing to `db` but reading, within limits."""
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL_BYTES)  # `zeroblob(1000000000)`
    db.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES)
    db.execute(f"PRAGMA hard_heap_limit = {MAX_HEAP_BYTES}")
    db.execute("PRAGMA temp_store = MEMORY")
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    db.set_authorizer(_authorize)


def run_query(
    db: sqlite3.Connection,
    sql: str,
    *,
    timeout: float = TIMEOUT_SECONDS,
    max_rows: int = MAX_ROWS,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> Answer:
    """Run `sql` within `timeout` seconds, `max_rows` and `max_bytes`; every failure is a value."""
    deadline = time.monotonic() + timeout
    db.set_progress_handler(lambda: int(time.monotonic() > deadline), STEPS_PER_TICK)
    try:
        with closing(db.execute(sql)) as cursor:
            if cursor.description is None:
                return Answer(error="not a query")
            columns = tuple(name for name, *_ in cursor.description)
            rows = take_rows(cursor, deadline, max_rows=max_rows, max_bytes=max_bytes)
            return Answer(rows, columns=columns)
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError, TooMuchError) as error:
        reason = f"over {timeout:g} s" if time.monotonic() > deadline else str(error)
        return Answer(error=reason)
    except MemoryError:
        return Answer(error="out of memory")
    finally:
        db.set_progress_handler(None, 0)


def take_rows(
    cursor: Iterable[Row], deadline: float, *, max_rows: int, max_bytes: int
) -> tuple[Row, ...]:
    """All rows of `cursor`, one by one; `deadline` is a time of `time.monotonic`.

    Raises:
        TooMuchError: they are over a limit.
    """
    rows: list[Row] = []
    num_bytes = 0
    for row in cursor:
        rows.append(row)
        num_bytes += sum(len(cell) for cell in row if isinstance(cell, str | bytes))
        if len(rows) > max_rows:
            raise TooMuchError(f"over {max_rows} rows")
        if num_bytes > max_bytes:
            raise TooMuchError(f"an answer of over {max_bytes} bytes")
        if time.monotonic() > deadline:
            raise TooMuchError("over its time")
    return tuple(rows)


def _authorize(action: int, _: str | None, name: str | None, *__: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (name or "").lower() in DENIED_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in READ_ACTIONS else sqlite3.SQLITE_DENY
