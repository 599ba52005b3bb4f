"""What follows FROM, where the sources are known: WHERE to LIMIT, and a second query."""

from server.grammar.budget import NESTED
from server.grammar.ground import Ground
from server.grammar.lark import SAME, every, jump, keep, put, ref, when
from server.grammar.state import BUDGET, DEPTH, GROUPED, ITEMS, SECOND, WANTED


def add_clauses(ground: Ground) -> None:
    """Rules from `tail` to the end of a query."""
    _add_tail(ground)
    _add_operands(ground)
    _add_where(ground)
    _add_subqueries(ground)
    _add_exists(ground)
    _add_groups(ground)
    _add_order(ground)


def _links(part: str, after: str, cost: int = 0, condition: str = "") -> tuple[str, str]:
    """Alternatives: `part`, at its cost, ends the query or goes on with the rule `after`."""
    possible = every(condition, BUDGET.at_least(cost) if cost else "")
    step = BUDGET.down(cost) if cost else SAME
    return when(part, possible), when(f"{part} {ref(after, step)}", possible)


def _nested(ground: Ground, part: str, after: str) -> list[str]:
    """Links for `part`, which holds a subquery."""
    if not ground.options.max_depth:
        return []
    deeper = DEPTH.at_most(ground.options.max_depth - 1)
    return [
        link for cost in NESTED for link in _links(part, after, cost, every(deeper, _pays(cost)))
    ]


def _pays(cost: int) -> str:
    """A subquery costs this much, since dearer ones are not to be had."""
    dearer = min((other for other in NESTED if other > cost), default=0)
    return BUDGET.at_most(dearer - 1) if dearer else ""


def _costly(parts: str, rule: str, cost: int, condition: str = "") -> str:
    """An alternative: `parts`, then `rule` with `cost` units less."""
    possible = every(condition, BUDGET.at_least(cost))
    return when(f"{parts} {ref(rule, BUDGET.down(cost))}", possible)


def _add_tail(ground: Ground) -> None:
    rules, is_first = ground.rules, SECOND.equals(0)
    several = every(is_first, ITEMS.at_least(2), ITEMS.at_most(3))
    rules.add("tail", _costly("WHERE", "where", 2), ref("after_where"))
    rules.add("after_where", _costly("GROUP_BY", "keys", 1), ref("after_group"))
    rules.add(
        "after_group",
        _costly("ORDER_BY", "sort", 1, is_first),
        when("LIMIT COUNT", is_first),
        _costly("SET_OPERATOR", "both", 2, every(is_first, ITEMS.equals(1))),
        _costly("SET_OPERATOR", "both", 4, several),
    )
    # The second query selects as many items as the first one did.
    rules.add("both", jump("second", keep(BUDGET.mask | ITEMS.mask | DEPTH.mask)))
    rules.add("second", jump("query", put(WANTED.mask | SECOND.mask)))


def _add_operands(ground: Ground) -> None:
    """Columns of the sources that FROM holds, and what is made of them; `wide` is twice as long."""
    rules, slots, known = ground.rules, ground.slots, ref("known")
    rules.add(
        "known",
        *(f"{ground.joined(s.number)} {ground.column(s)}" for s in ground.sources),
        *(
            when(f"{ground.joined(n)} {ground.bare(n)}", slots.have_one)
            for n in ground.bare_columns
        ),
    )
    rules.add("narrow", known, f"CALL {known} CLOSE")
    rules.add("wide", f"{known} OPERATOR {known}", f"{known} OPERATOR NUMBER")
    rules.add(
        "aggregate",
        "COUNT_ALL",
        f"AGGREGATE {known} CLOSE",
        f"AGGREGATE DISTINCT {known} CLOSE",
    )
    rules.add("wide_aggregate", f"AGGREGATE {known} OPERATOR {known} CLOSE")


def _add_where(ground: Ground) -> None:
    rules, after, options = ground.rules, "after_condition", ground.options
    can_reach = ground.can_reach if options.max_depth else ""
    exists = every(DEPTH.at_most(options.max_depth - 1), can_reach)
    rules.add(
        "where",
        *_links(ref("simple"), after),
        *_links(ref("longer"), after, 2),
        *_links(ref("longest"), after, 4),
        *_nested(ground, ref("nested"), after),
        *(_links(ref("exists"), after, 4, exists) if can_reach else ()),
    )
    rules.add(after, _costly("AND", "where", 2), _costly("OR", "where", 2), ref("after_where"))
    known, narrow, wide = ref("known"), ref("narrow"), ref("wide")
    # Two units, four, six.
    rules.add(
        "simple",
        f"{narrow} COMPARE value",
        f"{narrow} COMPARE {narrow}",
        f"{known} LIKE SHORT_TEXT",
        f"{known} IS_NULL",
        f"NOT {known} IS_NULL",
        f"{known} IN value CLOSE",
    )
    rules.add(
        "longer",
        f"{narrow} COMPARE long_value",
        f"{known} LIKE LONG_TEXT",
        f"{wide} COMPARE value",
        f"{narrow} COMPARE {wide}",
        f"{wide} COMPARE {narrow}",
        f"{known} BETWEEN value AND value",
        f"NOT {known} BETWEEN value AND value",
        f"{known} IN few_values CLOSE",
        f"NOT {known} IN few_values CLOSE",
        f"OPEN {ref('simple')} OR {ref('simple')} CLOSE",
    )
    rules.add(
        "longest",
        f"{wide} COMPARE {wide}",
        f"{known} BETWEEN value AND long_value",
        f"{known} BETWEEN long_value AND long_value",
        f"{known} IN many_values CLOSE",
        f"NOT {known} IN many_values CLOSE",
    )


