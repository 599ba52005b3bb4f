"""One item of a text-to-SQL data set, and how a JSONL file of them is read.

Knows nothing of prompts or databases: only the record and its file.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from eval.task.dialect import DialectError, resolve_dialect


class ExampleError(ValueError):
    """A line of a data file that can't be used; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question on one database with its gold query; `alternatives` are right as well."""

    id: str
    db_id: str
    question: str
    sql: str
    dialect: str = "sqlite"
    source: str = ""
    alternatives: tuple[str, ...] = ()

    @property
    def golds(self) -> tuple[str, ...]:
        """All queries that answer the question, `sql` first."""
        return (self.sql, *self.alternatives)


FIELDS = tuple(field.name for field in fields(Example))
REQUIRED = ("id", "db_id", "question", "sql")


def load_examples(path: Path) -> list[Example]:
    """Read a JSONL file of examples.

    Raises:
        ExampleError: the file is missing or empty, or a line is malformed; names file and line.
    """
    try:
        examples = list(_read_lines(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ExampleError(f"{path}: can't be read: {error}") from error
    if not examples:
        raise ExampleError(f"{path}: holds no examples")
    return examples


def _read_lines(path: Path) -> Iterator[Example]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield parse_example(line, where=f"{path}:{number}")


def parse_example(line: str, *, where: str) -> Example:
    """Read one line of a data file; `where` begins the message of an error.

    Raises:
        ExampleError: the line is malformed.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExampleError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ExampleError(f"{where}: expected an object, found {type(row).__name__}")
    if missing := [name for name in REQUIRED if name not in row]:
        raise ExampleError(f"{where}: missing field {missing[0]!r}")
    if unknown := sorted(set(row) - set(FIELDS)):
        raise ExampleError(f"{where}: unknown field {unknown[0]!r}; known: {', '.join(FIELDS)}")
    alternatives = _alternatives(row.pop("alternatives", []), where=where)
    for name, value in row.items():
        if not isinstance(value, str):
            raise ExampleError(f"{where}: field {name!r} must be text, is {type(value).__name__}")
    try:
        resolve_dialect(row.get("dialect", "sqlite"))
    except DialectError as error:
        raise ExampleError(f"{where}: field 'dialect': {error}") from error
    return Example(**row, alternatives=alternatives)


def _alternatives(value: object, *, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(sql, str) for sql in value):
        raise ExampleError(f"{where}: field 'alternatives' must be a list of SQL texts")
    return tuple(value)
