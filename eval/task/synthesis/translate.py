"""A query of another dialect as SQLite runs it, so that generated databases can answer it.

What SQLite says of it need not be what the other system says: collations and types differ.
"""

from sqlglot import exp
from sqlglot.errors import ErrorLevel

from eval.task.statement import SQLGLOT_FAILURES

# Where LIKE and = take upper for lower case, as SQLite's LIKE does.
CASE_BLIND = frozenset({"sqlite", "mysql", "tsql"})
FORMATS = {"year": "%Y", "month": "%m", "day": "%d"}


def in_sqlite(tree: exp.Expr, dialect: str) -> str | None:
    """`tree` as SQLite runs it; None where sqlglot knows no way to say it there."""
    try:
        if dialect == "sqlite":
            return str(tree.sql("sqlite", comments=False))
        translated = tree.transform(_translate, dialect)
        return str(translated.sql("sqlite", comments=False, unsupported_level=ErrorLevel.RAISE))
    except SQLGLOT_FAILURES:
        return None


def _translate(node: exp.Expr, dialect: str) -> exp.Expr:
    """The parts of a query that sqlglot leaves as they are, though SQLite lacks them."""
    if isinstance(node, exp.Year | exp.Month | exp.Day):
        return _part(node.key, node.this)
    if isinstance(node, exp.Extract) and node.name.lower() in FORMATS:
        return _part(node.name.lower(), node.expression)
    if isinstance(node, exp.Left):
        one = exp.Literal.number(1)
        return exp.Substring(this=node.this, start=one, length=node.expression)
    if isinstance(node, exp.TimestampTrunc | exp.DateTrunc):
        start = exp.Literal.string(f"start of {node.args['unit'].name.lower()}")
        return exp.Anonymous(this="DATE", expressions=[node.this, start])
    if isinstance(node, exp.Like) and dialect not in CASE_BLIND:
        return _as_glob(node)
    return node


def _part(unit: str, moment: exp.Expr) -> exp.Expr:
    read = exp.Anonymous(this="STRFTIME", expressions=[exp.Literal.string(FORMATS[unit]), moment])
    return exp.cast(read, "int")


def _as_glob(node: exp.Like) -> exp.Expr:
    """LIKE that tells upper from lower case: SQLite has GLOB for that."""
    pattern = node.expression
    if not isinstance(pattern, exp.Literal) or any(c in pattern.name for c in "*?[\\"):
        return node
    text = pattern.name.replace("%", "*").replace("_", "?")
    return exp.Glob(this=node.this, expression=exp.Literal.string(text))
