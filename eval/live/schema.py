"""The schema of a database on a server, read by SQLAlchemy's inspection.

Tables, views and keys of the schema that the role finds by default. Knows nothing of queries.
"""

from contextlib import suppress
from typing import Any

from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.engine.reflection import ObjectKind
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from eval.live.session import first_line
from eval.live.url import (
    LiveDatabaseError,
    describe,
    forced_arguments,
    parse_url,
    remedy,
    without_secrets,
)
from eval.task.schema import Column, DdlError, ForeignKey, Schema, Table, parse_ddl


def schema_of(url: str) -> tuple[str, Schema]:
    """The CREATE TABLE statements of the database at `url`, and the schema that they make.

    Raises:
        LiveDatabaseError: the URL or the server is at fault, or the database has no tables.
    """
    server, parsed = parse_url(url)
    try:
        options = forced_arguments(parsed)
        engine = create_engine(parsed, poolclass=NullPool, connect_args=options)
        tables = _tables(engine)
    except (SQLAlchemyError, TypeError, ValueError) as error:
        reason = getattr(error, "orig", None) or error
        message = without_secrets(first_line(reason), parsed)
        raise LiveDatabaseError(f"{describe(parsed)}: {message}; {remedy(message)}") from None
    if not tables:
        raise LiveDatabaseError(f"{describe(parsed)}: no tables that its role can see")
    ddl = "".join(_create_table(table, engine.dialect) for table in tables)
    # Read through the DDL where that parses, as from a file: the type names are then the same.
    with suppress(DdlError):
        return ddl, parse_ddl(ddl, server.dialect)
    return ddl, Schema(tuple(tables))


def _tables(engine: Engine) -> list[Table]:
    found = inspect(engine)
    columns = found.get_multi_columns(kind=ObjectKind.ANY)
    primary: dict[Any, Any] = dict(found.get_multi_pk_constraint())
    foreign: dict[Any, list[Any]] = dict(found.get_multi_foreign_keys())
    return [
        Table(
            name,
            tuple(Column(str(c["name"]), _type_name(c["type"], engine.dialect)) for c in described),
            tuple((primary.get((place, name)) or {}).get("constrained_columns", ())),
            tuple(_foreign_key(key) for key in foreign.get((place, name), [])),
        )
        for (place, name), described in sorted(columns.items(), key=lambda item: item[0][1])
    ]


def _foreign_key(key: Any) -> ForeignKey:
    return ForeignKey(
        tuple(key["constrained_columns"]), key["referred_table"], tuple(key["referred_columns"])
    )


def _type_name(kind: Any, dialect: Dialect) -> str:
    """The type as the server writes it, without its collation; "" where SQLAlchemy has none."""
    for detail in ("collation", "charset"):
        if getattr(kind, detail, None):
            setattr(kind, detail, None)
    with suppress(SQLAlchemyError):
        return str(kind.compile(dialect)).lower()
    return ""


def _create_table(table: Table, dialect: Dialect) -> str:
    quote = dialect.identifier_preparer.quote

    def listed(names: tuple[str, ...]) -> str:
        return ", ".join(quote(name) for name in names)

    lines = [f"{quote(column.name)} {column.type}".rstrip() for column in table.columns]
    if table.primary_key:
        lines.append(f"PRIMARY KEY ({listed(table.primary_key)})")
    lines += [
        f"FOREIGN KEY ({listed(key.columns)}) "
        f"REFERENCES {quote(key.table)} ({listed(key.references)})"
        for key in table.foreign_keys
    ]
    body = ",\n  ".join(lines)
    return f"CREATE TABLE {quote(table.name)} (\n  {body}\n);\n"
