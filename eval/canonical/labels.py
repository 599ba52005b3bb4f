"""What tables and columns are called in canonical text, whatever their aliases are."""

from collections.abc import Iterator
from itertools import permutations, product
from math import factorial, prod

from eval.queries.clauses import Scope, Source

MAX_LABELLINGS = 24


class UnclearError(ValueError):
    """A name or source whose meaning can't be told, so that nothing can be rewritten."""


def column_label(source: Source, name: str) -> str:
    """A column of a table by its name; of a derived table by its place, as names may differ."""
    if source.is_table:
        return f"{source.label}.{name!r}"
    if source.columns.count(name) != 1 or "*" in source.columns:
        raise UnclearError(f"column {name} of a derived table")
    return f"{source.label}.{source.columns.index(name)}"


def labellings(scope: Scope, *, is_fixed: bool) -> Iterator[dict[str, str]]:
    """Labels by alias: sources of one table may swap theirs, unless their order is fixed."""
    depth, outer = 0, scope.outer
    while outer:
        depth, outer = depth + 1, outer.outer
    kinds: dict[str, list[str]] = {}
    for source in scope.sources:
        kinds.setdefault(repr(source.label) if source.is_table else "", []).append(source.alias)
    is_many = prod(factorial(len(group)) for group in kinds.values()) > MAX_LABELLINGS
    orders = ([group] if is_fixed or is_many else permutations(group) for group in kinds.values())
    for choice in product(*orders):
        yield {
            alias: f"@{depth}{kind}:{number}"
            for kind, group in zip(kinds, choice, strict=True)
            for number, alias in enumerate(group)
        }
