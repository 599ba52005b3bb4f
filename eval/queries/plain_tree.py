"""A query's tree with what is mere spelling taken out, so that two trees can be compared.

Aliases, positions and brackets are replaced by what they stand for, and columns that a join makes
equal by one of them. For error analysis only: unlike `eval.canonical` it proves nothing.
"""

from sqlglot import exp

from eval.queries.clauses import Scope, conditions, is_query, joins, members, own_nodes, scope_of
from eval.task.schema import Schema

NEGATED: dict[type[exp.Expr], type[exp.Expr]] = {exp.EQ: exp.NEQ, exp.NEQ: exp.EQ}
FLIPPED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
    exp.LT: exp.GT,
    exp.GT: exp.LT,
    exp.LTE: exp.GTE,
    exp.GTE: exp.LTE,
}


def plain(tree: exp.Query, schema: Schema) -> exp.Query:
    """`tree` (changed in place) with names resolved, aliases and brackets removed, spelling made
    equal."""
    for paren in list(tree.find_all(exp.Paren)):
        if paren.parent is not None:
            paren.replace(paren.this)
    _resolve(tree, schema, None)
    for node in list(tree.walk()):
        _respell(node)
    return tree


def _resolve(query: exp.Expr, schema: Schema, outer: Scope | None) -> None:
    for select in members(query)[0]:
        scope = scope_of(select, schema, outer)
        nodes = list(own_nodes(select))
        for child in [c for node in nodes for c in node.iter_expressions() if is_query(c)]:
            _resolve(child, schema, scope)
        for node in nodes:
            if isinstance(node, exp.Column) and (source := scope.source_of(node)):
                node.replace(exp.column(node.name.lower(), source.label))
        _resolve_aliases(select)
        _resolve_places(select)
        _merge_joined(select)


def _resolve_aliases(select: exp.Expr) -> None:
    """Select aliases as what they stand for; `"such"`, where no column has the name, as text."""
    aliases = {item.alias.lower(): item.this for item in select.expressions if item.alias}
    for item in select.expressions:
        if isinstance(item, exp.Alias):
            item.replace(item.this)
    for node in list(own_nodes(select)):
        if not isinstance(node, exp.Column) or node.table:
            continue
        if node.name.lower() in aliases:
            node.replace(aliases[node.name.lower()].copy())
        elif node.this.args.get("quoted"):
            node.replace(exp.Literal.string(node.name))


def _resolve_places(select: exp.Expr) -> None:
    """`ORDER BY 2` as the second column's text."""
    for clause in ("group", "order"):
        found = select.args.get(clause)
        for key in found.expressions if found else ():
            node = key.this if isinstance(key, exp.Ordered) else key
            if isinstance(node, exp.Literal) and node.is_int:
                place = int(node.name) - 1
                if 0 <= place < len(select.expressions):
                    node.replace(select.expressions[place].unalias().copy())


def _respell(node: exp.Expr) -> None:
    if isinstance(node, exp.Table):
        node.replace(exp.to_table(node.name.lower())) if node.name.isidentifier() else None
    elif isinstance(node, exp.Ordered) and not node.args.get("desc"):
        node.set("desc", None)
    elif isinstance(node, exp.Count) and isinstance(node.this, exp.Literal):
        node.set("this", exp.Star())
    elif isinstance(node, exp.In) and len(node.expressions) == 1:
        node.replace(exp.EQ(this=node.this, expression=node.expressions[0]))
    elif isinstance(node, exp.Between):
        low = exp.GTE(this=node.this.copy(), expression=node.args["low"])
        node.replace(
            exp.And(this=low, expression=exp.LTE(this=node.this, expression=node.args["high"]))
        )
    elif type(node) in FLIPPED and isinstance(node.this, exp.Literal):
        node.replace(FLIPPED[type(node)](this=node.expression, expression=node.this))
    elif isinstance(node, exp.Not) and type(node.this) in NEGATED:
        node.replace(NEGATED[type(node.this)](**node.this.args))


def _merge_joined(select: exp.Expr) -> None:
    """Write one column for all that inner joins make equal: `GROUP BY` either is the same."""
    if any(join.side for join in joins(select)):
        return
    clauses = [join.args.get("on") for join in joins(select)] + [select.args.get("where")]
    found = [conditions(clause) for clause in clauses]
    links = [node for parts, words in found if "or" not in words for node in parts]
    links = [node for node in links if is_link(node)]
    merged: dict[exp.Expr, exp.Expr] = {}
    for link in links:
        one, two = (merged.get(side, side) for side in (link.this, link.expression))
        first = min(one, two, key=lambda column: column.sql())
        changed = [column for column, to in merged.items() if to in (one, two)]
        merged |= dict.fromkeys([*changed, one, two], first)
    inside = {id(node) for link in links for node in link.walk()}
    for node in list(own_nodes(select)):
        if id(node) not in inside and isinstance(node, exp.Column) and node in merged:
            node.replace(merged[node].copy())


def is_link(node: exp.Expr) -> bool:
    """True for an equality of two columns, as joins have."""
    sides = (node.args.get("this"), node.args.get("expression"))
    return isinstance(node, exp.EQ) and all(isinstance(side, exp.Column) for side in sides)
