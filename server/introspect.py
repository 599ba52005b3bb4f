"""The schema of a live database, read by SQLAlchemy in a session that can only read.

PostgreSQL by psycopg, MariaDB and MySQL by PyMySQL, SQLite files. Of the data itself a few values
of text columns are read, only where they are asked for and never from columns whose names look
private. Knows nothing of where the result is kept (see `registry.py`).
"""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Inspector
from sqlalchemy.engine.reflection import ObjectKind
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from eval.task.schema import (
    Column,
    DdlError,
    ForeignKey,
    Schema,
    Table,
    parse_ddl,
    tables_of_sqlite,
)
from eval.task.tables import MAX_COMMENT, checked_schema, one_line
from server.live_url import (
    IntrospectError,
    complaint_of,
    driver_arguments,
    first_line,
    parse_url,
    public_name,
    reading_url,
    source_of,
)

CATALOGUE_SECONDS = 60
VALUE_SECONDS = 2.0  # for the values of one column
VALUES_SECONDS = 60.0  # for those of all
MAX_VALUE = 80  # characters; a longer value is left out, since a part of it is another value
MAX_VALUES = 50
TEXT = re.compile(r"char|text|clob|string|enum")
# Columns of which no value is ever read, by a part of their name without `_` and in lower case.
PRIVATE = re.compile(
    r"""pass(w|phrase|code|port)|pwd|secret|token|apikey|privatekey|credential|salt|hash|signature
    |cookie|session|auth(?!or)|ssn|socialsec|taxid|iban|card|cvv|accountn|licen[cs]e|email|phone
    |mobile|fax|address|street|postcode|postal|zip|ipaddr|birth|dob|salary|gender|religion|diagnos
    |firstname|lastname|middlename|surname|fullname|username|login|comment|note|message""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Selection:
    """What to read: a schema of the server, tables by glob, values per text column (0: none)."""

    schema: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    values: int = 0


@dataclass(frozen=True, slots=True)
class Introspected:
    """`source` is the URL without user, password and options; `notes` say what was not read."""

    name: str
    schema: Schema
    dialect: str
    source: str
    notes: tuple[str, ...] = ()


def introspect(url: str, selection: Selection) -> Introspected:
    """Read the schema of the database at `url`.

    Raises:
        IntrospectError: the URL, the server or the selection is at fault, or nothing is left.
        ModuleNotFoundError: the driver is not installed.
    """
    dialect, parsed = parse_url(url)
    try:
        engine = sa.create_engine(
            reading_url(parsed), poolclass=NullPool, connect_args=driver_arguments(parsed)
        )
        with engine.connect() as opened:
            connection = opened.execution_options(isolation_level="AUTOCOMMIT")
            _limit(connection, CATALOGUE_SECONDS)
            tables = _selected(_tables(connection, dialect, parsed, selection.schema), selection)
            notes: list[str] = []
            if selection.values:
                tables = _with_values(connection, tables, selection, notes)
            schema = checked_schema(tables)
    except DdlError as error:
        raise IntrospectError(f"{error}; leave tables out by --exclude or --include") from None
    except IntrospectError:
        raise
    except (SQLAlchemyError, TypeError, ValueError, OSError) as error:
        raise IntrospectError(complaint_of(error, parsed)) from None
    source = source_of(parsed, selection.schema)
    return Introspected(public_name(parsed), schema, dialect, source, tuple(notes))


def _limit(connection: Connection, seconds: float) -> None:
    """Let every statement from now on read only, and end after `seconds`."""
    milliseconds = int(seconds * 1000)
    backend = connection.dialect.name
    if backend == "sqlite":
        deadline = time.monotonic() + seconds
        raw: Any = connection.connection.dbapi_connection
        raw.set_progress_handler(lambda: int(time.monotonic() > deadline), 10_000)
        return
    if backend == "postgresql":
        statements = [
            "SET default_transaction_read_only = on",
            f"SET statement_timeout = {milliseconds}",
            f"SET lock_timeout = {milliseconds}",
        ]
    elif getattr(connection.dialect, "is_mariadb", False):
        statements = [
            "SET SESSION TRANSACTION READ ONLY",
            f"SET SESSION max_statement_time = {seconds:.3f}",
        ]
    else:
        statements = [
            "SET SESSION TRANSACTION READ ONLY",
            f"SET SESSION max_execution_time = {milliseconds}",
        ]
    for statement in statements:
        connection.exec_driver_sql(statement)


def _tables(connection: Connection, dialect: str, url: URL, schema: str | None) -> list[Table]:
    """Tables and views with keys and comments, by name."""
    inspector = sa.inspect(connection)
    if schema is not None and schema not in inspector.get_schema_names():
        known = ", ".join(inspector.get_schema_names()[:20])
        raise IntrospectError(f"there is no schema {schema!r}; known: {known}")
    if dialect != "sqlite":
        return list(_reflected(inspector, dialect, schema, ObjectKind.ANY))
    # By its own DDL, so that a file gives the same prompt wherever it is read.
    views = _reflected(inspector, dialect, schema, ObjectKind.ANY_VIEW)
    return [*tables_of_sqlite(Path(str(url.database))), *views]


def _reflected(
    inspector: Inspector, dialect: str, schema: str | None, kind: ObjectKind
) -> Iterator[Table]:
    columns = inspector.get_multi_columns(schema, kind=kind)
    primary: dict[Any, Any] = dict(inspector.get_multi_pk_constraint(schema, kind=kind))
    foreign: dict[Any, Any] = dict(inspector.get_multi_foreign_keys(schema, kind=kind))
    comments: dict[Any, Any] = {}
    if inspector.dialect.supports_comments:
        comments = dict(inspector.get_multi_table_comment(schema, kind=kind))
    for place, described in sorted(columns.items(), key=lambda item: item[0][1]):
        yield Table(
            place[1],
            tuple(_column(column, dialect, inspector) for column in described),
            tuple((primary.get(place) or {}).get("constrained_columns", ())),
            tuple(_foreign_key(k) for k in foreign.get(place, ()) if _is_near(k, schema)),
            one_line((comments.get(place) or {}).get("text") or "", MAX_COMMENT),
        )


def _column(described: Any, dialect: str, inspector: Inspector) -> Column:
    try:
        written = str(described["type"].compile(inspector.dialect))
    except SQLAlchemyError:
        written = ""  # a type that SQLAlchemy does not know
    comment = one_line(described.get("comment") or "", MAX_COMMENT)
    return Column(str(described["name"]), _type_name(written, dialect), comment)


@cache
def _type_name(written: str, dialect: str) -> str:
    """The type as it would read from DDL, so that prompts don't depend on where they come from."""
    try:
        return parse_ddl(f"CREATE TABLE t (c {written})", dialect).tables[0].columns[0].type
    except DdlError:
        return one_line(written).lower()


def _foreign_key(key: Any) -> ForeignKey:
    return ForeignKey(
        tuple(key["constrained_columns"]), key["referred_table"], tuple(key["referred_columns"])
    )


def _is_near(key: Any, schema: str | None) -> bool:
    """True if a key stays in the schema that is read."""
    return key.get("referred_schema") in (None, schema)


def _selected(tables: list[Table], selection: Selection) -> list[Table]:
    """The tables whose names match, without foreign keys to others."""
    for pattern in (*selection.include, *selection.exclude):
        if not any(_matches(table.name, [pattern]) for table in tables):
            raise IntrospectError(f"no table matches {pattern!r}")
    kept = [
        table
        for table in tables
        if (not selection.include or _matches(table.name, selection.include))
        and not _matches(table.name, selection.exclude)
    ]
    if not kept:
        raise IntrospectError("no tables that the role can see are left; check --schema, --include")
    names = {table.name for table in kept}
    return [
        replace(t, foreign_keys=tuple(k for k in t.foreign_keys if k.table in names)) for t in kept
    ]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def _with_values(
    connection: Connection, tables: list[Table], selection: Selection, notes: list[str]
) -> list[Table]:
    """The tables with values of their text columns; what could not be read goes to `notes`."""
    deadline = time.monotonic() + VALUES_SECONDS

    def filled(table: Table, column: Column) -> Column:
        if not TEXT.search(column.type) or is_private(column.name):
            return column
        where = f"{table.name}.{column.name}"
        if time.monotonic() > deadline:
            notes.append(f"{where}: no values, the {VALUES_SECONDS:g} s for all were over")
            return column
        try:
            found = _values(connection, selection, table.name, column.name)
        except SQLAlchemyError as error:
            notes.append(f"{where}: no values, {first_line(error)}")
            return column
        return replace(column, values=found)

    return [replace(t, columns=tuple(filled(t, c) for c in t.columns)) for t in tables]


def is_private(name: str) -> bool:
    """True if a column of that name may hold secrets or what says who somebody is."""
    return PRIVATE.search(re.sub(r"[^a-z]", "", name.lower())) is not None


def _values(
    connection: Connection, selection: Selection, table: str, column: str
) -> tuple[str, ...]:
    """Some distinct values of a column, short ones only, in order."""
    _limit(connection, VALUE_SECONDS)
    found = sa.column(column, sa.Text)
    is_sqlite = connection.dialect.name == "sqlite"
    length = sa.func.length(found) if is_sqlite else sa.func.char_length(found)
    query = (
        sa.select(found)
        .distinct()
        .select_from(sa.table(table, schema=selection.schema))
        .where(length.between(1, MAX_VALUE))
        .limit(min(selection.values, MAX_VALUES))
    )
    cleaned = {one_line(v) for (v,) in connection.execute(query) if isinstance(v, str)}
    return tuple(sorted(cleaned - {""}))
