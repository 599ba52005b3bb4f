"""Runs queries on the SQLite files of their rows, and says whether two give the same rows.

Knows nothing of stages; `eval.task.sqlite_judge` sees to it that a query can only read.
"""

import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from eval.task.ordering import is_ordered
from eval.task.rows import same_rows
from eval.task.sqlite_judge import Answer, JudgeError, open_readonly, run_query
from trainer.pipeline.row import Row

_RUN_NUMBERS = count()


def can_run(row: Row) -> bool:
    """True where there is a database for the query, and the query is in SQLite's own dialect."""
    return bool(row.database) and row.dialect == "sqlite"


class Databases:
    """Runs queries; one file is open at a time, since rows of a database stand together."""

    def __init__(self) -> None:
        self._path = ""
        self._db: sqlite3.Connection | None = None

    def run(self, path: str, sql: str) -> Answer:
        """The rows of `sql`, or in `error` why there are none, within 10 s."""
        try:
            if self._db is None or path != self._path:
                self.close()
                self._db, self._path = open_readonly(Path(path)), path
        except (JudgeError, sqlite3.Error, OSError, ValueError) as error:
            return Answer(error=str(error))
        return run_query(self._db, sql)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None

    def __enter__(self) -> "Databases":
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()


def same_answers(one: Answer, other: Answer, sql: str) -> bool:
    """True if both queries ran and gave the same rows, in the same order if `sql` asks for one."""
    ran = one.error is None and other.error is None
    return ran and same_rows(one.rows, other.rows, ordered=is_ordered(sql))


def rows_within(
    db: sqlite3.Connection, sql: str, *, max_steps: int, max_rows: int
) -> list[tuple[Any, ...]] | None:
    """The first `max_rows` rows of `sql`; None where it fails or takes over `max_steps` steps of
    SQLite's virtual machine.

    Unlike a time, steps are the same on every machine. They are those of this run alone, whatever
    ran on `db` before.
    """
    # SQLite adds up the steps of a prepared statement over its runs, and Python keeps statements
    # by their text: a text of its own starts each run at zero.
    text = f"/* run {next(_RUN_NUMBERS)} */ {sql}"
    db.set_progress_handler(lambda: 1, max_steps)
    try:
        with closing(db.execute(text)) as cursor:
            return cursor.fetchmany(max_rows)
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError):
        return None
    finally:
        db.set_progress_handler(None, 0)
