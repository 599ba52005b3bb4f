"""Changes of a query's tree that leave the tree itself alone."""

from collections.abc import Callable

from sqlglot import exp

Edit = Callable[[exp.Expr], object]


def edited(tree: exp.Query, node: exp.Expr, edit: Edit) -> exp.Expr | None:
    """A copy of `tree` after `edit` was done to its twin of `node`, a node of `tree`; None where
    that took all away."""
    position = next(i for i, found in enumerate(tree.walk()) if found is node)
    copy = exp.Subquery(this=tree.copy())  # so that an edit may replace the root
    edit(next(twin for i, twin in enumerate(copy.this.walk()) if i == position))
    found: exp.Expr | None = copy.args.get("this")
    return found.pop() if found is not None else None


def become(other: exp.Expr) -> Edit:
    return lambda node: node.replace(other)
