"""The FROM of a SELECT: tables, CTEs, subqueries and VALUES, and how JOINs put them together."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

from sqlglot import exp

from eval.task.columns import written
from eval.task.forms import holds_items, is_comma
from eval.task.joins import JoinReader, Place
from eval.task.schema import Table
from eval.task.scope import (
    FLAT_COMMAS,
    LATERAL_ALWAYS,
    Chain,
    Ctes,
    Level,
    Output,
    Outputs,
    Source,
    find_cte,
    is_spelled,
    lower,
)

# Dialects whose names for the columns of UNNEST are known.
UNNESTS = frozenset("athena bigquery duckdb postgres presto trino".split())
DUAL_DIALECTS = frozenset({"oracle", "mysql"})


class FromReader(JoinReader):
    """Fills the level of a SELECT from its FROM."""

    @abstractmethod
    def query(self, node: exp.Expr, ctes: Ctes, outer: Chain) -> Outputs | None:
        """The columns that a query puts out, None where they can't be known."""

    @abstractmethod
    def bracketed(self, node: exp.Expr, ctes: Ctes, outer: Chain) -> Outputs | None:
        """Those of a query in brackets, by itself."""

    @abstractmethod
    def walk(self, part: exp.Expr, chain: Chain, ctes: Ctes) -> None:
        """Resolve an expression."""

    def from_(self, node: exp.Expr, chain: Chain, ctes: Ctes) -> None:
        """Fill the level of `node` from its FROM, JOINs and LATERALs."""
        place = Place(chain[0], (), chain[1:], ctes, [])
        if from_ := node.args.get("from_"):
            self.fill(partial(self.item, from_.this), node.args.get("joins") or [], place)
        for lateral in node.args.get("laterals") or ():
            self.item(lateral, place)
        chain[0].clause = "on"
        for condition, sight in place.late:
            self.walk(condition, sight, ctes)

    def fill(self, first: Callable[[Place], None], joins: list[exp.Expr], place: Place) -> None:
        """Read `first` and what is joined to it: what stands between commas by itself."""
        trees: list[tuple[Callable[[Place], None], list[exp.Expr]]] = [(first, [])]
        for join in joins:
            if self.dialect not in FLAT_COMMAS and is_comma(join):
                trees.append((partial(self.item, join.this), []))
            else:
                trees[-1][1].append(join)
        for read, joined in trees:
            own = place if len(trees) == 1 else place.within()
            read(own)
            self.joins(joined, own)
            if own is not place:
                self.absorb(own, place, None)

    def joins(self, joins: list[exp.Expr], place: Place) -> None:
        is_outer = any(join.args.get("side") for join in joins)
        for join in joins:
            if join.args.get("kind") in ("ANTI", "SEMI"):
                self.semi_join(join, place)
                continue
            self.item(join.this, place, join)
            if condition := join.args.get("on"):
                self.condition(condition, place, is_outer=is_outer)

    def semi_join(self, join: exp.Expr, place: Place) -> None:
        """Only its condition sees what stands on its right."""
        own = place.within()
        self.item(join.this, own)
        self.merged(own.level.visible, place.level, join, is_open=own.level.is_open)
        if condition := join.args.get("on"):
            self.walk(condition, own.lateral, place.ctes)

    def condition(self, condition: exp.Expr, place: Place, *, is_outer: bool) -> None:
        """In SQLite a condition is read with all tables in sight; behind outer joins it may not
        name those further right."""
        is_late, around = self.dialect == "sqlite", place.around
        if is_late or self.dialect not in FLAT_COMMAS:
            around = tuple(level.closed() for level in around)
        sight = (place.level, *around, *place.outer)
        if is_late:
            place.late.append((condition, sight))
        if is_outer or not is_late:
            place.level.clause = "on"
            self.walk(condition, sight, place.ctes)

    def item(self, node: exp.Expr, place: Place, join: exp.Expr | None = None) -> None:
        """A FROM item with what is joined to it within its brackets."""
        joins, is_bracket = node.args.get("joins") or [], holds_items(node)
        if not joins and not is_bracket:
            return self.one(node, place, join)
        own = place.within()
        if is_bracket:
            if any(value for name, value in node.args.items() if name not in ("this", "joins")):
                self.report("unsupported_source", written(node), node)
            self.fill(partial(self.item, node.this), joins, own)
        else:
            self.fill(partial(self.one, node), joins, own)
        return self.absorb(own, place, join)

    def one(self, node: exp.Expr, place: Place, join: exp.Expr | None = None) -> None:
        """A FROM item by itself."""
        alias = node.args.get("alias")
        if isinstance(node, exp.Table):
            source = self.table(node, place.ctes)
            if alias is not None and alias.columns:  # T-SQL takes `u(XLOCK)` for a hint
                self.report("unsupported_source", written(node), node)
            # Without an alias a table is known by its own spelling.
            named = node.this if alias is None else alias.this
            spelling = source.table.name if alias is None and source.table else None
            self.add(source, named, place, join, spelling)
        elif unnest := _unnest_of(node, self.dialect):
            self.unnested(unnest, alias, place, join)
        elif isinstance(node, exp.Subquery | exp.Lateral | exp.Values):
            self.derived(node, place, join)
        else:
            self.report("unsupported_source", written(node), node)
            self.add(Source(None), None, place, join)

    def derived(self, node: exp.Expr, place: Place, join: exp.Expr | None) -> None:
        alias, is_lateral = node.args.get("alias"), isinstance(node, exp.Lateral)
        query = node.this if is_lateral else node
        # Only LATERAL sees its neighbours; SELECTs further out are seen by both.
        sight = place.lateral if is_lateral or self.dialect in LATERAL_ALWAYS else place.outer
        if isinstance(query, exp.Subquery):
            outputs = self.bracketed(query, place.ctes, sight)
        elif isinstance(query, exp.Values):
            outputs = self.query(query, place.ctes, sight)
        else:
            self.report("unsupported_source", written(node), node)
            outputs = None
        source = Source(self.renamed(outputs, alias))
        self.add(source, alias.this if alias else None, place, join)

    def unnested(
        self, node: exp.Expr, alias: exp.Expr | None, place: Place, join: exp.Expr | None
    ) -> None:
        """Rows from arrays. In PostgreSQL the alias is the column's name too."""
        for array in node.expressions:
            self.walk(array, place.lateral, place.ctes)
        names = list(alias.args.get("columns") or ()) if alias else []
        if alias and not names and self.dialect == "postgres":
            names = [alias.this]
        if isinstance(position := node.args.get("offset"), exp.Identifier):
            names.append(position)
        outputs = [Output(n.name, None, quoted=bool(n.args.get("quoted"))) for n in names]
        if not outputs:
            self.report("unsupported_source", written(node), node)
        self.add(Source(outputs), alias.this if alias else None, place, join)

    def table(self, node: exp.Expr, ctes: Ctes) -> Source:
        name = node.this
        if not isinstance(name, exp.Identifier):
            self.report("unsupported_source", written(node), node)
            return Source(None)
        if node.args.get("db") is not None or node.args.get("catalog") is not None:
            self.report("unknown_table", written(node), node, self.readable_tables())
            return Source(None)
        table = self.schema.find(name.name)
        if cte := find_cte(name, ctes, self.dialect, is_sure=table is not None):
            self.spell(name, cte.name.name)
            if cte.is_open:
                self.report("denied_node", "recursive", name)
            return Source(None if cte.is_open else cte.outputs)
        if table is None or not is_spelled(name, table.name, self.dialect):
            if self.dialect in DUAL_DIALECTS and lower(name.name) == "dual":
                return Source([])
            self.report("unknown_table", name.name, name, self.readable_tables())
            return Source(None)
        if self.grants and not self.grants.has_table(table.name):
            self.report("not_granted", name.name, name)
            return Source(None)
        self.names.tables.add(table.name)
        self.spell(name, table.name)
        return Source(self.columns_of(table), table)

    def readable_tables(self) -> list[str]:
        grants = self.grants
        return [t.name for t in self.schema.tables if grants is None or grants.has_table(t.name)]

    def columns_of(self, table: Table) -> Outputs:
        if self.grants:
            self.denied.update(
                f"{table.name}.{column}"
                for column in table.column_names
                if not self.grants.has_column(table.name, column)
            )
        return [Output(column, f"{table.name}.{column}") for column in table.column_names]

    def renamed(self, outputs: Outputs | None, alias: exp.Expr | None) -> Outputs | None:
        """`outputs` under the names of a column list, if there is one."""
        if outputs is None or alias is None or not alias.args.get("columns"):
            return outputs
        names = alias.args["columns"]
        is_short = len(names) < len(outputs) and isinstance(alias.parent, exp.CTE)
        if len(names) > len(outputs) or is_short:
            self.report("unequal_columns", f"{len(names)} and {len(outputs)}", alias)
        new = [
            Output(n.name, o.origin, quoted=bool(n.args.get("quoted")))
            for n, o in zip(names, outputs, strict=False)
        ]
        return new + outputs[len(new) :]

    def values(self, node: exp.Expr, ctes: Ctes, outer: Chain) -> Outputs | None:
        widths = set()
        for row in node.expressions:
            cells = row.expressions if isinstance(row, exp.Tuple) else [row]
            widths.add(len(cells))
            for cell in cells:
                self.walk(cell, outer or (Level(node),), ctes)
        if len(widths) != 1:
            self.report("unequal_columns", " and ".join(map(str, sorted(widths))), node)
            return None
        return [
            Output(f"column{number}", None, quoted=False) for number in range(1, widths.pop() + 1)
        ]


def _unnest_of(node: exp.Expr, dialect: str) -> exp.Expr | None:
    """The UNNEST that a FROM item is, if one that is known."""
    inner = node.this if isinstance(node, exp.Lateral) else node
    return inner if isinstance(inner, exp.Unnest) and dialect in UNNESTS else None
