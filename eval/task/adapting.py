"""What the rewrites of one query for another dialect share: the tree, what its names and values
are, and what is to be said of them."""

from dataclasses import dataclass, field

from sqlglot import exp

from eval.task.kinds import Kinds
from eval.task.names import Names, resolve_names
from eval.task.schema import Schema
from eval.task.violation import Violation, span


@dataclass(slots=True)
class Adapting:
    """`notes` are for the caller; `lost` is what has no faithful form in `write`."""

    tree: exp.Expr
    schema: Schema
    read: str
    write: str
    names: Names = field(init=False)
    kinds: Kinds = field(init=False)
    notes: list[str] = field(default_factory=list)
    lost: list[Violation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.resolve()

    def resolve(self) -> None:
        """Look at the tree's names anew: they are known by node, and nodes were replaced."""
        self.names = resolve_names(self.tree, self.schema, self.read)
        self.kinds = Kinds(self.names, self.schema)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def lose(self, node: exp.Expr, reason: str) -> None:
        start, end = span(node)
        message = f"{reason} in {self.write}"
        name = node.name[:64] if isinstance(node, exp.Anonymous | exp.Column) else node.key
        self.lost.append(Violation("not_transpilable", message, name, start=start, end=end))


def cast(node: exp.Expr, kind: str, dialect: str) -> exp.Expr:
    """Put `CAST(node AS kind)` where `node` stands; `kind` as `dialect` writes it."""
    holder = exp.Cast(this=exp.Null(), to=exp.DataType.build(kind, dialect=dialect))
    node.replace(holder)
    holder.set("this", node)
    return holder
