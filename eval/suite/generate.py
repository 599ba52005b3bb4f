"""Writes one generated database: the original's tables with other rows.

Which rows tell queries apart is found by trying (`distil`); this only makes likely ones.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

from eval.suite.change import Key
from eval.suite.mutate import Mutant, mutants
from eval.suite.profile import profile_database
from eval.task.schema import Schema
from eval.task.synthesis.domain import Pools, pools
from eval.task.synthesis.plan import Plan, plan_query
from eval.task.synthesis.profile import Profile
from eval.task.synthesis.rows import Rows, insert, plant

# Part of the cache key: raise it whenever the same input makes other rows.
VERSION = 7
# Rows in a table: few make hand-readable answers without ties, many fill groups.
SIZES = ((2, 5), (5, 12), (12, 30), (30, 70))
MAX_PLANTED = 120
PAGE_BYTES = 1024  # most tables are small


@dataclass(frozen=True)
class Source:
    """What databases are generated from: schema, original file and the gold queries on it."""

    schema: Schema
    database: Path
    golds: tuple[str, ...]

    @cached_property
    def profile(self) -> Profile:
        return profile_database(self.database, self.schema, self.golds)

    @cached_property
    def plans(self) -> dict[str, Plan]:
        return {gold: plan_query(gold, self.schema) for gold in self.golds}

    @cached_property
    def pools(self) -> Pools:
        return pools(self.profile, self.plans.values())

    @cached_property
    def keys(self) -> frozenset[Key]:
        """Column sets without repeats, which generated rows keep so."""
        tables = self.profile.tables.items()
        return frozenset((table, key) for table, owner in tables for key in owner.keys)

    def mutants(self, gold: str) -> tuple[Mutant, ...]:
        return tuple(mutants(gold, self.schema, keys=self.keys))

    @cached_property
    def statements(self) -> tuple[str, ...]:
        """The CREATE TABLE statements of the original file."""
        query = (
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL "
            "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
        )
        uri = f"{self.database.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            return tuple(sql for (sql,) in db.execute(query))


def generate(source: Source, path: Path, *, focus: Sequence[str], seed: str) -> None:
    """Write a database to `path` with rows planted for the golds in `focus`.

    The same source, focus and seed give the same rows.
    """
    rng = Random(seed)
    read = {table for gold in source.golds for table in source.plans[gold].tables}
    low, high = rng.choice(SIZES)
    sizes = {t: rng.randint(low, high) if t in read else 1 for t in source.profile.tables}
    rows = Rows(source.profile, source.pools, sizes=sizes, rng=rng)
    for gold in _chosen(focus, rng):
        plant(source.plans[gold], rows)
    rows.fill()
    _write(source, rows, path)


def _chosen(focus: Sequence[str], rng: Random) -> Iterable[str]:
    """Some golds, with repeats: a query shows most on several rows that it finds."""
    if not focus:
        return ()
    picked = rng.sample(focus, min(len(focus), rng.choice((3, 10, 30))))
    return [gold for gold in picked for _ in range(rng.choice((1, 2, 4)))][:MAX_PLANTED]


def _write(source: Source, rows: Rows, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        for statement in source.statements:
            db.execute(statement)
        insert(db, rows)
        db.commit()
