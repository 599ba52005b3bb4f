"""What sqlglot reads though an engine's grammar has no place for it: `SELECT FROM t`, a row where
one value must stand, ORDER BY before UNION, a frame that ends before it starts.
"""

import re
from collections.abc import Callable, Iterator

from sqlglot import exp

from eval.task.violation import Violation, span

COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ)
# They read `a JOIN b` without ON, and no RIGHT JOIN that would look at all before a comma.
MYSQL = frozenset({"doris", "mysql", "starrocks"})
DEFAULT_SCHEMAS = {
    "duckdb": "main", "postgres": "public", "redshift": "public", "snowflake": "public",
    "sqlite": "main", "tsql": "dbo",
}  # fmt: skip
# Dialects in which `$` alone is not known to be what was written.
PATHS_OF_KEYS = frozenset({"duckdb", "mysql", "postgres", "sqlite"})
PATH_KEY = re.compile(r"[\w @:/.-]+")
NO_FILTER = frozenset("bigquery doris mysql oracle redshift starrocks tsql".split())
SQLITE_COLLATIONS = frozenset({"BINARY", "NOCASE", "RTRIM"})
# What binds about as close as `=`, which is for each engine to say.
COMPARING = (
    *COMPARISONS, exp.Is, exp.In, exp.Between, exp.Like, exp.ILike, exp.Glob, exp.SimilarTo,
    exp.RegexpLike, exp.RegexpILike,
)  # fmt: skip
# Where a bound of a window's frame lies, from first to last.
BOUNDS = {
    ("UNBOUNDED", "PRECEDING"): 0,
    ("", "PRECEDING"): 1,
    ("CURRENT ROW", ""): 2,
    ("", "FOLLOWING"): 3,
    ("UNBOUNDED", "FOLLOWING"): 4,
}


def unbracketed(tree: exp.Expr) -> exp.Expr:
    """`tree` without the brackets that mean nothing: around a whole query or an arm of UNION
    SQLite does not read them, around a table PostgreSQL."""
    tree = _within(tree)
    for operation in list(tree.find_all(exp.SetOperation)):
        for arm in (operation.this, operation.expression):
            inner = _within(arm)
            is_plain = isinstance(inner, exp.Select) and not any(
                inner.args.get(name) for name in ("order", "limit", "offset", "with_")
            )
            if inner is not arm and is_plain:
                arm.replace(inner)
    for brackets in list(tree.find_all(exp.Subquery)):
        item = brackets.this
        if holds_items(brackets) and not item.args.get("joins") and _is_bare(brackets):
            brackets.replace(item)
    return tree


def _within(node: exp.Expr) -> exp.Expr:
    while _is_only_brackets(node):
        node = node.this
    return node


def _is_only_brackets(node: exp.Expr) -> bool:
    return isinstance(node, exp.Subquery) and isinstance(node.this, exp.Query) and _is_bare(node)


def _is_bare(node: exp.Expr) -> bool:
    return not any(value for name, value in node.args.items() if name != "this")


def crossed(tree: exp.Expr, dialect: str) -> exp.Expr:
    """`tree` with CROSS JOIN for MySQL's JOIN without a condition: sqlglot takes it for a comma,
    which binds less, so that a later ON would not see what stands before it."""
    nodes = tree.find_all(exp.Select, exp.Table, exp.Subquery) if dialect in MYSQL else ()
    for node in nodes:
        joins = node.args.get("joins") or []
        if not any(join.args.get("side") in ("RIGHT", "FULL") for join in joins):
            for join in filter(is_comma, joins):
                join.set("kind", "CROSS")
    return tree


def unqualified(tree: exp.Expr, dialect: str) -> exp.Expr:
    """`tree` without the name of the schema that a table without one is in anyway: `dbo.t`."""
    schema = DEFAULT_SCHEMAS.get(dialect)
    if schema is None:
        return tree
    ctes = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for node in tree.find_all(exp.Table, exp.Column):
        name = node.name if isinstance(node, exp.Table) else node.text("table")
        is_default = node.text("db").lower() == schema and not node.args.get("catalog")
        if is_default and name.lower() not in ctes:
            node.set("db", None)
    return tree


