"""Joined tables of which nothing is used, and whose join neither drops nor repeats a row."""

from collections.abc import Iterator, Sequence

from sqlglot import exp

from eval.task.synthesis.scope import conjuncts
from eval.task.trees import Edit, edited
from server.suggest.joins import Reference, references
from server.suggest.reading import Reading, readings
from server.suggest.suggestion import Draft, Kind, Known


def unused_join(tree: exp.Query, known: Known) -> Iterator[Draft]:
    for reading in readings(tree, known.schema):
        if not reading.is_clear or not reading.has_left_joins_only:
            continue
        for alias in reading.sources:
            if alias in reading.starred or reading.table(alias) is None:
                continue
            join = reading.join_of(alias)
            if join is not None and join.side == "LEFT":
                yield from _outer(tree, reading, alias, join)
            elif len(reading.sources) > 1:
                yield from _inner(tree, reading, alias, known)


def _outer(tree: exp.Query, reading: Reading, alias: str, join: exp.Join) -> Iterator[Draft]:
    """A LEFT JOIN over the whole key: each row meets one row at most, and stays without one."""
    on = join.args.get("on")
    inside = {id(node) for node in on.walk()} if on is not None else set()
    if any(spot[0] == alias and id(node) not in inside for node, spot in reading.columns):
        return
    key = reading.key(alias)
    if key and key <= _pinned(reading, alias, on):
        place = reading.joins.index(join)
        rewrite = edited(tree, reading.select, lambda twin: _joins(twin).pop(place))
        message = (
            f"Nothing of {join.this.name} is used, and a LEFT JOIN over its key keeps each row."
        )
        yield Draft(Kind.UNUSED_JOIN, message, join, rewrite)


def _joins(select: exp.Expr) -> list[exp.Join]:
    found: list[exp.Join] = select.args["joins"]
    return found


def _pinned(reading: Reading, alias: str, on: exp.Expr | None) -> set[str]:
    """The columns of `alias` that `on` sets equal to something that is not of `alias`."""
    found = set()
    for condition in conjuncts(on):
        if isinstance(condition, exp.EQ):
            sides = (condition.left, condition.right)
            for side, other in (sides, sides[::-1]):
                spot = reading.spot(side) if isinstance(side, exp.Column) else None
                if spot and spot[0] == alias and alias not in reading.aliases(other):
                    found.add(spot[1])
    return found


def _inner(tree: exp.Query, reading: Reading, alias: str, known: Known) -> Iterator[Draft]:
    """A join from a foreign key to its parent, of which at most the key is used."""
    is_first = reading.join_of(alias) is None
    if is_first and any(join.side for join in reading.joins):
        return
    own = [c for c in reading.filters() if alias in reading.aliases(c)]
    for child in reading.sources:
        for reference in references(reading, child, alias):
            if _is_only(reading, reference, own):
                rewrite = edited(tree, reading.select, _drop(reference, own, known))
                yield Draft(
                    Kind.UNUSED_JOIN,
                    f"The join to {reading.item(alias).name} adds nothing: by the foreign key "
                    f"{reference.text}, {reading.item(child).name} holds all that is used of it.",
                    reading.join_of(alias) or reading.item(alias),
                    rewrite,
                    (f"the foreign key {reference.text} holds",),
                )
                return


def _is_only(reading: Reading, reference: Reference, own: Sequence[exp.Expr]) -> bool:
    """Whether `own`, the conditions on the parent, are the reference's and all else that is used
    of it is the key."""
    wanted = {frozenset(pair) for pair in reference.pairs}
    met = [reading.equal(condition) for condition in own]
    if {frozenset(pair) if pair else None for pair in met} != wanted:
        return False
    keys = {parent for _, parent in reference.pairs}
    return all(spot in keys for _, spot in reading.columns if spot[0] == reference.parent)


def _drop(reference: Reference, own: Sequence[exp.Expr], known: Known) -> Edit:
    """Take the parent and the conditions `own` away; its key is read from the child instead, which
    must hold one."""

    def edit(twin: exp.Expr) -> None:
        assert isinstance(twin, exp.Select)
        reading = Reading(twin, known.schema)
        filled = _never_null(reading, reference.child)
        for (alias, name), _ in reference.pairs:
            if name not in filled:
                column = reading.column((alias, name), known.dialect)
                twin.where(exp.Not(this=exp.Is(this=column, expression=exp.Null())), copy=False)
        join = reading.join_of(reference.parent)
        _read_from_child(reading, reference, known)
        _take_conditions(twin, own)
        if join is None:
            join = _joins(twin)[0]
            twin.args["from_"].set("this", join.this)
        _joins(twin).remove(join)
        twin.where(*conjuncts(reading.on(join)), copy=False)

    return edit


def _never_null(reading: Reading, alias: str) -> frozenset[str]:
    """The primary key of a source that no LEFT JOIN leaves without a row."""
    join = reading.join_of(alias)
    return reading.key(alias) if join is None or not join.side else frozenset()


def _read_from_child(reading: Reading, reference: Reference, known: Known) -> None:
    """Replace the parent's key by the child's columns; what is shown keeps its name."""
    held = {parent: child for child, parent in reference.pairs}
    conditions = {id(c) for c in reading.filters() if reading.equal(c)}
    for node, spot in reading.columns:
        if spot in held and id(node.parent) not in conditions:
            new: exp.Expr = reading.column(held[spot], known.dialect)
            is_shown = node.parent is reading.select and node.arg_key == "expressions"
            if is_shown and new.name.lower() != node.name.lower():
                new = exp.alias_(new, node.this.copy())
            node.replace(new)


def _take_conditions(select: exp.Select, own: Sequence[exp.Expr]) -> None:
    """Remove the conditions `own` from WHERE and the inner joins of `select`."""
    where = select.args.get("where")
    clauses = [(where, "this"), *((j, "on") for j in _joins(select) if not j.side)]
    for clause, name in clauses:
        if clause is not None and clause.args.get(name) is not None:
            left = [c for c in conjuncts(clause.args[name]) if c not in own]
            clause.set(name, exp.and_(*left) if left else None)
            if isinstance(clause, exp.Join) and not left:
                clause.set("kind", "CROSS")
    if where is not None and where.this is None:
        select.set("where", None)
