"""Joins without a condition where a foreign key connects the tables."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlglot import exp

from eval.task.trees import Edit, edited
from server.suggest.reading import Reading, Spot, names, readings
from server.suggest.suggestion import Draft, Kind, Known


@dataclass(frozen=True, slots=True)
class Reference:
    """The cells of source `child` that hold the primary key of source `parent`, in `pairs`."""

    child: str
    parent: str
    pairs: tuple[tuple[Spot, Spot], ...]
    text: str


def references(reading: Reading, child: str, parent: str) -> Iterator[Reference]:
    """The foreign keys of one source that refer to the primary key of another."""
    own, target = reading.table(child), reading.table(parent)
    if own is None or target is None or child == parent:
        return
    for key in own.foreign_keys:
        referred = key.references or target.primary_key
        is_key = len(referred) == len(key.columns) and names(referred) == names(target.primary_key)
        if is_key and key.table.lower() == target.name.lower():
            ends = zip(key.columns, referred, strict=True)
            pairs = tuple(((child, one.lower()), (parent, other.lower())) for one, other in ends)
            text = f"{own.name}.{', '.join(key.columns)} -> {target.name}.{', '.join(referred)}"
            yield Reference(child, parent, pairs, text)


def missing_join_condition(tree: exp.Query, known: Known) -> Iterator[Draft]:
    for reading in readings(tree, known.schema):
        groups = _connected(reading) if reading.is_clear else []
        found = (
            [r for r in _all_references(reading) if _parts(groups, r)] if len(groups) > 1 else []
        )
        if not found:
            continue
        chosen = _chosen(groups, found)
        rewrite = edited(tree, reading.select, _connect(chosen, known)) if chosen else None
        shown = ", ".join(reading.item(a).name for a in (found[0].child, found[0].parent))
        message = (
            f"Nothing connects {shown}: each row of one meets each row of the other. "
            f"A foreign key does: {'; or '.join(r.text for r in chosen or found[:3])}."
        )
        clause = reading.join_of(found[0].parent) or reading.join_of(found[0].child)
        yield Draft(
            Kind.MISSING_JOIN_CONDITION,
            message,
            clause.this if clause else reading.select,
            rewrite,
            keeps_result=False,
        )


def _all_references(reading: Reading) -> Iterator[Reference]:
    for child in reading.sources:
        for parent in reading.sources:
            yield from references(reading, child, parent)


def _connected(reading: Reading) -> list[set[str]]:
    """The sources, together where a condition connects them, if only by a common constant or by a
    column of an outer query."""
    groups: list[set[str]] = [{alias} for alias in reading.sources]
    for condition in reading.conditions():
        _merge(groups, _ends(reading, condition))
    return [own for group in groups if (own := group & set(reading.sources))]


def _ends(reading: Reading, condition: exp.Expr) -> set[str]:
    ends = reading.aliases(condition)
    if any(reading.spot(column) is None for column in condition.find_all(exp.Column)):
        ends.add("outer query")
    if isinstance(condition, exp.EQ):
        ends |= {f"= {c.sql()}" for c in condition.find_all(exp.Literal)}
    return ends


def _merge(groups: list[set[str]], ends: set[str]) -> None:
    """Make one group of all that hold any of `ends`, and of those that none holds."""
    touched = [group for group in groups if group & ends]
    groups[:] = [group for group in groups if not group & ends]
    groups.append(set().union(ends, *touched))


def _parts(groups: Iterable[set[str]], reference: Reference) -> bool:
    """True if the two sources are in different groups."""
    return not any({reference.child, reference.parent} <= group for group in groups)


def _chosen(groups: list[set[str]], found: list[Reference]) -> list[Reference]:
    """References that connect everything; none where there is a choice, or where that can't be."""
    left, chosen = [set(group) for group in groups], []
    for reference in found:
        if _parts(left, reference):
            ends = {reference.child, reference.parent}
            others = [r for r in found if r is not reference and _alike(left, r, ends)]
            if others:
                return []
            _merge(left, ends)
            chosen.append(reference)
    return chosen if len(left) == 1 else []


def _alike(groups: list[set[str]], reference: Reference, ends: set[str]) -> bool:
    """True if `reference` connects the same two groups as `ends` are in."""
    touched = [group for group in groups if group & ends]
    return all(group & {reference.child, reference.parent} for group in touched)


def _connect(chosen: list[Reference], known: Known) -> Edit:
    """Add the conditions of `chosen`: to a join that has none yet, else to WHERE."""

    def edit(twin: exp.Expr) -> None:
        assert isinstance(twin, exp.Select)
        reading = Reading(twin, known.schema)
        order = list(reading.sources)
        for reference in chosen:
            ends = [
                exp.EQ(
                    this=reading.column(a, known.dialect),
                    expression=reading.column(b, known.dialect),
                )
                for a, b in reference.pairs
            ]
            later = max(reference.child, reference.parent, key=order.index)
            join = reading.join_of(later)
            if join is not None and not join.side and reading.on(join) is None:
                join.set("kind", None)
                join.set("on", exp.and_(*ends))
            else:
                twin.where(*ends, copy=False)

    return edit
