"""Databases that a query can't hurt: one protocol, SQLite files here, servers by SQLAlchemy.

Knows nothing of golds or verdicts.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eval.task.sqlite_judge import (
    MAX_ANSWER_BYTES,
    MAX_ROWS,
    TIMEOUT_SECONDS,
    Answer,
    open_readonly,
    run_query,
)

# A SQLite file, or the SQLAlchemy URL of a database on a server.
Target = Path | str


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may take."""

    timeout_seconds: float = TIMEOUT_SECONDS
    max_rows: int = MAX_ROWS
    max_bytes: int = MAX_ANSWER_BYTES


class Database(Protocol):
    """One database, open for reading only."""

    @property
    def dialect(self) -> str: ...

    def run(self, sql: str) -> Answer:
        """The rows of `sql`; every failure of the query is a value."""
        ...

    def close(self) -> None: ...


class SqliteDatabase:
    """A SQLite file, read-only, with an authoriser.

    Raises:
        JudgeError: the file is missing.
    """

    dialect = "sqlite"

    def __init__(self, path: Path, limits: Limits) -> None:
        self._connection = open_readonly(path)
        self._limits = limits

    def run(self, sql: str) -> Answer:
        limits = self._limits
        return run_query(
            self._connection,
            sql,
            timeout=limits.timeout_seconds,
            max_rows=limits.max_rows,
            max_bytes=limits.max_bytes,
        )

    def close(self) -> None:
        self._connection.close()


def open_database(target: Target, limits: Limits | None = None) -> Database:
    """Open `target` for reading: a SQLite file by path, anything else by its URL.

    Raises:
        JudgeError: a file is missing.
        LiveDatabaseError: a server can't be reached, or its role may write.
    """
    limits = limits or Limits()
    if isinstance(target, Path):
        return SqliteDatabase(target, limits)
    from eval.live.database import LiveDatabase

    return LiveDatabase(target, limits)
