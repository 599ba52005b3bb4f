"""Resolves the tables and columns of a query against a schema, scope by scope.

sqlglot's `qualify` accepts an unknown table and is super-linear; this walk is linear in the query.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp
from sqlglot.optimizer.scope import Scope, traverse_scope

from eval.task.schema import Schema

# SQLite gives every table these names for its row number.
ROW_IDS = frozenset({"rowid", "oid", "_rowid_"})

# Lower-case column name → "table.column" that it shows unchanged, or None for an expression.
Output = dict[str, str | None]
# Lower-case alias → what it offers; None where that can't be known.
Sources = dict[str, Output | None]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that resolves to nothing, or to two things, with what would have been possible."""

    code: str
    name: str
    candidates: tuple[str, ...] = ()


@dataclass(slots=True)
class Names:
    """What a query reads: schema spellings of tables and `table.column`, and what is unknown."""

    tables: set[str] = field(default_factory=set)
    columns: set[str] = field(default_factory=set)
    unknown: list[Unknown] = field(default_factory=list)


def resolve_names(tree: exp.Expr, schema: Schema, dialect: str = "sqlite") -> Names:
    """Resolve every table and column of `tree` (a query) against `schema`."""
    return _Resolver(schema, is_sqlite=dialect == "sqlite").resolve(tree)


class _Resolver:
    """Walks the scopes inside out; remembers the columns that each one puts out."""

    def __init__(self, schema: Schema, *, is_sqlite: bool) -> None:
        self.schema = schema
        self.is_sqlite = is_sqlite
        self.names = Names()
        self.outputs: dict[int, Output | None] = {}

    def resolve(self, tree: exp.Expr) -> Names:
        scopes = traverse_scope(tree)
        self._check_reached(tree, scopes)
        for scope in scopes:
            self._check_tables(scope)
            sources = self._sources(scope)
            self._check_using(scope, sources)
            for column in scope.find_all(exp.Column):
                self._check_column(column, scope, sources)
            self._check_bare_star(scope, sources)
            self.outputs[id(scope.expression)] = self._output(scope, sources)
        self.names.unknown = list(dict.fromkeys(self.names.unknown))
        return self.names

    def _check_reached(self, tree: exp.Expr, scopes: list[Scope]) -> None:
        """Report what the walk never comes to, as `(hidden) x` or a subquery in a UNION's LIMIT."""
        chosen = [pair for scope in scopes for pair in scope.selected_sources.values()]
        reached = {id(n) for n, s in chosen if not (isinstance(s, Scope) and s.expression is n)}
        reached.update(id(s.expression) for s in scopes if isinstance(s.expression, exp.Select))
        for node in tree.find_all(exp.Table, exp.Select):
            if id(node) not in reached:
                self._report("unsupported_source", _written(node))

    def _sources(self, scope: Scope) -> Sources:
        chosen = scope.selected_sources
        return {a.lower(): self._offer(s, scope) for a, s in scope.sources.items() if a in chosen}

    def _offer(self, source: exp.Expr | Scope, scope: Scope) -> Output | None:
        """The columns of a FROM item."""
        source = self._cte(source, scope)
        if isinstance(source, Scope):
            return _renamed(source.expression, self.outputs.get(id(source.expression)))
        table = self.schema.find(source.name) if _is_plain(source) else None
        return {c.lower(): f"{table.name}.{c}" for c in table.column_names} if table else None

    def _cte(self, source: exp.Expr | Scope, scope: Scope) -> exp.Expr | Scope:
        """The CTE that SQLite takes a table for whatever the case of its name; else `source`."""
        if not self.is_sqlite or isinstance(source, Scope) or not _is_plain(source):
            return source
        named = {name.lower(): cte for name, cte in scope.cte_sources.items()}
        return named.get(source.name.lower(), source)

    def _check_tables(self, scope: Scope) -> None:
        for _, found in scope.selected_sources.values():
            source = self._cte(found, scope)
            if isinstance(source, Scope):
                continue
            table = self.schema.find(source.name) if _is_plain(source) else None
            if table:
                self.names.tables.add(table.name)
            elif isinstance(source.this, exp.Identifier):
                options = tuple(t.name for t in self.schema.tables)
                self._report("unknown_table", _written(source), options)
            else:
                self._report("unsupported_source", _written(source))

    def _output(self, scope: Scope, sources: Sources) -> Output | None:
        query: Any = scope.expression
        if isinstance(query, exp.SetOperation):
            return self.outputs.get(id(query.left.unnest()))
        if isinstance(query, exp.Lateral) and isinstance(query.this, exp.Subquery):
            return self.outputs.get(id(query.this.unnest()))
        output: Output = {}
        for item in query.selects:
            offered = (
                _starred(item, sources)
                if item.is_star
                else [{item.alias_or_name.lower(): (_origin(item.unalias(), sources))}]
            )
            for columns in offered:
                if columns is None:
                    return None
                output.update(columns)
        return output

    def _check_bare_star(self, scope: Scope, sources: Sources) -> None:
        for item in getattr(scope.expression, "selects", ()):
            if isinstance(item, exp.Star):
                self._read_all(sources.values())

    def _read_all(self, outputs: object) -> None:
        for output in outputs:  # type: ignore[attr-defined]
            self.names.columns.update(origin for origin in (output or {}).values() if origin)

    def _check_using(self, scope: Scope, sources: Sources) -> None:
        offers = [output for output in sources.values() if output is not None]
        for name in _merged_names(scope) if len(offers) == len(sources) else ():
            if sum(name.lower() in output for output in offers) < 2:
                options = (_spelling(c, output) for output in offers for c in output)
                self._report("unknown_column", name, tuple(options))

    def _check_column(self, column: exp.Column, scope: Scope, sources: Sources) -> None:
        if column.args.get("db"):
            self._report("unknown_column", _written(column))
        elif column.table:
            self._check_qualified(column, scope, sources)
        elif not _is_output_name(column, scope):
            self._check_bare(column, scope, sources)

    def _check_qualified(self, column: exp.Column, scope: Scope, sources: Sources) -> None:
        name, table = column.name.lower(), column.table.lower()
        levels = [self._at(owner, scope, sources) for owner in self._owners(column, scope)]
        found = next((level[table] for level in levels if table in level), ...)
        if found is ...:
            self._report("unknown_table", column.table, tuple(a for lv in levels for a in lv))
        elif isinstance(column.this, exp.Star):
            self._read_all([found])
        elif isinstance(found, dict) and name not in found and not self._is_row_id(name):
            options = tuple(f"{column.table}.{_spelling(c, found)}" for c in found)
            self._report("unknown_column", f"{column.table}.{column.name}", options)
        elif isinstance(found, dict) and (origin := found.get(name)):
            self.names.columns.add(origin)

    def _check_bare(self, column: exp.Column, scope: Scope, sources: Sources) -> None:
        name = column.name.lower()
        owners = list(self._owners(column, scope))
        levels = [self._at(owner, scope, sources) for owner in owners]
        for owner, level in zip(owners, levels, strict=True):
            found = [output for output in level.values() if output is not None and name in output]
            if len(found) > 1 and not _is_merged(name, owner):
                self._report("ambiguous_column", column.name)
            if found:
                self.names.columns.update(o for o in [found[0][name]] if o)
                return
            if None in level.values():
                return  # a source that is unknown, and reported, may hold it
        if not (any(levels) and self._is_row_id(name)):
            options = (_spelling(c, o) for lv in levels for o in lv.values() if o for c in o)
            self._report("unknown_column", column.name, tuple(options))

    def _at(self, owner: Scope, scope: Scope, sources: Sources) -> Sources:
        return sources if owner is scope else self._sources(owner)

    def _owners(self, column: exp.Column, scope: Scope) -> Iterator[Scope]:
        """The scopes whose sources `column` may name, nearest first: a derived table or CTE sees
        all but the query that it stands in, an ORDER BY or GROUP BY in SQLite only its own."""
        yield scope
        clause = column.find_ancestor(exp.Order, exp.Group)
        if self.is_sqlite and clause and clause.parent is scope.expression:
            return
        while scope.parent is not None:
            is_apart = scope.is_derived_table or scope.is_cte
            scope = scope.parent
            if not is_apart:
                yield scope

    def _is_row_id(self, name: str) -> bool:
        return self.is_sqlite and name in ROW_IDS

    def _report(self, code: str, name: str, candidates: tuple[str, ...] = ()) -> None:
        self.names.unknown.append(Unknown(code, name, candidates))


