"""The SELECT list: it comes before FROM, so that each column in it owes its table to FROM."""

from server.grammar.ground import NONE_USED, SOME_USED, Ground
from server.grammar.lark import SAME, every, jump, keep, put, ref, row, some, when
from server.grammar.sources import Source
from server.grammar.state import AROUND, BARE, BUDGET, ITEMS, NUM_BITS, OWED, WANTED

MAX_ITEMS = 6
ALL = (1 << NUM_BITS) - 1
# The values of AROUND; behind an operator the next one holds.
PLAIN, SECOND_OPERAND, IN_AGGREGATE, IN_AGGREGATE_SECOND = range(4)
IN_CALL, IN_CASE, IN_SUM_OF_CASE, IN_FROM = range(4, 8)
UNSET = keep(ALL & ~AROUND.mask)


def add_select(ground: Ground) -> None:
    """Rules from `query` to where FROM begins."""
    rules = ground.rules
    rules.add("query", f"SELECT {ref('list')}")
    rules.add("list", f"DISTINCT {ref('items')}", ref("items"))
    # How many columns a star stands for is not counted: no second query goes with it.
    star = f"STAR FROM {ref('starred', keep(ALL & ~ITEMS.mask))}"
    rules.add("items", ref("item"), when(star, WANTED.equals(0)))
    rules.add("starred", jump("from", put(AROUND.value(IN_FROM))))
    rules.add(
        "item",
        ref("column"),
        f"AGGREGATE {ref('aggregated')}",
        f"PERCENT AGGREGATE {ref('aggregated')}",
        f"COUNT_ALL {ref('after_aggregate')}",
        f"CALL {_column(IN_CALL)}",
        when(f"CASE {ref('case', BUDGET.down(4))}", BUDGET.at_least(4)),
    )
    rules.add(
        "aggregated",
        _column(IN_AGGREGATE),
        f"DISTINCT {_column(IN_AGGREGATE)}",
        when(f"CASE {ref('sum_of_case', BUDGET.down(2))}", BUDGET.at_least(2)),
    )
    rules.add("case", _column(IN_CASE))
    rules.add("sum_of_case", _column(IN_SUM_OF_CASE))
    _add_columns(ground)
    _add_after(ground)
    _add_ends(ground)


def _column(around: int) -> str:
    return jump("column", put(AROUND.value(around)))


def _add_columns(ground: Ground) -> None:
    """`column` of any source that is used or still may be, then `after`."""
    rules, sources = ground.rules, ground.sources
    for source in sources:
        _add_first_use(ground, source)
    rules.add("first_column", *(row(ground.column(s), first_use(s)) for s in sources))
    used = [row(ground.used(s.number), ground.column(s), ref("after")) for s in sources]
    more = []
    for first, members in ground.components.items():
        # Joins lead to these from what is used. Where one is used itself, so that it can't begin
        # to be, the list above has its columns too: this is no dead end.
        rules.add(f"m{first}", *(_another_column(ground, source) for source in members))
        more.append(row(ground.related(first), ref(f"m{first}")))
    rules.add("another_column", *used, *more)
    qualified = BARE.equals(0) if ground.bare_columns else ""
    rules.add(
        "column",
        row(NONE_USED, ref("first_column")),
        when(row(SOME_USED, ref("another_column")), qualified),
        *(_bare_column(ground, number) for number in ground.bare_columns),
        row(NONE_USED, ref("first_bare")) if ground.bare_columns else "",
    )
    if ground.bare_columns:
        rules.add("first_bare", *(_first_bare(ground, n) for n in ground.bare_columns))
    # A table that FROM will have to join: what that costs is set aside here.
    rules.add("next_owed", jump("owed", BUDGET.down(2)))
    rules.add("owed", jump("after", OWED.up))


def first_use(source: Source, step: str = SAME) -> str:
    return ref(f"x{source.number}", step)


