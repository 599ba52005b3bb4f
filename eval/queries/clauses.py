"""A query taken apart: its SELECTs, its conditions, the tables that its names mean.

What Spider's match, hardness, canonical form and error analysis share. Knows nothing of scores.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlglot import exp
from sqlglot.errors import SqlglotError

from eval.task.dialect import parse_statements
from eval.task.schema import Schema
from eval.task.statement import MAX_SQL_BYTES, MAX_TOKENS


def parse_query(sql: str, dialect: str) -> exp.Query | None:
    """The tree of `sql`, or None where it is not exactly one query that can be parsed."""
    try:
        found = parse_statements(sql, dialect, max_bytes=MAX_SQL_BYTES, max_tokens=MAX_TOKENS)
    except SqlglotError:
        return None
    tree = found[0] if len(found) == 1 else None
    return tree if isinstance(tree, exp.Query) and is_query(tree) else None


def members(query: exp.Expr) -> tuple[list[exp.Expr], list[str]]:
    """The queries that UNION, INTERSECT and EXCEPT connect, from left to right, and these words."""
    node = query.unnest()
    if not isinstance(node, exp.SetOperation):
        return [node], []
    left, before = members(node.this)
    right, after = members(node.expression)
    word = node.key if node.args.get("distinct", True) else f"{node.key} all"
    return left + right, [*before, word, *after]


def tail(query: exp.Expr, clause: str) -> exp.Expr | None:
    """The ORDER BY, LIMIT or OFFSET (`clause`) that stands last: that of a whole set operation
    too, or of its last member."""
    node = query.unnest()
    found: exp.Expr | None = node.args.get(clause)
    if found is None and isinstance(node, exp.SetOperation):
        return tail(node.expression, clause)
    return found


def conditions(clause: exp.Expr | None) -> tuple[list[exp.Expr], list[str]]:
    """The conditions that AND and OR connect, from left to right, and these words."""
    node = clause.unnest() if clause else None
    if isinstance(node, exp.Where | exp.Having):
        return conditions(node.this)
    if node is None:
        return [], []
    if not isinstance(node, exp.And | exp.Or):
        return [node], []
    left, before = conditions(node.this)
    right, after = conditions(node.expression)
    return left + right, [*before, node.key, *after]


def positive(condition: exp.Expr) -> tuple[exp.Expr, bool]:
    """The condition under its NOTs, and whether these negate it."""
    is_negated = False
    node = condition.unnest()
    while isinstance(node, exp.Not):
        node, is_negated = node.this.unnest(), not is_negated
    # `x NOT LIKE y` is a LIKE with a mark, unlike `NOT x LIKE y`.
    return node, is_negated != bool(node.args.get("negate"))


def joins(select: exp.Expr) -> list[exp.Join]:
    return list(select.args.get("joins") or ())


def sources(select: exp.Expr) -> list[exp.Expr]:
    """The tables and derived tables of a SELECT, in order."""
    start = select.args.get("from_")
    return ([start.this] if start else []) + [join.this for join in joins(select)]


def is_query(node: exp.Expr) -> bool:
    """True for a SELECT, a set operation, or either in brackets; sqlglot counts tables as well."""
    return isinstance(node, exp.Query) and not isinstance(node, exp.Table)


def own_nodes(node: exp.Expr) -> Iterator[exp.Expr]:
    """All nodes under `node`, itself included, without those of queries inside it."""
    yield node
    for child in node.iter_expressions():
        if not is_query(child):
            yield from own_nodes(child)


@dataclass(frozen=True)
class Source:
    """One item of a FROM: `label` stands for it in canonical text; no columns if they can't be
    known."""

    alias: str
    label: str
    columns: tuple[str, ...]
    is_table: bool = True


@dataclass(frozen=True)
class Scope:
    """What the names in one SELECT may mean; all names in lower case."""

    sources: tuple[Source, ...]
    outer: "Scope | None" = None

    def source_of(self, column: exp.Expr) -> Source | None:
        """The source that `column` belongs to: of this SELECT, else of those around it."""
        name, table = column.name.lower(), column.text("table").lower()
        for source in self.sources:
            if table == source.alias if table else name in source.columns:
                return source
        return self.outer.source_of(column) if self.outer else None

    def relabelled(self, labels: dict[str, str]) -> "Scope":
        renamed = (replace(s, label=labels.get(s.alias, s.label)) for s in self.sources)
        return replace(self, sources=tuple(renamed))


def scope_of(select: exp.Expr, schema: Schema, outer: Scope | None = None) -> Scope:
    """The scope of a SELECT; a table's label is its name, that of anything else is its alias."""
    found = (_source(item, schema) for item in sources(select))
    return Scope(tuple(found), outer)


def _source(item: exp.Expr, schema: Schema) -> Source:
    alias = item.alias_or_name.lower()
    if isinstance(item, exp.Table):
        table = schema.find(item.name)
        columns = tuple(c.lower() for c in table.column_names) if table else ()
        return Source(alias, item.name.lower(), columns)
    return Source(alias, alias, tuple(name.lower() for name in _outputs(item)), is_table=False)


def _outputs(item: exp.Expr) -> list[str]:
    query = item.unnest()
    return query.named_selects if isinstance(query, exp.Query) else []
