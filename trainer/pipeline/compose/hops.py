"""How tables are joined: the keys of a schema, the ways that lead over them, and their SQL.

Only clear ways are kept: where two tables are linked twice a question would have to say by which
key, and no name says that well.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import sqlglot
from sqlglot.errors import SqlglotError

from eval.task.schema import Schema, Table
from trainer.pipeline.compose.values import in_quotes

# ((child table, column), (parent table, column)): the former refers to the latter.
Edge = tuple[tuple[str, str], tuple[str, str]]
MAX_EXTRA_COLUMNS = 2


@dataclass(frozen=True, slots=True)
class Hop:
    """A way from table `start` to `end`: ((table, column), (table, column)) for each join.

    `kind`: "up" to the one that `start` refers to; "down" to the many that refer to it; "bridge"
    over a table that holds each pair once; "through" a table that may hold a pair often.
    """

    start: str
    end: str
    kind: str
    joins: tuple[Edge, ...]


def find_edges(schema: Schema) -> list[Edge]:
    """The foreign keys over one column; by matching names where the schema declares none."""
    found = [edge for table in schema.tables for edge in _declared(schema, table)]
    if not any(table.foreign_keys for table in schema.tables):
        found = [edge for table in schema.tables for edge in _by_name(schema, table)]
    pairs: dict[frozenset[str], list[Edge]] = {}
    for edge in dict.fromkeys(found):
        pairs.setdefault(frozenset((edge[0][0], edge[1][0])), []).append(edge)
    return [e for pair, edges in pairs.items() if len(pair) == 2 for e in _clearest(edges)]


def find_hops(
    schema: Schema, edges: list[Edge], nouns: Iterable[str], db: sqlite3.Connection | None
) -> dict[str, tuple[Hop, ...]]:
    """The hops between tables in `nouns`, by the table that they start from."""
    hops: list[Hop] = []
    for child, parent in edges:
        hops.append(Hop(child[0], parent[0], "up", ((child, parent),)))
        hops.append(Hop(parent[0], child[0], "down", ((parent, child),)))
    for table in schema.tables:
        ups = [h for h in hops if h.kind == "up" and h.start == table.name]
        hops += [_over(table, a, b, db) for a in ups for b in ups if a.end != b.end]
    ends, known = Counter((h.start, h.end) for h in hops), set(nouns)
    clear = [h for h in hops if ends[h.start, h.end] == 1 and {h.start, h.end} <= known]
    return {t.name: tuple(h for h in clear if h.start == t.name) for t in schema.tables}


def is_simple(hops: tuple[Hop, ...]) -> bool:
    """True where each hop starts at the end of the last, and no table is passed twice."""
    tables = [hops[0].start] if hops else []
    tables += [right[0] for hop in hops for _, right in hop.joins]
    is_chain = all(a.end == b.start for a, b in pairwise(hops))
    return is_chain and len(tables) == len(set(tables))


def from_clause(start: str, hops: tuple[Hop, ...]) -> str:
    """`start JOIN … ON …` along `hops`."""
    text = quote(start)
    for hop in hops:
        for left, right in hop.joins:
            text += f" JOIN {quote(right[0])} ON {column_sql(*left)} = {column_sql(*right)}"
    return text


def column_sql(table: str, name: str) -> str:
    return f"{quote(table)}.{quote(name)}"


@lru_cache(maxsize=65536)
def quote(name: str) -> str:
    """`name` as SQL writes it: in quotes only where SQLite or sqlglot needs them."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return in_quotes(name)
    query = f"SELECT {name}.{name} FROM {name} WHERE {name} = 1"
    try:
        sqlglot.parse_one(query, read="sqlite")
        with closing(sqlite3.connect(":memory:")) as db:
            db.execute(f"CREATE TABLE {name} ({name})")
            db.execute(query)
    except (sqlite3.Error, SqlglotError):
        return in_quotes(name)
    return name


def _declared(schema: Schema, table: Table) -> list[Edge]:
    edges: list[Edge] = []
    for key in table.foreign_keys:
        parent = schema.find(key.table)
        references = (key.references or parent.primary_key) if parent else ()
        is_single = len(key.columns) == len(references) == 1
        if parent and is_single and references[0] in parent.column_names:
            edges.append(((table.name, key.columns[0]), (parent.name, references[0])))
    return edges


def _by_name(schema: Schema, table: Table) -> list[Edge]:
    """`customer_id` refers to the table whose key it is; `id` to none."""
    return [
        ((table.name, column), (parent.name, parent.primary_key[0]))
        for column in table.column_names
        for parent in schema.tables
        if parent is not table
        and [key.lower() for key in parent.primary_key] == [column.lower()]
        and column.lower() != "id"
        and table.primary_key != (column,)
    ]


def _clearest(edges: list[Edge]) -> list[Edge]:
    """The one link of two tables, or of several the one whose columns have the same name."""
    same = [e for e in edges if e[0][1].lower() == e[1][1].lower()]
    return edges if len(edges) == 1 else same if len(same) == 1 else []


def _over(middle: Table, first: Hop, second: Hop, db: sqlite3.Connection | None) -> Hop:
    (child, parent), (again, other) = first.joins[0], second.joins[0]
    is_once = _holds_once(middle, child[1], again[1], db)
    kind = "bridge" if is_once else "through"
    return Hop(first.end, second.end, kind, ((parent, child), (again, other)))


def _holds_once(table: Table, one: str, other: str, db: sqlite3.Connection | None) -> bool:
    """True if `table` holds each pair of the two columns but once."""
    if set(table.primary_key) == {one, other}:
        return True
    if db is None:
        return len(table.columns) <= 2 + MAX_EXTRA_COLUMNS
    columns, source = f"{in_quotes(one)}, {in_quotes(other)}", in_quotes(table.name)
    query = f"SELECT 1 FROM {source} GROUP BY {columns} HAVING COUNT(*) > 1 LIMIT 1"
    try:
        return db.execute(query).fetchone() is None
    except sqlite3.Error:
        return False
