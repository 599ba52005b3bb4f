"""Which columns may stand beside an aggregate: those that have one value in each group.

Works on a tree whose names are resolved, SELECT by SELECT.
"""

from collections.abc import Iterator

from sqlglot import exp

from eval.task.aggregates import NO_AGGREGATE, is_aggregate, is_windowed, misuse, parts
from eval.task.names import Names
from eval.task.schema import Schema
from eval.task.scope import lower
from eval.task.violation import Violation

# Engines that show any row's value of a column that is not grouped.
ANY_VALUE = frozenset({"sqlite"})
# Engines that know that a table's key decides the rest of its row.
KEY_DECIDES = frozenset({"postgres", "materialize", "risingwave", "mysql"})
# Clauses that are read before there are groups.
UNGROUPED = NO_AGGREGATE | {"with_", "from_", "joins", "laterals"}


def ungrouped_columns(
    tree: exp.Expr, names: Names, schema: Schema, dialect: str
) -> Iterator[Violation]:
    """Columns beside an aggregate that are not in GROUP BY, and keys of SELECT DISTINCT ... ORDER
    BY that are not selected; none in SQLite, which takes any row's value."""
    if dialect in ANY_VALUE:
        return
    for _, column in loose_columns(
        tree, names, schema, dialect, key_decides=dialect in KEY_DECIDES
    ):
        yield misuse("ungrouped_column", column, f"{column.sql()!r} is not in GROUP BY")
    for select in tree.find_all(exp.Select):
        order, distinct = select.args.get("order"), select.args.get("distinct")
        if order and distinct and not distinct.args.get("on") and not select.is_star:
            yield from _unselected(select, order, names)


def loose_columns(
    tree: exp.Expr,
    names: Names,
    schema: Schema,
    dialect: str,
    *,
    key_decides: bool,
    joins_decide: bool = False,
) -> Iterator[tuple[exp.Expr, exp.Column]]:
    """Each SELECT that is grouped with each of its columns that no group has one value of.

    With `key_decides`, a table's primary key decides its other columns; with `joins_decide`, also
    a column decides those that an inner join or WHERE says are equal to it.
    """
    for select in tree.find_all(exp.Select):
        group, own = select.args.get("group"), list(parts(select))
        is_grouped = group or any(
            is_aggregate(p.node, dialect) and not is_windowed(p.node) for p in own
        )
        if is_grouped and not _has_sets(group):
            keys = _keys(select, names, dialect)
            known = {names.identity(key) for key in keys if isinstance(key, exp.Column)}
            if joins_decide:
                _add_equal(select, known, names)
            decided = _decided(select, known, names, schema) if key_decides else set()
            for column in _loose(select, names, dialect):
                identity = names.identity(column)
                if identity not in known and identity[0] not in decided:
                    yield select, column


def _unselected(select: exp.Expr, order: exp.Expr, names: Names) -> Iterator[Violation]:
    items = [item.unalias() for item in select.expressions]
    shown = {names.identity(item) for item in items if isinstance(item, exp.Column)}
    for ordered in order.expressions:
        key = ordered.this
        is_named = id(key) in names.aliases or (
            isinstance(key, exp.Column) and names.identity(key) in shown
        )
        if not (is_named or isinstance(key, exp.Literal) or key in items):
            message = f"{key.sql()[:64]!r} orders a SELECT DISTINCT that does not show it"
            yield misuse("ungrouped_column", key, message)


def _has_sets(group: exp.Expr | None) -> bool:
    return group is not None and bool(group.find(exp.GroupingSets, exp.Cube, exp.Rollup))


def _loose(select: exp.Expr, names: Names, dialect: str) -> Iterator[exp.Column]:
    """The columns of a SELECT beside its aggregates, those in its subqueries too, but for those in
    a whole key."""
    keys = list(_keys(select, names, dialect))
    for clause, value in select.args.items():
        nodes = value if isinstance(value, list) else [value]
        for node in nodes if value and clause not in UNGROUPED else ():
            for column in node.find_all(exp.Column) if isinstance(node, exp.Expr) else ():
                is_own = names.owners.get(id(column)) is select and id(column) not in names.aliases
                if is_own and not _is_covered(column, select, keys, dialect):
                    yield column


def grouped_by_all(select: exp.Expr, dialect: str) -> Iterator[exp.Expr]:
    """What GROUP BY ALL means: the items of the select list without an aggregate."""
    for item in select.expressions:
        if not any(is_aggregate(node, dialect) for node in item.walk()):
            yield item.unalias()


def _keys(select: exp.Expr, names: Names, dialect: str) -> Iterator[exp.Expr]:
    """The expressions of GROUP BY; for an alias or a number the item that it means."""
    group = select.args.get("group")
    if group and group.args.get("all"):
        yield from grouped_by_all(select, dialect)
    for key in group.expressions if group else ():
        for part in key.expressions if isinstance(key, exp.Tuple) else [key.unnest()]:
            yield _item(part, select, names)


def _add_equal(select: exp.Expr, known: set[tuple[str, str]], names: Names) -> None:
    """Add to `known` the columns that inner joins and WHERE say are equal to one of them."""
    joins = [j for j in select.args.get("joins") or () if not j.args.get("side")]
    conditions = [j.args["on"] for j in joins if j.args.get("on")]
    conditions += [select.args["where"].this] if select.args.get("where") else []
    pairs = [
        {names.identity(part.this), names.identity(part.expression)}
        for condition in conditions
        for part in _conjuncts(condition)
        if isinstance(part, exp.EQ)
        if isinstance(part.this, exp.Column) and isinstance(part.expression, exp.Column)
    ]
    for _ in pairs:
        for pair in pairs:
            if pair & known:
                known |= pair


def _item(key: exp.Expr, select: exp.Expr, names: Names) -> exp.Expr:
    """The expression that a key of GROUP BY means: of an alias or a number that of its item."""
    if isinstance(key, exp.Literal) and key.name.isdigit() and not key.is_string:
        place = int(key.name) - 1
        return select.expressions[place].unalias() if place < len(select.expressions) else key
    alias = names.aliases.get(id(key))
    return alias.unalias() if alias is not None else key


def _conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    inner = condition.unnest()
    return list(inner.flatten(unnest=True)) if isinstance(inner, exp.And) else [inner]


def _decided(
    select: exp.Expr, known: set[tuple[str, str]], names: Names, schema: Schema
) -> set[str]:
    """The FROM items of which `known` holds all of the primary key."""
    found = set()
    for table in select.find_all(exp.Table):
        own = schema.find(table.name)
        source = lower(table.alias_or_name)
        is_own = table.find_ancestor(exp.Select) is select
        key = own.primary_key if own and is_own else ()
        if key and all((source, lower(name)) in known for name in key):
            found.add(source)
    return found


def _is_covered(node: exp.Expr, select: exp.Expr, keys: list[exp.Expr], dialect: str) -> bool:
    """True within an aggregate, or within an expression that is grouped by."""
    parent: exp.Expr | None = node
    while parent is not None and parent is not select:
        if is_aggregate(parent, dialect) and not is_windowed(parent):
            return True
        if isinstance(parent, exp.Filter | exp.WithinGroup) and not is_windowed(parent):
            return True
        if any(parent == key for key in keys):
            return True
        parent = parent.parent
    return False
