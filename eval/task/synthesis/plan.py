"""What rows a gold query looks for: its tables, what it sets equal, and its conditions.

Read from the tree, as far as it helps to plant rows that meet the query; what is not understood
(aggregates, arithmetic, correlated conditions) is passed over.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from re import DOTALL, IGNORECASE, Pattern, escape
from re import compile as compile_pattern

from sqlglot import exp

from eval.task.schema import Schema
from eval.task.statement import SQLGLOT_FAILURES
from eval.task.synthesis.profile import Value
from eval.task.synthesis.scope import Use, parse_query, resolve, tables_of

# A cell: number of the source in the plan, column in lower case.
Var = tuple[int, str]

MAX_DIGITS = 18  # of a whole number that SQLite holds
MAX_GROUP = 60  # a group of so many rows may be planted

NEGATED = {"=": "!=", "<": ">=", "<=": ">", "like": "not like", "in": "not in",
           "between": "not between"}  # fmt: skip
NEGATED |= {value: key for key, value in NEGATED.items()}
OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "!=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
    exp.Like: "like",
}  # fmt: skip
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Test:
    """`var OPERATOR values`: one value, two for "between", any number for "in"."""

    var: Var
    operator: str
    values: tuple[Value, ...]

    def holds(self, value: Value) -> bool:
        if self.operator in ("not like", "not in", "not between", "!="):
            return not Test(self.var, NEGATED[self.operator], self.values).holds(value)
        if self.operator == "like":
            return bool(_like(str(self.values[0])).fullmatch(str(value)))
        if self.operator in ("=", "in"):
            return self._is_among(value)
        order = [_order(value, other) for other in self.values]
        if self.operator == "between":
            return order[0] >= 0 >= order[1]
        is_met = {"<": order[0] < 0, "<=": order[0] <= 0, ">": order[0] > 0, ">=": order[0] >= 0}
        return is_met[self.operator]

    def _is_among(self, value: Value) -> bool:
        """True if `_order` finds `value` equal to one of the values."""
        numbers, texts, spelled = self._members
        if isinstance(value, int | float):
            return value in numbers or str(value) in texts
        return str(value) in spelled

    @cached_property
    def _members(self) -> tuple[frozenset[int | float], frozenset[str], frozenset[str]]:
        """The numbers among the values, all else as text, and all as text."""
        texts = frozenset(str(v) for v in self.values if not isinstance(v, int | float))
        numbers = frozenset(v for v in self.values if isinstance(v, int | float))
        return numbers, texts, frozenset(map(str, self.values))


def _order(left: Value, right: Value) -> int:
    """-1, 0 or 1; numbers by size, all else as text."""
    if isinstance(left, int | float) and isinstance(right, int | float):
        return (left > right) - (left < right)
    one, other = str(left), str(right)
    return (one > other) - (one < other)


@lru_cache(maxsize=4096)
def _like(pattern: str) -> Pattern[str]:
    parts = {"%": ".*", "_": "."}
    text = "".join(parts.get(letter) or escape(letter) for letter in pattern)
    return compile_pattern(text, IGNORECASE | DOTALL)


@dataclass
class Plan:
    """`tables` by number, each with the SELECT that reads it; `sizes` are HAVING's bounds. Once it
    is read from a tree nothing changes it."""

    tables: list[str] = field(default_factory=list)
    selects: list[int] = field(default_factory=list)
    equal: list[tuple[Var, Var]] = field(default_factory=list)
    tests: list[Test] = field(default_factory=list)
    groups: list[Var] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    @cached_property
    def leaders(self) -> dict[Var, Var]:
        """Each cell that is set equal to others, with one of them that stands for all."""
        leader: dict[Var, Var] = {}

        def find(var: Var) -> Var:
            while leader.get(var, var) != var:
                var = leader[var]
            return var

        for one, other in self.equal:
            leader.setdefault(one, one)
            leader.setdefault(other, other)
            leader[find(one)] = find(other)
        return {var: find(var) for var in leader}

    @cached_property
    def grouped(self) -> frozenset[Var]:
        return frozenset(self.leaders.get(var, var) for var in self.groups)


def plan_query(sql: str, schema: Schema) -> Plan:
    """The plan of `sql`; an empty one where it can't be read."""
    try:
        tree = parse_query(sql)
    except SQLGLOT_FAILURES:
        tree = None
    return plan_tree(tree, schema) if tree else Plan()


