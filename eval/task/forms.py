"""What sqlglot reads though an engine's grammar has no place for it: `SELECT FROM t`, a row where
one value must stand, ORDER BY before UNION, a frame that ends before it starts.
"""

from collections.abc import Iterator

from sqlglot import exp

from eval.task.violation import Violation, span

COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ)
SQLITE_COLLATIONS = frozenset({"BINARY", "NOCASE", "RTRIM"})
# Where a bound of a window's frame lies, from first to last.
BOUNDS = {
    ("UNBOUNDED", "PRECEDING"): 0,
    ("", "PRECEDING"): 1,
    ("CURRENT ROW", ""): 2,
    ("", "FOLLOWING"): 3,
    ("UNBOUNDED", "FOLLOWING"): 4,
}


def unbracketed(tree: exp.Expr) -> exp.Expr:
    """`tree` without the brackets around a whole query or an arm of UNION that mean nothing:
    SQLite does not read them."""
    while _is_only_brackets(tree):
        tree = tree.this
    for operation in list(tree.find_all(exp.SetOperation)):
        for arm in (operation.this, operation.expression):
            inner = arm.unnest()
            is_plain = isinstance(inner, exp.Select) and not any(
                inner.args.get(name) for name in ("order", "limit", "offset", "with_")
            )
            if inner is not arm and is_plain and _is_only_brackets(arm):
                arm.replace(inner)
    return tree


def _is_only_brackets(node: exp.Expr) -> bool:
    if not isinstance(node, exp.Subquery) or not isinstance(node.this, exp.Query):
        return False
    return not any(value for name, value in node.args.items() if name != "this")


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
    return "" if isinstance(alias.parent, exp.Select) else "AS stands where no name may be given"


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
    """Rows are compared with rows of the same width; elsewhere SQLite takes none."""
    parent = row.parent
    if isinstance(parent, COMPARISONS):
        other = parent.expression if row.arg_key == "this" else parent.this
        if isinstance(other, exp.Tuple):
            same = len(other.expressions) == len(row.expressions)
            return "" if same else "rows of unequal width are compared"
        return "" if isinstance(other, exp.Subquery) else "a row is compared with one value"
    if isinstance(parent, exp.In) and row.arg_key == "this":
        rows = [item for item in parent.expressions if isinstance(item, exp.Tuple)]
        same = all(len(item.expressions) == len(row.expressions) for item in rows)
        same = same and len(rows) == len(parent.expressions)
        return "" if same else "rows of unequal width are compared"
    if dialect != "sqlite" or isinstance(parent, exp.Values | exp.Between):
        return ""
    if isinstance(parent, exp.In) and len(parent.expressions) == 1:
        return ""
    return "SQLite takes no row of values here"


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


def _collate(node: exp.Expr, dialect: str) -> str:
    name = node.expression
    is_name = isinstance(name, exp.Identifier | exp.Var) or name.args.get("is_string")
    if not is_name or (dialect == "sqlite" and name.name.upper() not in SQLITE_COLLATIONS):
        return f"there is no collation {name.name[:32]!r}"
    return ""


SHAPES = {
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
    exp.Collate: _collate,
}