def _is_plain(source: exp.Expr) -> bool:
    """A table named by one identifier: no database part, no function."""
    plain = isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier)
    return plain and not source.args.get("db")


def _written(node: exp.Expr) -> str:
    return node.sql(comments=False)[:64]


def _renamed(query: exp.Expr, output: Output | None) -> Output | None:
    """The columns of a derived table or CTE, under the names of its column list if it has one."""
    owner = query.parent
    while isinstance(owner, exp.SetOperation):  # the first member of a recursive CTE
        owner = owner.parent
    alias = owner.args.get("alias") if owner else None
    if output is None or not isinstance(alias, exp.TableAlias) or not alias.columns:
        return output
    names: Output = {column.name.lower(): None for column in alias.columns}
    return names | dict(list(output.items())[len(names) :])


def _starred(item: exp.Expr, sources: Sources) -> list[Output | None]:
    table = item.table.lower() if isinstance(item, exp.Column) else ""
    return [output for alias, output in sources.items() if table in ("", alias)]


def _origin(item: exp.Expr, sources: Sources) -> str | None:
    if not isinstance(item, exp.Column):
        return None
    offered = [o for a, o in sources.items() if o and item.table.lower() in ("", a)]
    return next((o[item.name.lower()] for o in offered if item.name.lower() in o), None)


def _spelling(name: str, output: Output) -> str:
    column = (output[name] or "").partition(".")[2]
    return column if column.lower() == name else name


def _is_output_name(column: exp.Column, scope: Scope) -> bool:
    """True where an unqualified name means an output column: in the ORDER BY of a set operation,
    and outside the select list for an alias (SQLite allows that in WHERE too)."""
    query = scope.expression
    if isinstance(query, exp.SetOperation):
        return column.name.lower() in {name.lower() for name in query.named_selects}
    aliases = {s.alias.lower() for s in getattr(query, "selects", ()) if s.alias}
    return column.name.lower() in aliases and not _in_select_list(column, query)


def _in_select_list(column: exp.Column, query: exp.Expr) -> bool:
    node: exp.Expr = column
    while node.parent is not None and node.parent is not query:
        node = node.parent
    return node.arg_key == "expressions"


def _is_merged(name: str, scope: Scope) -> bool:
    """True for a column that JOIN … USING or NATURAL JOIN makes one of two."""
    is_natural = any(join.method == "NATURAL" for join in scope.find_all(exp.Join))
    return is_natural or name in {merged.lower() for merged in _merged_names(scope)}


def _merged_names(scope: Scope) -> list[str]:
    joins = scope.find_all(exp.Join)
    return [name.name for join in joins for name in join.args.get("using") or ()]
