"""A query as Spider's scripts see it: one SELECT with its clauses as texts, literals masked.

What they do with it is `eval.measures.exact_set`; that their rules are odd in places (which nested
queries keep their DISTINCT, when two columns are one) is on purpose.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp

from eval.queries.clauses import (
    Scope,
    conditions,
    joins,
    members,
    parse_query,
    positive,
    scope_of,
    tail,
)
from eval.task.schema import Schema
from eval.task.statement import SQLGLOT_FAILURES

VALUE = "value"
OPERATORS = (exp.Between, exp.EQ, exp.NEQ, exp.GT, exp.LT, exp.GTE, exp.LTE, exp.In, exp.Like,
             exp.Is, exp.Exists)  # fmt: skip


class UnknownColumnError(ValueError):
    """A column that no table of the query has; the official script can't parse such a query."""


@dataclass(frozen=True)
class Condition:
    """One comparison; `values` holds nested queries, and None for anything else."""

    is_negated: bool
    operator: str
    left: str
    values: "tuple[Block | None, ...]"


@dataclass(frozen=True)
class Block:
    """One SELECT, taken apart; nested ones are compared as they are, the outermost as sets."""

    is_distinct: bool
    select: tuple[str, ...]
    tables: "tuple[tuple[str, str | Block], ...]"
    on: tuple[Condition | str, ...]
    where: tuple[Condition | str, ...]
    group: tuple[str, ...]
    having: tuple[Condition | str, ...]
    order: tuple[str, ...]
    direction: str
    limit: str | None
    rest: "tuple[tuple[str, Block], ...]"


def read_block(sql: str, schema: Schema, dialect: str) -> Block | None:
    """The first SELECT of `sql` with all that hangs on it; None where it can't be read."""
    tree = parse_query(sql, dialect)
    try:
        return _Reader(schema, _merged_columns(schema), _ctes(tree)).block(tree) if tree else None
    except SQLGLOT_FAILURES:
        return None


def _ctes(tree: exp.Expr) -> dict[str, exp.Expr]:
    return {cte.alias.lower(): cte.this for cte in tree.find_all(exp.CTE)}


@lru_cache(maxsize=256)
def _merged_columns(schema: Schema) -> dict[str, str]:
    """Each column of a foreign key as the first column (in the schema's order) of its group.

    As in the official script, a key joins the first group that has one of its columns.
    """
    names = [f"{t.name}.{c}".lower() for t in schema.tables for c in t.column_names]
    place = {name: number for number, name in enumerate(names)}
    groups: list[set[str]] = []
    for pair in _key_pairs(schema):
        if not pair <= place.keys():
            continue
        group = next((g for g in groups if g & pair), None)
        if group is None:
            groups.append(group := set())
        group |= pair
    return {name: min(group, key=place.__getitem__) for group in groups for name in group}


def _key_pairs(schema: Schema) -> Iterator[set[str]]:
    for table in schema.tables:
        for key in table.foreign_keys:
            target = schema.find(key.table)
            references = key.references or (target.primary_key if target else ())
            for column, reference in zip(key.columns, references, strict=False):
                yield {f"{table.name}.{column}".lower(), f"{key.table}.{reference}".lower()}


class _Reader:
    """Reads a tree into blocks; nested ones without merging columns and with their DISTINCTs,
    since the official script compares them so."""

    def __init__(
        self,
        schema: Schema,
        merged: dict[str, str],
        ctes: dict[str, exp.Expr],
        *,
        is_nested: bool = False,
    ) -> None:
        self.schema = schema
        self.merged = merged
        self.ctes = ctes
        self.is_nested = is_nested

    def block(self, query: exp.Expr, outer: Scope | None = None) -> Block:
        selects, words = members(query)
        scopes = [scope_of(select, self.schema, outer) for select in selects]
        # Columns merge only over tables of the first SELECT, in the other members too.
        reachable = {f"{s.label}.{c}" for s in scopes[0].sources for c in s.columns}
        merged = {column: to for column, to in self.merged.items() if column in reachable}
        block: Block | None = None
        for number in range(len(selects) - 1, -1, -1):
            tails = query if number == len(selects) - 1 else None
            rest = ((words[number], block),) if block else ()
            reader = _SelectReader(self, scopes[number], merged)
            block = reader.read(selects[number], tails or selects[number], rest)
        assert block is not None  # a query has a member
        return block