def _add_first_use(ground: Ground, source: Source) -> None:
    """`xN`: the source takes the next slot, in the SELECT list or in FROM."""
    number, entry = source.number, ground.entry(source)
    ground.rules.add(
        f"x{number}",
        *(
            row(ref(f"s{i}"), ref("filled", put(slot.number.value(number) | entry)))
            for i, slot in enumerate(ground.slots.all)
        ),
    )


def _another_column(ground: Ground, source: Source) -> str:
    claim, unused = ground.unclaimed(source), ground.unused(source.number)
    return row(claim, ground.column(source), unused, first_use(source))


def _first_bare(ground: Ground, number: int) -> str:
    step = put(ground.slots.first.value(number) | BARE.mask)
    return row(ground.bare(number), ref("owed", step))


def _bare_column(ground: Ground, number: int) -> str:
    same = every(BARE.equals(1), ground.slots.first.equals(number))
    return when(row(ground.bare(number), ref("after")), same)


def _add_after(ground: Ground) -> None:
    """What may follow a column, by what surrounds it."""
    rules = ground.rules
    affordable = BUDGET.at_least(1)
    is_plain, in_aggregate = AROUND.equals(PLAIN), AROUND.equals(IN_AGGREGATE)
    rules.add(
        "after",
        when(ref("after_item"), is_plain),
        when(f"OPERATOR NUMBER {ref('after_item', BUDGET.down())}", every(is_plain, affordable)),
        when(
            f"OPERATOR {ref('operand', BUDGET.down())}",
            every(some(is_plain, in_aggregate), affordable),
        ),
        when(jump("after_item", UNSET), AROUND.equals(SECOND_OPERAND)),
        when(
            f"CLOSE {ref('after_aggregate', UNSET)}",
            some(in_aggregate, AROUND.equals(IN_AGGREGATE_SECOND)),
        ),
        when(f"CLOSE {ref('after_item', UNSET)}", AROUND.equals(IN_CALL)),
        when(
            f"COMPARE value ONE_OR_NONE CLOSE {ref('after_aggregate', UNSET)}",
            AROUND.equals(IN_SUM_OF_CASE),
        ),
        when(f"COMPARE value THEN value {ref('after_branch')}", AROUND.equals(IN_CASE)),
    )
    # PLAIN becomes SECOND_OPERAND, IN_AGGREGATE becomes IN_AGGREGATE_SECOND.
    rules.add("operand", _column(SECOND_OPERAND))
    rules.add(
        "after_branch",
        f"ELSE value END_CASE {ref('after_item', UNSET)}",
        f"END_CASE {ref('after_item', UNSET)}",
        when(f"WHEN {ref('column', BUDGET.down(4))}", BUDGET.at_least(4)),
    )
    rules.add(
        "after_aggregate",
        ref("after_item"),
        when(f"OPERATOR NUMBER {ref('after_item', BUDGET.down())}", affordable),
        when(f"OPERATOR COUNT_ALL {ref('after_item', BUDGET.down())}", affordable),
        when(f"OPERATOR AGGREGATE {ref('last_aggregate', BUDGET.down())}", affordable),
    )
    rules.add("last_aggregate", _column(IN_CALL))


def _add_ends(ground: Ground) -> None:
    """After an item another one or FROM, as many as were wanted where a number was."""
    is_free, is_wanted = WANTED.equals(0), WANTED.equals(1)
    rules = ground.rules
    rules.add(
        "after_item",
        when(
            f"COMMA {ref('one_more', ITEMS.up)}",
            every(is_free, ITEMS.at_most(MAX_ITEMS - 1), BUDGET.at_least(1)),
        ),
        when(f"COMMA {ref('item', ITEMS.down())}", every(is_wanted, ITEMS.at_least(2))),
        when(f"FROM {ref('from', put(AROUND.value(IN_FROM)))}", some(is_free, ITEMS.equals(1))),
    )
    rules.add("one_more", jump("item", BUDGET.down()))
