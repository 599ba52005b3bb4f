"""The SQL side of a template: which names and values a query holds, and what each is there for."""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import Scope, traverse_scope

from trainer.pipeline.compose.catalogue import Attribute, Catalogue

MAX_TABLES = 4
COMPARED = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
RANGES = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)
AGGREGATED = (exp.Sum, exp.Avg, exp.Max, exp.Min)
RANKED_KINDS = frozenset({"number", "year", "date"})


class NotGeneralError(Exception):
    """The pair makes no template."""


@dataclass(frozen=True, slots=True)
class ValueSlot:
    """A literal compared with column slot `column`; `way` is "is", "splits" (a range) or "like",
    which stands between `before` and `after`."""

    column: int
    way: str
    before: str = ""
    after: str = ""


class Skeleton:
    """A query taken apart.

    `tables` and `columns` are numbered in order of their first use. `mentioned` are the columns
    that a reader must be told of: all but those of joins and of grouping by a key. `links` are the
    joins as (child, parent) columns, `values` the literals with their slots, `constants` the
    numbers that stay as they are: LIMIT and counts.

    Raises:
        NotGeneralError: something in it has no slot.
        sqlglot.errors.SqlglotError: it can't be parsed.
    """

    def __init__(self, sql: str, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.tree = sqlglot.parse_one(sql, read="sqlite")
        self.tables: list[str] = []
        self.columns: list[tuple[str, str]] = []
        self.links: list[tuple[int, int]] = []
        self.mentioned: set[int] = set()
        self.values: list[tuple[ValueSlot, str]] = []
        self.constants: list[str] = []
        self._slots: dict[int, int] = {}  # by the id of a column node
        self._name_tables()
        self._name_columns()
        self._find_links()
        self._expect_connected()
        self._expect_kinds()
        self._find_values()

    def attribute(self, index: int) -> Attribute:
        table, name = self.columns[index]
        found = self.catalogue.entities[table].find(name)
        if found is None:
            raise NotGeneralError
        return found

    def nodes(self, index: int) -> list[exp.Column]:
        """Where the column slot stands in the tree."""
        return [c for c in self.tree.find_all(exp.Column) if self._slots.get(id(c)) == index]

    def text(self) -> str:
        """The query with places for names; the tree holds them from then on."""
        for column, index in self._placed():
            table = self.tables.index(self.columns[index][0])
            column.set("this", exp.to_identifier(f"zzC{index}zz"))
            column.set("table", exp.to_identifier(f"zzT{table}zz"))
        for table_node in list(self.tree.find_all(exp.Table)):
            number = self.tables.index(table_node.name)
            table_node.set("this", exp.to_identifier(f"zzT{number}zz"))
        return self.tree.sql("sqlite")

    def _placed(self) -> Iterator[tuple[exp.Column, int]]:
        for column in list(self.tree.find_all(exp.Column)):
            if id(column) in self._slots:
                yield column, self._slots[id(column)]

    def _name_tables(self) -> None:
        for table in self.tree.find_all(exp.Table, bfs=False):
            if table.alias or table.name not in self.catalogue.entities:
                raise NotGeneralError
            if table.name not in self.tables:
                self.tables.append(table.name)
        is_odd = bool(self.tree.find(exp.With, exp.Window, exp.Case, exp.Neg))
        if is_odd or not 0 < len(self.tables) <= MAX_TABLES:
            raise NotGeneralError

    def _name_columns(self) -> None:
        for scope in traverse_scope(self.tree):
            # A scope also counts columns of its subqueries that might be its own.
            own = (c for c in scope.columns if c.parent_select is scope.expression)
            for column in own:
                key = (self._owner(scope, column), column.name)
                if key not in self.columns:
                    self.columns.append(key)
                self._slots[id(column)] = self.columns.index(key)

    def _owner(self, scope: Scope, column: exp.Column) -> str:
        sources = [s.name for s in scope.sources.values() if isinstance(s, exp.Table)]
        owners = [column.table] if column.table else sources
        if len(owners) != 1 or owners[0] not in self.tables:
            raise NotGeneralError
        return owners[0]

    def _slot(self, node: exp.Expr) -> int:
        if id(node) not in self._slots:
            raise NotGeneralError
        return self._slots[id(node)]

    def _find_links(self) -> None:
        joined: set[int] = set()
        for left, right in (*self._joins(), *self._memberships()):
            joined |= {id(left), id(right)}
            self._add_link(self._slot(left), self._slot(right))
        for column, index in self._placed():
            is_grouped = isinstance(column.parent, exp.Group) and self.attribute(index).is_key
            if id(column) not in joined and not is_grouped:
                self.mentioned.add(index)

    def _joins(self) -> Iterator[tuple[exp.Expr, exp.Expr]]:
        for join in self.tree.find_all(exp.Join):
            on = join.args.get("on")
            if not isinstance(on, exp.EQ) or join.side or join.method:
                raise NotGeneralError
            yield on.this, on.expression

    def _memberships(self) -> Iterator[tuple[exp.Expr, exp.Expr]]:
        """`a IN (SELECT b …)`, which joins too."""
        for inside in self.tree.find_all(exp.In):
            query = inside.args.get("query")
            chosen = query.this.selects if query else []
            if len(chosen) != 1 or not isinstance(chosen[0], exp.Column):
                raise NotGeneralError
            yield inside.this, chosen[0]

    def _add_link(self, left: int, right: int) -> None:
        """Note which of two joined columns refers to the other."""
        ways = [(left, right), (right, left)]
        declared = [w for w in ways if self._refers(*w)]
        found = declared or [w for w in ways if self._is_key(w[1])]
        if len(found) != 1:
            raise NotGeneralError
        if found[0] not in self.links:
            self.links.append(found[0])

    def _refers(self, child: int, parent: int) -> bool:
        return (self.columns[child], self.columns[parent]) in self.catalogue.edges

    def _is_key(self, index: int) -> bool:
        table, column = self.columns[index]
        return self.catalogue.entities[table].key == column

    def _expect_connected(self) -> None:
        groups = [{table} for table in self.tables]
        for child, parent in self.links:
            ends = {self.columns[child][0], self.columns[parent][0]}
            touched = [group for group in groups if group & ends]
            groups = [group for group in groups if not group & ends]
            groups.append(set().union(*touched))
        if len(groups) != 1:
            raise NotGeneralError

    def _expect_kinds(self) -> None:
        """What is summed, compared or ranked must be a number or a date elsewhere too."""
        has_limit = self.tree.find(exp.Limit) is not None
        for column, index in self._placed():
            kind, parent = self.attribute(index).kind, column.parent
            is_ranked = isinstance(parent, exp.Ordered) and (parent.args.get("desc") or has_limit)
            if isinstance(parent, AGGREGATED) and kind != "number":
                raise NotGeneralError
            if (is_ranked or isinstance(parent, RANGES)) and kind not in RANKED_KINDS:
                raise NotGeneralError

    def _find_values(self) -> None:
        for node in list(self.tree.find_all(exp.Literal)):
            parent = node.parent
            is_count = isinstance(parent, COMPARED) and isinstance(parent.this, exp.Count)
            if is_count or isinstance(parent, exp.Limit):
                self.constants.append(node.name)
            else:
                self._add_value(node, parent)

    def _add_value(self, node: exp.Literal, parent: exp.Expr | None) -> None:
        is_known = parent is not None and isinstance(parent, (*COMPARED, exp.Between, exp.Like))
        if parent is None or not is_known or not isinstance(parent.this, exp.Column):
            raise NotGeneralError
        column, text = self._slot(parent.this), node.name
        slot = ValueSlot(column, "is" if isinstance(parent, exp.EQ | exp.NEQ) else "splits")
        if isinstance(parent, exp.Like):
            core = text.strip("%")
            if not core or core == text:  # without a wildcard it is meant as something else
                raise NotGeneralError
            before, after = text[: text.index(core)], text[text.index(core) + len(core) :]
            slot, text = ValueSlot(column, "like", before, after), core
        self.values.append((slot, text))
        node.replace(exp.column(f"zzV{len(self.values) - 1}zz"))
