"""Conditions in conjunctive normal form, as sets of texts: equal sets are equal conditions.

Every rule holds in SQL's three-valued logic (De Morgan, distribution, absorption; `a OR NOT a` is
not TRUE there and stays). Knows nothing of names: the caller writes expressions as text.
"""

import hashlib
from collections.abc import Callable

from sqlglot import exp

# An OR of texts; a condition is an AND of these.
Clause = frozenset[str]
Clauses = frozenset[Clause]
Write = Callable[[exp.Expr], str]

MAX_CLAUSES = 32
MAX_MEMBERS = 16
ALWAYS: Clauses = frozenset()
FLIPPED = {exp.GT: exp.LT, exp.GTE: exp.LTE}
OPPOSITE: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.EQ: exp.NEQ,
    exp.NEQ: exp.EQ,
    exp.LT: exp.GTE,
    exp.GTE: exp.LT,
    exp.GT: exp.LTE,
    exp.LTE: exp.GT,
}


def normal_form(node: exp.Expr, write: Write, *, is_negated: bool = False) -> Clauses:
    """`node`, or its negation, as clauses; `write` says what stands for a value or condition."""
    node = node.unnest()
    if isinstance(node, exp.Not):
        return normal_form(node.this, write, is_negated=not is_negated)
    if isinstance(node, exp.Like) and node.args.get("negate"):
        positive = exp.Like(this=node.this.copy(), expression=node.expression.copy())
        return normal_form(positive, write, is_negated=not is_negated)
    if isinstance(node, exp.And | exp.Or):
        parts = [normal_form(p, write, is_negated=is_negated) for p in (node.left, node.right)]
        is_and = isinstance(node, exp.And) != is_negated
        return _minimal(parts[0] | parts[1]) if is_and else _either(*parts)
    if type(node) in OPPOSITE:
        return _compare(type(node), node.this, node.expression, write, is_negated=is_negated)
    if isinstance(node, exp.Between) and not node.args.get("symmetric"):
        low = _compare(exp.GTE, node.this, node.args["low"], write, is_negated=is_negated)
        high = _compare(exp.LTE, node.this, node.args["high"], write, is_negated=is_negated)
        return _either(low, high) if is_negated else low | high
    if isinstance(node, exp.In) and _is_short_list(node):
        return _members(node, write, is_negated=is_negated)
    if isinstance(node, exp.Boolean) and bool(node.this) != is_negated:
        return ALWAYS
    text = write(node)
    return _one(f"not({text})" if is_negated else text)


def written(clauses: Clauses) -> str:
    """One text for all: the same for equal sets."""
    return " and ".join(sorted("(" + " or ".join(sorted(clause)) + ")" for clause in clauses))


def _compare(
    kind: type[exp.Expr], left: exp.Expr, right: exp.Expr, write: Write, *, is_negated: bool
) -> Clauses:
    """A comparison as `=`, `<>`, `<` or `<=`, the operands of the first two in order."""
    kind = OPPOSITE[kind] if is_negated else kind
    one, two = write(left), write(right)
    if kind in FLIPPED:
        kind, one, two = FLIPPED[kind], two, one
    if kind in (exp.EQ, exp.NEQ):
        one, two = sorted((one, two))
    is_true = kind is exp.EQ and one == two and isinstance(left.unnest(), exp.Literal)
    return ALWAYS if is_true else _one(f"{kind.key}({one}, {two})")


def _is_short_list(node: exp.In) -> bool:
    """Of literals only: SQLite compares with a column in a list by other rules than with `=`."""
    found = node.expressions
    return 0 < len(found) <= MAX_MEMBERS and all(isinstance(e, exp.Literal) for e in found)


def _members(node: exp.In, write: Write, *, is_negated: bool) -> Clauses:
    kind = exp.NEQ if is_negated else exp.EQ
    each = [_compare(kind, node.this, e, write, is_negated=False) for e in node.expressions]
    texts = frozenset().union(*(clause for clauses in each for clause in clauses))
    return frozenset(frozenset({text}) for text in texts) if is_negated else frozenset({texts})


def _either(left: Clauses, right: Clauses) -> Clauses:
    """OR of both, distributed unless that would grow large."""
    if not left or not right:
        return ALWAYS
    if len(left) * len(right) > MAX_CLAUSES:
        text = " or ".join(sorted(f"[{written(side)}]" for side in (left, right)))
        return _one(
            hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        )  # as it stands in further copies
    return _minimal(frozenset(one | two for one in left for two in right))


def _minimal(clauses: Clauses) -> Clauses:
    """Without clauses that others imply: `a AND (a OR b)` is `a`."""
    if len(clauses) > MAX_CLAUSES:
        return clauses
    return frozenset(c for c in clauses if not any(other < c for other in clauses))


def _one(text: str) -> Clauses:
    return frozenset({frozenset({text})})
