"""A read-only session on PostgreSQL, by libpq's extended protocol: it takes one statement only.

Rows are read one at a time under a deadline of the client's own, so neither a server that went
silent nor an endless answer can hold the caller. Knows nothing of URLs or verdicts.
"""

import fcntl
import select
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

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

ROWS = (pq.ExecStatus.SINGLE_TUPLE, pq.ExecStatus.TUPLES_OK)
TIMEOUTS = (b"57014", b"55P03")  # query_canceled, lock_not_available

# By type's OID; whatever else there is stays the server's text, dates in ISO form.
LOADERS: dict[int, Callable[[bytes], object]] = {
    16: lambda raw: int(raw == b"t"),  # bool
    17: lambda raw: bytes.fromhex(raw[2:].decode()),  # bytea
    20: int,
    21: int,
    23: int,
    26: int,
    700: float,
    701: float,
    1700: number,
}

WRITE_RIGHT = """
WITH member AS (
  SELECT oid, rolname, rolsuper, rolcreatedb, rolcreaterole, rolreplication FROM pg_roles
  WHERE pg_has_role(current_user, oid, 'MEMBER')
), relation AS (
  SELECT c.oid, c.relowner, n.nspname || '.' || c.relname AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
)
SELECT 'is a superuser' FROM member WHERE rolsuper
UNION ALL
SELECT 'has CREATEDB, CREATEROLE or REPLICATION' FROM member
WHERE rolcreatedb OR rolcreaterole OR rolreplication
UNION ALL
SELECT 'is a member of ' || rolname FROM member WHERE rolname IN (
  'pg_write_all_data', 'pg_read_server_files', 'pg_write_server_files',
  'pg_execute_server_program', 'pg_signal_backend', 'pg_maintain')
UNION ALL
SELECT 'owns the database ' || datname FROM pg_database, member
WHERE datname = current_database() AND datdba = member.oid
UNION ALL
SELECT 'has CREATE on the database ' || current_database() FROM member
WHERE has_database_privilege(member.oid, current_database(), 'CREATE')
UNION ALL
SELECT 'has CREATE on schema ' || nspname FROM pg_namespace n, member
WHERE nspname !~ '^pg_(toast|temp)'
  AND (nspowner = member.oid OR has_schema_privilege(member.oid, n.oid, 'CREATE'))
UNION ALL
SELECT 'owns ' || name FROM relation, member WHERE relowner = member.oid
UNION ALL
SELECT 'may change ' || name FROM relation r, member
WHERE has_table_privilege(member.oid, r.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
   OR has_any_column_privilege(member.oid, r.oid, 'INSERT, UPDATE')
LIMIT 1
"""


