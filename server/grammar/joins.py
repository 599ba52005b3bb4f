"""FROM and its joins: every source that is owed must come, others may where joins lead to them."""

from server.grammar.ground import (
    AFFORDS_TABLE,
    NO_TABLE_LEFT,
    NONE_USED,
    OWES_NONE,
    OWES_ONE,
    SOME_USED,
    Ground,
)
from server.grammar.lark import choice, every, jump, keep, put, ref, row, some, when
from server.grammar.select import IN_FROM, first_use
from server.grammar.sources import Pairs, Source
from server.grammar.state import AROUND, BARE, BUDGET, DEPTH, ITEMS, OWED


def add_joins(ground: Ground, derived: int) -> None:
    """Rules from `from` to where the tail of the query begins; `derived` is the parameter that a
    derived table begins with, 0 where the dialect has none without an alias."""
    _add_from(ground, derived)
    _add_filled(ground)
    for source in ground.sources:
        _add_entry(ground, source)
        if source.joins:
            _add_ways(ground, source)
            _add_links(ground, source)
    _add_targets(ground)


def _enter(source: Source) -> str:
    """FROM has now named a source that it owed."""
    return ref(f"e{source.number}")


def _add_from(ground: Ground, derived: int) -> None:
    """`qN`: FROM begins with a source that is owed; `bN`: with one of the component `N` between."""
    rules, first, owed, between = ground.rules, [], [], []
    for source in ground.sources:
        number, table = source.number, ground.table(source)
        first += [table, row(table, first_use(source))]
        rules.add(f"q{number}", row(OWES_ONE, table), row(table, _enter(source)))
        owed.append(row(ground.used(number), ref(f"q{number}")))
    for number, members in ground.components.items():
        if len(members) > 1:
            rules.add(f"b{number}", *(_between(ground, source) for source in members))
            between.append(row(ground.related(number), AFFORDS_TABLE, ref(f"b{number}")))
    rules.add("first_from", *first, _derived(ground, derived))
    rules.add("next_from", *owed, *between)
    is_bare = BARE.equals(1) if ground.bare_columns else ""
    rules.add(
        "from",
        row(NONE_USED, ref("first_from")),
        when(row(SOME_USED, ref("next_from")), is_bare and BARE.equals(0)),
        when(ref("bare_from"), is_bare) if is_bare else "",
    )
    if is_bare:
        # A parse for each table that may be meant, each with but its own table here.
        slot = ground.slots.first
        rules.add("bare_from", *(when(ref(f"q{n}"), slot.equals(n)) for n in ground.bare_columns))


def _between(ground: Ground, source: Source) -> str:
    """FROM begins with a source that is not in the SELECT list; joins lead from it to those."""
    claim, unused = ground.unclaimed(source), ground.unused(source.number)
    return row(claim, ground.table(source), unused, first_use(source, BUDGET.down(2)))


def _derived(ground: Ground, parameter: int) -> str:
    """Of a derived table only the rows are counted."""
    if not parameter:
        return ""
    ground.rules.add("derived", jump("query", put(parameter)))
    counts = every(ITEMS.equals(1), DEPTH.equals(0))
    return when(f"OPEN {ref('derived', keep(0))} CLOSE", counts)


def _add_filled(ground: Ground) -> None:
    """`filled`: a source has taken a slot, in the SELECT list or in FROM."""
    rules, slots, in_from = ground.rules, ground.slots, AROUND.equals(IN_FROM)
    in_list = AROUND.differs(IN_FROM)
    is_first = slots.have_one
    rules.add(
        "filled",
        when(ref("owed"), every(in_list, is_first)),
        when(ref("next_owed"), every(in_list, f"not({is_first})")) if is_first else "",
        *(
            when(jump("joined", put(slot.joined.mask)), every(in_from, slots.is_last(i)))
            for i, slot in enumerate(slots.all)
        ),
    )
    rules.add("settled", jump("joined", OWED.down()))
    for i, slot in enumerate(slots.all):
        rules.add(f"t{i}", jump("settled", put(slot.joined.mask)))