def _add_subqueries(ground: Ground) -> None:
    """`subquery`: a query of one item, one deeper than this one."""
    rules, known = ground.rules, ref("known")
    starts = []
    for depth in range(ground.options.max_depth):
        for cost, units in NESTED.items():
            name = f"subquery{depth}_{cost}"
            first = BUDGET.value(units) | ITEMS.value(1) | WANTED.mask | DEPTH.value(depth + 1)
            rules.add(name, jump("query", put(first)))
            possible = every(DEPTH.equals(depth), BUDGET.at_least(cost), _pays(cost))
            starts.append(when(jump(name, keep(0)), possible))
    if starts:
        rules.add("subquery", *starts)
        rules.add(
            "nested",
            f"{ref('narrow')} COMPARE OPEN {ref('subquery')} CLOSE",
            f"{ref('wide')} COMPARE OPEN {ref('subquery')} CLOSE",
            f"{known} IN {ref('subquery')} CLOSE",
            f"NOT {known} IN {ref('subquery')} CLOSE",
        )


def _add_exists(ground: Ground) -> None:
    """A query over a neighbour of what FROM holds, joined to it in its WHERE."""
    rules, first, alternatives = ground.rules, ground.slots.all[0], []
    if not ground.options.max_depth or not ground.can_reach:
        return
    for source in (s for s in ground.sources if s.joins):
        number, alone = source.number, str(first.joined_value(source.number))
        begun = f"{ground.table(source)} WHERE {ref(f'w{number}')}"
        further = f"{begun} AND {ref('simple', alone)} CLOSE"
        rules.add(f"z{number}", f"{begun} CLOSE", further)
        neighbours = (f"{ground.unused(other)} {ref(f'z{other}')}" for other in source.joins)
        rules.add(f"p{number}", *neighbours)
        alternatives.append(f"{ground.joined(number)} {ref(f'p{number}')}")
    rules.add("exists", f"EXISTS {ref('linked')}", f"NOT EXISTS {ref('linked')}")
    rules.add("linked", *alternatives)


def _add_groups(ground: Ground) -> None:
    rules, narrow, after = ground.rules, ref("narrow"), "after_having"
    rules.add("keys", *_links(narrow, "grouping"), _costly(f"{narrow} COMMA", "keys", 1))
    rules.add("grouping", jump("after_keys", put(GROUPED.mask)))
    rules.add("after_keys", _costly("HAVING", "having", 2), ref("after_group"))
    aggregate = ref("aggregate")
    nested = f"{aggregate} COMPARE OPEN {ref('subquery')} CLOSE"
    rules.add(
        "having",
        *_links(f"{aggregate} COMPARE value", after),
        *_links(f"{aggregate} BETWEEN value AND value", after, 2),
        *_links(f"{ref('wide_aggregate')} COMPARE value", after, 2),
        *_nested(ground, nested, after),
    )
    rules.add(after, _costly("AND", "having", 2), _costly("OR", "having", 2), ref("after_group"))


def _add_order(ground: Ground) -> None:
    rules, key, wide_key = ground.rules, ref("key"), ref("wide_key")
    affords_wide, is_grouped = BUDGET.at_least(1), GROUPED.equals(1)
    rules.add(
        "sort",
        key,
        f"{key} LIMIT COUNT",
        _costly(f"{key} COMMA", "sort", 1),
        when(wide_key, affords_wide),
        when(f"{wide_key} LIMIT COUNT", affords_wide),
        _costly(f"{wide_key} COMMA", "sort", 2),
    )
    for name, column, aggregate in (
        ("key", ref("narrow"), ref("aggregate")),
        ("wide_key", ref("wide"), ref("wide_aggregate")),
    ):
        rules.add(
            name,
            column,
            f"{column} DIRECTION",
            when(aggregate, is_grouped),
            when(f"{aggregate} DIRECTION", is_grouped),
        )
