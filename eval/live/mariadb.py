"""A read-only session on MariaDB by PyMySQL, rows as they come; several statements at once are off.

`max_statement_time` stops a query; where it does not, the client hangs up and kills the thread.
Knows nothing of URLs or verdicts.
"""

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.constants import FIELD_TYPE
from pymysql.converters import encoders
from pymysql.cursors import SSCursor

from eval.execution import Limits
from eval.live.session import (
    GRACE_SECONDS,
    CannotConnect,
    Columns,
    ConnectionLost,
    QueryFailed,
    QueryTimeout,
    RowTooLarge,
    first_line,
    number,
)
from eval.task.rows import Row
from eval.task.sqlite_judge import MAX_ANSWER_BYTES

STATEMENT_TIMEOUTS = (1205, 1969, 3024)  # lock wait, max_statement_time, max_execution_time
LOST = (1053, 1317, 1927, 2006, 2013)  # shutdown, interrupted, killed, gone away, lost

# By field type; whatever else there is stays the server's text, dates and times too.
LOADERS: dict[int, Callable[[Any], object]] = {
    FIELD_TYPE.BIT: lambda raw: int.from_bytes(raw, "big"),
    FIELD_TYPE.TINY: int,
    FIELD_TYPE.SHORT: int,
    FIELD_TYPE.INT24: int,
    FIELD_TYPE.LONG: int,
    FIELD_TYPE.LONGLONG: number,  # unsigned ones go beyond 64 bits
    FIELD_TYPE.YEAR: int,
    FIELD_TYPE.FLOAT: float,
    FIELD_TYPE.DOUBLE: float,
    FIELD_TYPE.DECIMAL: number,
    FIELD_TYPE.NEWDECIMAL: number,
}

READ_RIGHTS = frozenset({"USAGE", "SELECT", "SHOW VIEW", "SHOW DATABASES"})
GRANT = re.compile(r"GRANT (?P<rights>.+?) ON (?P<place>.+?) TO ", re.DOTALL)
ROLE = re.compile(r"GRANT (`(?:[^`]|``)*`) TO ")
COLUMN_LIST = re.compile(r"\s*\([^)]*\)")
# Also what is granted to everyone, as on databases named test, which SHOW GRANTS leaves out.
EFFECTIVE = """
SELECT CONCAT('may change ', table_schema, '.', table_name) FROM information_schema.columns
WHERE table_schema = DATABASE() AND privileges REGEXP 'insert|update' LIMIT 1
"""


class _Bounded(Connection):
    """Stops reading a row that grows too large: PyMySQL holds one of many packets whole."""

    received_bytes = 0
    max_bytes = MAX_ANSWER_BYTES

    def _read_bytes(self, num_bytes: int) -> bytes:
        self.received_bytes += num_bytes
        if self.received_bytes > self.max_bytes:
            raise RowTooLarge
        data: bytes = super()._read_bytes(num_bytes)  # type: ignore[misc]  # private
        return data


