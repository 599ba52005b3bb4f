"""Truths, numbers and text that stand in for each other in SQLite and MySQL, but not elsewhere.

`WHERE 1`, `SUM(a > 1)`, `name = 5`: each is made explicit for a stricter dialect, or refused.
"""

import re

from sqlglot import exp

from eval.task.adapting import Adapting, cast
from eval.task.kinds import NUMERIC, Kind

# Engines where a text is no number and a number no truth.
STRICT = frozenset(
    "athena bigquery duckdb materialize postgres presto redshift risingwave snowflake trino".split()
)
# Engines where a truth is not even a value.
NO_TRUTHS = frozenset({"fabric", "oracle", "teradata", "tsql"})
# `=` looks at no case, by default collations.
CASELESS_TEXT = frozenset({"doris", "fabric", "mysql", "starrocks", "tsql"})

TRUTHS = (exp.Predicate, exp.Connector, exp.Not)
COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
CALCULATIONS = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.Sum, exp.Avg)
EXTREMES = (exp.Max, exp.Min)  # of text and times too
# A text that is a number whatever the engine.
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?")


def adapt_truths(work: Adapting) -> None:
    """Rewrite what `work.write` would not take; see above."""
    if work.write in STRICT | NO_TRUTHS:
        _conditions(work)
        work.kinds.forget()
        for node in list(work.tree.find_all(*CALCULATIONS, *EXTREMES)):
            for operand in _operands(node):
                _as_number(work, operand)
        work.kinds.forget()
        for select in work.tree.find_all(exp.Select):
            for item in select.expressions:
                _selected_truth(work, item.unalias())
    work.kinds.forget()
    for node in list(work.tree.find_all(*COMPARISONS, exp.In, exp.Between)):
        _comparison(work, node)
    for operation in work.tree.find_all(exp.SetOperation):
        _arms(work, operation)


def _conditions(work: Adapting) -> None:
    """Numbers where a condition must stand."""
    for node in list(work.tree.find_all(exp.Where, exp.Having, exp.Join, exp.Connector, exp.Not,
                                        exp.If)):  # fmt: skip
        parts = [node.args.get("on")] if isinstance(node, exp.Join) else [node.this]
        parts += [node.expression] if isinstance(node, exp.Connector) else []
        for part in parts:
            is_case_value = isinstance(node, exp.If) and node.parent and node.parent.this
            if part is None or is_case_value:
                continue
            inner = part.unnest()
            numbers = NUMERIC | {"truth"} if work.write in NO_TRUTHS else NUMERIC
            if not isinstance(inner, TRUTHS) and work.kinds.of(inner) in numbers:
                holder = exp.NEQ(this=exp.Null(), expression=exp.Literal.number(0))
                inner.replace(holder)
                holder.set("this", inner)


def _operands(node: exp.Expr) -> list[exp.Expr]:
    operands = [node.this, node.args.get("expression")]
    return [
        part.expressions[0] if isinstance(part, exp.Distinct) else part
        for part in operands
        if isinstance(part, exp.Expr)
    ]


def _as_number(work: Adapting, operand: exp.Expr) -> None:
    inner = operand.unnest()
    if isinstance(inner, TRUTHS) or (work.kinds.of(inner) == "truth" and work.write in STRICT):
        _number_of_truth(work, inner)
    elif isinstance(operand.parent, EXTREMES):
        return
    elif work.kinds.of(inner) == "text" and work.write in STRICT:
        work.lose(inner, "a text is no number")
    elif work.kinds.of(inner) == "time" and isinstance(operand.parent, exp.Sum | exp.Avg):
        work.lose(inner, "a time is no number")


def _number_of_truth(work: Adapting, truth: exp.Expr) -> None:
    if work.write in STRICT:
        cast(truth, "INT", "sqlite")
        return
    work.note("a condition that is NULL counts as 0")
    case = exp.Case(ifs=[exp.If(this=exp.Null(), true=exp.Literal.number(1))],
                    default=exp.Literal.number(0))  # fmt: skip
    truth.replace(case)
    case.args["ifs"][0].set("this", truth)


