"""Near misses that need the schema: other columns, aggregates and joins, DISTINCT.

Changes that can't matter by what is known of keys (DISTINCT over one, say) are left out.
"""

from collections.abc import Iterable, Iterator

from sqlglot import exp

from eval.suite.change import Change, Facts, remove
from eval.task.schema import Schema, Table
from eval.task.synthesis.scope import Use, resolve, tables_of
from eval.task.trees import Edit, become

AGGREGATES: dict[type[exp.Expr], tuple[type[exp.Expr], ...]] = {
    exp.Max: (exp.Min,),
    exp.Min: (exp.Max,),
    exp.Avg: (exp.Sum, exp.Max),
    exp.Sum: (exp.Avg, exp.Max),
}
NUMBER_WORDS = ("int", "num", "dec", "real", "float", "double", "bool", "year")
OTHER_COLUMNS = 2


def other_aggregate(tree: exp.Expr, facts: Facts) -> Iterator[Change]:
    for node in tree.find_all(exp.AggFunc):
        for other in AGGREGATES.get(type(node), ()):
            yield node, become(other(this=node.this.copy()))
        if isinstance(node, exp.Count):
            yield from _other_counts(node, facts)


def _other_counts(node: exp.Count, facts: Facts) -> Iterator[Change]:
    counted = node.this
    if isinstance(counted, exp.Distinct):
        yield counted, become(counted.expressions[0].copy())
    elif isinstance(counted, exp.Star):
        if column := _repeating_column(node, facts):
            yield counted, become(exp.Distinct(expressions=[column]))
    elif not (isinstance(counted, exp.Column) and _is_row_key(counted, facts)):
        yield counted, become(exp.Distinct(expressions=[counted.copy()]))


def _repeating_column(node: exp.Count, facts: Facts) -> exp.Column | None:
    """A column that rows of one group may share, a foreign key rather than another."""
    select = node.find_ancestor(exp.Select)
    if select is None:
        return None
    grouped: dict[str, set[str]] = {}
    for column in [c for g in select.find_all(exp.Group) for c in g.find_all(exp.Column)]:
        if use := resolve(column, facts.schema):
            grouped.setdefault(use.alias, set()).add(use.column.lower())
    for alias, table in tables_of(select, facts.schema).items():
        own = grouped.get(alias, set())
        linked = [name for key in table.foreign_keys for name in key.columns]
        for name in [*linked, *table.column_names]:
            if name.lower() not in own and not facts.is_unique(table, own | {name.lower()}):
                return exp.column(name, table=alias, quoted=True)
    return None


def changed_distinct(tree: exp.Expr, facts: Facts) -> Iterator[Change]:
    for select in tree.find_all(exp.Select):
        if select.args.get("distinct"):
            yield select, lambda node: node.set("distinct", None)
        elif _may_repeat(select, facts):
            yield select, lambda node: node.set("distinct", exp.Distinct())


def _may_repeat(select: exp.Select, facts: Facts) -> bool:
    """Whether DISTINCT can matter: not for one row, a set, an IN, a shown key or shown groups."""
    shown = [p.unalias() for p in select.expressions]
    if isinstance(select.parent, exp.SetOperation) or select.find_ancestor(exp.In):
        return False
    if any(isinstance(p, exp.Star) or p.find(exp.AggFunc) for p in shown):
        return False
    limit = select.args.get("limit")
    if limit is not None and limit.expression.name == "1":
        return False
    columns = [c for c in shown if isinstance(c, exp.Column)]
    grouped = select.args.get("group")
    if grouped:
        names = {c.name.lower() for c in columns}
        return not {g.name.lower() for g in grouped.expressions} <= names
    return not any(_is_row_key(column, facts) for column in columns)


def _is_row_key(column: exp.Column, facts: Facts) -> bool:
    """True if `column` alone tells the rows of its SELECT apart."""
    select, use = column.find_ancestor(exp.Select), resolve(column, facts.schema)
    alone = select is not None and not select.args.get("joins")
    return alone and use is not None and facts.is_unique(use.table, {use.column.lower()})


def other_sort_column(tree: exp.Expr, facts: Facts) -> Iterator[Change]:
    for order in tree.find_all(exp.Order):
        yield from _other_columns(order.find_all(exp.Column), facts.schema)


def other_column(tree: exp.Expr, facts: Facts) -> Iterator[Change]:
    for column in tree.find_all(exp.Column):
        if not column.find_ancestor(exp.Order, exp.Join):
            yield from _other_columns([column], facts.schema)


def _other_columns(columns: Iterable[exp.Column], schema: Schema) -> Iterator[Change]:
    for column in columns:
        use = resolve(column, schema)
        if use is None:
            continue
        for name in _alike(use):
            yield column, _rename(use, name)


def _alike(use: Use) -> list[str]:
    """The next columns of the table, in a circle, of the same kind of type."""
    names = list(use.table.column_names)
    start = names.index(use.column)
    circle = names[start + 1 :] + names[:start]
    kinds = {c.name: _is_number(c.type) for c in use.table.columns}
    return [name for name in circle if kinds[name] == kinds[use.column]][:OTHER_COLUMNS]


def _is_number(declared: str) -> bool:
    return any(word in declared.lower() for word in NUMBER_WORDS)


def _rename(use: Use, name: str) -> Edit:
    """Read column `name` instead; with its table, for the bare name may be ambiguous."""

    def edit(node: exp.Expr) -> None:
        node.set("this", exp.to_identifier(name, quoted=True))
        if not node.args.get("table"):
            node.set("table", exp.to_identifier(use.alias, quoted=True))

    return edit


def dropped_join(tree: exp.Expr, facts: Facts) -> Iterator[Change]:
    """Joins whose table nothing else reads: without any other the query would fail to run."""
    for join in tree.find_all(exp.Join):
        own = {id(column) for column in join.find_all(exp.Column)}
        rest = (c for c in tree.find_all(exp.Column) if id(c) not in own)
        alias, table = join.alias_or_name.lower(), facts.schema.find(join.this.name)
        if table and not any(_reads(c, alias, table, facts.schema) for c in rest):
            yield join, remove


def _reads(column: exp.Column, alias: str, table: Table, schema: Schema) -> bool:
    use = resolve(column, schema)
    return use is None or (use.alias == alias and use.table is table)


def other_join_key(tree: exp.Expr, facts: Facts) -> Iterator[Change]:
    for join in tree.find_all(exp.Join):
        condition = join.args.get("on")
        if condition is not None:
            yield from _other_columns(condition.find_all(exp.Column), facts.schema)


def outer_join(tree: exp.Expr, facts: Facts) -> Iterator[Change]:
    """Left out where the joined table is the parent: every child has one."""
    for join in tree.find_all(exp.Join):
        side = None if join.args.get("side") else "LEFT"
        if join.args.get("on") is not None and not _joins_parent(join, facts.schema):
            yield join, lambda node, side=side: node.set("side", side)  # type: ignore[misc]


def _joins_parent(join: exp.Join, schema: Schema) -> bool:
    uses = [u for c in join.args["on"].find_all(exp.Column) if (u := resolve(c, schema))]
    own = {use.column for use in uses if use.alias == join.alias_or_name.lower()}
    return any(
        set(key.columns) == {use.column} and key.table.lower() == join.this.name.lower()
        for use in uses
        if use.alias != join.alias_or_name.lower() and own
        for key in use.table.foreign_keys
    )
