"""A change to a query's tree: what a near miss is made by, and what is known of the database."""

from dataclasses import dataclass

from sqlglot import exp

from eval.task.schema import Schema, Table
from eval.task.trees import Edit

Key = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the database: `keys` holds (table, columns), in lower case, of column sets
    besides the primary keys that no two rows share."""

    schema: Schema
    keys: frozenset[Key] = frozenset()

    def is_unique(self, table: Table, columns: set[str]) -> bool:
        """True if `columns`, in lower case, tell the rows of `table` apart."""
        known = [set(names) for name, names in self.keys if name == table.name.lower()]
        primary = {name.lower() for name in table.primary_key}
        return any(key <= columns for key in [*known, primary] if key)


Change = tuple[exp.Expr, Edit]


def remove(node: exp.Expr) -> None:
    node.pop()


def retype(kind: type[exp.Expr], **extra: object) -> Edit:
    def edit(node: exp.Expr) -> None:
        kept = {k: v for k, v in node.args.items() if k in kind.arg_types}
        node.replace(kind(**(kept | extra)))

    return edit
