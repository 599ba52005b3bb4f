"""Tables and columns of other databases beside the row's own: a model has to choose.

Nothing is added that the question could mean: no name that shares a word, or a synonym of one, with
the question, and none that the query reads.
"""

import random
from collections.abc import Iterable
from dataclasses import replace

from sqlglot import exp

from eval.task.schema import Column, ForeignKey, Schema, Table
from trainer.pipeline.augment.bind import Key, UnboundError, bound_keys, parse
from trainer.pipeline.augment.mentions import Question
from trainer.pipeline.augment.naming import is_plain
from trainer.pipeline.augment.pool import Pool, name_phrase, synonyms
from trainer.pipeline.row import Row, dump_schema

MAX_ADDED_TABLES = 4
MAX_ADDED_COLUMNS = 3
# A prompt longer than this many columns teaches little more.
MAX_COLUMNS = 60
MAX_TABLE_COLUMNS = 15


def distract(row: Row, rng: random.Random, pool: Pool) -> Row | None:
    """`row` with more in its schema; None where nothing fits."""
    schema = row.schema
    others = [s for db_id, s in pool.schemas if db_id != row.db_id]
    if schema is None or not others:
        return None
    try:
        used = bound_keys(row.sql, row.dialect, schema)
    except UnboundError:
        return None
    shut = _shut_words(row.question)
    added = _tables(schema, rng.choice(others), shut, rng)
    if not _is_anchored(used, row.question):
        added = tuple(table for table in added if not _says_column(table, shut))
    grown = schema.tables
    if not _has_star(row) and rng.random() < 0.6:
        names = {key[1].lower() for key in used if key[1]}
        grown = tuple(_grown(t, others, shut, names, rng) for t in schema.tables)
    wider = Schema((*grown, *added))
    return None if wider == schema else row.with_(schema_json=dump_schema(wider))


def _is_anchored(used: frozenset[Key], question: str) -> bool:
    """True where the question says a table that the query reads: another table's `age` is then
    plainly another."""
    words = set(Question(question).stems)
    return any(words.intersection(name_phrase(table)) for table, column in used if not column)


def _says_column(table: Table, shut: frozenset[str]) -> bool:
    return any(shut.intersection(name_phrase(name)) for name in table.column_names)


def _shut_words(question: str) -> frozenset[str]:
    """The words of the question and all that may stand for one of them."""
    words = set(Question(question).stems)
    for phrase, others in synonyms().items():
        if set(phrase) <= words:
            words.update(word for other in others if len(other) == 1 for word in other)
    return frozenset(words)


def _has_star(row: Row) -> bool:
    stars = parse(row.sql, row.dialect).find_all(exp.Star)
    return any(not isinstance(star.parent, exp.Count) for star in stars)


def _tables(
    schema: Schema, other: Schema, shut: frozenset[str], rng: random.Random
) -> tuple[Table, ...]:
    """Up to `MAX_ADDED_TABLES` tables of `other`, with the keys among them."""
    room = MAX_COLUMNS - sum(len(table.columns) for table in schema.tables)
    wanted = rng.randint(0, MAX_ADDED_TABLES)
    chosen: list[Table] = []
    for table in rng.sample(other.tables, len(other.tables)):
        size = len(table.columns)
        is_new = schema.find(table.name) is None and shut.isdisjoint(name_phrase(table.name))
        fits = is_new and size <= min(room, MAX_TABLE_COLUMNS) and is_plain(table.name)
        if fits and len(chosen) < wanted:
            chosen.append(table)
            room -= size
    alive = {table.name.lower() for table in chosen}
    return tuple(replace(t, foreign_keys=_keys(t, alive)) for t in chosen)


def _keys(table: Table, alive: set[str]) -> tuple[ForeignKey, ...]:
    return tuple(key for key in table.foreign_keys if key.table.lower() in alive)


def _grown(
    table: Table, others: list[Schema], shut: frozenset[str], used: set[str], rng: random.Random
) -> Table:
    taken = used | {name.lower() for name in table.column_names}
    columns = list(table.columns)
    for _ in range(rng.randint(0, MAX_ADDED_COLUMNS)):
        column = rng.choice(rng.choice(rng.choice(others).tables).columns)
        if _fits(column, shut, taken):
            taken.add(column.name.lower())
            columns.append(column)
    return replace(table, columns=tuple(columns))


def _fits(column: Column, shut: Iterable[str], taken: set[str]) -> bool:
    words = name_phrase(column.name)
    is_said = not set(shut).isdisjoint(words)
    is_key = words[-1] == "id"
    return is_plain(column.name) and column.name.lower() not in taken and not (is_said or is_key)
