"""Where the plan of a database, and not the query alone, decides what the answer is.

LIMIT over tied rows, a column beside an aggregate, a subquery of many rows used as a value: each is
told from the tree. Knows nothing of collations: texts that differ are taken to sort apart.
"""

from sqlglot import exp

from eval.queries.clauses import own_nodes
from eval.task.functions import NAMED

# Their answers hang on the order of rows, or on a table that is not read by name.
BY_ORDER = (exp.Window, exp.GroupConcat, exp.ArrayAgg, exp.Collate, exp.With, exp.Lateral,
            exp.TableSample, exp.Unnest, exp.Rand)  # fmt: skip


def is_by_order(query: exp.Expr, dialect: str) -> bool:
    """True where anything in `query` hangs on the order of rows, or may do so."""
    known = NAMED.get(dialect, frozenset()) - {"total"}
    return any(
        isinstance(node, BY_ORDER)
        or (isinstance(node, exp.Anonymous) and node.name.lower() not in known)
        for node in query.walk()
    )


def aggregates(select: exp.Expr) -> bool:
    """True where a SELECT without GROUP BY gives one row because it aggregates."""
    parts = [*select.expressions, select.args.get("having")]
    order = select.args.get("order")
    parts += [order] if order else []
    return any(isinstance(n, exp.AggFunc) for part in parts if part for n in own_nodes(part))


def is_one_row(query: exp.Expr) -> bool:
    """True where a query gives one row, or where its LIMIT says which row comes first."""
    args = query.args
    is_single = isinstance(query, exp.Select) and not args.get("group") and aggregates(query)
    return bool(args.get("limit")) or is_single or not (args.get("from_") or args.get("this"))


def leaves_no_ties(
    by: set[str], items: set[str], keys: list[str] | None, *, is_distinct: bool
) -> bool:
    """True where ORDER BY `by` leaves only rows tied that are equal in all that is shown.

    `items` are the outputs, `keys` those of a GROUP BY.
    """
    if is_distinct:
        return by == items
    return set(keys) <= by if keys is not None else items <= by
