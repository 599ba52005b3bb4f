"""PostgreSQL and MariaDB for the judge: opened by a role that may only read, hurt by no query.

Values come back as the judge compares them: None, int, float, str and bytes. Truth values are 0
and 1, decimals are int where whole and float else, dates, times and all other types are the
server's text. Knows nothing of golds or verdicts, nor how a server is spoken to (see `eval.live`).
"""

import re
import time
from collections.abc import Callable
from typing import Any

from eval.execution import Limits
from eval.live.schema import schema_of as schema_of
from eval.live.session import (
    CannotConnect,
    ConnectionLost,
    QueryFailed,
    QueryTimeout,
    RowTooLarge,
    Session,
)
from eval.live.url import (
    POSTGRES,
    Server,
    describe,
    driver_arguments,
    parse_url,
    remedy,
    without_secrets,
)
from eval.live.url import LiveDatabaseError as LiveDatabaseError
from eval.live.url import url_of as url_of
from eval.task.ordering import MAX_SQL_BYTES
from eval.task.sqlite_judge import Answer, TooMuchError, take_rows

# The first word after brackets and comments. MariaDB runs what stands in a comment `/*! … */`.
QUERY = re.compile(
    r"(?:\s|\(|--[^\n]*(?:\n|$)|\#[^\n]*(?:\n|$)|/\*(?!M?!).*?\*/)*(?:SELECT|WITH|VALUES)\b",
    re.IGNORECASE | re.DOTALL,
)


class LiveDatabase:
    """A database on a server, by its SQLAlchemy URL; see `eval.execution.Database`.

    Raises:
        LiveDatabaseError: the URL or the server is at fault, or the role may write. `run` raises
            it too, where the server is gone: that says nothing of the query.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        self._server, self._url = parse_url(url)
        self._limits = limits
        self._session: Session | None = None
        self._session = self._open()

    @property
    def dialect(self) -> str:
        return self._server.dialect

    def run(self, sql: str) -> Answer:
        """The rows of `sql`; every failure of the query is a value."""
        if reason := _refusal(sql):
            return Answer(error=reason)
        for _ in range(2):
            self._session = self._session or self._open()
            try:
                return self._answer(self._session, sql)
            except ConnectionLost:
                self.close()
        return Answer(error="the connection broke both times that the query ran")

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None

    def _answer(self, session: Session, sql: str) -> Answer:
        limits = self._limits
        deadline = time.monotonic() + limits.timeout_seconds
        try:
            answer = _collect(session, sql, deadline, limits)
        except QueryTimeout:
            return Answer(error=f"over {limits.timeout_seconds:g} s")
        finally:
            self._end(session)
        # MariaDB's BENCHMARK, interrupted, answers as if it were done.
        late = time.monotonic() > deadline
        return Answer(error=f"over {limits.timeout_seconds:g} s") if late else answer

    def _end(self, session: Session) -> None:
        try:
            session.end()
        except ConnectionLost:
            self.close()

    def _open(self) -> Session:
        try:
            session = _session_type(self._server)(driver_arguments(self._url), self._limits)
            try:
                self._expect_reader(session)
            except BaseException:
                session.close()
                raise
        except CannotConnect as error:
            message = without_secrets(str(error), self._url)
            raise LiveDatabaseError(
                f"{describe(self._url)}: {message}; {remedy(message)}"
            ) from None
        return session

    def _expect_reader(self, session: Session) -> None:
        if right := session.write_right():
            raise LiveDatabaseError(
                f"{describe(self._url)}: the role {self._url.username or ''!r} {right}; "
                f"queries are run by a role that may only read: {session.grants()}"
            )


def _session_type(server: Server) -> Callable[[dict[str, Any], Limits], Session]:
    if server is POSTGRES:
        from eval.live.postgres import PostgresSession

        return PostgresSession
    from eval.live.mariadb import MariaDbSession

    return MariaDbSession


def _collect(session: Session, sql: str, deadline: float, limits: Limits) -> Answer:
    try:
        columns, cursor = session.query(sql)
        rows = take_rows(cursor, deadline, max_rows=limits.max_rows, max_bytes=limits.max_bytes)
    except (QueryFailed, TooMuchError) as error:
        return Answer(error=str(error))
    except RowTooLarge:
        return Answer(error=f"a row of over {limits.max_bytes} bytes")
    return Answer(rows, columns=columns)


def _refusal(sql: str) -> str | None:
    """Why `sql` is not sent at all."""
    try:
        size = len(sql.encode())
    except UnicodeEncodeError:
        return "the query is not Unicode text: it holds a lone surrogate"
    if "\0" in sql:
        return "the query contains a null character"
    if size > MAX_SQL_BYTES:
        return f"the query is over {MAX_SQL_BYTES} bytes"
    return None if QUERY.match(sql) else "not a query"
