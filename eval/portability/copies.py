"""Copies of SQLite databases on PostgreSQL and MariaDB, with a role that may only read them.

PostgreSQL: one database of collation "C", a schema for each db_id. MariaDB: a database for each,
of collation utf8mb4_nopad_bin. Both compare text by code points, trailing blanks included, as
SQLite does. All names are in lower case. A column is of the type that its values have, since
SQLite takes any value in any column: where numbers and text mix, it is text. Primary keys are
made where they hold; foreign keys are not, since no answer depends on them.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
)
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from eval.live.session import first_line
from eval.live.url import (
    LiveDatabaseError,
    describe,
    forced_arguments,
    parse_url,
    without_secrets,
)
from eval.task import schema
from eval.task.sqlite_judge import open_readonly

MAX_KEY_CHARACTERS = 191  # of a text in a key of MariaDB
ROWS_AT_A_TIME = 1000
# Text in the connection's character set is compared as the tables' text is; `/` and AVG give as
# many digits as a float shows (4 more than their operand by default).
MARIADB_SESSION = (
    "SET collation_connection = utf8mb4_nopad_bin, div_precision_increment = 12, "
    "group_concat_max_len = 10000000"
)


class CopyError(ValueError):
    """The server can't take the copies; the message names it and the remedy."""


@dataclass(frozen=True)
class Copies:
    """Where the copies are: URLs of the read-only role, by sqlglot's dialect and db_id."""

    urls: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Content:
    """A table of SQLite with its rows, names in lower case."""

    name: str
    columns: tuple[str, ...]
    declared: tuple[str, ...]
    primary_key: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@contextmanager
def copied(
    databases: dict[str, Path], *, postgres: str, mariadb: str, keep: bool = False
) -> Iterator[Copies]:
    """Copy each SQLite file to both servers, by administrators' URLs; dropped at the end unless
    `keep`.

    Raises:
        CopyError: a server can't be reached, or the role may not create databases and roles.
    """
    token = secrets.token_hex(4)
    makers = (PostgresCopies(postgres, token), MariaDbCopies(mariadb, token))
    with ExitStack() as stack:
        maker: PostgresCopies | MariaDbCopies
        for maker in makers:
            if not keep:
                stack.callback(maker.drop)
        yield Copies({m.dialect: m.copy(databases) for m in makers})


class PostgresCopies:
    """The database `sqlwright_TOKEN` and its reader, a role of the same name."""

    dialect = "postgres"

    def __init__(self, url: str, token: str) -> None:
        self._admin = _admin_url(url, self.dialect)
        self._name = f"sqlwright_{token}"
        self._password = secrets.token_urlsafe(12)

    def copy(self, databases: dict[str, Path]) -> dict[str, str]:
        name, reader = self._name, self._name
        _execute(
            self._admin,
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' "
            "LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'",
            f"CREATE ROLE {reader} LOGIN PASSWORD '{self._password}'",
        )
        inside = self._admin.set(database=name)
        _execute(inside, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for db_id, path in databases.items():
            place = _quoted(db_id, '"')
            _execute(inside, f"CREATE SCHEMA {place}", f"GRANT USAGE ON SCHEMA {place} TO {reader}")
            _fill(inside, path, namespace=db_id)
            _execute(inside, f"GRANT SELECT ON ALL TABLES IN SCHEMA {place} TO {reader}")
        reading = inside.set(username=reader, password=self._password)
        return {
            db_id: _text(
                reading.update_query_dict({"options": f"-csearch_path={_quoted(db_id, chr(34))}"})
            )
            for db_id in databases
        }

    def drop(self) -> None:
        _execute(
            self._admin,
            f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)",
            f"DROP ROLE IF EXISTS {self._name}",
        )


class MariaDbCopies:
    """Databases `sqlwright_TOKEN_DB_ID` and their reader `sqlwright_TOKEN`."""

    dialect = "mysql"

    def __init__(self, url: str, token: str) -> None:
        self._admin = _admin_url(url, self.dialect)
        self._name = f"sqlwright_{token}"
        self._password = secrets.token_urlsafe(12)
        self._made: list[str] = []

    def copy(self, databases: dict[str, Path]) -> dict[str, str]:
        reader = f"'{self._name}'@'%'"
        _execute(self._admin, f"CREATE USER {reader} IDENTIFIED BY '{self._password}'")
        reading = self._admin.set(username=self._name, password=self._password)
        reading = reading.update_query_dict({"init_command": MARIADB_SESSION})
        urls = {}
        for db_id, path in databases.items():
            name = f"{self._name}_{db_id}"
            place = _quoted(name, "`")
            self._made.append(place)
            # A blank for each wildcard: `_` in the name of a grant stands for any character.
            granted = place.replace("_", "\\_")
            _execute(
                self._admin,
                f"CREATE DATABASE {place} CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
                f"GRANT SELECT ON {granted}.* TO {reader}",
            )
            _fill(self._admin.set(database=name), path, namespace=None)
            urls[db_id] = _text(reading.set(database=name))
        return urls

    def drop(self) -> None:
        dropped = [f"DROP DATABASE IF EXISTS {place}" for place in self._made]
        _execute(self._admin, *dropped, f"DROP USER IF EXISTS '{self._name}'@'%'")


