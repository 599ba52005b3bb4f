"""Queries in canonical text: what has one text has one answer, whatever the rows are.

Every rewrite is sound; many true equalities stay unseen. Where the plan of the database decides the
answer nothing is reordered: only spelling is made equal. sqlglot's own optimizer is not used: its
`qualify` is super-linear, and its rules take TRUE for what is NULL.
"""

from sqlglot import exp

from eval.canonical.determinism import is_by_order
from eval.canonical.labels import UnclearError
from eval.canonical.misread import is_misread
from eval.canonical.rewriting import Writer
from eval.queries.clauses import parse_query
from eval.task.schema import Schema
from eval.task.statement import SQLGLOT_FAILURES

MAX_NODES = 800
OTHER_QUOTES = "`["
NAME_QUOTES = '"' + OTHER_QUOTES
# What may be set on each kind of node; anything else (a sample, a lock, a hint) is unclear.
KNOWN_ARGS: dict[type[exp.Expr], frozenset[str]] = {
    exp.Select: frozenset(
        "expressions from_ joins where group having order limit offset distinct fetch".split()
    ),
    exp.Union: (SET_ARGS := frozenset("this expression distinct order limit offset".split())),
    exp.Except: SET_ARGS,
    exp.Intersect: SET_ARGS,
    exp.Table: frozenset({"this", "alias"}),
    exp.TableAlias: frozenset({"this"}),
    exp.Subquery: frozenset({"this", "alias"}),
    exp.Join: frozenset("this on using side kind method".split()),
    exp.Group: frozenset({"expressions"}),
    exp.Distinct: frozenset({"expressions"}),
}


def is_equivalent(
    predicted: str, gold: str, schema: Schema, *, dialect: str = "sqlite"
) -> bool | None:
    """True where both have the same canonical text; None where `gold` can't be parsed."""
    expected = parse_query(gold, dialect)
    if expected is None:
        return None
    found = parse_query(predicted, dialect)
    if found is None:
        return False
    if predicted.strip() == gold.strip():
        return True
    if dialect == "sqlite" and (is_misread(predicted, found) or is_misread(gold, expected)):
        return False
    is_same = found == expected and _spelled(found, dialect) == _spelled(expected, dialect)
    if is_same and _quotes(predicted) == _quotes(gold):
        return True
    if dialect == "sqlite" and set(OTHER_QUOTES) & {*predicted, *gold}:
        return False  # the tree does not tell these from "such", which may be a string
    text = canonical_text(expected, schema, dialect)
    return text is not None and text == canonical_text(found, schema, dialect)


def _quotes(sql: str) -> list[str]:
    return [character for character in sql if character in NAME_QUOTES]


def _spelled(query: exp.Expr, dialect: str) -> str:
    return query.sql(dialect, comments=False)


def canonical_text(query: exp.Expr, schema: Schema, dialect: str = "sqlite") -> str | None:
    """The canonical text of a query; None where it is too large or a name in it is unclear."""
    try:
        if sum(1 for _ in query.walk()) > MAX_NODES:
            return None
        _check_args(query)
        free = Writer(schema, dialect, is_free=not is_by_order(query, dialect))
        text = free.query(query, None, "top")
        if free.is_free and not free.depends_on_plan:
            return text
        return "as written: " + Writer(schema, dialect, is_free=False).query(query, None, "top")
    except SQLGLOT_FAILURES:
        return None


def _check_args(query: exp.Expr) -> None:
    for node in query.walk():
        known = KNOWN_ARGS.get(type(node))
        if known is not None:
            for name, value in node.args.items():
                if value and name not in known:
                    raise UnclearError(f"{name} of {node.key}")
