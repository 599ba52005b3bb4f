"""What queries compare columns with: the constants that make a condition come true or not.

A column may stand in a function or in arithmetic (`strftime('%Y', d) = '2024'`, `price * 2 > 10`);
which of a column's values meet such a condition is found by asking SQLite.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from sqlglot import exp

from eval.task.schema import Schema
from eval.task.sqlite_judge import restrict, run_query
from eval.task.statement import SQLGLOT_FAILURES
from eval.task.synthesis.links import Place
from eval.task.synthesis.profile import Profile, Value, affinity, holds_time, quoted
from eval.task.synthesis.scope import Use, resolve

COMPARISONS = (
    exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between, exp.In, exp.Like, exp.Glob,
)  # fmt: skip
TIME_FUNCTIONS = (exp.TimeToStr, exp.Date, exp.TsOrDsToDate, exp.TsOrDsToTimestamp)
TIME_NAMES = frozenset({"date", "datetime", "julianday", "strftime", "unixepoch"})
MAX_CONSTANTS = 64
MAX_MET = 20
MAX_CONDITIONS = 16
SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Hint:
    """The `constants` that stand in one condition on the column at `place`, as they are written;
    `is_time`: the column is read as a point of time there."""

    place: Place
    constants: tuple[str, ...]
    is_time: bool


def hints(tree: exp.Query, schema: Schema) -> Iterator[Hint]:
    """Each column with the constants that conditions and HAVING compare it with; what a call says
    of constants (`date('now', '-1 month')`) is one too."""
    nodes = list(tree.find_all(*COMPARISONS))
    said = _said([call for node in nodes for call in _calls(node)])
    for node in nodes:
        literals = (n.name for n in _own(node) if isinstance(n, exp.Literal))
        known = [*(said[id(call)] for call in _calls(node) if id(call) in said), *literals]
        constants = tuple(known[:MAX_CONSTANTS])
        for column in _columns(node) if constants else ():
            if use := resolve(column, schema):
                yield Hint(use.place, constants, _is_read_as_time(column))


def _calls(node: exp.Expr) -> list[exp.Expr]:
    """The operands of `node` that call a function of constants."""
    return [
        part
        for part in node.iter_expressions()
        if isinstance(part, exp.Func) and not part.find(exp.Column, exp.AggFunc, exp.Query)
    ]


def _said(calls: Sequence[exp.Expr]) -> dict[int, str]:
    """What SQLite makes of `calls`, as text; nothing where any of them fails."""
    if not calls:
        return {}
    with closing(sqlite3.connect(":memory:")) as db:
        restrict(db)
        try:
            sql = f"SELECT {', '.join(call.sql('sqlite') for call in calls[:MAX_CONDITIONS])}"
        except SQLGLOT_FAILURES:
            return {}
        (row,) = run_query(db, sql, timeout=SECONDS).rows or ((),)
    return {id(call): str(cell) for call, cell in zip(calls, row, strict=False)}


def _is_read_as_time(column: exp.Column) -> bool:
    reader = column.find_ancestor(*TIME_FUNCTIONS, exp.Anonymous, *COMPARISONS)
    return isinstance(reader, TIME_FUNCTIONS) or (
        isinstance(reader, exp.Anonymous) and reader.name.lower() in TIME_NAMES
    )


def _own(node: exp.Expr) -> Iterator[exp.Expr]:
    """`node` and what is below it, without the insides of subqueries."""
    return node.walk(prune=lambda inner: isinstance(inner, exp.Query))


def _columns(node: exp.Expr) -> list[exp.Column]:
    return [inner for inner in _own(node) if isinstance(inner, exp.Column)]


def settled(tree: exp.Query, schema: Schema, profile: Profile) -> exp.Query:
    """`tree` with each condition on something made of one column replaced by the list of those of
    the column's values that meet it, where there are any: a plan can read that."""
    copy = tree.copy()
    found: list[tuple[exp.Expr, Use]] = []
    for node in copy.find_all(*COMPARISONS):
        use = _only_use(node, schema)
        if use is not None and use.place[0] in profile.tables and len(found) < MAX_CONDITIONS:
            found.append((node, use))
    if not found:
        return tree
    with closing(_shelf([use for _, use in found], profile)) as db:
        for condition, use in found:
            if met := _met(db, condition, use):
                column, listed = _columns(condition)[0].copy(), map(exp.convert, met)
                condition.replace(exp.In(this=column, expressions=[*listed]))
    return copy


def _shelf(uses: Iterable[Use], profile: Profile) -> sqlite3.Connection:
    """A database with a table for each column used, named by its place, that holds its values."""
    db = sqlite3.connect(":memory:")
    for place, use in {use.place: use for use in uses}.items():
        values = profile.tables[place[0]].columns[place[1]].values
        db.execute(f"CREATE TABLE {_shelf_name(use)} (v {affinity(use.type)})")
        db.executemany(f"INSERT INTO {_shelf_name(use)} VALUES (?)", [(v,) for v in values])
    restrict(db)
    return db


def _shelf_name(use: Use) -> str:
    return f'"{quoted(" ".join(use.place))}"'


def _only_use(node: exp.Expr, schema: Schema) -> Use | None:
    """The one column that `node` hangs on where a plan can't read it: no aggregate, no subquery,
    no column that is just compared with constants."""
    if node.find(exp.AggFunc, exp.Query):
        return None
    uses = [resolve(column, schema) for column in _columns(node)]
    is_one = len({use.place if use else None for use in uses}) == 1
    return uses[0] if is_one and not _is_readable(node, uses[0]) else None


def _is_readable(node: exp.Expr, use: Use | None) -> bool:
    """Whether a plan can: but it would take a pattern for a text where days are meant."""
    parts = [part for part in node.iter_expressions() if not isinstance(part, exp.Column)]
    is_constant = all(isinstance(p, exp.Literal | exp.Neg | exp.Boolean) for p in parts)
    is_pattern = isinstance(node, exp.Like) and use is not None and holds_time(use.type)
    return is_constant and not isinstance(node, exp.Glob) and not is_pattern


def _met(db: sqlite3.Connection, node: exp.Expr, use: Use) -> Sequence[Value]:
    """At most `MAX_MET` of the column's values that make `node` true, spread over all that do."""
    condition = node.copy()
    for inner in _columns(condition):
        inner.replace(exp.column("v"))
    try:
        sql = f"SELECT v FROM {_shelf_name(use)} WHERE {condition.sql('sqlite')}"
    except SQLGLOT_FAILURES:
        return ()
    found = [row[0] for row in run_query(db, sql, timeout=SECONDS).rows]
    step = max(1, len(found) // MAX_MET)
    return [value for value in found[::step] if isinstance(value, int | float | str)][:MAX_MET]
