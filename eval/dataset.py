"""The questions of an evaluation, each with its database file and its schema.

Knows nothing of servers or scores.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
    """An example with the database that judges it and the schema that the model sees."""

    example: Example
    database: Path
    ddl: str
    schema: Schema


@dataclass(frozen=True)
class Dataset:
    """Questions of one data file; `sha256` is that of the whole file."""

    name: str
    sha256: str
    questions: tuple[Question, ...]


@contextmanager
def open_dataset(
    data: str,
    *,
    databases: Path | None = None,
    schemas: Path | None = None,
    limit: int | None = None,
) -> Iterator[Dataset]:
    """The first `limit` questions of the JSONL file `data`, or of the samples' test split.

    Databases (`DB_ID.sqlite`) and schemas (`DB_ID.sql`) lie in `databases/` and `schemas/` beside
    the file unless told; without a schema file the database file says what its tables are. The
    samples' databases are built in a temporary folder, which lasts as long as this context.

    Raises:
        DatasetError, ExampleError, DdlError: the message names the file, line or database.
    """
    with tempfile.TemporaryDirectory(prefix="sqlwright-eval-") as work:
        path = Path(data)
        if data == SAMPLES:
            path = samples.FOLDER / "test.jsonl"
            samples.build_databases(Path(work))
            databases, schemas = Path(work), Path(work)
        databases = databases or path.parent / "databases"
        schemas = schemas or path.parent / "schemas"
        examples = load_examples(path)[:limit]
        name = f"samples/{path.name}" if data == SAMPLES else path.name
        questions = tuple(_questions(examples, databases, schemas, name))
        yield Dataset(name, sha256_file(path), questions)


def _questions(
    examples: list[Example], databases: Path, schemas: Path, name: str
) -> Iterator[Question]:
    read = cache(lambda db_id: _read_schema(db_id, databases, schemas))
    for example in examples:
        _check(example, databases, where=f"{name}: item {example.id!r}")
        ddl, schema = read(example.db_id)
        yield Question(example, databases / f"{example.db_id}.sqlite", ddl, schema)


def _check(example: Example, databases: Path, *, where: str) -> None:
    if resolve_dialect(example.dialect) != "sqlite":
        raise DatasetError(f"{where}: dialect {example.dialect!r}; only sqlite can be judged here")
    if Path(example.db_id).name != example.db_id:
        raise DatasetError(f"{where}: db_id {example.db_id!r} must be a plain file name")
    path = databases / f"{example.db_id}.sqlite"
    if not path.is_file():
        raise DatasetError(f"{where}: no database file {path}; --databases names their folder")


def _read_schema(db_id: str, databases: Path, schemas: Path) -> tuple[str, Schema]:
    path = schemas / f"{db_id}.sql"
    if not path.is_file():
        return _schema_of_database(databases / f"{db_id}.sqlite")
    try:
        ddl = path.read_text(encoding="utf-8")
        return ddl, parse_ddl(ddl)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error


def _schema_of_database(database: Path) -> tuple[str, Schema]:
    """Read through the DDL where that parses: a server reads it so, and names types its way."""
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