class PostgresSession:
    """One connection, every statement of which keeps to `limits`.

    Raises:
        CannotConnect: there is no server, or it refuses the role.
    """

    def __init__(self, arguments: dict[str, Any], limits: Limits) -> None:
        options = arguments | {"autocommit": True, "client_encoding": "utf8"}
        try:
            self._connection = psycopg.connect(**options)
        except psycopg.Error as error:
            raise CannotConnect(first_line(error)) from None
        self._limits = limits
        self._deadline = 0.0
        self._received_bytes = 0
        try:
            self._prepare(max(1, round(limits.timeout_seconds * 1000)))
        except CannotConnect:
            self.close()
            raise

    def _prepare(self, timeout_ms: int) -> None:
        settings = {
            "default_transaction_read_only": "on",
            "statement_timeout": str(timeout_ms),
            "lock_timeout": str(timeout_ms),
            "idle_in_transaction_session_timeout": str(max(60_000, 2 * timeout_ms)),
            "datestyle": "ISO",
            "intervalstyle": "postgres",
            "bytea_output": "hex",
            "extra_float_digits": "1",
        }
        for name, value in settings.items():
            self._one(f"SELECT set_config('{name}', '{value}', false)")

    def _one(self, statement: str) -> tuple[Any, ...] | None:
        """The first row of a statement of our own."""
        try:
            return self._connection.execute(statement.encode()).fetchone()
        except psycopg.Error as error:
            raise CannotConnect(first_line(error)) from None

    def query(self, sql: str) -> tuple[Columns, Iterator[Row]]:
        self._allow(self._limits.timeout_seconds + GRACE_SECONDS)
        self._command(b"BEGIN READ ONLY")
        first = self._send(sql.encode())
        if first is None or first.status not in ROWS or first.nfields == 0:
            raise QueryFailed("not a query")
        names = [first.fname(i) or b"" for i in range(first.nfields)]
        return tuple(name.decode("utf-8", "replace") for name in names), self._rows(first)

    def end(self) -> None:
        server = self._connection.pgconn
        if server.transaction_status == pq.TransactionStatus.ACTIVE:
            self._hang_up()
        if server.status == pq.ConnStatus.BAD:
            raise ConnectionLost
        self._allow(GRACE_SECONDS)
        try:
            self._command(b"ROLLBACK")
        except QueryTimeout:
            raise ConnectionLost from None

    def close(self) -> None:
        self._connection.close()

    def write_right(self) -> str | None:
        found = self._one(WRITE_RIGHT)
        return found[0] if found else None

    def grants(self) -> str:
        asked = "SELECT quote_ident(current_database()), quote_ident(current_schema())"
        database, schema = self._one(asked) or ("", None)
        schema = schema or "public"
        return (
            "CREATE ROLE sqlwright_reader LOGIN PASSWORD '...'; "
            f"GRANT CONNECT ON DATABASE {database} TO sqlwright_reader; "
            f"GRANT USAGE ON SCHEMA {schema} TO sqlwright_reader; "
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO sqlwright_reader; "
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        )

    def _allow(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def _command(self, statement: bytes) -> None:
        result = self._send(statement)
        while result is not None:
            result = self._result()

    def _send(self, statement: bytes) -> PGresult | None:
        server = self._connection.pgconn
        try:
            server.send_query_params(statement, None)
            server.set_single_row_mode()
        except psycopg.OperationalError:
            raise ConnectionLost from None
        return self._result()

    def _rows(self, result: PGresult | None) -> Iterator[Row]:
        while result is not None:
            if result.status == pq.ExecStatus.SINGLE_TUPLE:
                yield tuple(_value(result, i) for i in range(result.nfields))
            result = self._result()

    def _result(self) -> PGresult | None:
        """The next result of the statement that runs, None after the last."""
        result = self._await_result()
        if result is None or result.status != pq.ExecStatus.FATAL_ERROR:
            return result
        while self._await_result() is not None:
            pass
        if result.error_field(pq.DiagnosticField.SQLSTATE) in TIMEOUTS:
            raise QueryTimeout
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"unknown error"
        raise QueryFailed(message.decode("utf-8", "replace"))

    def _await_result(self) -> PGresult | None:
        server = self._connection.pgconn
        self._received_bytes = 0
        try:
            while server.flush() or server.is_busy():
                self._await_bytes(server)
            result = server.get_result()
        except psycopg.OperationalError:
            raise ConnectionLost from None
        if server.status == pq.ConnStatus.BAD:
            raise ConnectionLost
        return result

    def _await_bytes(self, server: PGconn) -> None:
        """Read what came in, and count it, so that a row too large is most often cut early.

        The count is a lower bound: libpq makes room for the whole of a row, and reads on while the
        server writes. What bounds a row in memory is PostgreSQL's own limit of 1 GB; one that got
        through is refused like any answer too large. Many rows are never held at once.
        """
        poll = select.poll()
        poll.register(server.socket, select.POLLIN | (select.POLLOUT if server.flush() else 0))
        left = self._deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise QueryTimeout
        waiting = fcntl.ioctl(server.socket, termios.FIONREAD, bytes(4))
        self._received_bytes += int.from_bytes(waiting, sys.byteorder)
        if self._received_bytes > self._limits.max_bytes:
            raise RowTooLarge
        server.consume_input()

    def _hang_up(self) -> None:
        """Ask the server to stop, and close; it stops by itself where it can't be asked."""
        with suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=GRACE_SECONDS)
        self.close()


def _value(result: PGresult, column: int) -> object:
    raw = result.get_value(0, column)
    return None if raw is None else LOADERS.get(result.ftype(column), _text)(raw)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
