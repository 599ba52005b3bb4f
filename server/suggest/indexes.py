"""Which index would help, where no primary key covers what a query looks up or sorts by.

A schema names keys only, so an index that is there already may be named too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from eval.task.schema import Table
from server.suggest.atoms import atoms_of
from server.suggest.reading import Reading, Spot, readings
from server.suggest.suggestion import Draft, Kind, Known

RANGES = (exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between)
MAX_EQUAL = 2


@dataclass
class Lookup:
    """The columns of one source by which rows are found, each with the condition that does it."""

    table: Table
    equal: dict[str, exp.Expr] = field(default_factory=dict)
    ranges: dict[str, exp.Expr] = field(default_factory=dict)
    joined: dict[str, exp.Expr] = field(default_factory=dict)

    @property
    def is_filtered(self) -> bool:
        return bool(self.equal or self.ranges)

    def is_lead(self, name: str) -> bool:
        """True if the primary key's own index finds rows by the column."""
        return name == next((key.lower() for key in self.table.primary_key), None)

    def is_selective(self, name: str) -> bool:
        types = {c.name.lower(): c.type.lower() for c in self.table.columns}
        return "bool" not in types.get(name, "bool")


def index_hint(tree: exp.Query, known: Known) -> Iterator[Draft]:
    for reading in readings(tree, known.schema):
        if not reading.is_clear:
            continue
        lookups = _lookups(reading, known)
        hints = [h for a, lookup in lookups.items() if (h := _hint(reading, a, lookups))]
        yield from hints
        if not hints and len(lookups) == 1:
            yield from _sort_hint(reading, next(iter(lookups.values()), None))


def _lookups(reading: Reading, known: Known) -> dict[str, Lookup]:
    tables = {alias: reading.table(alias) for alias in reading.sources}
    found = {alias: Lookup(table) for alias, table in tables.items() if table}
    for atom in atoms_of(reading, known):
        spot = reading.spot(atom.column)
        if atom.is_conjunct and atom.reader is atom.column and spot and not atom.is_like:
            kind = found[spot[0]].ranges if atom.operator in RANGES else found[spot[0]].equal
            kind.setdefault(spot[1], atom.node)
    for condition in reading.conditions():
        if isinstance(condition, exp.In) and isinstance(condition.this, exp.Column):
            spot = reading.spot(condition.this)
            if spot and spot[0] in found:
                found[spot[0]].equal.setdefault(spot[1], condition)
        for alias, name in reading.equal(condition) or ():
            if alias in found:
                found[alias].joined.setdefault(name, condition)
    return found


def _hint(reading: Reading, alias: str, lookups: dict[str, Lookup]) -> Draft | None:
    own = lookups[alias]
    if any(own.is_lead(name) for name in [*own.equal, *own.joined, *own.ranges]):
        return None
    if own.is_filtered:
        names = [*[n for n in own.equal if own.is_selective(n)][:MAX_EQUAL], *[*own.ranges][:1]]
        clauses = own.equal | own.ranges
    else:
        clauses = own.joined
        names = [n for n, c in clauses.items() if _is_driven(reading, alias, c, lookups)][:1]
    return _draft(own.table, names, clauses[names[0]], "look rows up") if names else None


def _is_driven(
    reading: Reading, alias: str, condition: exp.Expr, lookups: dict[str, Lookup]
) -> bool:
    """True if a join would rather come from the other table: that is filtered, or has no key for
    the way back."""
    ends: tuple[Spot, ...] = reading.equal(condition) or ()
    for other, name in ends:
        if other != alias and other in lookups:
            return lookups[other].is_filtered or not lookups[other].is_lead(name)
    return False


def _sort_hint(reading: Reading, lookup: Lookup | None) -> Iterator[Draft]:
    """The first rows of a sorted table are the first of an index."""
    order, select = reading.select.args.get("order"), reading.select
    is_plain = not any(select.args.get(name) for name in ("group", "distinct", "where"))
    if lookup is None or order is None or not select.args.get("limit") or not is_plain:
        return
    columns = [ordered.this for ordered in order.expressions]
    spots = [reading.spot(c) if isinstance(c, exp.Column) else None for c in columns]
    names = [spot[1] for spot in spots if spot]
    if names and len(names) == len(columns) and not lookup.is_lead(names[0]):
        yield _draft(lookup.table, names, order, "sort")


def _draft(table: Table, names: list[str], clause: exp.Expr, purpose: str) -> Draft:
    spelled = {c.lower(): c for c in table.column_names}
    columns = ", ".join(spelled.get(name, name) for name in names)
    message = (
        f"No primary key helps to {purpose} here: an index on {table.name} ({columns}) would, "
        "unless there is one."
    )
    return Draft(Kind.INDEX_HINT, message, clause)
