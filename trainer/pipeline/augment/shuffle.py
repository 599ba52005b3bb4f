"""Another order of the tables, and of the columns in each. The query stays as it is."""

import random
from dataclasses import replace

from eval.task.schema import Schema
from trainer.pipeline.augment.pool import Pool
from trainer.pipeline.row import Row, dump_schema


def shuffle(row: Row, rng: random.Random, pool: Pool) -> Row | None:
    """`row` with its schema in another order; None where there is but one."""
    schema = row.schema
    if schema is None:
        return None
    tables = [
        replace(table, columns=tuple(rng.sample(table.columns, len(table.columns))))
        for table in schema.tables
    ]
    shuffled = Schema(tuple(rng.sample(tables, len(tables))))
    return None if shuffled == schema else row.with_(schema_json=dump_schema(shuffled))
