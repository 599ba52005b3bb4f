"""The query in another dialect, with the schema's types as that dialect writes them."""

import random
from dataclasses import replace
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import SqlglotError

from eval.task.dialect import resolve_dialect
from eval.task.schema import Column, Schema
from eval.task.sql import check_sql
from trainer.pipeline.augment.pool import Pool
from trainer.pipeline.row import Row, dump_schema


def transpile(row: Row, rng: random.Random, pool: Pool, *, dialect: str) -> Row | None:
    """`row` in `dialect`; None where it is that already, or the query has no form in it."""
    schema = row.schema
    read, write = resolve_dialect(row.dialect), resolve_dialect(dialect)
    if schema is None or read == write:
        return None
    check = check_sql(row.sql, schema, read, write)
    if not check.valid:
        return None
    mapped = Schema(
        tuple(
            replace(
                t, columns=tuple(Column(c.name, map_type(c.type, read, write)) for c in t.columns)
            )
            for t in schema.tables
        )
    )
    changes = {"sql": check.sql, "dialect": write, "schema_json": dump_schema(mapped)}
    return row.with_(**changes, database="")


@lru_cache(maxsize=4096)
def map_type(text: str, read: str, write: str) -> str:
    """A column type of `read` as `write` has it, in lower case; as it is where it is unknown."""
    if not text:
        return text
    try:
        return exp.DataType.build(text, dialect=read).sql(write).lower()
    except SqlglotError:
        return text
