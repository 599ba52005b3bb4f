"""The same query in other words: rewrites after which SQLite must give the same answer.

Each rewrite keeps the meaning on every database, LIMIT ties apart.
"""

from collections.abc import Callable, Iterator

from sqlglot import exp

from eval.task.schema import Schema
from eval.task.statement import SQLGLOT_FAILURES, normalize_sql
from eval.task.synthesis.scope import parse_query, resolve

MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
    exp.And: exp.And,
    exp.Or: exp.Or,
}


def rewrites(sql: str, schema: Schema) -> Iterator[tuple[str, str]]:
    """(name of the rewrite, `sql` rewritten) for each of `REWRITES` that changes anything."""
    for name, rewrite in REWRITES.items():
        try:
            tree = parse_query(sql)
            if tree is None:
                return
            rewrite(tree, schema)
            text = tree.sql("sqlite", comments=False)
        except SQLGLOT_FAILURES:
            continue
        if normalize_sql(text) != normalize_sql(sql):
            yield name, text


def renamed_aliases(tree: exp.Query, schema: Schema) -> None:
    for column in list(tree.find_all(exp.Column)):
        use = resolve(column, schema)
        if column.table and use and use.alias == column.table.lower():
            column.set("table", exp.to_identifier(f"the_{use.alias}", quoted=True))
    for table in list(tree.find_all(exp.Table)):
        table.set("alias", exp.TableAlias(this=_the(table.alias or table.name)))


def _the(alias: str) -> exp.Identifier:
    return exp.to_identifier(f"the_{alias.lower()}", quoted=True)


def mirrored_operands(tree: exp.Query, _schema: Schema) -> None:
    for node in list(tree.find_all(*MIRRORED)):
        assert isinstance(node, exp.Binary)
        node.replace(MIRRORED[type(node)](this=node.right, expression=node.left))


def open_between(tree: exp.Query, _schema: Schema) -> None:
    for node in list(tree.find_all(exp.Between)):
        low = exp.GTE(this=node.this.copy(), expression=node.args["low"])
        high = exp.LTE(this=node.this.copy(), expression=node.args["high"])
        node.replace(exp.Paren(this=exp.And(this=low, expression=high)))


def closed_between(tree: exp.Query, _schema: Schema) -> None:
    for node in list(tree.find_all(exp.And)):
        low, high = node.left, node.right
        if isinstance(low, exp.GTE) and isinstance(high, exp.LTE) and low.left == high.left:
            node.replace(exp.Between(this=low.left, low=low.right, high=high.right))


def in_as_or(tree: exp.Query, _schema: Schema) -> None:
    for node in list(tree.find_all(exp.In)):
        if node.expressions:
            equal = [exp.EQ(this=node.this.copy(), expression=e) for e in node.expressions]
            node.replace(exp.Paren(this=exp.or_(*equal)))


def or_as_in(tree: exp.Query, _schema: Schema) -> None:
    for node in list(tree.find_all(exp.Or)):
        one, other = node.left, node.right
        if isinstance(one, exp.EQ) and isinstance(other, exp.EQ) and one.left == other.left:
            node.replace(exp.In(this=one.left, expressions=[one.right, other.right]))


def join_in_where(tree: exp.Query, _schema: Schema) -> None:
    for select in list(tree.find_all(exp.Select)):
        joins = select.args.get("joins") or []
        if any(join.args.get("side") or join.args.get("using") for join in joins):
            continue
        for join in joins:
            condition = join.args.get("on")
            if condition is not None:
                join.set("on", None)
                join.set("kind", "CROSS")
                select.where(condition, copy=False)


def swapped_join(tree: exp.Query, _schema: Schema) -> None:
    """`a JOIN b` as `b JOIN a`, where no star shows the order of tables."""
    for select in list(tree.find_all(exp.Select)):
        joins = select.args.get("joins") or []
        origin = select.args.get("from_")
        is_plain = len(joins) == 1 and not joins[0].args.get("side")
        if origin and is_plain and not any(p.is_star for p in select.expressions):
            first, second = origin.this, joins[0].this
            origin.set("this", second.copy())
            joins[0].set("this", first.copy())


def reversed_group(tree: exp.Query, _schema: Schema) -> None:
    for group in list(tree.find_all(exp.Group)):
        group.set("expressions", list(reversed(group.expressions)))


def count_one(tree: exp.Query, _schema: Schema) -> None:
    for star in [n for n in tree.find_all(exp.Star) if isinstance(n.parent, exp.Count)]:
        star.replace(exp.Literal.number(1))


def distinct_membership(tree: exp.Query, _schema: Schema) -> None:
    for node in tree.find_all(exp.In):
        query = node.args.get("query")
        select = query.unnest() if query is not None else None
        if isinstance(select, exp.Select) and not select.args.get("limit"):
            select.set("distinct", exp.Distinct())


def negation_outside(tree: exp.Query, _schema: Schema) -> None:
    """`a != b` as `NOT a = b`."""
    for node in list(tree.find_all(exp.NEQ)):
        equal = exp.Paren(this=exp.EQ(this=node.left, expression=node.right))
        node.replace(exp.Not(this=equal))


def whole_number_bounds(tree: exp.Query, schema: Schema) -> None:
    """`count(*) > 2` as `count(*) >= 3`."""
    for node in list(tree.find_all(exp.GT)):
        bound = node.right
        if isinstance(node.left, exp.Count) and bound.is_int:
            node.replace(exp.GTE(this=node.left, expression=_plus_one(bound)))


def _plus_one(bound: exp.Expr) -> exp.Expr:
    return exp.Literal.number(int(bound.name) + 1)


REWRITES: dict[str, Callable[[exp.Query, Schema], None]] = {
    rewrite.__name__: rewrite
    for rewrite in (
        renamed_aliases,
        mirrored_operands,
        open_between,
        closed_between,
        in_as_or,
        or_as_in,
        join_in_where,
        swapped_join,
        reversed_group,
        count_one,
        distinct_membership,
        negation_outside,
        whole_number_bounds,
    )
}
