"""Whether two answers to one question are the same, and whether an answer runs.

On the rows of the database itself where the operator lets checked queries run, else on rows made
up from the schema: as a vote among samples compares.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from eval.task.ordering import is_ordered
from eval.task.rows import same_rows
from eval.task.sqlite_judge import Answer, restrict, run_query
from server.decode.agree import as_sqlite, vote
from server.decode.candidate import Asked, Candidate
from server.decode.execute import TIMEOUT_SECONDS, file_of

MAX_ROWS = 10_000
MAX_BYTES = 16 << 20


async def runs(candidate: Candidate, asked: Asked, may_run: bool) -> bool | None:
    """Whether a valid candidate's query runs in time on its database; None where that may not be
    tried, or is not a SQLite file."""
    path = file_of(asked.database) if may_run and candidate.valid else None
    sql = as_sqlite(candidate.check.sql, asked.dialect) if path else None
    if path is None or sql is None:
        return None
    return not (await asyncio.to_thread(_answer, path, sql)).error


async def same_answer(one: Candidate, other: Candidate, asked: Asked, may_run: bool) -> bool:
    """Whether two valid candidates are one query in canonical spelling or give the same rows."""
    return await asyncio.to_thread(_same, one, other, asked, may_run)


def _same(one: Candidate, other: Candidate, asked: Asked, may_run: bool) -> bool:
    by_text = vote([one, other], asked.schema, asked.dialect, "text")
    if by_text.num_votes == 2:
        return True
    path = file_of(asked.database) if may_run else None
    queries = [as_sqlite(c.check.sql, asked.dialect) for c in (one, other)] if path else []
    if path and all(queries):
        return _same_rows(path, str(queries[0]), str(queries[1]))
    return vote([one, other], asked.schema, asked.dialect, "execution").num_votes == 2


def _same_rows(path: Path, one: str, other: str) -> bool:
    mine, theirs = _answer(path, one), _answer(path, other)
    if mine.error or theirs.error:
        return False
    return same_rows(mine.rows, theirs.rows, ordered=is_ordered(one) or is_ordered(other))


def _answer(path: Path, sql: str) -> Answer:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            restrict(database)
            return run_query(
                database, sql, timeout=TIMEOUT_SECONDS, max_rows=MAX_ROWS, max_bytes=MAX_BYTES
            )
    except sqlite3.Error as error:
        return Answer(error=str(error))