def _admin_url(url: str, dialect: str) -> URL:
    server, parsed = parse_url(url)
    if server.dialect != dialect:
        raise LiveDatabaseError(f"{describe(parsed)}: not a URL of {dialect}")
    return parsed


def _execute(url: URL, *statements: str) -> None:
    engine = _engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for statement in statements:
                connection.execution_options(no_parameters=True).exec_driver_sql(statement)
    except SQLAlchemyError as error:
        message = without_secrets(first_line(getattr(error, "orig", error)), url)
        raise CopyError(
            f"{describe(url)}: {message}; the URL must name a running server, and a role that "
            "may create databases and roles"
        ) from None


def _engine(url: URL, **options: Any) -> Engine:
    forced = forced_arguments(url)
    return create_engine(url, poolclass=NullPool, connect_args=forced, **options)


def _quoted(name: str, quote: str) -> str:
    return quote + name.replace(quote, 2 * quote) + quote


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _fill(url: URL, path: Path, *, namespace: str | None) -> None:
    engine = _engine(url)
    tables = [(table, _table(table, namespace)) for table in contents(path)]
    with engine.begin() as connection:
        for content, table in tables:
            table.create(connection)
            for start in range(0, len(content.rows), ROWS_AT_A_TIME):
                some = content.rows[start : start + ROWS_AT_A_TIME]
                rows = [_as_typed(row, table) for row in some]
                connection.execute(table.insert(), rows)


def contents(path: Path) -> Iterator[Content]:
    """The tables of the SQLite file at `path`."""
    with closing(open_readonly(path)) as db:
        for table in schema.schema_from_sqlite(path).tables:
            names = ", ".join(_quoted(name, '"') for name in table.column_names)
            rows = db.execute(f"SELECT {names} FROM {_quoted(table.name, chr(34))}").fetchall()
            yield Content(
                table.name.lower(),
                tuple(name.lower() for name in table.column_names),
                tuple(column.type for column in table.columns),
                tuple(name.lower() for name in table.primary_key),
                tuple(rows),
            )


def _table(content: Content, namespace: str | None) -> Table:
    key = content.primary_key if _holds(content) else ()
    columns = [
        Column(
            name,
            _type(content, place, in_key=name in key),
            primary_key=name in key,
            autoincrement=False,
        )
        for place, name in enumerate(content.columns)
    ]
    return Table(content.name, MetaData(schema=namespace), *columns)


def _holds(content: Content) -> bool:
    """True if the primary key is one: no NULL, no row twice, no text too long to be a key."""
    places = [content.columns.index(name) for name in content.primary_key]
    keys = [tuple(row[place] for place in places) for row in content.rows]
    values = [value for key in keys for value in key]
    is_unique = None not in values and len(set(keys)) == len(keys)
    return is_unique and _longest(values) <= MAX_KEY_CHARACTERS


def _longest(values: Sequence[Any]) -> int:
    return max((len(str(value)) for value in values), default=0)


def _type(content: Content, place: int, *, in_key: bool) -> Any:
    kinds = {type(row[place]) for row in content.rows} - {type(None)} or {
        _declared(content.declared[place])
    }
    if kinds == {int}:
        return BigInteger()
    if kinds <= {int, float}:
        return Double()
    if kinds == {bytes}:
        return LargeBinary()
    return String(MAX_KEY_CHARACTERS) if in_key else Text()


def _declared(name: str) -> type:
    """The affinity of a declared type (https://sqlite.org/datatype3.html, 3.1)."""
    kind = name.upper()
    if "INT" in kind:
        return int
    if any(word in kind for word in ("CHAR", "CLOB", "TEXT")):
        return str
    return bytes if "BLOB" in kind or not kind else float


def _as_typed(row: tuple[Any, ...], table: Table) -> dict[str, Any]:
    return {
        column.name: str(value) if isinstance(column.type, String) and value is not None else value
        for column, value in zip(table.columns, row, strict=True)
    }
