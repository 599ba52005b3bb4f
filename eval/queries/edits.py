"""What differs between two queries, clause by clause, found with sqlglot's tree diff.

Both trees are first made plain (`eval.queries.plain_tree`). Knows nothing of databases or rows;
what the classes mean stands in `eval.queries.diagnose`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from sqlglot import diff, exp
from sqlglot.diff import Insert, Remove, Update

from eval.queries.clauses import conditions, is_query, joins, members, sources, tail
from eval.queries.plain_tree import is_link, plain
from eval.task.schema import Schema

# Over so many conditions pairing would take long; they are told apart as sets only.
MAX_PAIRED = 6
MAX_DEPTH = 6
# Two of them are two different things; two of any other kind do the same.
NAMED = (exp.Column, exp.Literal, exp.Table)


def changes(found: exp.Query, gold: exp.Query, schema: Schema) -> set[str]:
    """The classes of what must change in `found` to become `gold`; both trees are used up."""
    one, two = plain(found, schema), plain(gold, schema)
    return {"equivalent_looking"} if one == two else set(_query_changes(one, two, MAX_DEPTH))


def _query_changes(found: exp.Expr, gold: exp.Expr, depth: int) -> Iterator[str]:
    ours, our_words = members(found)
    theirs, their_words = members(gold)
    if our_words != their_words:
        yield "wrong_set_operation"
        return
    for one, two in zip(ours, theirs, strict=True):
        yield from _select_changes(one, two, depth)
    if _parts(tail(found, "order")) != _parts(tail(gold, "order")):
        yield "wrong_order"
    if any(tail(found, clause) != tail(gold, clause) for clause in ("limit", "offset")):
        yield "wrong_limit"


def _select_changes(found: exp.Expr, gold: exp.Expr, depth: int) -> Iterator[str]:
    if depth == 0:
        return
    yield from _table_changes(found, gold, depth)
    yield from _item_changes(found.expressions, gold.expressions)
    if bool(found.args.get("distinct")) != bool(gold.args.get("distinct")):
        yield "wrong_distinct"
    our_links, ours = _split(found, "where")
    their_links, theirs = _split(gold, "where")
    if our_links != their_links and _tables(found) == _tables(gold):
        yield "wrong_join_condition"
    yield from _condition_changes(ours, theirs, depth)
    words = [conditions(select.args.get("where"))[1] for select in (found, gold)]
    if Counter(ours) == Counter(theirs) and set(words[0]) != set(words[1]):
        yield "wrong_connective"
    if Counter(_parts(found.args.get("group"))) != Counter(_parts(gold.args.get("group"))):
        yield "wrong_group"
    having = [conditions(select.args.get("having")) for select in (found, gold)]
    if (Counter(having[0][0]), having[0][1]) != (Counter(having[1][0]), having[1][1]):
        yield "wrong_having"


def _parts(clause: exp.Expr | None) -> list[exp.Expr]:
    return clause.expressions if clause else []


def _tables(select: exp.Expr) -> Counter[str]:
    return Counter(item.name for item in sources(select) if isinstance(item, exp.Table))


def _table_changes(found: exp.Expr, gold: exp.Expr, depth: int) -> Iterator[str]:
    missing, extra = _tables(gold) - _tables(found), _tables(found) - _tables(gold)
    if missing and extra:
        yield "wrong_table"
    elif missing or extra:
        yield "missing_table" if missing else "extra_table"
    elif [j.side for j in joins(found)] != [j.side for j in joins(gold)]:
        yield "wrong_join_type"
    ours, theirs = ([s for s in sources(q) if not isinstance(s, exp.Table)] for q in (found, gold))
    if len(ours) != len(theirs):
        yield "wrong_nesting"
    elif ours != theirs:
        for one, two in zip(ours, theirs, strict=True):
            yield from _query_changes(one, two, depth - 1)


def _item_changes(found: list[exp.Expr], gold: list[exp.Expr]) -> Iterator[str]:
    """The classes of a select list."""
    if found == gold:
        return
    if Counter(found) == Counter(gold):
        yield "wrong_column_order"
    elif len(found) != len(gold):
        yield "missing_column" if len(found) < len(gold) else "extra_column"
        ours, theirs = Counter(found), Counter(gold)
        if (ours - theirs) and (theirs - ours):
            yield "wrong_column"
    else:
        edited = _edited(exp.Select(expressions=found), exp.Select(expressions=gold))
        yield from _item_classes(edited)


def _item_classes(edited: list[exp.Expr]) -> Iterator[str]:
    classes = {_item_class(node) for node in edited} - {None}
    yield from (c for c in classes if c) if classes else ["wrong_column"]


def _item_class(node: exp.Expr) -> str | None:
    if isinstance(node, exp.AggFunc):
        return "wrong_aggregate"
    if isinstance(node, exp.Distinct):
        return "wrong_distinct"
    if isinstance(node, exp.Select | exp.Star):
        return None
    return "wrong_column" if isinstance(node, exp.Column) else "wrong_expression"


def _edited(found: exp.Expr, gold: exp.Expr) -> list[exp.Expr]:
    """The nodes that must be inserted, removed or updated; what only moves is left out, and so is
    an operator or function that is removed in one place and inserted in another."""
    edits = diff(found, gold, delta_only=True)
    removed = [edit.expression for edit in edits if isinstance(edit, Remove)]
    inserted = [edit.expression for edit in edits if isinstance(edit, Insert)]
    both = {type(node) for node in removed} & {type(node) for node in inserted} - set(NAMED)
    changed = [node for node in removed + inserted if type(node) not in both]
    return changed + [edit.target for edit in edits if isinstance(edit, Update)]


def _split(select: exp.Expr, clause: str) -> tuple[Counter[frozenset[exp.Expr]], list[exp.Expr]]:
    """The equalities between columns of two tables, from ON and WHERE, and the other conditions."""
    found = [c for join in joins(select) for c in conditions(join.args.get("on"))[0]]
    found += conditions(select.args.get(clause))[0]
    links = [node for node in found if is_link(node)]
    pairs = Counter(frozenset({node.this, node.expression}) for node in links)
    return pairs, [node for node in found if not is_link(node)]


def _condition_changes(found: list[exp.Expr], gold: list[exp.Expr], depth: int) -> Iterator[str]:
    ours = list((Counter(found) - Counter(gold)).elements())
    theirs = list((Counter(gold) - Counter(found)).elements())
    pairs = _paired(ours, theirs) if max(len(ours), len(theirs)) <= MAX_PAIRED else []
    for one, two in pairs:
        yield from _pair_changes(one, two, depth)
    if len(ours) < len(theirs):
        yield "missing_condition"
    elif len(ours) > len(theirs):
        yield "extra_condition"
    elif ours and not pairs:
        yield "wrong_column_in_condition"


def _paired(ours: list[exp.Expr], theirs: list[exp.Expr]) -> list[tuple[exp.Expr, exp.Expr]]:
    """Each condition with the one that fewest edits make of it."""
    costs = sorted(
        (len(_edited(one, two)), i, j) for i, one in enumerate(ours) for j, two in enumerate(theirs)
    )
    pairs: list[tuple[int, int]] = []
    for _, i, j in costs:
        if all(i != a and j != b for a, b in pairs):
            pairs.append((i, j))
    return [(ours[i], theirs[j]) for i, j in pairs]


def _pair_changes(found: exp.Expr, gold: exp.Expr, depth: int) -> Iterator[str]:
    inner = [[n for n in q.find_all(exp.Query) if _is_outermost(n, q)] for q in (found, gold)]
    if len(inner[0]) != len(inner[1]):
        yield "wrong_nesting"
        return
    for one, two in zip(*inner, strict=True):
        if one != two:
            yield from _query_changes(one, two, depth - 1)
        for query in (one, two):
            query.replace(exp.Null())
    yield from _condition_classes(_edited(found, gold))


def _is_outermost(query: exp.Expr, condition: exp.Expr) -> bool:
    above = query.find_ancestor(exp.Query)
    return is_query(query) and (above is None or above not in list(condition.walk()))


def _condition_classes(edited: Iterable[exp.Expr]) -> Iterator[str]:
    for node in edited:
        if isinstance(node, exp.Column):
            yield "wrong_column_in_condition"
        elif isinstance(node, exp.Literal | exp.Boolean | exp.Neg):
            yield "wrong_value"
        elif isinstance(node, exp.AggFunc):
            yield "wrong_aggregate"
        else:
            yield (
                "wrong_operator"
                if isinstance(node, exp.Predicate | exp.Not)
                else "wrong_expression"
            )
