"""Which tables and columns of a schema a question needs, where not all of them fit into the prompt.

The question's words are linked to names, comments and sample values, a word counting by how rare it
is (see `linking.py`). The best tables are kept with those that join them. Knows nothing of prompts
or tokens: the caller says what fits.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from eval.task.linking import Links
from eval.task.tables import Schema, Table

NEIGHBOUR = 0.6  # share of a neighbour's score that a table gets: questions name one end of a join
MAX_BRIDGE = 2  # tables on the way between two kept ones
MAX_CORE = 8

# Positions of tables in the schema.
Group = list[int]


class PruneError(ValueError):
    """Not even one table with its keys fits."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was kept, and the names ("table", or "table.column" of a kept table) of what was not."""

    schema: Schema
    left_out: tuple[str, ...]


def prune(schema: Schema, question: str, fits: Callable[[Schema], bool]) -> Pruned:
    """The part of `schema` that `question` is most likely about and that `fits`.

    Tables go first: as many as fit are kept, best first, each with the tables that join it to
    those before. Where that would leave fewer than the linked ones, `MAX_CORE` of them at most,
    columns go instead, keys and linked ones last. `fits` must accept the parts of what it
    accepts; it is called about 2 * log2(tables + columns) times. The same input gives the same
    part.

    Raises:
        PruneError: not even the best table with its keys fits.
    """
    if fits(schema):
        return Pruned(schema, ())
    links = Links(schema, question)
    groups = _groups(schema, links)
    core = groups[: max(1, min(MAX_CORE, sum(map(bool, links.tables))))]

    def whole(number: int) -> Schema:
        return _part(schema, groups[:number])

    def bare(number: int) -> Schema:
        return _part(schema, core[:number], links, 1)

    def narrow(width: int) -> Schema:
        return _part(schema, core[:number], links, width)

    number = _largest(whole, fits, len(core), len(groups))
    if number >= len(core):
        return _pruned(schema, whole(number))
    number = _largest(bare, fits, 1, len(core))
    if number == 0:
        raise PruneError("not even the best table with its keys fits")
    widest = max(len(table.columns) for table in whole(number).tables)
    return _pruned(schema, narrow(_largest(narrow, fits, 1, widest)))


def _pruned(schema: Schema, part: Schema) -> Pruned:
    return Pruned(part, tuple(_left_out(schema, part)))


def _largest(
    make: Callable[[int], Schema], fits: Callable[[Schema], bool], low: int, high: int
) -> int:
    """The largest number in `low..high` of which what is made fits, by bisection; else low - 1."""
    while low <= high:
        middle = (low + high) // 2
        if fits(make(middle)):
            low = middle + 1
        else:
            high = middle - 1
    return high


def _groups(schema: Schema, links: Links) -> list[Group]:
    """Tables, best first, each in a group with those that join it to the tables before."""
    neighbours = _neighbours(schema)
    scores = [
        own + NEIGHBOUR * max((links.tables[n] for n in neighbours[number]), default=0.0)
        for number, own in enumerate(links.tables)
    ]
    groups: list[Group] = []
    kept: set[int] = set()
    for number in sorted(range(len(scores)), key=lambda n: (-scores[n], n)):
        if number not in kept:
            bridge = _bridge(number, kept, neighbours) if links.tables[number] else []
            groups.append([number, *bridge])
            kept.update(groups[-1])
    return groups


def _neighbours(schema: Schema) -> list[Group]:
    """For each table those that a foreign key joins it to, in the schema's order."""
    numbers = {table.name.lower(): number for number, table in enumerate(schema.tables)}
    found: list[set[int]] = [set() for _ in schema.tables]
    for number, table in enumerate(schema.tables):
        for key in table.foreign_keys:
            other = numbers.get(key.table.lower(), number)
            if other != number:
                found[number].add(other)
                found[other].add(number)
    return [sorted(others) for others in found]


def _bridge(start: int, kept: set[int], neighbours: Sequence[Group]) -> Group:
    """The tables between `start` and the nearest kept one; none where that is too far."""
    paths: deque[Group] = deque([[start]])
    seen = {start}
    while paths:
        path = paths.popleft()
        for number in neighbours[path[-1]]:
            if number in kept:
                return path[1:]
            if number not in seen and len(path) <= MAX_BRIDGE:
                seen.add(number)
                paths.append([*path, number])
    return []


def _part(
    schema: Schema, groups: Iterable[Group], links: Links | None = None, width: int = 0
) -> Schema:
    """The tables of `groups` in the schema's order; with `links` only their keys and the `width`
    best of their other columns."""
    numbers = sorted(number for group in groups for number in group)
    names = {schema.tables[number].name.lower() for number in numbers}
    tables = [_without_loose_keys(schema.tables[number], names) for number in numbers]
    if links:
        keys = _key_columns(tables)
        tables = [
            _narrowed(table, keys, links.columns[number], width)
            for number, table in zip(numbers, tables, strict=True)
        ]
    return Schema(tuple(tables))


def _without_loose_keys(table: Table, names: set[str]) -> Table:
    keys = tuple(key for key in table.foreign_keys if key.table.lower() in names)
    return replace(table, foreign_keys=keys)


def _key_columns(tables: Iterable[Table]) -> set[tuple[str, str]]:
    """(table, column) of all primary and foreign keys and of what these refer to, lower case."""
    found: set[tuple[str, str]] = set()
    for table in tables:
        found |= {(table.name, name) for name in table.primary_key}
        for key in table.foreign_keys:
            found |= {(table.name, name) for name in key.columns}
            found |= {(key.table, name) for name in key.references}
    return {(table.lower(), column.lower()) for table, column in found}


def _narrowed(
    table: Table, keys: set[tuple[str, str]], scores: Sequence[float], width: int
) -> Table:
    is_key = [(table.name.lower(), name.lower()) in keys for name in table.column_names]
    others = [number for number, key in enumerate(is_key) if not key]
    best = set(sorted(others, key=lambda number: -scores[number])[:width])
    kept = tuple(c for n, c in enumerate(table.columns) if is_key[n] or n in best)
    return replace(table, columns=kept)


def _left_out(schema: Schema, kept: Schema) -> Iterator[str]:
    for table in schema.tables:
        part = kept.find(table.name)
        if part is None:
            yield table.name
        else:
            names = set(part.column_names)
            yield from (f"{table.name}.{n}" for n in table.column_names if n not in names)
