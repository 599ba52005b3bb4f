"""The questions of an evaluation, each with its database and its schema.

Knows nothing of models or scores.
"""

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

from eval.task import samples
from eval.task.bundle import sha256_file
from eval.task.dialect import resolve_dialect
from eval.task.example import Example, load_examples
from eval.task.schema import DdlError, Schema, parse_ddl, schema_from_sqlite
from eval.task.sqlite_judge import open_readonly, run_query

SAMPLES = "samples"
CREATE_STATEMENTS = (
    "SELECT sql FROM sqlite_master WHERE type = 'table' "
    "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
)


class DatasetError(ValueError):
    """A data set that can't be evaluated; the message names the item and the remedy."""


@dataclass(frozen=True)
class Question:
    """An example with the database that judges it and the schema that the model sees.

    `database` is a SQLite file, or the SQLAlchemy URL of a database on a server.
    """

    example: Example
    database: Path | str
    ddl: str
    schema: Schema

    @property
    def dialect(self) -> str:
        """sqlglot's name of the dialect that gold and predicted queries are written in."""
        return resolve_dialect(self.example.dialect)


@dataclass(frozen=True)
class Dataset:
    """Questions of one data file; `sha256` is that of the whole file."""

    name: str
    sha256: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Folders:
    """Where databases and schemas lie; `databases` may be a URL with `{db_id}` in it."""

    databases: Path | str
    schemas: Path

    def database(self, db_id: str) -> Path | str:
        if isinstance(self.databases, str):
            from eval.live.url import url_of  # SQLAlchemy is slow to import, and few runs need it

            return url_of(self.databases, db_id)
        return self.databases / f"{db_id}.sqlite"


@contextmanager
def open_dataset(
    data: str | Sequence[Example],
    *,
    databases: Path | str | None = None,
    schemas: Path | None = None,
    limit: int | None = None,
) -> Iterator[Dataset]:
    """The first `limit` questions of a JSONL file, of the samples' test split (`samples`), or of
    a list of examples.

    Databases (`DB_ID.sqlite`) and schemas (`DB_ID.sql`) lie in `databases/` and `schemas/` beside
    the file unless told; `databases` may be the URL of a PostgreSQL or MariaDB server, with
    `{db_id}` where the name of the database goes. Without a schema file the database says what
    its tables are. The samples' databases are built in a temporary folder, which lasts as long as
    this context.

    Raises:
        DatasetError, ExampleError, DdlError: the message names the file, line or database.
        LiveDatabaseError: a server can't be reached.
    """
    with tempfile.TemporaryDirectory(prefix="sqlwright-eval-") as work:
        path = Path(data) if isinstance(data, str) else None
        if data == SAMPLES:
            path = samples.FOLDER / "test.jsonl"
            samples.build_databases(Path(work))
            databases, schemas = Path(work), Path(work)
        beside = path.parent if path else Path()
        place = _folder_or_url(databases or beside / "databases")
        folders = Folders(place, schemas or beside / "schemas")
        examples = (load_examples(path) if path else list(cast(Sequence[Example], data)))[:limit]
        name = f"samples/{path.name}" if path and data == SAMPLES else path.name if path else "list"
        questions = tuple(_questions(examples, folders, name))
        yield Dataset(name, sha256_file(path) if path else _sha256(examples), questions)


def _folder_or_url(databases: Path | str) -> Path | str:
    return databases if isinstance(databases, str) and "://" in databases else Path(databases)


def _sha256(examples: Sequence[Example]) -> str:
    return hashlib.sha256(repr(examples).encode("utf-8", "surrogatepass")).hexdigest()


def _questions(examples: Sequence[Example], folders: Folders, name: str) -> Iterator[Question]:
    if not examples:
        raise DatasetError(f"{name}: holds no examples")
    read = cache(lambda db_id, dialect: _read_schema(db_id, folders, dialect))
    seen: set[str] = set()
    for example in examples:
        where = f"{name}: item {example.id!r}"
        if example.id in seen:
            raise DatasetError(f"{where}: the id stands there twice; ids must be unique")
        seen.add(example.id)
        database = _database(example, folders, where=where)
        yield Question(example, database, *read(example.db_id, resolve_dialect(example.dialect)))


def _database(example: Example, folders: Folders, *, where: str) -> Path | str:
    if Path(example.db_id).name != example.db_id:
        raise DatasetError(f"{where}: db_id {example.db_id!r} must be a plain file name")
    database = folders.database(example.db_id)
    engine = "sqlite"
    if isinstance(database, str):
        engine = resolve_dialect(database.partition("://")[0].partition("+")[0])
    elif not database.is_file():
        raise DatasetError(f"{where}: no database file {database}; --databases names their folder")
    if resolve_dialect(example.dialect) != engine:
        raise DatasetError(
            f"{where}: its SQL is of dialect {example.dialect!r}, its database speaks {engine}; "
            f'set "dialect": "{engine}" in the data, or name other --databases: a folder of SQLite '
            "files, or a postgresql:// or mariadb:// URL"
        )
    return database


def _read_schema(db_id: str, folders: Folders, dialect: str) -> tuple[str, Schema]:
    path = folders.schemas / f"{db_id}.sql"
    if not path.is_file():
        return _schema_of_database(folders.database(db_id))
    try:
        ddl = path.read_text(encoding="utf-8")
        return ddl, parse_ddl(ddl, dialect)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error


def _schema_of_database(database: Path | str) -> tuple[str, Schema]:
    """Read through the DDL where that parses: a server reads it so, and names types its way."""
    if isinstance(database, str):
        from eval.live.database import schema_of

        return schema_of(database)
    ddl = ddl_from_sqlite(database)
    try:
        return ddl, parse_ddl(ddl)
    except DdlError:
        return ddl, schema_from_sqlite(database)


def ddl_from_sqlite(database: Path) -> str:
    """The CREATE TABLE statements that the SQLite file `database` stores.

    Raises:
        DatasetError: it is no SQLite database.
    """
    try:
        with closing(open_readonly(database)) as db:
            answer = run_query(db, CREATE_STATEMENTS)
    except sqlite3.Error as error:
        raise DatasetError(f"{database}: {error}") from error
    if answer.error is not None:
        raise DatasetError(f"{database}: {answer.error}")
    return "".join(f"{statement};\n" for (statement,) in answer.rows)
