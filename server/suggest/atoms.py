"""The comparisons of one column, or of something made of it, with constants."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from eval.task.schema import Table
from eval.task.synthesis.profile import affinity
from server.suggest.reading import Reading, place_of, readings
from server.suggest.suggestion import Known

MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.EQ: exp.EQ, exp.LT: exp.GT, exp.LTE: exp.GTE, exp.GT: exp.LT, exp.GTE: exp.LTE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Atom:
    """`node` compares `reader`, made of `column`, with constants: one, or two of a BETWEEN.

    `operator` is that of the reader's side: `5 < x + 1` has GT. `is_conjunct`: each row of the
    SELECT meets it.
    """

    node: exp.Expr
    operator: type[exp.Expr]
    reader: exp.Expr
    column: exp.Column
    constants: tuple[exp.Expr, ...]
    table: Table
    name: str
    is_conjunct: bool

    @property
    def type(self) -> str:
        return next(c.type for c in self.table.columns if c.name == self.name)

    @property
    def place(self) -> str:
        return f"{self.table.name}.{self.name}"

    @property
    def is_like(self) -> bool:
        return self.operator in (exp.Like, exp.ILike)

    @property
    def holds_days(self) -> bool:
        """Whether the column's type is for points of time that have a day."""
        return "date" in self.type.lower() or "stamp" in self.type.lower()

    @property
    def may_hold_days(self) -> bool:
        return self.holds_days or affinity(self.type) == "TEXT"

    def with_constants(self, constants: Sequence[exp.Expr]) -> exp.Expr:
        """The column itself, compared with `constants` instead."""
        column = self.column.copy()
        if self.operator is exp.Between:
            return exp.Between(this=column, low=constants[0], high=constants[1])
        return self.operator(this=column, expression=constants[0])


def atoms(tree: exp.Query, known: Known) -> Iterator[Atom]:
    """The atoms in WHERE and ON, those of subqueries too; HAVING's are of groups."""
    for reading in readings(tree, known.schema):
        yield from atoms_of(reading, known)


def atoms_of(reading: Reading, known: Known) -> Iterator[Atom]:
    met = {id(condition) for condition in reading.filters()}
    where = reading.select.args.get("where")
    for root in [where, *(join.args.get("on") for join in reading.joins)]:
        for node in root.walk(prune=_is_closed) if root is not None else ():
            if atom := _atom(node, known, is_conjunct=id(node) in met):
                yield atom


def _is_closed(node: exp.Expr) -> bool:
    """Subqueries are read apart, and what a NOT keeps out no index can find."""
    return isinstance(node, exp.Query | exp.Not)


def _atom(node: exp.Expr, known: Known, *, is_conjunct: bool) -> Atom | None:
    sides = _sides(node)
    if sides is None:
        return None
    operator, reader, constants = sides
    columns = list(reader.find_all(exp.Column))
    is_constant = not any(c.find(exp.Column, exp.Query) for c in constants)
    if len(columns) != 1 or not is_constant or reader.find(exp.AggFunc, exp.Query, exp.Window):
        return None
    place = place_of(columns[0], known.schema)
    if place is None:
        return None
    return Atom(node, operator, reader, columns[0], constants, *place, is_conjunct=is_conjunct)


def _sides(node: exp.Expr) -> tuple[type[exp.Expr], exp.Expr, tuple[exp.Expr, ...]] | None:
    """Operator, the side with the column, the other side or sides."""
    if isinstance(node, exp.Between):
        return exp.Between, node.this.unnest(), (node.args["low"], node.args["high"])
    if isinstance(node, exp.Like | exp.ILike):
        return type(node), node.this.unnest(), (node.expression,)
    if type(node) not in MIRRORED or not isinstance(node, exp.Binary):
        return None
    if node.left.find(exp.Column):
        return type(node), node.left.unnest(), (node.right,)
    return MIRRORED[type(node)], node.right.unnest(), (node.left,)
