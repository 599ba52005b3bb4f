"""Which columns of a schema two tables may be joined on: foreign keys, and what looks like one.

Real schemas leave foreign keys out. So two columns also pair where both refer to the same column,
where they share a telling name, or where one is named after the other's table.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from eval.task.schema import ForeignKey, Schema, Table

# Names that say nothing of what a column refers to.
VAGUE = frozenset("code description id key name no number title type year".split())
# A name in more tables than this pairs only with the table whose key it is.
MAX_SHARED = 6
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")
KEY_WORDS = frozenset("id ids code no nr num number key uid fk ref".split())
LONGEST_NAME = 4  # words of a table's name that a column may end in

# (number of the table in the schema, name of the column as the schema spells it)
Place = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Link:
    """Columns of `left`, a table's number in the schema, that equal those of `right`, in order;
    `refers` says that they refer to them, and do not merely hold the same."""

    left: int
    right: int
    pairs: tuple[tuple[str, str], ...]
    refers: bool = True


def links_of(schema: Schema) -> tuple[Link, ...]:
    """Each link once; of a key both of whose ends the schema holds, all columns together."""
    numbers = {table.name.lower(): i for i, table in enumerate(schema.tables)}
    keys = list(_keys(schema, numbers))
    named = [Link(a, b, ((x, y),)) for (a, x), (b, y) in _named_after(schema)]
    places = [*_siblings(keys), *_namesakes(schema)]
    alike = [Link(a, b, ((x, y),), refers=False) for (a, x), (b, y) in places]
    alone = set(range(len(schema.tables)))
    alone -= {end for link in [*keys, *named, *alike] for end in (link.left, link.right)}
    loose = [
        Link(a, b, ((x, y),), refers=False)
        for (a, x), (b, y) in _namesakes(schema, strict=False)
        if a in alone or b in alone
    ]
    found: dict[frozenset[Place], Link] = {}
    linked = {frozenset((link.left, link.right)) for link in keys}
    guessed = [g for g in [*named, *alike, *loose] if frozenset((g.left, g.right)) not in linked]
    for link in [*keys, *guessed]:
        ends = [((link.left, x), (link.right, y)) for x, y in link.pairs]
        found.setdefault(frozenset(end for pair in ends for end in pair), link)
    return tuple(found.values())


def _keys(schema: Schema, numbers: dict[str, int]) -> Iterator[Link]:
    for number, table in enumerate(schema.tables):
        for key in table.foreign_keys:
            target = numbers.get(key.table.lower())
            if target is not None:
                pairs = _pairs(table, key, schema.tables[target])
                if pairs:
                    yield Link(number, target, pairs)


def _pairs(table: Table, key: ForeignKey, target: Table) -> tuple[tuple[str, str], ...]:
    """The columns of a key and what they refer to; none where the schema lacks one of them."""
    own = {name.lower(): name for name in table.column_names}
    others = {name.lower(): name for name in target.column_names}
    references = key.references or target.primary_key
    if not references or len(references) != len(key.columns):
        return ()
    if any(c.lower() not in own for c in key.columns):
        return ()
    if any(r.lower() not in others for r in references):
        return ()
    spelled = zip(key.columns, references, strict=True)
    return tuple((own[c.lower()], others[r.lower()]) for c, r in spelled)


def _siblings(keys: list[Link]) -> Iterator[tuple[Place, Place]]:
    """Columns of two tables that refer to the same column of a third."""
    users = defaultdict(list)
    for link in keys:
        if len(link.pairs) == 1:
            ((column, reference),) = link.pairs
            users[link.right, reference].append((link.left, column))
    for group in users.values():
        if len(group) <= MAX_SHARED:
            yield from ((a, b) for a, b in combinations(group, 2) if a[0] != b[0])


def _namesakes(schema: Schema, *, strict: bool = True) -> Iterator[tuple[Place, Place]]:
    """Columns of the same name; if `strict`, where it is a key's or sounds like one."""
    groups: dict[str, list[Place]] = defaultdict(list)
    for number, table in enumerate(schema.tables):
        for name in table.column_names:
            if name.lower() not in VAGUE:
                groups[name.lower()].append((number, name))
    for group in groups.values():
        owners = [p for p in group if schema.tables[p[0]].primary_key == (p[1],)]
        is_key = owners or KEY_WORDS.intersection(_words(group[0][1])[-1:])
        if len(group) <= MAX_SHARED and (is_key or not strict):
            yield from combinations(group, 2)
        elif len(owners) == 1:
            yield from ((place, owners[0]) for place in group if place != owners[0])


def _named_after(schema: Schema) -> Iterator[tuple[Place, Place]]:
    """`flights.airline` and the key of `airlines`, `trip.start_station_id` and that of `station`;
    or a column of the very name there."""
    owners: dict[tuple[str, ...], int] = {}
    for number, table in enumerate(schema.tables):
        owners.setdefault(_singular(_words(table.name)), number)
    for number, table in enumerate(schema.tables):
        for name in table.column_names:
            owner = _owner(name, owners)
            if owner is not None and owner != number:
                target = schema.tables[owner]
                key = target.primary_key if len(target.primary_key) == 1 else ()
                for column in target.column_names:
                    if column in key or column.lower() == name.lower():
                        yield (number, name), (owner, column)


def _owner(name: str, owners: dict[tuple[str, ...], int]) -> int | None:
    """The table after which the column `name` is named: with its last words, but for `id`."""
    words = _words(name)
    while len(words) > 1 and words[-1] in KEY_WORDS:
        words = words[:-1]
    words = _singular(words)
    ends = (words[-n:] for n in range(min(LONGEST_NAME, len(words)), 0, -1))
    return next((owners[end] for end in ends if end in owners), None)


def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in WORD.findall(name))


def _singular(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        return words
    last = words[-1]
    if last.endswith("ies") and len(last) > 4:
        last = last[:-3] + "y"
    elif last.endswith("s") and not last.endswith("ss") and len(last) > 3:
        last = last[:-1]
    return (*words[:-1], last)