def _add_entry(ground: Ground, source: Source) -> None:
    """`eN`: the source is in a slot, and FROM has named it now."""
    slots = enumerate(ground.slots.all)
    ground.rules.add(
        f"e{source.number}",
        *(when(ref(f"t{i}"), slot.whole.equals(source.number)) for i, slot in slots),
    )


def _add_ways(ground: Ground, source: Source) -> None:
    """`wN`: a condition that joins the source to one that FROM has named."""
    ways = [(other, i) for other, found in source.joins.items() for i in range(len(found))]
    for other, i in ways:
        if other > source.number:
            _add_terminals(ground, source, ground.sources[other - 1], source.joins[other][i], i)
    ground.rules.add(
        f"w{source.number}",
        *(row(ground.joined(other), _way(source, other, i)) for other, i in ways),
    )


def _add_terminals(ground: Ground, left: Source, right: Source, way: Pairs, index: int) -> None:
    """A terminal for each pair of columns, in both orders."""
    written = ground.spelling.name
    for name, (x, y) in zip(_names(left.number, right.number, index, len(way)), way, strict=True):
        a = f"{written(left.name)}.{written(x)}"
        b = f"{written(right.name)}.{written(y)}"
        ground.rules.terminal(name, choice([f"{a} = {b}", f"{b} = {a}"]))


def _names(low: int, high: int, index: int, num_pairs: int) -> list[str]:
    return [f"J{low}_{high}_{index}_{i}" for i in range(num_pairs)]


def _way(source: Source, other: int, index: int) -> str:
    """The terminals of one way to join `source` to the source `other`."""
    low, high = sorted((source.number, other))
    return " AND ".join(_names(low, high, index, len(source.joins[other][index])))


def _add_links(ground: Ground, source: Source) -> None:
    """What follows ON, and what comes then: `lN` a condition, `yN` any two columns."""
    number, way = source.number, ref(f"w{source.number}")
    loose = row(ground.column(source), "EQUALS", ref("known"))
    used, new = ground.used(number), first_use(source, BUDGET.down(2))
    ground.rules.add(
        f"l{number}",
        row(OWES_NONE, way),
        row(OWES_ONE, used, way),
        row(used, way, _enter(source)),
        row(ground.unused(number), way, new),
    )
    ground.rules.add(f"y{number}", row(OWES_ONE, loose), row(loose, _enter(source)))


def _add_targets(ground: Ground) -> None:
    """`joined`: what follows a source in FROM. `target`: a source to join, and how; `kN` where it
    is owed, `hN` where it is a neighbour of `N`.

    Where what is owed can't be reached by joins in the room that is left, it may be joined on any
    two columns, so that no SELECT list is a dead end.
    """
    rules, joins = ground.rules, [source for source in ground.sources if source.joins]
    for source in joins:
        number, link = source.number, _link(ground, source)
        stuck = row(NO_TABLE_LEFT, ground.table(source), "ON", ref(f"y{number}"))
        rules.add(f"k{number}", *(row(ground.joined(n), link) for n in source.joins), stuck)
        others = [ground.sources[n - 1] for n in source.joins]
        rules.add(f"h{number}", *(_new_target(ground, other) for other in others))
    possible = ""
    if joins:
        owed = (row(ground.owed(s.number), ref(f"k{s.number}")) for s in joins)
        rules.add("target", *owed, row(AFFORDS_TABLE, ref("new_target")))
        near = (row(ground.joined(s.number), ref(f"h{s.number}")) for s in joins)
        rules.add("new_target", *near)
        grows = every(BUDGET.at_least(2), BARE.equals(0), ground.can_grow)
        possible = when(f"JOIN {ref('target')}", some(OWED.differs(0), grows))
    rules.add("joined", possible, when(ref("tail"), OWED.equals(0)))


def _link(ground: Ground, source: Source) -> str:
    return row(ground.table(source), "ON", ref(f"l{source.number}"))


def _new_target(ground: Ground, source: Source) -> str:
    return row(ground.unclaimed(source), ground.unused(source.number), _link(ground, source))