class MariaDbSession:
    """One connection, every statement of which keeps to `limits`.

    Raises:
        CannotConnect: there is no server, or it refuses the role, or is not MariaDB.
    """

    def __init__(self, arguments: dict[str, Any], limits: Limits) -> None:
        self._timeout_seconds = limits.timeout_seconds
        self._arguments = arguments | {
            "conv": encoders | LOADERS,
            "charset": "utf8mb4",
            "local_infile": False,
            "client_flag": 0,
            "autocommit": False,
            "read_timeout": self._timeout_seconds + GRACE_SECONDS,
        }
        try:
            self._connection: Any = _Bounded(**self._arguments)
            self._connection.max_bytes = limits.max_bytes
        except (pymysql.Error, TypeError, ValueError, OSError) as error:
            raise CannotConnect(first_line(error)) from None
        self._deadline = 0.0
        self._cursor: Any = None
        try:
            self._prepare()
        except CannotConnect:
            self.close()
            raise

    def _prepare(self) -> None:
        seconds = max(1, math.ceil(self._timeout_seconds))
        for statement in (
            "SET SESSION TRANSACTION READ ONLY",
            f"SET SESSION max_statement_time = {self._timeout_seconds:.6f}",
            f"SET SESSION lock_wait_timeout = {seconds}",
            f"SET SESSION innodb_lock_wait_timeout = {seconds}",
        ):
            self._all(statement)

    def _all(self, statement: str) -> list[tuple[str, ...]]:
        """The rows of a statement of our own."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        except pymysql.Error as error:
            raise CannotConnect(first_line(error)) from None

    def query(self, sql: str) -> tuple[Columns, Iterator[Row]]:
        self._deadline = time.monotonic() + self._timeout_seconds + GRACE_SECONDS
        self._cursor = self._connection.cursor(SSCursor)
        self._call(self._cursor.execute, sql)
        if self._cursor.description is None:
            raise QueryFailed("not a query")
        return tuple(name for name, *_ in self._cursor.description), self._rows()

    def _rows(self) -> Iterator[Row]:
        while (row := self._call(self._cursor.fetchone)) is not None:
            yield row

    def _call(self, ask: Callable[..., Any], *arguments: object) -> Any:
        self._connection.received_bytes = 0
        try:
            return ask(*arguments)
        except pymysql.Error as error:
            raise self._named(error) from None
        except (UnicodeError, ValueError) as error:
            raise QueryFailed(str(error)) from None

    def _named(self, error: pymysql.Error) -> Exception:
        code = error.args[0] if error.args else None
        late = time.monotonic() > self._deadline
        if code in STATEMENT_TIMEOUTS or (late and code in LOST):
            return QueryTimeout()
        if code in LOST or not self._connection.open:
            return ConnectionLost()
        return QueryFailed(first_line(error))

    def end(self) -> None:
        result: Any = self._cursor._result if self._cursor else None
        unread = bool(result) and result.unbuffered_active
        if unread:
            result.unbuffered_active = False  # else PyMySQL reads all that is left
        self._cursor = None
        if unread or not self._connection.open:
            self._hang_up()
            raise ConnectionLost
        self._connection.received_bytes = 0
        try:
            self._connection.rollback()
        except pymysql.Error:
            raise ConnectionLost from None

    def _hang_up(self) -> None:
        """Close, and kill the thread; the server ends it in time where it can't be reached."""
        thread = self._connection.thread_id()
        self.close()
        with suppress(pymysql.Error, OSError):
            other: Any = Connection(**self._arguments)
            try:
                other.kill(thread)
            finally:
                other.close()

    def close(self) -> None:
        with suppress(pymysql.Error):
            self._connection.close()

    def write_right(self) -> str | None:
        grants = [text for (text,) in self._all("SHOW GRANTS FOR CURRENT_USER")]
        ((usual,),) = self._all("SELECT CURRENT_ROLE()")
        roles = [found[1] for grant in grants if (found := ROLE.match(grant))]
        for role in roles:  # what a role may do is told to those only who took it on
            self._all(f"SET ROLE {role}")
            grants += [text for (text,) in self._all("SHOW GRANTS FOR CURRENT_ROLE")]
        if roles:
            self._all(f"SET ROLE {_quoted(usual) if usual else 'NONE'}")
        faults = [fault for grant in grants if (fault := _fault(grant))]
        faults += [text for (text,) in self._all(EFFECTIVE)]
        self._all("ROLLBACK")
        return faults[0] if faults else None

    def grants(self) -> str:
        ((database,),) = self._all("SELECT DATABASE()")
        place = _quoted(database or "DATABASE")
        return (
            "CREATE USER sqlwright_reader IDENTIFIED BY '...'; "
            f"GRANT SELECT, SHOW VIEW ON {place}.* TO sqlwright_reader"
        )


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _fault(grant: str) -> str | None:
    """What a line of SHOW GRANTS allows besides reading. The line itself may hold a password."""
    if not (found := GRANT.match(grant)):
        return None
    rights = {right.strip() for right in COLUMN_LIST.sub("", found["rights"]).split(",")}
    if more := sorted(rights - READ_RIGHTS):
        return f"has {', '.join(more)} on {found['place']}"
    return f"may pass on its rights on {found['place']}" if "WITH GRANT OPTION" in grant else None
