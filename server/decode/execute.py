"""Execution feedback: whether an answer finds rows in the SQLite file of a registered database.

Only where the operator allows it. What runs has passed the check, on a connection that can only
read, for `TIMEOUT_SECONDS` at most; only whether there is a row is looked at, and never told.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import structlog

from eval.task.sqlite_judge import restrict, run_query
from server.databases import Database
from server.decode.agree import as_sqlite
from server.decode.candidate import Asked, Candidate

log = structlog.get_logger()
TIMEOUT_SECONDS = 1.0
SCHEME = "sqlite:///"


def can_run(asked: Asked, may_run: bool) -> bool:
    """True if the operator allows it and the database is a SQLite file that is there."""
    return may_run and file_of(asked.database) is not None


async def finds_rows(candidate: Candidate, asked: Asked) -> bool:
    """True if the candidate's query runs in time and gives a row; only where `can_run`."""
    path = file_of(asked.database)
    sql = as_sqlite(candidate.check.sql, asked.dialect)
    return path is not None and sql is not None and await asyncio.to_thread(_has_row, path, sql)


def file_of(database: Database) -> Path | None:
    if not database.source.startswith(SCHEME):
        return None
    path = Path(database.source.removeprefix(SCHEME))
    return path if path.is_file() else None


def _has_row(path: Path, sql: str) -> bool:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            restrict(database)
            one = f"SELECT 1 FROM ({sql}) LIMIT 1"
            return bool(run_query(database, one, timeout=TIMEOUT_SECONDS).rows)
    except sqlite3.Error as error:
        log.warning("database_not_readable", reason=str(error))
        return False
