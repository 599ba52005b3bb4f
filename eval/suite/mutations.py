"""Near misses that the tree alone gives: literals, conditions, order, limits, set operations."""

from collections.abc import Iterator

from sqlglot import exp

from eval.suite.change import Change, Facts, remove, retype
from eval.task.trees import become

COMPARISONS: dict[type[exp.Expr], tuple[type[exp.Expr], ...]] = {
    exp.GT: (exp.GTE, exp.LT),
    exp.GTE: (exp.GT, exp.LTE),
    exp.LT: (exp.LTE, exp.GT),
    exp.LTE: (exp.LT, exp.GTE),
    exp.EQ: (exp.NEQ,),
    exp.NEQ: (exp.EQ,),
}
MAX_DIGITS = 18  # of a whole number that SQLite holds
SET_OPERATIONS: tuple[type[exp.SetOperation], ...] = (exp.Union, exp.Intersect, exp.Except)


def changed_literal(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    for literal in tree.find_all(exp.Literal):
        if literal.find_ancestor(exp.Where, exp.Having, exp.Join):
            for text in _other_literals(literal):
                yield literal, become(exp.Literal(this=text, is_string=literal.is_string))


def _other_literals(literal: exp.Literal) -> Iterator[str]:
    text = literal.name
    if literal.is_string:
        last = next((i for i in reversed(range(len(text))) if text[i].isalnum()), None)
        if last is None:
            yield text + "x"
        else:
            other = str((int(text[last]) + 1) % 10) if text[last] in "0123456789" else "x"
            other = "y" if other == text[last].lower() else other
            yield text[:last] + other + text[last + 1 :]
    elif "." in text or "e" in text.lower():
        yield from (repr(float(text) + 1), repr(float(text) - 1))
    elif len(text) <= MAX_DIGITS:
        yield from (str(int(text) + 1), str(int(text) - 1))


def dropped_predicate(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    yield from ((p, _drop) for p in _predicates(tree) if not p.find(exp.Query))


def dropped_subquery(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    yield from ((p, _drop) for p in _predicates(tree) if p.find(exp.Query))


def _predicates(tree: exp.Expr) -> Iterator[exp.Expr]:
    for where in tree.find_all(exp.Where):
        yield from _operands(where.this)


def _operands(condition: exp.Expr) -> Iterator[exp.Expr]:
    """The parts of a condition that AND and OR join."""
    if isinstance(condition, exp.And | exp.Or | exp.Paren):
        for part in condition.iter_expressions():
            yield from _operands(part)
    else:
        yield condition


def _drop(predicate: exp.Expr) -> None:
    """Take `predicate` out of its AND or OR, or its clause out of the query."""
    node, parent = predicate, predicate.parent
    while isinstance(parent, exp.Paren):
        node, parent = parent, parent.parent
    if isinstance(parent, exp.And | exp.Or):
        parent.replace(parent.right if parent.left is node else parent.left)
    elif parent is not None:
        parent.pop()


def changed_operator(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    for clause in tree.find_all(exp.Where, exp.Having):
        for node in _operands(clause.this):
            for other in COMPARISONS.get(type(node), ()):
                yield node, retype(other)
            if isinstance(node, exp.Between):
                yield node, _open_between


def _open_between(node: exp.Expr) -> None:
    node.replace(exp.GTE(this=node.this, expression=node.args["low"]))


def and_or(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    for node in tree.find_all(exp.And, exp.Or):
        if node.find_ancestor(exp.Where, exp.Having):
            yield node, retype(exp.Or if isinstance(node, exp.And) else exp.And)


def flipped_order(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    for node in tree.find_all(exp.Ordered):
        yield node, _flip


def _flip(node: exp.Expr) -> None:
    is_descending = not node.args.get("desc")
    node.replace(exp.Ordered(this=node.this, desc=is_descending, nulls_first=not is_descending))


def dropped_order(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    yield from ((node, remove) for node in tree.find_all(exp.Order))


def changed_limit(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    for limit in tree.find_all(exp.Limit):
        yield limit, remove
        text = limit.expression.name
        if text.isdigit() and len(text) <= MAX_DIGITS:
            size = int(text)
            for other in {size + 1, max(1, size - 1)}:
                yield limit.expression, become(exp.Literal.number(other))


def dropped_group(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    """Left out where the query would then fail to run: HAVING, or an aggregate only to sort by."""
    for group in tree.find_all(exp.Group):
        select = group.parent
        if isinstance(select, exp.Select) and not select.args.get("having"):
            order = select.args.get("order")
            is_shown = any(p.find(exp.AggFunc) for p in select.expressions)
            if is_shown or order is None or not order.find(exp.AggFunc):
                yield group, remove


def dropped_having(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    for having in tree.find_all(exp.Having):
        yield from ((part, _drop) for part in _operands(having.this))


def changed_set_operation(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    for node in tree.find_all(exp.SetOperation):
        for other in SET_OPERATIONS:
            if not isinstance(node, other):
                yield node, retype(other, distinct=True)
        yield node, lambda twin: twin.replace(twin.this)


def negated_membership(tree: exp.Expr, _facts: Facts) -> Iterator[Change]:
    for node in tree.find_all(exp.In, exp.Exists, exp.Like):
        if isinstance(node.parent, exp.Not):
            yield node.parent, lambda twin: twin.replace(twin.this)
        else:
            yield node, lambda twin: twin.replace(exp.Not(this=twin.copy()))
