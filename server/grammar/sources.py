"""What a FROM clause may name: the tables of a schema, and some of them under an alias.

A table that refers to itself may also stand in a FROM clause as `T1` and `T2`, one to which another
refers twice as `T1` to `T3`; all others stand there once, under their own names. One query has
aliases of one table only: `T1.id` in a SELECT list may be of any, and each is a parse of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.task.schema import Schema, Table
from server.grammar.links import Link, links_of

ALIASES = ("T1", "T2", "T3")
MAX_ALIASED = 7  # tables, what their number in the parameter allows
# llguidance follows 2,000 items at a time; a parse takes about two for each table, and these.
MAX_ITEMS, ITEMS_OF_PARSE = 1500, 70

# Columns that are equal, the first of the one table, the second of the other.
Pairs = tuple[tuple[str, str], ...]
# A table's number in the schema, and its alias or "".
Key = tuple[int, str]
# By a table's number in the schema all names that it may have, its own as "".
Names = dict[int, tuple[str, ...]]
Joins = dict[Key, dict[Key, list[Pairs]]]


@dataclass(frozen=True, slots=True)
class Source:
    """A table under its own name or `alias`.

    Numbers start from 1; those that joins lead to from here, one after the other, are from `first`
    to `last`, and `num_joined` of them can always be joined. `joins` has by a neighbour's number
    the ways to join it, this table's columns first. `aliased` numbers the tables that have aliases,
    0 where the source is no alias.
    """

    number: int
    table: Table
    alias: str
    aliased: int
    first: int
    last: int
    num_joined: int
    joins: dict[int, tuple[Pairs, ...]]

    @property
    def name(self) -> str:
        return self.alias or self.table.name


def sources_of(schema: Schema) -> tuple[Source, ...]:
    """All sources of `schema` in the order of their numbers, those that join the most first."""
    links = links_of(schema)
    names = _names(schema, links)
    keys = [(i, alias) for i in range(len(schema.tables)) for alias in names[i]]
    joins = _joins(links, names)
    roots = _roots(keys, joins)
    sizes, plain = Counter(roots.values()), Counter(roots[key] for key in keys if not key[1])
    # Of one table at least two aliases, whichever it is.
    joined = {root: plain[root] + 2 * (size > plain[root]) for root, size in sizes.items()}
    keys.sort(key=lambda key: (-joined[roots[key]], roots[key], key))
    numbers = {key: number for number, key in enumerate(keys, 1)}
    first = {roots[key]: number for key, number in reversed(numbers.items())}
    aliased = {i: n for n, i in enumerate((i for i in names if len(names[i]) > 1), 1)}
    return tuple(
        Source(
            number,
            schema.tables[key[0]],
            key[1],
            aliased[key[0]] if key[1] else 0,
            first[roots[key]],
            first[roots[key]] + sizes[roots[key]] - 1,
            joined[roots[key]],
            {numbers[other]: tuple(ways) for other, ways in joins[key].items()},
        )
        for key, number in numbers.items()
    )


def _names(schema: Schema, links: Sequence[Link]) -> Names:
    names: Names = {i: ("",) for i in range(len(schema.tables))}
    if any(schema.find(alias) for alias in ALIASES):
        return names
    referred = Counter((link.left, link.right) for link in links if link.refers)
    twice = {right for (left, right), n in referred.items() if left != right and n > 1}
    itself = {right for left, right in referred if left == right}
    most = min(MAX_ALIASED, MAX_ITEMS // (2 * len(schema.tables) + ITEMS_OF_PARSE))
    for table in sorted(twice | itself)[:most]:
        names[table] = ("", *(ALIASES if table in twice else ALIASES[:2]))
    return names


def _joins(links: Sequence[Link], names: Names) -> Joins:
    joins: Joins = defaultdict(lambda: defaultdict(list))
    for link in links:
        turned = tuple((y, x) for x, y in link.pairs)
        for left, right in _ends(link, names):
            joins[left][right].append(link.pairs)
            joins[right][left].append(turned)
    return joins


def _ends(link: Link, names: Names) -> Iterator[tuple[Key, Key]]:
    """The sources that `link` joins: of one table those under different aliases; else the two
    tables, and what refers to an aliased one."""
    for a in names[link.left]:
        for b in names[link.right]:
            is_self = link.left == link.right
            if (a and b and a != b) if is_self else not (a and b) and (link.refers or a == b):
                yield (link.left, a), (link.right, b)


def _roots(keys: Sequence[Key], joins: Joins) -> dict[Key, Key]:
    """For each source the first one that joins lead to from it."""
    roots: dict[Key, Key] = {}
    for start in keys:
        found = [start] if start not in roots else []
        for key in found:
            if key not in roots:
                roots[key] = start
                found.extend(joins[key])
    return roots
