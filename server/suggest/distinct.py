"""DISTINCT where no two rows are the same, by the schema's keys, or where it can't matter."""

from collections.abc import Iterator

from sqlglot import exp

from eval.task.schema import Table
from eval.task.synthesis.scope import conjuncts
from eval.task.trees import become, edited
from server.suggest.reading import Reading, Spot, names, readings
from server.suggest.suggestion import Draft, Kind, Known


def distinct_over_key(tree: exp.Query, known: Known) -> Iterator[Draft]:
    for reading in readings(tree, known.schema):
        select = reading.select
        distinct = select.args.get("distinct")
        if not distinct or distinct.args.get("on"):
            continue
        if _shows_its_groups(reading):
            reason, assumes = "the groups that are shown are different anyway", tuple[str, ...]()
        elif not _has_groups(select) and are_apart(reading, _shown(reading)):
            reason, assumes = "a key tells the rows apart anyway", _nulls(reading, known.dialect)
        else:
            continue
        rewrite = edited(tree, select, lambda twin: twin.set("distinct", None))
        yield Draft(
            Kind.DISTINCT_OVER_KEY, f"DISTINCT is not needed: {reason}.", distinct, rewrite, assumes
        )


def count_distinct_key(tree: exp.Query, known: Known) -> Iterator[Draft]:
    for reading in readings(tree, known.schema):
        for node in reading.select.find_all(exp.Count):
            counted = node.this
            is_own = node.find_ancestor(exp.Select) is reading.select
            if (
                not is_own
                or not isinstance(counted, exp.Distinct)
                or node.find_ancestor(exp.Window)
            ):
                continue
            column, *others = counted.expressions
            spot = reading.spot(column) if isinstance(column, exp.Column) else None
            if others or spot is None or not are_apart(reading, {spot, *_grouped(reading)}):
                continue
            rewrite = edited(tree, counted, become(column.copy()))
            message = f"{column.name} is a key of the rows that are counted: none comes twice."
            yield Draft(
                Kind.COUNT_DISTINCT_KEY, message, node, rewrite, _nulls(reading, known.dialect)
            )


def redundant_distinct(tree: exp.Query, known: Known) -> Iterator[Draft]:
    """DISTINCT in the query of an IN or EXISTS, or in a member of a set operation that makes its
    rows distinct itself; one rewrite for all."""
    found = list(_needless(tree))
    if found:
        message = "DISTINCT is not needed: rows that come twice change nothing here."
        yield Draft(Kind.REDUNDANT_DISTINCT, message, found[0], edited(tree, tree, _plain))


def _plain(tree: exp.Expr) -> None:
    for select in list(_needless(tree)):
        select.set("distinct", None)


def _needless(tree: exp.Expr) -> Iterator[exp.Select]:
    for select in tree.find_all(exp.Select):
        distinct = select.args.get("distinct")
        is_plain = distinct and not distinct.args.get("on") and not select.args.get("limit")
        if is_plain and (_is_member(select) or _is_searched(select)):
            yield select


def _is_member(select: exp.Select) -> bool:
    parent = select.parent
    return isinstance(parent, exp.Union | exp.Intersect | exp.Except) and bool(
        parent.args.get("distinct")
    )


def _is_searched(select: exp.Select) -> bool:
    parent = select.parent
    holder = parent.parent if isinstance(parent, exp.Subquery) else parent
    is_in = isinstance(holder, exp.In) and holder.args.get("query") in (select, parent)
    return is_in or isinstance(holder, exp.Exists)


def _has_groups(select: exp.Select) -> bool:
    """True if the rows of `select` stand for groups: of GROUP BY, or one of all rows."""
    nodes = [*select.expressions, select.args.get("having"), select.args.get("order")]
    aggregates = (a for node in nodes if node is not None for a in node.find_all(exp.AggFunc))
    is_aggregated = any(a.find_ancestor(exp.Window, exp.Select) is select for a in aggregates)
    return bool(select.args.get("group")) or is_aggregated


def _shows_its_groups(reading: Reading) -> bool:
    group = reading.select.args.get("group")
    if not group or any(value for key, value in group.args.items() if key != "expressions"):
        return False
    shown = _shown(reading)
    grouped = [reading.spot(g) if isinstance(g, exp.Column) else None for g in group.expressions]
    return bool(grouped) and all(spot in shown for spot in grouped)


def _grouped(reading: Reading) -> Iterator[Spot]:
    group = reading.select.args.get("group")
    for node in group.expressions if group else ():
        if isinstance(node, exp.Column) and (spot := reading.spot(node)):
            yield spot


def _shown(reading: Reading) -> set[Spot]:
    """The columns that the rows show as they are."""
    found = {(a, c) for a in reading.starred for c in _columns(reading, a)}
    for item in reading.select.expressions:
        column = item.unalias()
        if isinstance(column, exp.Column) and (spot := reading.spot(column)):
            found.add(spot)
    return found


def _columns(reading: Reading, alias: str) -> frozenset[str]:
    table = reading.table(alias)
    return names(table.column_names) if table else frozenset()


def are_apart(reading: Reading, shown: set[Spot]) -> bool:
    """True if no two rows from FROM, JOIN and WHERE have the same cells at `shown`.

    Cells that are known decide those that they are set equal to, and a row of a table is known
    once the cells of its primary key are.
    """
    if not reading.is_clear or not reading.has_left_joins_only:
        return False
    known, rows = set(shown), set[str]()
    rules = list(_rules(reading))
    while True:
        known |= {target for needed, target in rules if needed is None or needed in known}
        new = {
            alias
            for alias in reading.sources
            if alias not in rows and _is_known(reading, alias, known)
        }
        if not new:
            return rows == set(reading.sources)
        rows |= new
        known |= {(alias, name) for alias in new for name in _columns(reading, alias)}


def _is_known(reading: Reading, alias: str, known: set[Spot]) -> bool:
    key = reading.key(alias)
    return bool(key) and all((alias, name) in known for name in key)


def _rules(reading: Reading) -> Iterator[tuple[Spot | None, Spot]]:
    """Which cell decides which other one; None decides what is set equal to a constant.

    The ON of a LEFT JOIN decides cells of the table that it joins only: the row may be without.
    """
    for condition in reading.filters():
        yield from _decides(reading, condition)
    for join in reading.joins:
        own = join.this.alias_or_name.lower()
        for condition in conjuncts(join.args.get("on")) if join.side else ():
            yield from (rule for rule in _decides(reading, condition) if rule[1][0] == own)


def _decides(reading: Reading, condition: exp.Expr) -> Iterator[tuple[Spot | None, Spot]]:
    if pair := reading.equal(condition):
        yield from (pair, pair[::-1])
    elif isinstance(condition, exp.EQ) and isinstance(condition.left, exp.Column):
        spot = reading.spot(condition.left)
        if spot and isinstance(condition.right, exp.Literal):
            yield None, spot


def _nulls(reading: Reading, dialect: str) -> tuple[str, ...]:
    """SQLite lets a primary key be NULL, and more than once, if it is no lone INTEGER."""
    tables = {t.name: t for alias in reading.sources if (t := reading.table(alias))}
    return tuple(
        f"the primary key of {name} holds no NULL"
        for name, table in tables.items()
        if dialect == "sqlite" and not _is_row_number(table)
    )


def _is_row_number(table: Table) -> bool:
    types = {c.name: c.type.lower() for c in table.columns}
    return len(table.primary_key) == 1 and types.get(table.primary_key[0]) in ("integer", "int")
