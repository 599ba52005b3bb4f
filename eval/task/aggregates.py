"""Where aggregates and window functions may stand.

Works on a tree whose names are resolved, SELECT by SELECT.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from eval.task.names import Names
from eval.task.violation import Violation, span

# Functions that only a window gives a meaning.
WINDOWED = frozenset(
    """
    cumedist denserank firstvalue lag lastvalue lead nthvalue ntile percentrank rank rownumber
    """.split()
)
# Aggregates that sqlglot leaves untyped.
NAMED_AGGREGATES = {
    dialect: frozenset(names.split())
    for dialects, names in (
        ("sqlite", "total"),
        ("postgres materialize risingwave redshift", "every jsonb_agg jsonb_object_agg"),
        ("mysql doris starrocks", "json_arrayagg std"),
        ("tsql", "stdev stdevp var varp"),
        ("oracle", "stats_mode"),
        ("athena databricks hive presto spark spark2 trino", "every listagg some"),
        ("clickhouse", """anylast avgif covarpop covarsamp grouparray groupuniqarray maxif minif
            quantileexact stddevpop stddevsamp sumif uniqexact varpop varsamp"""),
    )
    for dialect in dialects.split()
}  # fmt: skip
# Functions that only a window gives a meaning, and that sqlglot leaves untyped.
NAMED_WINDOWED = frozenset({"ratio_to_report"})
# What may stand between a function and its window.
WRAPPERS = (exp.Filter, exp.IgnoreNulls, exp.RespectNulls, exp.WithinGroup)
# Clauses in which no aggregate, and those in which no window function may stand.
NO_AGGREGATE = frozenset({"where", "group", "joins", "limit", "offset"})
NO_WINDOW = NO_AGGREGATE | {"having"}
SPOKEN = {"group": "GROUP BY", "joins": "ON", "order": "ORDER BY"}
# Engines that take HAVING for a second WHERE.
FREE_HAVING = frozenset({"mysql", "doris", "starrocks", "clickhouse"})


@dataclass(frozen=True, slots=True)
class Part:
    """A node of a SELECT itself, not of a query within it, and the clause that it stands in."""

    node: exp.Expr
    clause: str
    select: exp.Expr


def misplaced_functions(tree: exp.Expr, names: Names, dialect: str) -> Iterator[Violation]:
    """Aggregates and window functions where none may stand, and window functions without OVER."""
    for select in tree.find_all(exp.Select):
        own = list(parts(select))
        for part in own:
            if problem := _misuse(part, names, dialect):
                yield misuse("misused_aggregate", part.node, problem)
        yield from _without_groups(select, own, dialect)


def _misuse(part: Part, names: Names, dialect: str) -> str:
    node, clause = part.node, part.clause
    if isinstance(node, exp.Column):
        return _misused_alias(part, names, dialect)
    if isinstance(node, exp.Window) and clause != "windows":
        if clause in NO_WINDOW:
            return f"a window function can't stand in {_spoken(clause)}"
        function = _unwrapped(node)
        if not (is_aggregate(function, dialect) or is_window_function(function)):
            return f"{_called(function)} is no window function"
        if dialect == "sqlite" and isinstance(function.this, exp.Distinct):
            return "DISTINCT in a window function"
        return "a window function within another" if _outer_call(node, dialect) else ""
    if isinstance(node, exp.Filter):
        return "" if is_aggregate(_unwrapped(node), dialect) else "FILTER is for aggregates"
    if is_window_function(node):
        return "" if is_windowed(node) else f"{_called(node)} needs OVER"
    if not is_aggregate(node, dialect) or is_windowed(node):
        return ""
    if clause in NO_AGGREGATE:
        return f"an aggregate can't stand in {_spoken(clause)}"
    owners = [names.owners.get(id(column)) for column in node.find_all(exp.Column)]
    if owners and None not in owners and not any(o is part.select for o in owners):
        return "an aggregate of another query's columns"
    outer = _outer_call(node, dialect)
    return "an aggregate within another" if outer and not is_windowed(outer) else ""


def _misused_alias(part: Part, names: Names, dialect: str) -> str:
    item = names.aliases.get(id(part.node))
    if item is None:
        return ""
    holds = [n for n in _own(item) if isinstance(n, exp.Window) or is_aggregate(n, dialect)]
    windows = [n for n in holds if isinstance(n, exp.Window)]
    is_misused = holds and (part.clause in NO_AGGREGATE or _outer_call(part.node, dialect))
    if is_misused or (windows and part.clause in NO_WINDOW):
        return f"{part.node.name!r} is an aggregate or window function"
    return ""


def _without_groups(select: exp.Expr, own: list[Part], dialect: str) -> Iterator[Violation]:
    """HAVING, or an aggregate in ORDER BY, of a query that is not grouped; GROUP BY 1 of an
    aggregate."""
    if group := select.args.get("group"):
        for key in group.expressions:
            place = int(key.name) if isinstance(key, exp.Literal) and key.name.isdigit() else 0
            item = select.expressions[place - 1 : place]
            if place and any(is_aggregate(n, dialect) for i in item for n in _own(i)):
                yield misuse("misused_aggregate", key, "GROUP BY an aggregate")
        return
    if dialect in FREE_HAVING:
        return
    plain = [p for p in own if is_aggregate(p.node, dialect) and not is_windowed(p.node)]
    if any(part.clause == "expressions" for part in plain):
        return
    if having := select.args.get("having"):
        yield misuse("misused_aggregate", having, "HAVING without GROUP BY")
    for part in plain:
        if part.clause == "order":
            yield misuse("misused_aggregate", part.node, "ORDER BY an aggregate of no group")


def is_aggregate(node: exp.Expr, dialect: str) -> bool:
    """True for the call of an aggregate function, with or without OVER."""
    if isinstance(node, exp.Max | exp.Min) and node.expressions:
        return False  # of several values, not rows
    if isinstance(node, exp.Anonymous):
        return node.name.lower() in NAMED_AGGREGATES.get(dialect, frozenset())
    is_typed = isinstance(node, exp.AggFunc) and not isinstance(node, exp.Grouping)
    return is_typed and node.key not in WINDOWED


def is_window_function(node: exp.Expr) -> bool:
    """True for the call of a function that needs a window."""
    is_named = isinstance(node, exp.Anonymous) and node.name.lower() in NAMED_WINDOWED
    return is_named or node.key in WINDOWED


def parts(select: exp.Expr) -> Iterator[Part]:
    for clause, value in select.args.items():
        if clause in ("with_", "from_", "laterals") or not value:
            continue
        nodes = value if isinstance(value, list) else [value]
        if clause == "joins":
            nodes = [join.args["on"] for join in nodes if join.args.get("on")]
        for node in nodes:
            yield from (Part(own, clause, select) for own in _own(node))


def _own(node: exp.Expr) -> Iterator[exp.Expr]:
    """`node` and what is in it, queries left out."""
    stack = [node]
    while stack:
        node = stack.pop()
        if not isinstance(node, exp.Query):
            yield node
            stack.extend(node.iter_expressions(reverse=True))


def _unwrapped(node: exp.Expr) -> exp.Expr:
    """The function of a window or filter."""
    inner: exp.Expr = node.this
    while isinstance(inner, WRAPPERS):
        inner = inner.this
    return inner


def is_windowed(node: exp.Expr) -> bool:
    child, parent = node, node.parent
    while isinstance(parent, WRAPPERS) and parent.this is child:
        child, parent = parent, parent.parent
    return isinstance(parent, exp.Window) and parent.this is child


def _outer_call(node: exp.Expr, dialect: str) -> exp.Expr | None:
    """The aggregate or window function that `node` is an argument of. What stands in a window's
    own PARTITION BY and ORDER BY is an argument too, but for aggregates."""
    child, parent = node, node.parent
    while parent is not None and not isinstance(parent, exp.Query | exp.Select):
        if isinstance(parent, exp.Window) and isinstance(node, exp.Window):
            return parent
        is_call = is_aggregate(parent, dialect) or is_window_function(parent)
        if is_call and not (isinstance(child, WRAPPERS)):
            return parent
        child, parent = parent, parent.parent
    return None


def _spoken(clause: str) -> str:
    return SPOKEN.get(clause, clause.upper())


def _called(function: exp.Expr) -> str:
    return function.sql_name() if isinstance(function, exp.Func) else function.key.upper()


def misuse(code: str, node: exp.Expr, message: str) -> Violation:
    start, end = span(node)
    return Violation(code, message, node.name or node.key, start=start, end=end)
