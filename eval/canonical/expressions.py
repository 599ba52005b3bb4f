"""Values in canonical text: columns by what they belong to, operands that commute in order.

Queries inside them are written by the class that `eval.canonical.rewriting` derives from this one.
"""

from dataclasses import dataclass

from sqlglot import exp

from eval.canonical.determinism import is_one_row
from eval.canonical.labels import UnclearError, column_label
from eval.queries.clauses import Scope
from eval.task.schema import Schema

COMMUTATIVE = (exp.Add, exp.Mul)
# SQLite's names of the key of a row, quoted or not.
ROW_NUMBERS = frozenset({"rowid", "oid", "_rowid_"})
IGNORED_ARGS = frozenset({"big_int", "_type"})


@dataclass(frozen=True)
class Place:
    """Where an expression stands: its SELECT's scope and what may be named there."""

    scope: Scope
    items: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    is_merging: bool = False  # JOIN … USING or NATURAL: one name, two columns

    def of_alias(self, name: str) -> str | None:
        """The text of the output `name`; of several the first, as SQLite takes it."""
        return next((text for alias, text in self.aliases if alias == name.lower()), None)


class ExpressionWriter:
    """Writes values; `is_free` where rows, conditions and tables may be reordered.

    `depends_on_plan` becomes True when something is met whose answer the plan decides.
    """

    def __init__(self, schema: Schema, dialect: str, *, is_free: bool) -> None:
        self.schema = schema
        self.is_sqlite = dialect == "sqlite"
        self.is_free = is_free
        self.depends_on_plan = False
        self.grouped: set[str] = set()
        self.num_tries = 0

    def query(self, node: exp.Expr, outer: Scope | None, role: str) -> str:
        raise NotImplementedError

    def text(self, node: exp.Expr, place: Place) -> str:
        """The canonical text of a value."""
        node = node.unnest()
        if isinstance(node, exp.Column):
            return self.column(node, place)
        if isinstance(node, exp.Literal):
            return repr(node.name) if node.is_string else node.name.lower()
        if isinstance(node, exp.Exists) or (isinstance(node, exp.In) and node.args.get("query")):
            return self.membership(node, place)
        if isinstance(node, exp.Query):
            inner = node.unnest()
            if not is_one_row(inner):
                self.depends_on_plan = True
            return f"({self.query(inner, place.scope, 'value')})"
        if isinstance(node, exp.Count) and isinstance(node.this, exp.Literal | exp.Star):
            return f"count(*{', '.join(self.text(e, place) for e in node.expressions)})"
        is_extreme = isinstance(node, exp.Min | exp.Max)
        # As written, DISTINCT says which row a column beside it is of.
        if self.is_free and is_extreme and isinstance(node.this, exp.Distinct):
            node = type(node)(this=node.this.expressions[0].copy())
        if self.is_free and isinstance(node, COMMUTATIVE):
            operands = [self.text(side, place) for side in (node.this, node.expression)]
            return f"{node.key}{sorted(operands)}"
        return self.generic(node, place)

    def membership(self, node: exp.Expr, place: Place) -> str:
        if isinstance(node, exp.Exists):
            return f"exists({self.query(node.this, place.scope, 'exists')})"
        inner = self.query(node.args["query"], place.scope, "set")
        return f"in({self.text(node.this, place)}, {inner})"

    def generic(self, node: exp.Expr, place: Place | None) -> str:
        """Any node, by its kind and all of its parts."""
        parts = []
        for name, value in node.args.items():
            if name in IGNORED_ARGS or value is None or value is False or value == []:
                continue
            values = value if isinstance(value, list) else [value]
            shown = [self.part(v, place) for v in values]
            if isinstance(node, exp.Anonymous) and name == "this":
                shown = [node.name.lower()]
            parts.append(f"{name}={', '.join(shown)}")
        return f"{node.key}({'; '.join(sorted(parts))})"

    def part(self, value: object, place: Place | None) -> str:
        if not isinstance(value, exp.Expr):
            return str(value)
        return self.text(value, place) if place else self.generic(value, None)

    def column(self, node: exp.Column, place: Place) -> str:
        scope, name = place.scope, node.name.lower()
        owners = [s for s in scope.sources if node.table or name in s.columns]
        if not node.table and len(owners) > 1 and not place.is_merging:
            raise UnclearError(f"{name} may be of two tables")
        source = scope.source_of(node)
        if source is None or (not owners and place.of_alias(name) is not None):
            return self.sourceless(node, place)
        if node.args.get("db"):
            raise UnclearError("a name of three parts")
        if source.label in self.grouped and source not in scope.sources:
            self.depends_on_plan = True
        if source.columns and name not in source.columns:
            raise UnclearError(f"unknown column {name}")
        return column_label(source, name)

    def sourceless(self, node: exp.Column, place: Place) -> str:
        text = None if node.table else place.of_alias(node.name)
        if text is not None:
            return text
        if self.is_sqlite and not node.table and _may_be_string(node, place.scope):
            return repr(node.name)  # SQLite takes "such" for a string where no column has the name
        raise UnclearError(f"unknown column {node.name}")

    def is_bare(self, node: exp.Expr, place: Place, keys: list[str]) -> bool:
        if isinstance(node, exp.AggFunc | exp.Literal | exp.Query):
            return False
        if isinstance(node, exp.Star):
            return True
        if isinstance(node, exp.Column) and place.scope.source_of(node) is None:
            return False  # an alias, whose item is looked at, or a string
        if self.text(node, place) in keys:
            return False
        if isinstance(node, exp.Column):
            return True
        return any(self.is_bare(child, place, keys) for child in node.iter_expressions())


def _may_be_string(node: exp.Column, scope: Scope | None) -> bool:
    """False for a row's number, and over a derived table: one may call a column `count(*)`."""
    while scope and all(source.is_table for source in scope.sources):
        scope = scope.outer
    is_quoted = bool(node.this.args.get("quoted"))
    return is_quoted and scope is None and node.name.lower() not in ROW_NUMBERS
