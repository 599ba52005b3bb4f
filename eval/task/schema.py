"""What the model and the check know of a database: its schema, read from DDL or a SQLite file.

Knows nothing of prompts (see `prompt.py`) or rows.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from eval.task.ddl import MAX_DDL_BYTES as MAX_DDL_BYTES
from eval.task.ddl import tables_of_ddl
from eval.task.dialect import resolve_dialect
from eval.task.tables import MAX_TABLES as MAX_TABLES
from eval.task.tables import Column as Column
from eval.task.tables import DdlError as DdlError
from eval.task.tables import ForeignKey as ForeignKey
from eval.task.tables import Schema as Schema
from eval.task.tables import Table as Table
from eval.task.tables import checked_schema, one_line


def parse_ddl(ddl: str, dialect: str = "sqlite") -> Schema:
    """Read `CREATE TABLE` and `COMMENT ON` (INSERTs and indexes between them are passed over).

    Raises:
        DdlError: too large, not SQL, no CREATE TABLE, a duplicate table, or another statement.
        DialectError: `dialect` is unknown.
    """
    return checked_schema(_tables(ddl, dialect))


def schema_from_sqlite(path: Path) -> Schema:
    """Read the schema that the SQLite file at `path` stores.

    Raises:
        DdlError: the file is missing or is no SQLite database, or `checked_schema` refuses it.
    """
    return checked_schema(tables_of_sqlite(path))


def tables_of_sqlite(path: Path) -> list[Table]:
    """The tables of the SQLite file at `path`, not checked, so that one may choose among them.

    Raises:
        DdlError: the file is missing or is no SQLite database, or it has no tables.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            tables = _tables_of_connection(db)
            rows = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    except sqlite3.Error as error:
        raise DdlError(f"{path.name}: {error}") from error
    if not tables:
        raise DdlError(f"{path.name}: the database has no tables")
    written = [sql for name, sql in rows if sql and not name.startswith("sqlite_")]
    try:
        return _tables(";\n".join(written), "sqlite")  # so that file and script are read alike
    except DdlError:
        return tables


def _tables(ddl: str, dialect: str) -> list[Table]:
    if len(ddl.encode("utf-8", "surrogatepass")) > MAX_DDL_BYTES:
        raise DdlError(f"the DDL is over {MAX_DDL_BYTES // 1024} KiB")
    dialect = resolve_dialect(dialect)
    try:
        tables = tables_of_ddl(ddl, dialect)
    except DdlError:
        # SQLite takes any words for a type ("character varchar(4)"); sqlglot does not.
        tables = _tables_by_sqlite(ddl) if dialect == "sqlite" else []
        if not tables:
            raise
    if not tables:
        raise DdlError("the DDL holds no CREATE TABLE statement")
    return tables


def _tables_by_sqlite(ddl: str) -> list[Table]:
    """The tables that SQLite itself makes of `ddl` in memory; none where it refuses anything."""
    allowed = {sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_INSERT,
               sqlite3.SQLITE_READ, sqlite3.SQLITE_REINDEX}  # fmt: skip

    def authorise(action: int, table: str | None, *_: object) -> int:
        catalogue = action == sqlite3.SQLITE_UPDATE and table == "sqlite_master"
        return sqlite3.SQLITE_OK if catalogue or action in allowed else sqlite3.SQLITE_DENY

    with closing(sqlite3.connect(":memory:")) as db:
        db.set_authorizer(authorise)
        try:
            db.executescript(ddl)
        except (sqlite3.Error, sqlite3.Warning, ValueError):
            return []
        db.set_authorizer(None)
        return _tables_of_connection(db)


def _tables_of_connection(db: sqlite3.Connection) -> list[Table]:
    names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return [_table_of_connection(db, n) for (n,) in names if not n.startswith("sqlite_")]


def _table_of_connection(db: sqlite3.Connection, name: str) -> Table:
    shown = "SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden <> 1"
    info = db.execute(shown, [name]).fetchall()
    keys: dict[int, list[tuple[str, str, str | None]]] = {}
    query = 'SELECT id, "from", "table", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq'
    for number, column, target, reference in db.execute(query, [name]):
        keys.setdefault(number, []).append((column, target, reference))
    return Table(
        name,
        tuple(Column(column, one_line(kind).lower()) for column, kind, _ in info),
        tuple(row[0] for row in sorted(info, key=lambda row: row[2]) if row[2]),
        tuple(
            ForeignKey(
                tuple(column for column, _, _ in parts),
                parts[0][1],
                tuple(reference for _, _, reference in parts if reference),
            )
            for _, parts in sorted(keys.items(), reverse=True)
        ),
    )
