"""Which columns refer to which: foreign keys of the schema and what the gold queries join."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from eval.task.schema import Schema, Table
from eval.task.statement import SQLGLOT_FAILURES
from eval.task.synthesis.scope import parse_query, resolve

Place = tuple[str, str]
Rows = Mapping[str, Sequence[Mapping[str, object]]]

# A joined pair of columns without a foreign key is one if so many children have their parent.
MIN_MATCH = 0.5
# Where no child of the original has a parent, joins would find nothing: most get one after all.
REPAIRED_MATCH = 0.9


@dataclass(frozen=True, slots=True)
class Link:
    """`columns` of table `child` hold `references` of `parent` in a share `match` of the rows.
    All names are in lower case."""

    child: str
    columns: tuple[str, ...]
    parent: str
    references: tuple[str, ...]
    match: float

    def is_child(self, table: str) -> bool:
        return self.child == table.lower()

    def is_parent(self, table: str) -> bool:
        return self.parent == table.lower()


def links_of(schema: Schema, golds: Iterable[str], rows: Rows) -> Iterator[Link]:
    """Declared links first, then joins of the golds that the rows bear out; a column set once."""
    taken: set[Place] = set()
    linked: set[tuple[Place, ...]] = set()
    for link in [*_declared(schema, rows), *_joined(schema, golds, rows)]:
        places = {(link.child, column) for column in link.columns}
        pairs = {
            tuple(sorted([(link.child, column), (link.parent, reference)]))
            for column, reference in zip(link.columns, link.references, strict=True)
        }
        if not places & taken and not pairs & linked:
            taken |= places
            linked |= pairs
            yield link


def _declared(schema: Schema, rows: Rows) -> Iterator[Link]:
    for table in schema.tables:
        for key in table.foreign_keys:
            parent = schema.find(key.table)
            references = key.references or (parent.primary_key if parent else ())
            if parent is None or len(references) != len(key.columns):
                continue
            if not set(references) <= set(parent.column_names):
                continue
            link = _link(table, key.columns, parent, references, rows=rows)
            if (link.child, link.columns) != (link.parent, link.references):
                yield link


def _link(
    child: Table,
    columns: Sequence[str],
    parent: Table,
    references: Sequence[str],
    *,
    rows: Rows,
) -> Link:
    names = tuple(c.lower() for c in columns)
    wanted = tuple(r.lower() for r in references)
    held = {key_of(row, wanted) for row in rows[parent.name.lower()]}
    filled = [row for row in rows[child.name.lower()] if None not in (row[n] for n in names)]
    found = [key_of(row, names) for row in filled]
    match = sum(values in held for values in found) / len(found) if found else 1.0
    return Link(child.name.lower(), names, parent.name.lower(), wanted, match or REPAIRED_MATCH)


def key_of(row: Mapping[str, object], names: Sequence[str]) -> tuple[str, ...]:
    """The cells of `names` as text: SQLite finds 1, 1.0 and '1' equal where types differ."""
    cells = (row[name] for name in names)
    return tuple(str(int(c) if isinstance(c, float) and c.is_integer() else c) for c in cells)


def _joined(schema: Schema, golds: Iterable[str], rows: Rows) -> Iterator[Link]:
    """Pairs of columns that golds set equal, from the side with repeats to the other."""
    for one, other in sorted({tuple(sorted(pair)) for g in golds for pair in equated(g, schema)}):
        sides = [(one, other), (other, one)]
        child, parent = next((s for s in sides if _is_key(s[1], rows)), (one, one))
        own, target = schema.find(child[0]), schema.find(parent[0])
        if child == parent or own is None or target is None:
            continue
        link = _link(own, (child[1],), target, (parent[1],), rows=rows)
        if link.match >= MIN_MATCH:
            yield link


def _is_key(place: Place, rows: Rows) -> bool:
    held = [row[place[1]] for row in rows[place[0]]]
    return len(set(held)) == len(held) > 0


def repeating(sql: str, schema: Schema) -> Iterator[Place]:
    """Columns that `sql` supposes to hold values twice: it groups the rows of one table by them,
    asks for distinct ones, or for what two sets of rows of one table have in common."""
    try:
        tree = parse_query(sql)
    except SQLGLOT_FAILURES:
        return
    for select in tree.find_all(exp.Select) if tree else ():
        if select.args.get("joins"):
            continue
        nodes = [*(select.args["group"].expressions if select.args.get("group") else ())]
        if select.args.get("distinct") or isinstance(select.parent, exp.Intersect):
            nodes += select.expressions if len(select.expressions) == 1 else []
        nodes += [c for d in select.find_all(exp.Distinct) for c in d.expressions]
        for node in nodes:
            use = resolve(node, schema) if isinstance(node, exp.Column) else None
            if use is not None:
                yield use.place


def equated(sql: str, schema: Schema) -> Iterator[tuple[Place, Place]]:
    """The pairs of different columns that `sql` sets equal, in joins and conditions."""
    try:
        tree = parse_query(sql)
    except SQLGLOT_FAILURES:
        return
    for node in tree.find_all(exp.EQ) if tree else ():
        if isinstance(node.left, exp.Column) and isinstance(node.right, exp.Column):
            left, right = resolve(node.left, schema), resolve(node.right, schema)
            if left and right and left.place != right.place:
                yield left.place, right.place