def plan_tree(tree: exp.Query, schema: Schema) -> Plan:
    """The plan of the query `tree`."""
    return _Reader(schema).read(tree)


class _Reader:
    """Walks one tree; sources are numbered as they are met."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.plan = Plan()
        self.numbers: dict[tuple[int, str], int] = {}

    def read(self, tree: exp.Query) -> Plan:
        for number, select in enumerate(tree.find_all(exp.Select, bfs=False)):
            for alias, table in tables_of(select, self.schema).items():
                self.numbers[id(select), alias] = len(self.plan.tables)
                self.plan.tables.append(table.name.lower())
                self.plan.selects.append(number)
        for node in tree.walk():
            self._read_node(node)
        return self.plan

    def _read_node(self, node: exp.Expr) -> None:
        if isinstance(node, exp.SetOperation):
            self._equate(zip(node.left.selects, node.right.selects, strict=False))
        elif isinstance(node, exp.Group):
            self.plan.groups += [v for g in node.expressions if (v := self._var(g))]
        elif node.find_ancestor(exp.Having):
            self._read_having(node)
        elif isinstance(node, exp.In) and node.args.get("query"):
            self._equate([(node.this, node.args["query"])])
        elif isinstance(node, exp.EQ) and not self._test(node):
            self._equate([(node.left, node.right)])
        elif test := self._test(node):
            self.plan.tests.append(test)

    def _read_having(self, node: exp.Expr) -> None:
        """Sizes of groups (HAVING count(*) > 2 asks for two and three rows), and conditions on
        other aggregates, which a group of one row meets as its cell does."""
        found = _comparison(node)
        if found is None or not isinstance(found[0], exp.AggFunc):
            return
        aggregate, operator, values = found
        constants = [c for value in values if (c := _constant(value)) is not None]
        if isinstance(aggregate, exp.Count):
            for size in constants:
                if isinstance(size, int) and size <= MAX_GROUP:
                    self.plan.sizes += range(max(1, size - 1), size + 2)
        elif constants and (var := self._var(aggregate.this)):
            self.plan.tests.append(Test(var, operator, tuple(constants)))

    def _equate(self, pairs: Iterable[tuple[exp.Expr, exp.Expr]]) -> None:
        for one, other in pairs:
            left, right = self._var(one), self._var(other)
            if left and right:
                self.plan.equal.append((left, right))

    def _var(self, node: exp.Expr) -> Var | None:
        """The cell that `node` shows: a column, or the one column of a subquery."""
        node = node.unnest().unalias()
        if isinstance(node, exp.Query):
            return self._var(node.selects[0]) if node.selects else None
        use = resolve(node, self.schema) if isinstance(node, exp.Column) else None
        return self._number(use) if use else None

    def _number(self, use: Use) -> Var | None:
        number = self.numbers.get((use.select, use.alias))
        return None if number is None else (number, use.column.lower())

    def _test(self, node: exp.Expr) -> Test | None:
        found = _comparison(node)
        if found is None:
            return None
        column, operator, values = found
        var = self._var(column)
        constants = [_constant(value) for value in values]
        if var is None or not constants or None in constants:
            return None
        if isinstance(node.parent, exp.Not):
            operator = NEGATED.get(operator, operator)
        return Test(var, operator, tuple(c for c in constants if c is not None))


def _comparison(node: exp.Expr) -> tuple[exp.Expr, str, list[exp.Expr]] | None:
    """Column, operator and values of a condition; values are not looked at."""
    if isinstance(node, exp.Between):
        return node.this, "between", [node.args["low"], node.args["high"]]
    if isinstance(node, exp.In):
        return node.this, "in", list(node.expressions)
    operator = OPERATORS.get(type(node))
    if operator is None or not isinstance(node, exp.Binary):
        return None
    if isinstance(node.left, exp.Literal) and isinstance(node.right, exp.Column):
        return node.right, MIRRORED.get(operator, operator), [node.left]
    return node.left, operator, [node.right]


def _constant(node: exp.Expr) -> Value | None:
    if isinstance(node, exp.Neg):
        value = _constant(node.this)
        return -value if isinstance(value, int | float) else None
    if isinstance(node, exp.Boolean):
        return int(node.this)
    if not isinstance(node, exp.Literal):
        return None
    if node.is_string:
        return node.name
    is_whole = node.name.isdigit() and len(node.name) <= MAX_DIGITS
    return int(node.name) if is_whole else float(node.name)
