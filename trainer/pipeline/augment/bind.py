"""Which identifiers of a query stand for which table or column of its schema.

What can't be followed (NATURAL joins, lateral sources, an output name that two columns share) is
refused, never guessed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

from eval.task.names import ROW_IDS
from eval.task.schema import Schema, Table

# A table's name and a column's, in the schema's spelling; the column is "" for the table itself.
Key = tuple[str, str]
# What an output column shows: the columns whose name it takes (two where USING merged them), none
# where its name is its own.
Origin = tuple[Key, ...]
Output = dict[str, Origin]


class UnboundError(ValueError):
    """A query whose names this module can't follow."""


@dataclass(frozen=True, slots=True)
class Source:
    """One FROM item: its columns, and the table whose name qualifies them ("" for an alias)."""

    output: Output
    table: str = ""


@dataclass
class Binding:
    """The identifiers of a tree that stand for something of the schema, in the tree's order."""

    names: list[tuple[exp.Identifier, Origin]] = field(default_factory=list)

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset(key for _, origin in self.names for key in origin)


def parse(sql: str, dialect: str) -> exp.Query:
    """The tree of a query that passed `check_sql` before.

    Raises:
        UnboundError: it is no query.
    """
    try:
        tree = sqlglot.parse_one(sql, read=dialect)
    except (SqlglotError, RecursionError) as error:
        raise UnboundError("not SQL") from error
    if not isinstance(tree, exp.Query):
        raise UnboundError("not a query")
    return tree


def bind(tree: exp.Query, schema: Schema) -> Binding:
    """Bind the names of `tree`.

    Raises:
        UnboundError: a name can't be followed.
    """
    return _Binder(schema).bind(tree)


@lru_cache(maxsize=4096)
def bound_keys(sql: str, dialect: str, schema: Schema) -> frozenset[Key]:
    """What `sql` names of `schema`.

    Raises:
        UnboundError: a name can't be followed.
    """
    return bind(parse(sql, dialect), schema).keys


