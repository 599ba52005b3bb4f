"""ORDER BY in a subquery, where nobody sees the order."""

from collections.abc import Iterator

from sqlglot import exp

from eval.task.trees import edited
from server.suggest.suggestion import Draft, Kind, Known

# What makes one value of many rows in the order in which they come.
ORDER_READERS = (exp.GroupConcat, exp.ArrayAgg, exp.First, exp.Last, exp.AnyValue, exp.Anonymous)
MESSAGE = "The order of a subquery's rows is not that of the answer: sorting them is lost work."


def redundant_order(tree: exp.Query, known: Known) -> Iterator[Draft]:
    for order in tree.find_all(exp.Order):
        query = order.parent
        if isinstance(query, exp.Query) and query is not tree and _is_lost(query, tree):
            rewrite = edited(tree, query, lambda twin: twin.set("order", None))
            yield Draft(Kind.REDUNDANT_ORDER, MESSAGE, order, rewrite)


def _is_lost(query: exp.Query, tree: exp.Query) -> bool:
    distinct = query.args.get("distinct")
    says_which_row = distinct is not None and distinct.args.get("on")
    if says_which_row or query.args.get("limit") or query.args.get("offset"):
        return False
    parent = query.parent
    holder = parent.parent if isinstance(parent, exp.Subquery) else parent
    if isinstance(holder, exp.In | exp.Exists):
        return True
    if isinstance(holder, exp.From | exp.Join | exp.CTE):
        return _sorts_anew(holder, tree)
    return False


def _sorts_anew(holder: exp.Expr, tree: exp.Query) -> bool:
    """Whether the query that reads the rows shows no trace of their order: it sorts all that it
    shows, or counts and adds up."""
    if isinstance(holder, exp.CTE) or tree.find(*ORDER_READERS):
        return False
    reader = holder.find_ancestor(exp.Select)
    if reader is not tree or reader is None:
        return False
    is_one_row = not reader.args.get("group") and all(
        isinstance(item.unalias(), exp.AggFunc) for item in reader.expressions
    )
    return is_one_row or (bool(reader.args.get("order")) and not reader.args.get("limit"))