class _SelectReader:
    """Reads one SELECT under its scope."""

    def __init__(self, reader: _Reader, scope: Scope, merged: dict[str, str]) -> None:
        self.schema = reader.schema
        self.is_nested = reader.is_nested
        self.ctes = reader.ctes
        self.scope = scope
        self.merged = merged
        self.aliases: dict[str, exp.Expr] = {}

    def read(self, select: exp.Expr, tails: exp.Expr, rest: tuple[tuple[str, Block], ...]) -> Block:
        args = select.args
        order = tail(tails, "order")
        keys = order.expressions if order else []
        limit = tail(tails, "limit")
        group = args.get("group")
        select_list = tuple(self.text(item.unalias()) for item in select.expressions)
        self.aliases = {i.alias.lower(): i.this for i in select.expressions if i.alias}
        return Block(
            is_distinct=bool(args.get("distinct")),
            select=select_list,
            tables=tuple(self.tables(select)),
            on=tuple(part for join in joins(select) for part in self.parts(join.args.get("on"))),
            where=self.parts(args.get("where")),
            group=tuple(self.text(key) for key in group.expressions) if group else (),
            having=self.parts(args.get("having")),
            order=tuple(self.text(key.this) for key in keys),
            direction=_direction(keys),
            limit=limit.sql() if limit else None,
            rest=rest,
        )

    def tables(self, select: exp.Expr) -> Iterator[tuple[str, "str | Block"]]:
        start = select.args.get("from_")
        if start:
            yield "", self.table(start.this)
        for join in joins(select):
            kinds = (join.side, "" if join.kind in ("INNER", "CROSS", "OUTER") else join.kind)
            yield " ".join(filter(None, kinds)), self.table(join.this)

    def table(self, item: exp.Expr) -> "str | Block":
        if isinstance(item, exp.Table):
            name = item.name.lower()
            return self.nested(self.ctes[name], without=name) if name in self.ctes else name
        query = item.unnest()
        return self.nested(query) if isinstance(query, exp.Query) else self.text(item)

    def nested(self, query: exp.Expr, *, without: str = "") -> Block:
        """A query inside; that of the CTE `without` may name itself, which is left unread."""
        ctes = {name: body for name, body in self.ctes.items() if name != without}
        return _Reader(self.schema, {}, ctes, is_nested=True).block(query, self.scope)

    def parts(self, clause: exp.Expr | None) -> tuple[Condition | str, ...]:
        """Conditions and the words between them, in turn."""
        found, words = conditions(clause)
        parts: list[Condition | str] = []
        for number, condition in enumerate(found):
            parts += [words[number - 1]] if number else []
            parts.append(self.condition(condition))
        return tuple(parts)

    def condition(self, node: exp.Expr) -> Condition:
        node, is_negated = positive(node)
        if not isinstance(node, OPERATORS):
            return Condition(is_negated, "", self.text(node), ())
        left = "" if isinstance(node, exp.Exists) else self.text(node.this)
        values = [node.args.get(name) for name in ("expression", "query", "low", "high")]
        values += [node.this] if isinstance(node, exp.Exists) else []
        nested = tuple(self.value(value) for value in values if value is not None)
        for member in node.expressions:  # of an IN list: read only for unknown names
            self.value(member)
        return Condition(is_negated, node.key, left, nested or (None,))

    def value(self, node: exp.Expr) -> Block | None:
        query = node.unnest()
        if isinstance(query, exp.Query):
            return self.nested(query)
        self.text(node)  # raises where it names an unknown column
        return None

    def text(self, node: exp.Expr) -> str:
        """`node` as canonical text: names resolved, literals masked."""
        node = node.unnest()
        if isinstance(node, exp.Column):
            return self.column(node)
        if isinstance(node, exp.Literal | exp.Null | exp.Boolean):
            return VALUE
        if isinstance(node, exp.Query):
            return repr(self.nested(node))
        if isinstance(node, exp.Distinct) and not self.is_nested:
            return ", ".join(map(self.text, node.expressions))
        children = ", ".join(map(self.text, node.iter_expressions()))
        name = node.name if isinstance(node, exp.Anonymous | exp.DataType) else node.key
        return f"{name.lower()}({children})"

    def column(self, node: exp.Column) -> str:
        name, source = node.name.lower(), self.scope.source_of(node)
        if source is None and not node.table and name in self.aliases:
            return self.text(self.aliases[name])
        if source is None and not node.table and node.this.args.get("quoted"):
            return VALUE  # SQLite and Spider take "such" for a string
        if source is None and not all(known.columns for known in self.scope.sources):
            return f"{node.table.lower()}.{name}"  # of a CTE, or of a table nobody knows
        if source is None or (source.columns and name not in (*source.columns, "*")):
            raise UnknownColumnError(node.sql())
        return self.merged.get(f"{source.label}.{name}", f"{source.label}.{name}")


def _direction(keys: list[exp.Expr]) -> str:
    """The last direction that is written, as the official script keeps it."""
    written = [bool(key.args["desc"]) for key in keys if key.args.get("desc") is not None]
    return "desc" if written and written[-1] else "asc"
