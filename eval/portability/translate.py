"""A SQLite query in the words of another server, with the same meaning where sqlglot knows how.

Names are in lower case and quoted, as in the copies; LIKE looks at no case, as SQLite's; a derived
table has a name, which PostgreSQL asks for. Knows nothing of answers.
"""

from sqlglot import exp
from sqlglot.errors import ErrorLevel

from eval.task.dialect import parse_statements
from eval.task.ordering import MAX_SQL_BYTES
from eval.task.statement import SQLGLOT_FAILURES


def translate(sql: str, dialect: str) -> str | None:
    """The query `sql` in `dialect`; None where it can't be parsed or has no known form there."""
    try:
        (tree,) = parse_statements(sql, "sqlite", max_bytes=MAX_SQL_BYTES, max_tokens=MAX_SQL_BYTES)
        if dialect != "sqlite":
            _adapt(tree)
        return tree.sql(dialect, comments=False, unsupported_level=ErrorLevel.RAISE)
    except SQLGLOT_FAILURES:
        return None


def _adapt(tree: exp.Expr) -> None:
    for name in list(tree.find_all(exp.Identifier)):
        name.replace(exp.to_identifier(name.name.lower(), quoted=True))
    for like in list(tree.find_all(exp.Like)):
        like.replace(exp.ILike(this=like.this, expression=like.expression))
    for number, derived in enumerate(tree.find_all(exp.Subquery)):
        if isinstance(derived.parent, exp.From | exp.Join) and not derived.alias:
            alias = exp.to_identifier(f"derived_{number}", quoted=True)
            derived.set("alias", exp.TableAlias(this=alias))
