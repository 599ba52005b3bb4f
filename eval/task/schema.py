"""What the model and the check know of a database: tables, columns, keys; read from DDL or SQLite.

Knows nothing of prompts (see `prompt.py`) or rows.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from sqlglot import exp
from sqlglot.errors import SqlglotError

from eval.task.dialect import parse_statements, resolve_dialect

MAX_DDL_BYTES = 512 * 1024
MAX_DDL_TOKENS = 200_000
MAX_TABLES = 500


class DdlError(ValueError):
    """DDL that gives no usable schema; nothing can be checked against it."""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str = ""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """`columns` of the owning table refer to `references` of `table`, in order."""

    columns: tuple[str, ...]
    table: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class Schema:
    """The tables of one database; names are looked up without regard to case."""

    tables: tuple[Table, ...]
    _by_name: dict[str, Table] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {t.name.lower(): t for t in self.tables})

    def find(self, name: str) -> Table | None:
        return self._by_name.get(name.lower())

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the tables: the cache key of whatever is made from a schema."""
        return hashlib.sha256(repr(self.tables).encode()).hexdigest()


def parse_ddl(ddl: str, dialect: str = "sqlite") -> Schema:
    """Read `CREATE TABLE` statements (INSERTs and indexes between them are passed over).

    Raises:
        DdlError: too large, not SQL, no CREATE TABLE, a duplicate table, or another statement.
        DialectError: `dialect` is unknown.
    """
    if len(ddl.encode("utf-8", "surrogatepass")) > MAX_DDL_BYTES:
        raise DdlError(f"the DDL is over {MAX_DDL_BYTES // 1024} KiB")
    dialect = resolve_dialect(dialect)
    try:
        tables = [t for t in map(_table_of, _statements(ddl, dialect)) if t]
    except DdlError:
        # SQLite takes any words for a type ("character varchar(4)"); sqlglot does not.
        tables = _tables_by_sqlite(ddl) if dialect == "sqlite" else []
        if not tables:
            raise
    if not tables:
        raise DdlError("the DDL holds no CREATE TABLE statement")
    return _schema(tables)


def schema_from_sqlite(path: Path) -> Schema:
    """Read the schema that the SQLite file at `path` stores.

    Raises:
        DdlError: the file is missing or is no SQLite database.
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
        return parse_ddl(";\n".join(written))  # so that file and script give the same prompt
    except DdlError:
        return _schema(tables)


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
        tuple(Column(column, kind.lower()) for column, kind, _ in info),
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


def _statements(ddl: str, dialect: str) -> list[exp.Expr]:
    limits = {"max_bytes": MAX_DDL_BYTES, "max_tokens": MAX_DDL_TOKENS}
    try:
        return parse_statements(ddl, dialect, **limits)
    except SqlglotError as error:
        raise DdlError(f"the DDL can't be parsed as {dialect}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _table_of(statement: exp.Expr) -> Table | None:
    """The table that a statement creates; None for INSERT and CREATE INDEX."""
    is_create = isinstance(statement, exp.Create)
    if isinstance(statement, exp.Insert) or (is_create and statement.args["kind"] == "INDEX"):
        return None
    body = statement.this if is_create and statement.args["kind"] == "TABLE" else None
    if not isinstance(body, exp.Schema):
        raise DdlError(f"only CREATE TABLE with columns is read; found {statement.key.upper()}")
    kinds = (exp.ColumnDef, exp.Identifier)  # a column without a type is but a name
    columns = tuple(_column_of(c) for c in body.expressions if isinstance(c, kinds))
    if not columns:
        raise DdlError(f"table {body.this.name!r} has no columns")
    return Table(body.this.name, columns, _primary_key(body), tuple(_foreign_keys(body)))


def _column_of(definition: exp.Expr) -> Column:
    kind = definition.args.get("kind")
    return Column(definition.name, kind.sql().lower() if kind else "")


def _primary_key(body: exp.Schema) -> tuple[str, ...]:
    for key in body.find_all(exp.PrimaryKey):
        return tuple(_identifier(part) for part in key.expressions)
    names: list[str] = []
    for mark in body.find_all(exp.PrimaryKeyColumnConstraint):
        if column := mark.find_ancestor(exp.ColumnDef):
            names.append(column.name)
        elif mark.parent:  # T-SQL: CONSTRAINT pk PRIMARY KEY CLUSTERED (a, b)
            names += [part.name for part in mark.parent.find_all(exp.Column)]
    return tuple(names)


def _identifier(part: exp.Expr) -> str:
    found = part.find(exp.Identifier)
    return found.name if found else part.name


def _foreign_keys(body: exp.Schema) -> Iterator[ForeignKey]:
    for key in body.find_all(exp.ForeignKey, bfs=False):
        if reference := key.args.get("reference"):
            yield _reference(tuple(_identifier(c) for c in key.expressions), reference)
    for definition in body.find_all(exp.ColumnDef):
        if inline := definition.find(exp.Reference):
            yield _reference((definition.name,), inline)


def _reference(columns: tuple[str, ...], reference: exp.Expr) -> ForeignKey:
    target = reference.this
    if isinstance(target, exp.Schema):
        return ForeignKey(columns, target.this.name, tuple(map(_identifier, target.expressions)))
    return ForeignKey(columns, target.name, ())


def _schema(tables: list[Table]) -> Schema:
    if len(tables) > MAX_TABLES:
        raise DdlError(f"the DDL has {len(tables)} tables; at most {MAX_TABLES} are read")
    _expect_unique("table", [table.name for table in tables])
    for table in tables:
        _expect_unique(f"in table {table.name!r}, column", list(table.column_names))
    columns = {t.name.lower(): {c.lower(): c for c in t.column_names} for t in tables}
    return Schema(tuple(_with_spelling(table, columns) for table in tables))


def _expect_unique(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise DdlError(f"{what} {name!r} is created twice")
        seen.add(name.lower())


def _with_spelling(table: Table, columns: dict[str, dict[str, str]]) -> Table:
    """The table with the columns of its keys spelled as created: `PRIMARY KEY (ID)` means `id`."""

    def spell(owner: str, names: tuple[str, ...]) -> tuple[str, ...]:
        own = columns.get(owner.lower(), {})
        return tuple(own.get(name.lower(), name) for name in names)

    keys = tuple(
        ForeignKey(spell(table.name, k.columns), k.table, spell(k.table, k.references))
        for k in table.foreign_keys
    )
    return replace(table, primary_key=spell(table.name, table.primary_key), foreign_keys=keys)
