"""Which table and column each name of a query means, SELECT by SELECT.

Follows names as far as near misses and planted rows need it; `eval.task.names` is the judge of
whether names are known.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from eval.task.dialect import parse_statements
from eval.task.schema import Schema, Table

MAX_SQL_BYTES = 100_000
MAX_TOKENS = 10_000
MAX_DEPTH = 20

Source = Table | exp.Query


@dataclass(frozen=True, slots=True)
class Use:
    """Column `column` of `table` as source `alias` of the SELECT with id `select` offers it."""

    select: int
    alias: str
    table: Table
    column: str

    @property
    def place(self) -> tuple[str, str]:
        """Table and column in lower case: the same for every use of one column."""
        return self.table.name.lower(), self.column.lower()

    @property
    def type(self) -> str:
        return next(c.type for c in self.table.columns if c.name == self.column)


def parse_query(sql: str) -> exp.Query | None:
    """The tree of one SQLite query; None for several statements or anything else.

    Raises:
        SqlglotError: it can't be parsed.
    """
    found = parse_statements(sql, "sqlite", max_bytes=MAX_SQL_BYTES, max_tokens=MAX_TOKENS)
    is_query = len(found) == 1 and isinstance(found[0], exp.Query)
    return found[0] if is_query else None  # type: ignore[return-value]


def sources(select: exp.Select, schema: Schema) -> dict[str, Source]:
    """What FROM and JOIN offer, by alias in lower case; unknown tables are left out."""
    found: dict[str, Source] = {}
    origin = select.args.get("from_")
    for item in [origin, *(select.args.get("joins") or [])]:
        node = item.this if item is not None else None
        if isinstance(node, exp.Subquery):
            inner = node.unnest()
            if isinstance(inner, exp.Query):
                found[node.alias.lower()] = inner
        elif isinstance(node, exp.Table) and (table := schema.find(node.name)):
            found[(node.alias or node.name).lower()] = table
    return found


def tables_of(select: exp.Select, schema: Schema) -> dict[str, Table]:
    """The sources of `select` that are tables."""
    return {a: s for a, s in sources(select, schema).items() if isinstance(s, Table)}


def resolve(column: exp.Column, schema: Schema) -> Use | None:
    """The use that `column` means; looks outwards from its SELECT, and into derived tables."""
    select = column.find_ancestor(exp.Select)
    for _ in range(MAX_DEPTH):
        if select is None:
            return None
        if found := _resolve_in(select, column.table.lower(), column.name.lower(), schema):
            return found
        select = select.find_ancestor(exp.Select)
    return None


def _resolve_in(select: exp.Select, alias: str, name: str, schema: Schema) -> Use | None:
    for own, source in sources(select, schema).items():
        if alias in ("", own) and (found := _offered(select, own, source, name, schema)):
            return found
    return None


def _offered(
    select: exp.Select, alias: str, source: Source, name: str, schema: Schema
) -> Use | None:
    if isinstance(source, Table):
        spelled = {c.lower(): c for c in source.column_names}.get(name)
        return Use(id(select), alias, source, spelled) if spelled else None
    shown = next((p for p in source.selects if p.alias_or_name.lower() == name), None)
    inner = shown.unalias() if shown is not None else None
    return resolve(inner, schema) if isinstance(inner, exp.Column) else None


def conjuncts(condition: exp.Expr | None) -> Iterator[exp.Expr]:
    """The parts of a condition that AND joins, brackets opened."""
    if isinstance(condition, exp.Paren):
        yield from conjuncts(condition.this)
    elif isinstance(condition, exp.And):
        yield from conjuncts(condition.left)
        yield from conjuncts(condition.right)
    elif condition is not None:
        yield condition
