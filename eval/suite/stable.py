"""Whether a gold query's answer on a database depends on the order in which rows are stored.

It does under ties at a LIMIT and where a bare column stands beside an aggregate. There no other
query can be judged by it. Ties are broken both ways by rewriting the query, since SQLite's own
`reverse_unordered_selects` does not reach through GROUP BY.
"""

import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from sqlglot import exp

from eval.task.ordering import is_ordered
from eval.task.rows import same_rows
from eval.task.sqlite_judge import Answer, open_readonly, run_query
from eval.task.statement import SQLGLOT_FAILURES
from eval.task.synthesis.scope import parse_query

ordered_by = lru_cache(maxsize=4096)(is_ordered)


class Bench:
    """One database under trial: the same file opened twice, once scanning backwards."""

    def __init__(self, path: Path, *, timeout: float, max_rows: int) -> None:
        self._forwards = open_readonly(path)
        self._backwards = open_readonly(path)
        self._backwards.set_authorizer(None)
        self._backwards.execute("PRAGMA reverse_unordered_selects = ON")
        self._backwards.execute("PRAGMA query_only = ON")
        self._timeout, self._max_rows = timeout, max_rows

    def close(self) -> None:
        self._forwards.close()
        self._backwards.close()

    def run(self, sql: str) -> Answer:
        return self._run(self._forwards, sql)

    def stable_answer(self, gold: str) -> Answer | None:
        """The answer of `gold`; None where it fails or depends on the order of rows."""
        answer = self.run(gold)
        if answer.error is not None or not self._agrees(gold, answer, self._backwards, gold):
            return None
        for sql in order_variants(gold):
            if not self._agrees(gold, answer, self._forwards, sql):
                return None
        return answer

    def _agrees(self, gold: str, answer: Answer, db: sqlite3.Connection, sql: str) -> bool:
        found = self._run(db, sql)
        return found.error is None and same_rows(answer.rows, found.rows, ordered=ordered_by(gold))

    def _run(self, db: sqlite3.Connection, sql: str) -> Answer:
        return run_query(db, sql, timeout=self._timeout, max_rows=self._max_rows)


@lru_cache(maxsize=8192)
def order_variants(sql: str) -> tuple[str, ...]:
    """`sql` with ties broken one way and the other, and with bare columns least and greatest.

    All have the answer of `sql` exactly if that does not depend on the order of rows. A query
    that needs neither has no variants.
    """
    try:
        tree = parse_query(sql)
        return tuple(dict.fromkeys(_variants(tree))) if tree else ()
    except SQLGLOT_FAILURES:
        return ()


def _variants(tree: exp.Query) -> Iterator[str]:
    for is_descending in (False, True):
        copy = tree.copy()
        changed = _break_ties(copy, is_descending)
        changed = _settle_bare_columns(copy, exp.Max if is_descending else exp.Min) or changed
        if changed:
            yield copy.sql("sqlite", comments=False)


def _break_ties(tree: exp.Query, is_descending: bool) -> bool:
    """Sort on by everything that is shown, wherever ORDER BY is."""
    changed = False
    for order in list(tree.find_all(exp.Order)):
        select = order.parent
        if isinstance(select, exp.Select):
            for shown in select.expressions:
                if not isinstance(shown, exp.Star) and not shown.is_star:
                    key = exp.Ordered(this=shown.unalias().copy(), desc=is_descending)
                    order.append("expressions", key)
                    changed = True
    return changed


def _settle_bare_columns(tree: exp.Query, pick: type[exp.Expr]) -> bool:
    """Replace what stands outside aggregates and groups by its least or greatest value."""
    changed = False
    for select in list(tree.find_all(exp.Select)):
        bare = list(_bare_columns(select))
        extreme = _lone_extreme(select)
        if bare and extreme is not None:
            _take_row_of(select, extreme, bare, is_descending=pick is exp.Max)
        else:
            for column in bare:
                column.replace(pick(this=column.copy()))
        changed = changed or bool(bare)
    return changed


def _lone_extreme(select: exp.Select) -> exp.Expr | None:
    """The one aggregate of `SELECT name, max(age)`, beside which SQLite takes other columns from
    a row that holds the maximum; None where there are groups, more aggregates or an order."""
    aggregates = [a for a in select.find_all(exp.AggFunc) if _owner(a) is select]
    is_plain = not any(select.args.get(name) for name in ("group", "having", "order", "limit"))
    is_alone = is_plain and len(aggregates) == 1 and isinstance(aggregates[0], exp.Max | exp.Min)
    return aggregates[0] if is_alone else None


def _take_row_of(
    select: exp.Select, extreme: exp.Expr, bare: list[exp.Column], *, is_descending: bool
) -> None:
    """Write `SELECT name, max(age)` with ORDER BY age DESC, name LIMIT 1: ties go by `bare`."""
    value = extreme.this
    keys = [exp.Ordered(this=value.copy(), desc=isinstance(extreme, exp.Max))]
    keys += [exp.Ordered(this=column.copy(), desc=is_descending) for column in bare]
    extreme.replace(value.copy())
    select.where(exp.Not(this=exp.Is(this=value.copy(), expression=exp.Null())), copy=False)
    select.set("order", exp.Order(expressions=keys))
    select.set("limit", exp.Limit(expression=exp.Literal.number(1)))


def _bare_columns(select: exp.Select) -> Iterator[exp.Column]:
    group = select.args.get("group")
    clauses = [*select.expressions, select.args.get("having"), select.args.get("order")]
    parts = [part for part in clauses if part is not None]
    if not group and not any(_owner(a) is select for p in parts for a in p.find_all(exp.AggFunc)):
        return
    grouped = {g.sql().lower() for g in group.expressions} if group else set()
    names = {g.name.lower() for g in group.expressions} if group else set()
    for part in parts:
        for column in part.find_all(exp.Column):
            is_free = column.sql().lower() not in grouped and column.name.lower() not in names
            if _owner(column) is select and is_free and not column.find_ancestor(exp.AggFunc):
                yield column


def _owner(node: exp.Expr) -> exp.Select | None:
    return node.find_ancestor(exp.Select)
