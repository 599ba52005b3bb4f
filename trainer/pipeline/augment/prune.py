"""A smaller schema: some tables and columns that the query does not read are left out.

What the query reads stays, and so do primary keys and the keys between tables that stay: the query
runs on the same database with the same rows.
"""

import random
from dataclasses import replace

from sqlglot.errors import SqlglotError

from eval.task.dialect import resolve_dialect
from eval.task.names import resolve_names
from eval.task.schema import Schema, Table
from trainer.pipeline.augment.bind import UnboundError, parse
from trainer.pipeline.augment.pool import Pool
from trainer.pipeline.row import Row, dump_schema


def prune(row: Row, rng: random.Random, pool: Pool) -> Row | None:
    """`row` with a part of its schema; None where nothing can go."""
    schema = row.schema
    if schema is None:
        return None
    try:
        names = resolve_names(parse(row.sql, row.dialect), schema, resolve_dialect(row.dialect))
    except (UnboundError, SqlglotError, RecursionError):
        return None
    table_share, column_share = rng.random(), 0.3 + 0.7 * rng.random()
    kept = [t for t in schema.tables if t.name in names.tables or rng.random() < table_share]
    alive = {table.name.lower() for table in kept}
    needed = {name.lower() for name in names.columns} | _keys(kept, alive)
    if rng.random() < 0.3:
        column_share = 1.0
    tables = tuple(_pruned(t, needed, alive, rng, column_share) for t in kept)
    pruned = Schema(tables)
    return None if pruned == schema else row.with_(schema_json=dump_schema(pruned))


def _keys(tables: list[Table], alive: set[str]) -> set[str]:
    """`table.column` of every key between the tables that stay, in lower case."""
    found: set[str] = set()
    for table in tables:
        found.update(f"{table.name}.{column}".lower() for column in table.primary_key)
        for key in table.foreign_keys:
            if key.table.lower() in alive:
                found.update(f"{table.name}.{column}".lower() for column in key.columns)
                found.update(f"{key.table}.{column}".lower() for column in key.references)
    return found


def _pruned(
    table: Table, needed: set[str], alive: set[str], rng: random.Random, share: float
) -> Table:
    columns = tuple(
        column
        for column in table.columns
        if f"{table.name}.{column.name}".lower() in needed or rng.random() < share
    )
    keys = tuple(key for key in table.foreign_keys if key.table.lower() in alive)
    return replace(table, columns=columns or table.columns[:1], foreign_keys=keys)
