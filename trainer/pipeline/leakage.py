"""The stage that keeps what a model is measured on out of what it is trained on.

What is compared, and why so:

- A database leaks by its name or by an equal schema: tables and columns, in whatever order and
  case, types and keys aside. One name over two schemas that share no table is a coincidence.
- A question leaks by its wording alone, on whatever database: to have seen it answered helps.
- A query leaks where its canonical text is equal and so is every table that it reads.
  `SELECT COUNT(*) FROM singer` over another `singer` is another query. Where one side's schema
  is not known, the text decides.

A paraphrase, or one query in two forms, is not found: what is counted is a lower bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from eval.task.example import Example, ExampleError, load_examples
from eval.task.schema import DdlError, Schema, Table, parse_ddl, schema_from_sqlite
from eval.task.sql import check_sql
from trainer.pipeline.filters import query_key, question_key
from trainer.pipeline.row import Drop, Outcome, Row, Tick, dump_schema, each, load_schema
from trainer.pipeline.schemas import Places, is_plain_name

Signature = tuple[str, frozenset[str]]  # of a table: its name and its columns, in lower case


@dataclass(frozen=True)
class Leakage:
    """Drops rows that occur in `held_out`, JSONL files of examples: `leaks_database`,
    `leaks_question`, `leaks_sql`.

    The schema of a held-out database is sought beside its file, as that of a training file is
    (`trainer.pipeline.schemas.Places`).

    Raises:
        ExampleError: when called: a file is missing, empty or malformed; names file and line.
        DdlError: when called: a schema beside a file can't be read; names it.
    """

    held_out: tuple[Path, ...]

    @property
    def name(self) -> str:
        return "leakage"

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """The files by what is in them: another content makes another outcome."""
        return {"held_out": [_digest(path) for path in self.held_out]}

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        seen = _Seen()
        for path in self.held_out:
            seen.read(path)
        outcome = each(rows, seen.judge, tick)
        outcome.facts = {
            "held_out_examples": seen.num_examples,
            "held_out_databases": len(seen.databases),
        }
        return outcome


@dataclass
class _Seen:
    """What the held-out files hold; schemas as in `Row.schema_json`."""

    databases: dict[str, set[str]] = field(default_factory=dict)
    schemas: dict[frozenset[Signature], str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)
    queries: dict[str, list[Row]] = field(default_factory=dict)
    num_examples: int = 0

    def read(self, path: Path) -> None:
        examples = load_examples(path)
        dialects = {example.db_id: example.dialect for example in examples}
        schemas = {db_id: _schema_json(path, db_id, dialects[db_id]) for db_id in dialects}
        for db_id, schema in schemas.items():
            self.databases.setdefault(db_id.casefold(), set()).add(schema)
            if schema:
                self.schemas.setdefault(_signatures(schema), db_id)
        for example in examples:
            self._add(example, schemas[example.db_id])
        self.num_examples += len(examples)

    def _add(self, example: Example, schema: str) -> None:
        self.questions.setdefault(question_key(example.question), example.id)
        for sql in example.golds:
            gold = Row(example.id, example.db_id, "", sql, example.dialect, schema_json=schema)
            self.queries.setdefault(query_key(sql, schema, example.dialect), []).append(gold)

    def judge(self, row: Row) -> Row | Drop:
        if database := self._database(row):
            return Drop("leaks_database", f"{database!r} is held out")
        if known := self.questions.get(question_key(row.question)):
            return Drop("leaks_question", f"that of {known}")
        for gold in self.queries.get(query_key(row.sql, row.schema_json, row.dialect), []):
            if _reads_the_same(row, gold):
                return Drop("leaks_sql", f"that of {gold.id}")
        return row

    def _database(self, row: Row) -> str:
        """The held-out database that `row` is asked on; "" if none."""
        if row.schema_json and (known := self.schemas.get(_signatures(row.schema_json))):
            return known
        held_out = self.databases.get(row.db_id.casefold(), set()) if row.db_id else set()
        is_one = any(
            not (schema and row.schema_json) or _signatures(schema) & _signatures(row.schema_json)
            for schema in held_out
        )
        return row.db_id if is_one else ""


@lru_cache(maxsize=8192)
def _signatures(schema_json: str) -> frozenset[Signature]:
    return frozenset(map(_signature, load_schema(schema_json).tables))


def _signature(table: Table) -> Signature:
    return table.name.lower(), frozenset(name.lower() for name in table.column_names)


def _reads_the_same(one: Row, other: Row) -> bool:
    """True if two queries of one text read equal tables, or that can't be known."""
    schemas = one.schema, other.schema
    return None in schemas or _tables_read(one) == _tables_read(other)


def _tables_read(row: Row) -> frozenset[Signature]:
    schema = row.schema or Schema(())
    found = map(schema.find, check_sql(row.sql, schema, row.dialect).tables)
    return frozenset(_signature(table) for table in found if table)


def _schema_json(path: Path, db_id: str, dialect: str) -> str:
    """The schema of a held-out database, from where it stands beside the file; "" if nowhere."""
    schema = _schema(path, db_id, dialect)
    return dump_schema(schema) if schema else ""


def _schema(path: Path, db_id: str, dialect: str) -> Schema | None:
    """The schema of a held-out database, from where it stands beside the file; None if nowhere."""
    places = Places(beside=path.parent)
    if not is_plain_name(db_id):
        return None
    for file in filter(Path.is_file, places.schema_files(db_id)):
        try:
            return parse_ddl(file.read_text(encoding="utf-8"), dialect)
        except (DdlError, OSError, UnicodeDecodeError) as error:
            raise DdlError(f"{file}: {error}") from error
    for database in filter(Path.is_file, places.database_files(db_id)):
        return schema_from_sqlite(database)
    return None


def _digest(path: Path) -> str:
    """sha256 of a held-out file.

    Raises:
        ExampleError: it can't be read.
    """
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ExampleError(f"held_out: {path}: can't be read: {error.strerror}") from error
