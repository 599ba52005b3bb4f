"""Conditions that say nothing, or say it twice, by sqlglot's optimiser."""

from collections.abc import Iterator

from sqlglot import exp
from sqlglot.optimizer.simplify import simplify

from eval.task.trees import Edit, edited
from server.suggest.suggestion import Draft, Kind, Known

COMPARISONS = (exp.Predicate, exp.Boolean)
MAX_SIZE = 20  # the optimiser tries pairs
MESSAGE = "Some of these conditions follow from the others, or are always met."
NEVER = "No row can meet these conditions together."


def redundant_condition(tree: exp.Query, known: Known) -> Iterator[Draft]:
    for where in tree.find_all(exp.Where):
        if _size(where.this) > MAX_SIZE:
            continue
        simpler = simplify(where.this.copy(), dialect=known.dialect)
        if _size(simpler) >= _size(where.this):
            continue
        is_never = isinstance(simpler, exp.Boolean) and not simpler.this
        select = where.parent
        rewrite = None
        if select is not None and not is_never:
            rewrite = edited(tree, select, _with_where(simpler))
        yield Draft(Kind.REDUNDANT_CONDITION, NEVER if is_never else MESSAGE, where.this, rewrite)


def _size(condition: exp.Expr) -> int:
    return sum(1 for _ in condition.find_all(*COMPARISONS))


def _with_where(condition: exp.Expr) -> Edit:
    is_always = isinstance(condition, exp.Boolean)
    where = None if is_always else exp.Where(this=condition)
    return lambda select: select.set("where", where)
