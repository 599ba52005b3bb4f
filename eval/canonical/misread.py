"""Where sqlglot's tree may say something else than SQLite reads in the text.

Such a query is equal to its own text only. Knows nothing of schemas.
"""

from itertools import pairwise

from sqlglot import exp, tokenize
from sqlglot.errors import SqlglotError

# The tree has `mod(x, 1)` for `x % 1`, which cuts x to a whole number first, and LOG(2, x).
MERGED_FUNCTIONS = frozenset({"MOD", "LOG2", "LOG10"})
# What may stand before a `+` that adds: the tree leaves any other out, though `+x` has no affinity.
OPERAND_ENDS = frozenset(
    "VAR IDENTIFIER NUMBER STRING HEX_STRING R_PAREN NULL TRUE FALSE END DATE".split()
)
COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Is, exp.Like, exp.Glob,
               exp.In, exp.Between)  # fmt: skip
LOOSE = (*COMPARISONS, exp.Not)
OPERANDS = ("this", "expression", "low", "high")


def is_misread(sql: str, tree: exp.Expr) -> bool:
    """True if `tree`, which sqlglot made of `sql`, may not be what SQLite reads."""
    if any(map(_has_loose_operand, tree.walk())):
        return True
    try:
        tokens = tokenize(sql, read="sqlite")
    except SqlglotError:
        return True
    words = [token.text.upper() for token in tokens]
    kinds = ["", *(token.token_type.name for token in tokens)]
    has_sign = any(
        kind == "PLUS" and before not in OPERAND_ENDS for before, kind in pairwise(kinds)
    )
    return has_sign or not MERGED_FUNCTIONS.isdisjoint(words)


def _has_loose_operand(node: exp.Expr) -> bool:
    """True for `a = b IN (…)` without brackets: SQLite goes from the left, sqlglot takes IN, LIKE
    and their like before `=`, and NOT wherever it stands."""
    is_tight = isinstance(node, exp.Binary | exp.Neg | exp.BitwiseNot | exp.In | exp.Between)
    return (
        is_tight
        and not isinstance(node, exp.Connector | exp.Escape)
        and any(isinstance(node.args.get(name), LOOSE) for name in OPERANDS)
    )
