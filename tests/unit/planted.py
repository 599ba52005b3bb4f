"""The rows of tests/fixtures/train: clean ones, and those that a stage must mend or drop.

A planted line has the reason that its row must be dropped for, or the changes that mend it and the
text that comes of them. `"run": false` takes its database away.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from eval.task.schema import parse_ddl
from trainer.pipeline.row import Row, dump_schema

FOLDER = Path(__file__).parents[1] / "fixtures" / "train"
DATABASES = ("orchard", "harbour")
SCHEMAS = {
    name: dump_schema(parse_ddl((FOLDER / f"{name}.sql").read_text(encoding="utf-8")))
    for name in DATABASES
}


def build_databases(folder: Path) -> Path:
    for name in DATABASES:
        with closing(sqlite3.connect(folder / f"{name}.sqlite")) as db:
            db.executescript((FOLDER / f"{name}.sql").read_text(encoding="utf-8"))
    return folder


def planted(name: str) -> list[dict[str, Any]]:
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def as_row(record: dict[str, Any], databases: Path | None = None) -> Row:
    db_id = record["db_id"]
    runs = databases is not None and record.get("run", True)
    return Row(
        id=record["id"],
        db_id=db_id,
        question=record["question"],
        sql=record["sql"],
        dialect=record.get("dialect", "sqlite"),
        schema_json=SCHEMAS[db_id],
        database=str(databases / f"{db_id}.sqlite") if databases and runs else "",
    )


def rows_of(name: str, databases: Path | None = None) -> list[Row]:
    return [as_row(record, databases) for record in planted(name)]


def row(question: str, sql: str, db_id: str = "harbour", **fields: Any) -> Row:
    """A row made up in a test; its id is its question."""
    made = as_row({"id": question, "db_id": db_id, "question": question, "sql": sql})
    return made.with_(**fields)


def no_tick(_: int) -> None: ...
