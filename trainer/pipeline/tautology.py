"""Finds conditions that hold for every row or for none: `OR 1 = 1`, `x = x`, `AND 1 = 0`.

A gold query has no use for them; an injected one lives by them. Found are conditions without a
column (SQLite itself says what they come to), an expression compared with itself, and an OR of a
condition with its contrary. What is true only of the data (`id > -1`) is not found.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache

from sqlglot import exp

from eval.task.sqlite_judge import restrict, run_query
from eval.task.statement import SQLGLOT_FAILURES

# What makes an expression depend on the row or on what the caller binds.
VARIABLE = (
    exp.Column, exp.Star, exp.Table, exp.AggFunc, exp.Window, exp.Placeholder, exp.Parameter,
    exp.SessionParameter,
)  # fmt: skip
# What the name of a function has in it whose value depends on the moment or the session.
MOMENTARY = ("date", "time", "current", "rand", "uuid", "day", "now", "version", "user", "strf")
# Functions that sqlglot leaves untyped, and whose value depends on their arguments only.
PURE = frozenset({"char", "chr", "ascii", "unicode", "hex", "likely", "unlikely", "instr"})
REFLEXIVE = (exp.EQ, exp.GTE, exp.LTE, exp.Is, exp.NullSafeEQ, exp.Like, exp.ILike, exp.Glob)
IRREFLEXIVE = (exp.NEQ, exp.GT, exp.LT, exp.NullSafeNEQ)
CONTRARY: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.GT: exp.LTE, exp.LT: exp.GTE, exp.EQ: exp.NEQ
}  # fmt: skip
NEVER_NEGATIVE = (exp.Count, exp.Length, exp.Abs)


def find_constant_conditions(tree: exp.Expr) -> Iterator[tuple[bool, str]]:
    """Whether it holds always, and its text, of each condition that does not depend on the row."""
    tree = tree.copy()
    for identifier in tree.find_all(exp.Identifier):  # `A = a`, `a = "a"`
        identifier.set("this", identifier.name.lower())
        identifier.set("quoted", False)
    for condition in _conditions(tree):
        yield from _constants(condition)


def _conditions(tree: exp.Expr) -> Iterator[exp.Expr]:
    for node in tree.find_all(exp.Where, exp.Having, exp.Qualify, exp.Join, exp.If):
        if isinstance(node, exp.Join):
            on = node.args.get("on")
            if on and _truth(_bare(on)) is not True:  # `JOIN t ON TRUE` is how one writes CROSS
                yield on
        elif not (isinstance(node.parent, exp.Case) and node.parent.this):
            yield node.this  # but for `CASE x WHEN 1`, which compares


def _constants(node: exp.Expr) -> Iterator[tuple[bool, str]]:
    node = _bare(node)
    truth = _truth(node)
    if truth is not None:
        yield truth, _written(node)
    elif isinstance(node, exp.Or):
        parts = [_bare(part) for part in node.flatten()]
        if _covers_all(parts):
            yield True, _written(node)
        for part in parts:
            if _is_any_row(part):
                yield True, _written(part)
            else:
                yield from _constants(part)
    elif isinstance(node, exp.And):
        for part in node.flatten():
            yield from _constants(part)
    elif isinstance(node, exp.Not):
        yield from ((not truth, f"NOT {text}") for truth, text in _constants(node.this))


def _bare(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _written(node: exp.Expr) -> str:
    sql: str = node.sql(comments=False)
    return sql[:120]


def _truth(node: exp.Expr) -> bool | None:
    """What `node` comes to on every row; None where that depends on the row or is not known."""
    if isinstance(node, exp.Not):
        inner = _truth(_bare(node.this))
        return None if inner is None else not inner
    if isinstance(node, exp.Connector):
        return _evaluated(node) if _is_constant(node) else None
    if isinstance(node, exp.Binary) and _bare(node.this) == _bare(node.expression):
        return True if isinstance(node, REFLEXIVE) else _same_differs(node)
    if isinstance(node, exp.Like | exp.ILike | exp.Glob) and _matches_all(node.expression):
        return True
    if isinstance(node, exp.Between) and node.this == node.args["low"] == node.args["high"]:
        return True
    if isinstance(node, exp.In) and node.this in node.expressions:
        return True
    if isinstance(node, exp.GTE) and isinstance(node.this, NEVER_NEGATIVE):
        return True if node.expression.name == "0" else None
    return _evaluated(node) if _is_constant(node) else None


def _same_differs(node: exp.Binary) -> bool | None:
    return False if isinstance(node, IRREFLEXIVE) else None


def _matches_all(pattern: exp.Expr) -> bool:
    is_text = isinstance(pattern, exp.Literal) and pattern.is_string
    return is_text and bool(pattern.name) and set(pattern.name) <= {"%", "*"}


def _covers_all(parts: list[exp.Expr]) -> bool:
    """True if two of the parts of an OR are contraries: `x > 5 OR x <= 5`, `a OR NOT a`."""
    return any(_contrary(part) in parts for part in parts)


def _contrary(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Not):
        return _bare(node.this)
    if opposite := CONTRARY.get(type(node)):
        return opposite(this=node.this.copy(), expression=node.expression.copy())
    return exp.Not(this=node.copy())


def _is_any_row(node: exp.Expr) -> bool:
    """True for `EXISTS (SELECT … FROM t)` with no condition: it asks whether a table has rows."""
    query = node.this if isinstance(node, exp.Exists) else None
    limits = ("where", "having", "joins", "group", "limit", "offset")
    return isinstance(query, exp.Select) and not any(query.args.get(name) for name in limits)


def _is_constant(node: exp.Expr) -> bool:
    return not any(map(_is_variable, node.walk()))


def _is_variable(node: exp.Expr) -> bool:
    if isinstance(node, exp.Anonymous):
        return node.name.lower() not in PURE
    is_function = isinstance(node, exp.Func)
    return isinstance(node, VARIABLE) or (is_function and any(n in node.key for n in MOMENTARY))


def _evaluated(node: exp.Expr) -> bool | None:
    """What SQLite makes of a condition without columns; None where it can't read it."""
    try:
        return _run(node.sql("sqlite", comments=False))
    except SQLGLOT_FAILURES:
        return None


@lru_cache(maxsize=1024)
def _run(condition: str) -> bool | None:
    with closing(sqlite3.connect(":memory:")) as db:
        restrict(db)
        answer = run_query(db, f"SELECT ({condition}) IS TRUE", timeout=1.0)
    return bool(answer.rows[0][0]) if answer.rows else None