def _selected_truth(work: Adapting, item: exp.Expr) -> None:
    inner = item.unnest()
    if not isinstance(inner, TRUTHS):
        return
    if work.write in NO_TRUTHS:
        _number_of_truth(work, inner)
    else:
        work.note(f"a condition shows as true or false in {work.write}, not as 1 or 0")


def _comparison(work: Adapting, node: exp.Expr) -> None:
    if isinstance(node, exp.Between):
        others = [node.args["low"], node.args["high"]]
    else:
        others = [*node.expressions] if isinstance(node, exp.In) else [node.expression]
    for other in others:
        if isinstance(node.this, exp.Tuple) or isinstance(other, exp.Tuple):
            continue
        _compared(work, node.this, other)
    if isinstance(node, exp.In) and (query := node.args.get("query")):
        _compared(work, node.this, query)


def _compared(work: Adapting, one: exp.Expr, other: exp.Expr) -> None:
    kinds = {work.kinds.of(one), work.kinds.of(other)}
    if kinds <= {"text", ""} and "text" in kinds:
        note_case(work)
    if "text" in kinds and kinds & NUMERIC:
        for literal, value in ((one, other), (other, one)):
            if isinstance(literal, exp.Literal) and isinstance(value, exp.Column | exp.Cast):
                return _literal(work, literal, value)
        # SQLite makes a number of a text beside a column only.
        if work.read == "sqlite" or work.write in STRICT:
            work.lose(one, "a text is compared with a number")
    elif "truth" in kinds and kinds & NUMERIC and work.write in STRICT | NO_TRUTHS:
        for side, value in ((one, other), (other, one)):
            if isinstance(side.unnest(), TRUTHS) and not isinstance(side, exp.Any | exp.All):
                _number_of_truth(work, side.unnest())
            elif isinstance(side, exp.Column) and work.kinds.of(side) == "truth":
                _true_column(work, side, value)
    return None


def _true_column(work: Adapting, column: exp.Expr, number: exp.Expr) -> None:
    """A column that is declared a truth is compared with a number, most often 0 or 1."""
    if work.write not in STRICT:
        return
    if isinstance(number, exp.Literal) and number.name in ("0", "1"):
        number.replace(exp.Boolean(this=number.name == "1"))
    else:
        _number_of_truth(work, column)


def _literal(work: Adapting, literal: exp.Expr, value: exp.Expr) -> None:
    """SQLite compares a text column with 5 as with '5', and a number with '5' as with 5."""
    kind: Kind = work.kinds.of(value)
    if not literal.is_string and kind == "text":
        literal.replace(exp.Literal.string(literal.name))
    elif literal.is_string and kind in NUMERIC and work.write in STRICT | NO_TRUTHS:
        if NUMBER.fullmatch(literal.name.strip()):
            literal.replace(exp.Literal.number(literal.name.strip()))
        else:
            work.lose(literal, "a number is compared with a text")


def note_case(work: Adapting) -> None:
    if (work.write in CASELESS_TEXT) != (work.read in CASELESS_TEXT):
        caseless = work.write if work.write in CASELESS_TEXT else work.read
        work.note(f"text is compared without regard to case by the default collation of {caseless}")


def _arms(work: Adapting, operation: exp.Expr) -> None:
    left, right = operation.this.unnest(), operation.expression.unnest()
    for one, other in zip(_items(left), _items(right), strict=False):
        kinds = {work.kinds.of(one), work.kinds.of(other)}
        if "text" not in kinds or not kinds & NUMERIC:
            continue
        if work.write in STRICT:
            work.lose(operation, "a column of text and numbers")
        elif work.read == "sqlite":
            work.note(f"numbers in a column with text become text in {work.write}")


def _items(query: exp.Expr) -> list[exp.Expr]:
    while isinstance(query, exp.SetOperation):
        query = query.this.unnest()
    found = [item.unalias() for item in getattr(query, "selects", ())]
    return [] if any(item.is_star for item in found) else found
