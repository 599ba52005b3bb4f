"""The FROM of a SELECT: tables, CTEs, subqueries and VALUES, and how JOINs put them together."""

from abc import abstractmethod

from sqlglot import exp

from eval.task.columns import ColumnReader, written
from eval.task.schema import Table
from eval.task.scope import (
    CASELESS,
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

DUAL_DIALECTS = frozenset({"oracle", "mysql"})


class FromReader(ColumnReader):
    """Fills the level of a SELECT from its FROM. `ctes` are those in sight."""

    @abstractmethod
    def query(self, node: exp.Expr, ctes: Ctes, outer: Chain) -> Outputs | None:
        """The columns that a query puts out, None where they can't be known."""

    @abstractmethod
    def walk(self, part: exp.Expr, chain: Chain, ctes: Ctes) -> None:
        """Resolve an expression."""

    def from_(self, node: exp.Expr, chain: Chain, ctes: Ctes) -> None:
        """Fill the level of `node` from its FROM, JOINs and LATERALs."""
        conditions: list[exp.Expr] = []
        if from_ := node.args.get("from_"):
            self.item(from_.this, chain, ctes, conditions)
        self.joins(node, chain, ctes, conditions)
        for lateral in node.args.get("laterals") or ():
            self.item(lateral, chain, ctes, conditions)
        chain[0].clause = "on"
        for condition in conditions:
            self.walk(condition, chain, ctes)

    def joins(self, node: exp.Expr, chain: Chain, ctes: Ctes, conditions: list[exp.Expr]) -> None:
        joins = node.args.get("joins") or ()
        # In SQLite a condition is read with all tables in sight; behind outer joins it may not
        # name those further right.
        is_late = self.dialect == "sqlite"
        is_outer = any(join.args.get("side") for join in joins)
        for join in joins:
            self.item(join.this, chain, ctes, conditions, join)
            condition = join.args.get("on")
            if condition is not None and is_late:
                conditions.append(condition)
            if condition is not None and (is_outer or not is_late):
                chain[0].clause = "on"
                self.walk(condition, chain, ctes)

    def item(
        self,
        node: exp.Expr,
        chain: Chain,
        ctes: Ctes,
        conditions: list[exp.Expr],
        join: exp.Expr | None = None,
    ) -> None:
        """A FROM item and what is joined to it within its brackets."""
        alias = node.args.get("alias")
        if isinstance(node, exp.Table):
            source = self.table(node, ctes)
            if alias is not None and alias.columns:  # T-SQL takes `u(XLOCK)` for a hint
                self.report("unsupported_source", written(node), node)
            # Without an alias a table is known by its own spelling.
            named = node.this if alias is None else alias.this
            spelling = source.table.name if alias is None and source.table else None
            self.add(source, named, chain, join, spelling)
        elif isinstance(node, exp.Subquery) and isinstance(node.unnest(), exp.Table):
            if alias is not None:
                self.report("unsupported_source", written(node), node)
            self.item(node.this, chain, ctes, conditions, join)
        elif isinstance(node, exp.Subquery | exp.Lateral | exp.Values):
            self.derived(node, chain, ctes, join)
        else:
            self.report("unsupported_source", written(node), node)
            self.add(Source(None), None, chain, join)
        self.joins(node, chain, ctes, conditions)

    def derived(self, node: exp.Expr, chain: Chain, ctes: Ctes, join: exp.Expr | None) -> None:
        alias = node.args.get("alias")
        is_lateral = isinstance(node, exp.Lateral)
        if is_lateral and not isinstance(node.this, exp.Subquery):
            self.report("unsupported_source", written(node), node)
            outputs = None
        else:
            # Only LATERAL sees its neighbours; SELECTs further out are seen by both.
            query = node.this if is_lateral else node
            outputs = self.query(query, ctes, chain if is_lateral else chain[1:])
        source = Source(self.renamed(outputs, alias))
        self.add(source, alias.this if alias else None, chain, join)

    def table(self, node: exp.Expr, ctes: Ctes) -> Source:
        name = node.this
        if not isinstance(name, exp.Identifier):
            self.report("unsupported_source", written(node), node)
            return Source(None)
        if node.args.get("db") is not None or node.args.get("catalog") is not None:
            self.report("unknown_table", written(node), node, self.readable_tables())
            return Source(None)
        if cte := find_cte(name, ctes, self.dialect):
            self.names.spellings.append((name, cte.name.name))
            if cte.is_open:
                self.report("denied_node", "recursive", name)
            return Source(None if cte.is_open else cte.outputs)
        table = self.schema.find(name.name)
        if table is None or not is_spelled(name, table.name, self.dialect):
            if self.dialect in DUAL_DIALECTS and lower(name.name) == "dual":
                return Source([])
            self.report("unknown_table", name.name, name, self.readable_tables())
            return Source(None)
        if self.grants and not self.grants.has_table(table.name):
            self.report("not_granted", name.name, name)
            return Source(None)
        self.names.tables.add(table.name)
        self.names.spellings.append((name, table.name))
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

    def add(
        self,
        source: Source,
        name: exp.Expr | None,
        chain: Chain,
        join: exp.Expr | None,
        spelling: str | None = None,
    ) -> None:
        """Put a FROM item under its name in sight of the nearest SELECT."""
        level = chain[0]
        key = lower(name.name) if name else f"\0{len(level.sources)}"
        if name:
            written = spelling or name.name, bool(name.args.get("quoted"))
            if key in level.sources or self.has_twin(key, written, source, chain[1:]):
                self.report("repeated_table", name.name, name)
            level.written[key] = written
        if join is not None:
            source.merged = self.merged(source, level, join)
        level.sources[key] = source
        for output in source.outputs or ():
            column = lower(output.name)
            if column not in source.merged:
                shown = Output(output.name, output.origin, key)
                level.visible.setdefault(column, []).append(shown)

    def has_twin(self, key: str, written: tuple[str, bool], source: Source, outer: Chain) -> bool:
        """True where an engine that tells `X` from `x` may look further out for the other one."""
        if self.dialect in CASELESS:
            return False
        return any(
            level.written[key] != written and level.sources[key].table is not source.table
            for level in outer
            if key in level.written
        )

    def merged(self, source: Source, level: Level, join: exp.Expr) -> set[str]:
        """The columns that USING or NATURAL make one with a column further left: both are read."""
        named = join.args.get("using") or []
        is_natural = str(join.args.get("method") or "").upper() == "NATURAL"
        found = {c for c in source.columns if c in level.visible} if is_natural else set()
        # SQLite takes the first of several, but for RIGHT and FULL joins.
        sides = {j.args.get("side") for j in level.query.args.get("joins") or ()}
        is_first = self.dialect == "sqlite" and sides <= {None, "", "LEFT"}
        nodes = {column: join for column in found} | {lower(n.name): n for n in named}
        for column, node in nodes.items():
            left, right = level.visible.get(column, []), source.columns.get(column)
            if (right is None and source.outputs is None) or (not left and level.is_open):
                continue
            if right is None or not left:
                known = [o.name for o in self.readable(source.columns)]
                known += [o.name for o in self.readable_lists(level)]
                self.report("unknown_column", column, node, known)
                continue
            if len(left) > 1 and not is_first:
                self.report("ambiguous_column", column, node)
            found.add(column)
            self.read(left[0], node)
            self.read(right, node)
        return found

    def renamed(self, outputs: Outputs | None, alias: exp.Expr | None) -> Outputs | None:
        """`outputs` under the names of a column list, if there is one."""
        if outputs is None or alias is None or not alias.args.get("columns"):
            return outputs
        names = alias.args["columns"]
        is_short = len(names) < len(outputs) and isinstance(alias.parent, exp.CTE)
        if len(names) > len(outputs) or is_short:
            self.report("unequal_columns", f"{len(names)} and {len(outputs)}", alias)
        new = [Output(n.name, o.origin) for n, o in zip(names, outputs, strict=False)]
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
        return [Output(f"column{number}", None) for number in range(1, widths.pop() + 1)]
