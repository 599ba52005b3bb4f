"""Small databases for a schema, on which given queries can be compared by what they answer.

Knows nothing of which answers are right: see `eval.task.rows` for whether two are the same.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import cycle
from random import Random
from zlib import crc32

from sqlglot import exp

from eval.task.rows import Row
from eval.task.schema import Schema, Table
from eval.task.sqlite_judge import restrict, run_query
from eval.task.statement import SQLGLOT_FAILURES
from eval.task.synthesis.declared import declare
from eval.task.synthesis.domain import Pools, pools
from eval.task.synthesis.hints import settled
from eval.task.synthesis.plan import Plan, plan_tree
from eval.task.synthesis.profile import Profile, affinity, quoted
from eval.task.synthesis.rows import Rows, insert, plant
from eval.task.synthesis.scope import parse_query

ROWS = 12
MAX_CELLS = 20_000
ROUNDS = 6
MIN_PLANTED = 60  # of a HAVING's groups
NOW = ("now", "current_date", "current_timestamp")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may take."""

    timeout_seconds: float = 0.25
    max_rows: int = 2_000
    max_bytes: int = 4 << 20


@dataclass(frozen=True)
class Recipe:
    """What the databases of one set of queries are made from; one recipe serves any number."""

    profile: Profile
    plans: tuple[Plan, ...]

    @cached_property
    def pools(self) -> Pools:
        return pools(self.profile, self.plans)

    def database(self, *, seed: int, rows: int = ROWS) -> sqlite3.Connection:
        """The database number `seed`; see `synthesise`."""
        rng = Random(seed)
        cells = sum(len(owner.columns) for owner in self.profile.tables.values())
        most = max(1, min(rows, MAX_CELLS // max(1, cells)))
        sizes = {table: rng.randint(1 + most // 4, most) for table in self.profile.tables}
        profile = _with_fewer_nulls(self.profile, seed)
        made = Rows(profile, self.pools, sizes=sizes, rng=rng)
        self._plant(made)
        # Whatever was planted, other rows are there too, with NULLs and values nobody asked for.
        others = 1 + most // 3
        made.sizes = {t: max(size, len(made.tables[t]) + others) for t, size in sizes.items()}
        made.fill()
        db = sqlite3.connect(":memory:", check_same_thread=False)
        for owner in self.profile.tables.values():
            db.execute(_create(owner.table))
        insert(db, made)
        restrict(db)
        return db

    def _plant(self, made: Rows) -> None:
        """All queries in turn: what only the first one found would tell the others nothing."""
        most = max(MIN_PLANTED, 2 * sum(made.sizes.values()))
        for _, plan in zip(range(ROUNDS), cycle(self.plans), strict=False):
            if sum(map(len, made.tables.values())) < most:
                plant(plan, made)


def _with_fewer_nulls(profile: Profile, seed: int) -> Profile:
    """`profile` with half of its columns without NULLs, each under every second seed: one NULL is
    enough to empty the answer of a NOT IN.

    A foreign key may be NULL in all of its columns or in none, else what is left would be held
    against it; and in all where the first rows can have no parent.
    """
    full = {
        (table, name)
        for table, owner in profile.tables.items()
        for name, column in owner.columns.items()
        if not column.null_share or (crc32(f"{table}.{name}".encode()) + seed) % 2
    }
    for link in profile.links:
        places = {(link.child, name) for name in link.columns}
        if profile.order[link.parent] >= profile.order[link.child]:
            full -= places
        elif places & full:
            full |= places
    return replace(
        profile,
        tables={
            table: replace(
                owner,
                columns={
                    name: replace(c, null_share=0.0) if (table, name) in full else c
                    for name, c in owner.columns.items()
                },
            )
            for table, owner in profile.tables.items()
        },
    )


def recipe(schema: Schema, queries: Sequence[str], *, hostile: bool = False) -> Recipe:
    """The recipe for databases on which `queries`, in SQLite's dialect, find something.

    What can't be read is passed over. With `hostile`, values are such as a proof of equivalence
    must see: text in other case and with spaces, days with times.
    """
    trees = [tree for sql in queries if (tree := _parsed(sql))]
    is_relative = any(word in sql.lower() for sql in queries for word in NOW)
    today = datetime.now(UTC).date() if is_relative else None
    profile = declare(schema, trees, hostile=hostile, today=today)
    plans: list[Plan] = []
    for tree in trees:
        plan = _plan(tree, schema, profile)
        if plan.tables and plan not in plans:
            plans.append(plan)
    return Recipe(profile, tuple(plans))


def synthesise(
    schema: Schema, queries: Sequence[str], *, seed: int, rows: int = ROWS
) -> sqlite3.Connection:
    """An in-memory database that can only be read, with the tables that `queries` read (all where
    there are none), filled so that their conditions, joins and groups meet some rows.

    Keys are kept, values repeat and tie, and NULLs stand wherever no primary key forbids them. A
    table has about `rows` rows, fewer where tables are wide. The same arguments give the same
    rows; on another day only where a query asks for the time. The caller closes it.
    """
    return recipe(schema, queries).database(seed=seed, rows=rows)


def answers(
    connection: sqlite3.Connection, sql: str, limits: Limits | None = None
) -> tuple[Row, ...] | None:
    """The rows of `sql`; None where it fails or takes more than `limits`."""
    limits = limits or Limits()
    found = run_query(
        connection,
        sql,
        timeout=limits.timeout_seconds,
        max_rows=limits.max_rows,
        max_bytes=limits.max_bytes,
    )
    return None if found.error is not None else found.rows


def _parsed(sql: str) -> exp.Query | None:
    try:
        return parse_query(sql)
    except SQLGLOT_FAILURES:
        return None


def _plan(tree: exp.Query, schema: Schema, profile: Profile) -> Plan:
    try:
        return plan_tree(settled(tree, schema, profile), schema)
    except SQLGLOT_FAILURES:
        return Plan()


def _create(table: Table) -> str:
    key = {name.lower() for name in table.primary_key}
    columns = [
        f'"{quoted(c.name)}" {affinity(c.type)}{" NOT NULL" if c.name.lower() in key else ""}'
        for c in table.columns
    ]
    names = ", ".join(f'"{quoted(name)}"' for name in table.primary_key)
    parts = [*columns, *([f"PRIMARY KEY ({names})"] if names else [])]
    return f'CREATE TABLE "{quoted(table.name)}" ({", ".join(parts)})'