def is_comma(join: exp.Expr) -> bool:
    """True for a JOIN that is written as a comma, or that sqlglot takes for one."""
    return not any(join.args.get(name) for name in ("side", "kind", "method", "on", "using"))


def holds_items(node: exp.Expr) -> bool:
    """True for brackets around FROM items: `(t)`, `((SELECT 1) AS a JOIN t ON ...)`."""
    if not isinstance(node, exp.Subquery):
        return False
    inner = node.this
    if isinstance(inner, exp.Subquery):
        return bool(inner.args.get("joins") or inner.args.get("alias")) or holds_items(inner)
    return isinstance(inner, exp.Table)


def misshapen(tree: exp.Expr, dialect: str) -> Iterator[Violation]:
    """The parts of `tree` that stand where `dialect` has no place for them."""
    for node in tree.find_all(*SHAPES):
        if problem := SHAPES[type(node)](node, dialect):
            start, end = span(node)
            yield Violation("unparsable", problem, node.key, start=start, end=end)


def _star(star: exp.Expr, _: str) -> str:
    parent = star.parent
    if isinstance(parent, exp.Column):
        parent = parent.parent if isinstance(parent.parent, exp.Select) else None
    fits = isinstance(parent, exp.Select | exp.Count)
    return "" if fits else "a star stands where no star may"


def _alias(alias: exp.Expr, _: str) -> str:
    fits = isinstance(alias.parent, exp.Select | exp.Star)
    return "" if fits else "AS stands where no name may be given"


def _filled(node: exp.Expr, _: str) -> str:
    """`SELECT FROM t`, `GROUP BY` of nothing, `COUNT(DISTINCT)`, `()`."""
    if isinstance(node, exp.Select) and node.args.get("joins") and not node.args.get("from_"):
        return "JOIN without FROM"
    filled = node.expressions if isinstance(node, exp.Select) else any(node.args.values())
    is_flag = isinstance(node, exp.Distinct) and isinstance(node.parent, exp.Query)
    return "" if filled or is_flag else f"{node.key.upper()} of nothing"


def _arms(operation: exp.Expr, dialect: str) -> str:
    for arm in (operation.this, operation.expression):
        if isinstance(arm, exp.Subquery):
            # SQLite goes from left to right: brackets on the left are its own order.
            is_left = arm.arg_key == "this" and isinstance(arm.this, exp.SetOperation)
            if dialect == "sqlite" and not (is_left and _is_only_brackets(arm)):
                return "SQLite takes no brackets around a part of UNION, INTERSECT or EXCEPT"
        elif isinstance(arm, exp.Select) and any(
            arm.args.get(name) for name in ("order", "limit", "offset")
        ):
            return "ORDER BY and LIMIT stand behind UNION, INTERSECT and EXCEPT, not before"
    return ""


def _tuple(row: exp.Expr, dialect: str) -> str:
    """Rows are compared with rows of the same width; elsewhere SQLite and MySQL take none."""
    parent = row.parent
    if isinstance(parent, exp.Interval):
        return "INTERVAL takes one value"
    if isinstance(parent, COMPARISONS):
        other = parent.expression if row.arg_key == "this" else parent.this
        if isinstance(other, exp.Subquery):
            return ""
        return _row_beside(row, [other], "a row is compared with one value")
    if isinstance(parent, exp.In):
        is_left = row.arg_key == "this"
        others = _rows_of(parent.expressions) if is_left else [parent.this]
        return _row_beside(row, others, "a row is looked for among single values")
    if dialect == "sqlite":
        is_placed = isinstance(parent, exp.Values | exp.Between)
    else:
        is_placed = dialect not in MYSQL or isinstance(parent, exp.Values)
    return "" if is_placed else "a row of values stands where one value must"