class _Binder:
    """Walks the scopes inside out, as `eval.task.names` does."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.outputs: dict[int, Output] = {}
        self.binding = Binding()

    def bind(self, tree: exp.Query) -> Binding:
        if any(join.method == "NATURAL" for join in tree.find_all(exp.Join)):
            raise UnboundError("a NATURAL join")
        found: dict[int, Origin] = {}
        for scope in traverse_scope(tree):
            sources = self._sources(scope)
            self._bind_tables(scope, found)
            self._bind_using(scope, sources, found)
            for column in scope.find_all(exp.Column):
                self._bind_column(column, scope, found)
            self.outputs[id(scope.expression)] = self._output(scope, sources)
        ordered = [i for i in tree.find_all(exp.Identifier, bfs=False) if id(i) in found]
        return Binding([(identifier, found[id(identifier)]) for identifier in ordered])

    def _sources(self, scope: Scope) -> dict[str, Source]:
        chosen = scope.selected_sources
        return {a.lower(): self._source(s, n, scope) for a, (n, s) in chosen.items()}

    def _source(self, source: Any, node: exp.Expr, scope: Scope) -> Source:
        source = _cte(source, scope)
        if isinstance(source, Scope):
            if (output := self.outputs.get(id(source.expression))) is None:
                raise UnboundError("a source that is not read yet")
            return Source(_renamed(source.expression, output))
        table = self._table(source)
        output = {c.lower(): ((table.name, c),) for c in table.column_names}
        return Source(output, "" if node.alias else table.name)

    def _table(self, source: exp.Expr) -> Table:
        is_named = isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier)
        table = self.schema.find(source.name) if is_named else None
        if table is None or source.args.get("db"):
            raise UnboundError("a source that is no table")
        return table

    def _bind_tables(self, scope: Scope, found: dict[int, Origin]) -> None:
        for _, source in scope.selected_sources.values():
            source = _cte(source, scope)
            if not isinstance(source, Scope):
                found[id(source.this)] = ((self._table(source).name, ""),)

    def _bind_using(
        self, scope: Scope, sources: dict[str, Source], found: dict[int, Origin]
    ) -> None:
        for name in _merged(scope):
            found[id(name)] = tuple(
                key for s in sources.values() for key in s.output.get(name.name.lower(), ())
            )

    def _bind_column(self, column: exp.Column, scope: Scope, found: dict[int, Origin]) -> None:
        if column.args.get("db"):
            raise UnboundError("a name of three parts")
        if column.table:
            self._bind_qualified(column, scope, found)
        elif not isinstance(column.this, exp.Star):
            found[id(column.this)] = self._bare(column, scope)

    def _bind_qualified(self, column: exp.Column, scope: Scope, found: dict[int, Origin]) -> None:
        alias, name = column.table.lower(), column.name.lower()
        levels = (self._sources(owner) for owner in _owners(scope))
        source = next((level[alias] for level in levels if alias in level), None)
        if source is None:
            raise UnboundError(f"no source {alias!r}")
        if source.table:
            found[id(column.args["table"])] = ((source.table, ""),)
        if isinstance(column.this, exp.Star):
            return
        if name not in source.output and name not in ROW_IDS:
            raise UnboundError(f"no column {name!r}")
        found[id(column.this)] = source.output.get(name, ())

    def _bare(self, column: exp.Column, scope: Scope) -> Origin:
        name = column.name.lower()
        outputs = self._named_outputs(scope)
        is_order_term = isinstance(column.parent, exp.Ordered)
        if name in outputs and (is_order_term or isinstance(scope.expression, exp.SetOperation)):
            return outputs[name]
        for owner in _owners(scope):
            offers = [s.output[name] for s in self._sources(owner).values() if name in s.output]
            if len(offers) > 1 and name not in {m.name.lower() for m in _merged(owner)}:
                raise UnboundError(f"{name!r} of two sources")
            if offers:
                return tuple(key for offer in offers for key in offer)
        if name not in outputs and name not in ROW_IDS:
            raise UnboundError(f"no column {name!r}")
        return outputs.get(name, ())

    def _named_outputs(self, scope: Scope) -> Output:
        """Output names that the query's own clauses may use: aliases, or for a set operation all
        names of its first member."""
        query: Any = scope.expression
        if isinstance(query, exp.SetOperation):
            return self.outputs.get(id(query.left.unnest()), {})
        return {s.alias.lower(): () for s in getattr(query, "selects", ()) if s.alias}

    def _output(self, scope: Scope, sources: dict[str, Source]) -> Output:
        query: Any = scope.expression
        if isinstance(query, exp.SetOperation):
            return self.outputs.get(id(query.left.unnest()), {})
        pairs = [pair for item in query.selects for pair in self._shown(item, scope, sources)]
        output: Output = {}
        for name, origin in pairs:
            # Two columns of one name: whatever reads it from outside is ambiguous.
            output[name] = origin if output.get(name, origin) == origin else ()
        return output

    def _shown(
        self, item: exp.Expr, scope: Scope, sources: dict[str, Source]
    ) -> Iterator[tuple[str, Origin]]:
        if item.is_star:
            wanted = item.table.lower() if isinstance(item, exp.Column) else ""
            for alias, source in sources.items():
                if wanted in ("", alias):
                    yield from source.output.items()
        elif isinstance(item, exp.Column):
            found: dict[int, Origin] = {}
            self._bind_column(item, scope, found)
            yield item.name.lower(), found[id(item.this)]
        else:
            yield item.alias_or_name.lower(), ()


def _cte(source: Any, scope: Scope) -> Any:
    """The CTE that is meant whatever the case of its name; else `source`."""
    if isinstance(source, Scope) or not isinstance(source, exp.Table):
        return source
    named = {name.lower(): cte for name, cte in scope.cte_sources.items()}
    return named.get(source.name.lower(), source)


def _renamed(query: exp.Expr, output: Output) -> Output:
    owner = query.parent
    while isinstance(owner, exp.SetOperation):
        owner = owner.parent
    alias = owner.args.get("alias") if owner else None
    if not isinstance(alias, exp.TableAlias) or not alias.columns:
        return output
    named: Output = {column.name.lower(): () for column in alias.columns}
    return named | dict(list(output.items())[len(named) :])


def _merged(scope: Scope) -> list[exp.Expr]:
    return [name for join in scope.find_all(exp.Join) for name in join.args.get("using") or ()]


def _owners(scope: Scope) -> Iterator[Scope]:
    yield scope
    while scope.parent is not None:
        is_apart = scope.is_derived_table or scope.is_cte
        scope = scope.parent
        if not is_apart:
            yield scope
