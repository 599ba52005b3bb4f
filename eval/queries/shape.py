"""How hard a query is by Spider's criteria, and what it is made of.

Looks at one query only: needs no schema, knows nothing of predictions.
"""

from collections.abc import Callable

from sqlglot import exp

from eval.queries.clauses import (
    conditions,
    is_query,
    joins,
    members,
    own_nodes,
    parse_query,
    positive,
    sources,
    tail,
)
from eval.task.statement import SQLGLOT_FAILURES

HARDNESS = ("easy", "medium", "hard", "extra", "unknown")
SHAPES = (
    "single_table",
    "join",
    "many_joins",  # two or more
    "aggregate",
    "group_by",
    "having",
    "order_by",
    "limit",
    "subquery",
    "set_operation",
    "distinct",
    "or",
    "like",
    "window",
    "cte",
)
SIMPLE_AGGREGATES = (exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max)


def hardness(sql: str, dialect: str = "sqlite") -> str:
    """One of `HARDNESS`: "unknown" where `sql` can't be parsed as one query.

    Criteria of Yu et al., "Spider" (2018), as `eval_hardness` of the official `evaluation.py`
    counts them: of a set operation only the first SELECT, its ORDER BY being that of the last.
    """
    query = parse_query(sql, dialect)
    if query is None:
        return "unknown"
    try:
        return _level(_components(query), _nested(query), _others(query))
    except SQLGLOT_FAILURES:
        return "unknown"


def _level(components: int, nested: int, others: int) -> str:
    if nested == 0:
        if components <= 1:
            return "easy" if others == 0 else "medium" if others <= 2 else "hard"
        if components == 2:
            return "medium" if others < 2 else "hard" if others > 2 else "extra"
        return "hard" if components == 3 and others <= 2 else "extra"
    return "hard" if components <= 1 and others == 0 and nested == 1 else "extra"


def _components(query: exp.Expr) -> int:
    """Component 1: WHERE, GROUP BY, ORDER BY, LIMIT, each JOIN, each OR, each LIKE."""
    select = members(query)[0][0]
    clauses = [select.args.get("where"), select.args.get("group"), *_tails(query)]
    found, words = _all_conditions(select)
    likes = sum(isinstance(positive(condition)[0], exp.Like) for condition in found)
    num_joins = max(len(sources(select)) - 1, 0)
    return sum(map(bool, clauses)) + num_joins + words.count("or") + likes


def _nested(query: exp.Expr) -> int:
    """Component 2: queries inside conditions, and the set operation."""
    selects, words = members(query)
    found, _ = _all_conditions(selects[0])
    return bool(words) + sum(_num_queries(positive(condition)[0]) for condition in found)


def _others(query: exp.Expr) -> int:
    """Others: over one aggregate, over one column in SELECT, in WHERE, in GROUP BY.

    The script counts as an aggregate also each NOT of WHERE and HAVING and each AND or OR of
    HAVING: published hardness rests on this, so it is kept.
    """
    select = members(query)[0][0]
    where, _ = conditions(select.args.get("where"))
    having, words = conditions(select.args.get("having"))
    keys = _list(_tails(query)[0])
    group = _list(select.args.get("group"))
    num_aggregates = sum(any(map(_is_aggregate, own_nodes(i))) for i in select.expressions)
    num_aggregates += sum(_is_aggregate(node) for key in keys for node in own_nodes(key))
    num_aggregates += sum(positive(c)[1] for c in where + having) + len(words)
    counts = (num_aggregates, len(select.expressions), len(where), len(group))
    return sum(count > 1 for count in counts)


def _tails(query: exp.Expr) -> tuple[exp.Expr | None, exp.Expr | None]:
    """ORDER BY and LIMIT of a plain SELECT; the script gives those of a set operation to its last
    member, which it does not count."""
    is_set = isinstance(query.unnest(), exp.SetOperation)
    return (None, None) if is_set else (tail(query, "order"), tail(query, "limit"))


def _all_conditions(select: exp.Expr) -> tuple[list[exp.Expr], list[str]]:
    clauses = [join.args.get("on") for join in joins(select)]
    clauses += [select.args.get("where"), select.args.get("having")]
    pairs = [conditions(clause) for clause in clauses]
    return [c for found, _ in pairs for c in found], [w for _, words in pairs for w in words]


def _num_queries(condition: exp.Expr) -> int:
    parts = (part.unnest() for part in condition.iter_expressions())
    return sum(is_query(part) for part in parts)


def _list(clause: exp.Expr | None) -> list[exp.Expr]:
    return clause.expressions if clause else []


def _is_aggregate(node: exp.Expr) -> bool:
    return isinstance(node, SIMPLE_AGGREGATES)


def shape(sql: str, dialect: str = "sqlite") -> tuple[str, ...]:
    """What the whole query holds, of `SHAPES` in their order; () where it can't be parsed."""
    query = parse_query(sql, dialect)
    if query is None:
        return ()
    try:
        return tuple(name for name in SHAPES if HOLDS[name](query))
    except SQLGLOT_FAILURES:
        return ()


def _has(*kinds: type[exp.Expr]) -> Callable[[exp.Query], bool]:
    return lambda query: query.find(*kinds) is not None


def _num_joins(query: exp.Query) -> int:
    """Of the SELECT that has most: tables in one FROM, less one."""
    return max((len(sources(select)) - 1 for select in query.find_all(exp.Select)), default=0)


def _has_subquery(query: exp.Query) -> bool:
    """A query within another; a member of a set operation and a CTE are not meant."""
    apart = (exp.SetOperation, exp.CTE)
    inner = filter(is_query, query.find_all(exp.Query))
    return any(
        node.parent is not None
        and not isinstance(node, exp.Subquery)
        and not isinstance(_holder(node), apart)
        for node in inner
    )


def _holder(node: exp.Expr) -> exp.Expr | None:
    """What stands around a query and its brackets."""
    parent = node.parent
    while isinstance(parent, exp.Subquery) and parent.parent is not None:
        is_bracket = not parent.alias and isinstance(parent.parent, exp.SetOperation)
        if not is_bracket:
            return parent
        parent = parent.parent
    return None if isinstance(parent, exp.Subquery) else parent


HOLDS: dict[str, Callable[[exp.Query], bool]] = {
    "single_table": lambda query: len(list(query.find_all(exp.Table))) == 1,
    "join": lambda query: _num_joins(query) >= 1,
    "many_joins": lambda query: _num_joins(query) >= 2,
    "aggregate": _has(exp.AggFunc),
    "group_by": _has(exp.Group),
    "having": _has(exp.Having),
    "order_by": _has(exp.Order),
    "limit": _has(exp.Limit, exp.Fetch),
    "subquery": _has_subquery,
    "set_operation": _has(exp.SetOperation),
    "distinct": _has(exp.Distinct),
    "or": _has(exp.Or),
    "like": _has(exp.Like, exp.ILike),
    "window": _has(exp.Window),
    "cte": _has(exp.CTE),
}