def _rows_of(items: list[exp.Expr]) -> list[exp.Expr]:
    """Of the list of IN its items, or the rows of the VALUES that it is."""
    is_query = len(items) == 1 and isinstance(items[0], exp.Values)
    return items[0].expressions if is_query else items


def _row_beside(row: exp.Expr, others: list[exp.Expr], problem: str) -> str:
    if not all(isinstance(other, exp.Tuple) for other in others):
        return problem
    same = all(len(other.expressions) == len(row.expressions) for other in others)
    return "" if same else "rows of unequal width are compared"


def _compared(node: exp.Expr, dialect: str) -> str:
    """`a < b IN (1, 2)`, `a = b IS NOT NULL`: engines and sqlglot take them apart in other places,
    and NOT is written in front of what it is written within."""
    if dialect == "sqlite" and isinstance(node, exp.RegexpLike):
        return "SQLite has no REGEXP but what an application defines"
    for name in ("this", "expression", "low", "high"):
        operand = node.args.get(name)
        inner = operand
        while isinstance(inner, exp.Not | exp.Escape):
            inner = inner.this
        if isinstance(operand, exp.Not) or isinstance(inner, COMPARING):
            return "a comparison of a comparison needs brackets"
    return ""


def _order(order: exp.Expr, dialect: str) -> str:
    fits = isinstance(order.parent, exp.Query | exp.Window)
    return "" if fits or dialect != "sqlite" else "SQLite takes no ORDER BY in a function"


def _frame(spec: exp.Expr, _: str) -> str:
    bounds = [_bound(spec, name) for name in ("start", "end")]
    start, end = bounds if spec.args.get("end") else (bounds[0], 2)
    if start == 4 or end == 0 or start > end:
        return "the frame ends before it starts"
    order = spec.parent.args.get("order") if spec.parent else None
    keys = order.expressions if order else []
    is_counted = str(spec.args.get("kind")).upper() == "RANGE" and {start, end} & {1, 3}
    return "RANGE with a number needs one key in ORDER BY" if is_counted and len(keys) != 1 else ""


def _bound(spec: exp.Expr, name: str) -> int:
    value, side = spec.args.get(name), str(spec.args.get(f"{name}_side") or "").upper()
    word = value.upper() if isinstance(value, str) else ""
    return BOUNDS.get((word, side), 2)


def _path(path: exp.Expr, dialect: str) -> str:
    """A path of JSON that sqlglot reads with more or less in it than engines do: `$.;/*`, ``."""
    if dialect in PATHS_OF_KEYS and len(path.expressions) < 2:
        return "a JSON path that names nothing"
    keys = [key.name for key in path.find_all(exp.JSONPathKey)]
    is_plain = all(key if dialect == "postgres" else PATH_KEY.fullmatch(key) for key in keys)
    return "" if is_plain else "a JSON path with a key of odd characters"


def _filter(_: exp.Expr, dialect: str) -> str:
    return "aggregates have no FILTER" if dialect in NO_FILTER else ""


def _collate(node: exp.Expr, dialect: str) -> str:
    name = node.expression
    is_name = isinstance(name, exp.Identifier | exp.Var) or name.args.get("is_string")
    if not is_name or (dialect == "sqlite" and name.name.upper() not in SQLITE_COLLATIONS):
        return f"there is no collation {name.name[:32]!r}"
    return ""


Shape = Callable[[exp.Expr, str], str]
SHAPES: dict[type[exp.Expr], Shape] = {
    **dict.fromkeys(COMPARING, _compared),
    exp.Star: _star,
    exp.Alias: _alias,
    exp.Select: _filled,
    exp.Group: _filled,
    exp.Distinct: _filled,
    exp.Paren: _filled,
    exp.Union: _arms,
    exp.Except: _arms,
    exp.Intersect: _arms,
    exp.Tuple: _tuple,
    exp.Order: _order,
    exp.WindowSpec: _frame,
    exp.Filter: _filter,
    exp.JSONPath: _path,
    exp.Collate: _collate,
}
