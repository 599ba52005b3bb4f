"""Says whether two answers hold the same rows: as bags, as lists or as sets.

Values are equal as SQL has them: 1 is 1.0, NULL is NULL, text is never a number. Numbers that are
not both whole may differ by the noise of floating point. What a server's driver returns besides
SQLite's five types is read as SQLite would store it: a date as ISO text, a boolean as 0 or 1, a
decimal as a number. Knows nothing of queries or databases.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import pairwise

Row = tuple[object, ...]
Number = int | float
SameBag = Callable[[list[Row], list[Row]], bool]

# Sums in another order differ by about 1e-16 times the root of their length. Times as Julian days
# (2.4e6, seconds are 1e-5) and whole numbers up to 1e11 must stay apart.
RELATIVE_TOLERANCE = 1e-11
# What is left of numbers near 1 that cancel: `0.1 + 0.2 - 0.3`.
ABSOLUTE_TOLERANCE = 1e-12
# Column orders that are tried. Only answers made to puzzle need more than a few per column.
MAX_ATTEMPTS = 1000
MAX_FLOAT_DIGITS = 300
NAN = "\0NaN"
PLAIN = frozenset({int, str, bytes, type(None)})


def same_rows(
    expected: Sequence[Row],
    found: Sequence[Row],
    *,
    ordered: bool,
    permute_columns: bool = False,
    exact: bool = False,
) -> bool:
    """True if both hold the same rows: as a list if `ordered`, else as a bag.

    With `permute_columns`, one order of the columns for all rows may differ, as in `result_eq` of
    taoyds/test-suite-sql-eval (Zhong, Yu and Klein 2020); over `MAX_ATTEMPTS` tries is a no.
    With `exact`, floating-point noise makes a difference.
    """
    if len(expected) != len(found):
        return False
    if not expected:
        return True
    left, right = _canonical(expected), _canonical(found)
    if len(left[0]) != len(right[0]):
        return False
    same_bag = _equal_bags if exact else _near_bags
    if ordered:
        same = left == right or (not exact and _near_lists(left, right))
    else:
        same = same_bag(left, right)
    return same or (permute_columns and _same_permuted(left, right, same_bag, ordered=ordered))


def same_sets(expected: Iterable[Row], found: Iterable[Row]) -> bool:
    """True if each row of one is a row of the other; how often and in what order is not asked.

    `calculate_ex` of BIRD's `evaluation_ex.py` (Li et al. 2023); floats exact, as there.
    """
    return set(_canonical(expected)) == set(_canonical(found))


def same_blocks(
    expected: Sequence[Row],
    found: Sequence[Row],
    blocks: Sequence[int],
    *,
    permute_columns: bool = False,
) -> bool:
    """True if both are the same list, but for the order of rows within a block.

    `blocks` numbers the block of each place: rows that tie under an ORDER BY.
    """
    if len(expected) != len(found):
        return False
    marks = [f"\0block {number}" for number in blocks]
    left = [(*row, mark) for row, mark in zip(expected, marks, strict=True)]
    right = [(*row, mark) for row, mark in zip(found, marks, strict=True)]
    return same_rows(left, right, ordered=False, permute_columns=permute_columns)


def _canonical(rows: Iterable[Row]) -> list[Row]:
    return [tuple(map(_cell, row)) for row in rows]


def _cell(value: object) -> object:
    """`value` as one of int, float, str, bytes and None; NaN as a text that equals itself."""
    kind = type(value)
    if kind in PLAIN:
        return value
    if isinstance(value, float):
        return NAN if math.isnan(value) else value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return value if isinstance(value, int | str | bytes) else str(value)


def _decimal(value: Decimal) -> object:
    if value.is_nan():
        return NAN
    if value.is_infinite():
        return float(value)
    if value.adjusted() > MAX_FLOAT_DIGITS:
        return value  # compared exactly: no float holds it
    return int(value) if value == value.to_integral_value() else float(value)


def _near_lists(left: list[Row], right: list[Row]) -> bool:
    return left == right or all(
        all(map(_near_cells, one, other)) for one, other in zip(left, right, strict=True)
    )


def _near_cells(one: object, other: object) -> bool:
    if one == other:
        return True
    if not (isinstance(one, Number) and isinstance(other, Number)):
        return False
    both_whole = isinstance(one, int) and isinstance(other, int)
    return not both_whole and _near(one, other)


def _near(one: Number, other: Number) -> bool:
    try:
        return math.isclose(one, other, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    except OverflowError:  # a whole number that no float holds
        return False


def _equal_bags(left: list[Row], right: list[Row]) -> bool:
    return Counter(left) == Counter(right)


def _near_bags(left: list[Row], right: list[Row]) -> bool:
    if _equal_bags(left, right):
        return True
    columns = [
        place
        for place, cells in enumerate(zip(*left, *right, strict=True) if left else ())
        if float in map(type, cells)
    ]
    return bool(columns) and _pairs_up(left, right, columns)


def _pairs_up(left: list[Row], right: list[Row], columns: list[int]) -> bool:
    """True if each row can be paired with one of the other side, all their cells the same.

    Numbers that lie near each other make a cluster, and rows of equal clusters a group, in which
    rows pair by size. Rounding instead would part two near numbers wherever a boundary lies
    between them; sorting rows would let noise in one column decide over the next.
    """
    clusters = {place: _clusters(left, right, place) for place in columns}
    groups, others = _grouped(left, clusters), _grouped(right, clusters)
    return groups.keys() == others.keys() and all(
        len(group) == len(others[key]) and _near_lists(_by_size(group), _by_size(others[key]))
        for key, group in groups.items()
    )


def _clusters(left: list[Row], right: list[Row], place: int) -> dict[Number, int]:
    """The number of the cluster that each number of a column is in."""
    cells = (row[place] for rows in (left, right) for row in rows)
    numbers = sorted({cell for cell in cells if isinstance(cell, Number)})
    found = dict.fromkeys(numbers[:1], 0)
    for before, number in pairwise(numbers):
        found[number] = found[before] + (not _near(before, number))
    return found


def _grouped(rows: list[Row], clusters: dict[int, dict[Number, int]]) -> dict[Row, list[Row]]:
    """Rows by their cells, where the number of a cluster stands for the numbers in it."""
    groups: dict[Row, list[Row]] = defaultdict(list)
    for row in rows:
        key = list(row)
        for place, numbers in clusters.items():
            cell = row[place]
            if isinstance(cell, Number):
                key[place] = ("cluster", numbers[cell])
        groups[tuple(key)].append(row)
    return groups


def _by_size(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: [cell for cell in row if isinstance(cell, Number)])


def _same_permuted(left: list[Row], right: list[Row], same_bag: SameBag, *, ordered: bool) -> bool:
    """True if some order of the right columns makes the rows the same.

    Goes through the columns from the left and gives up an order as soon as the rows differ so far.
    A list is a bag of rows that know their places.
    """
    ours, theirs = _turned(left), _turned(right)
    known = [tuple(range(len(left)))] if ordered else []
    fits = [
        [
            place
            for place, other in enumerate(theirs)
            if same_bag(_turned([*known, column]), _turned([*known, other]))
        ]
        for column in ours
    ]
    twins = [theirs.index(column) for column in theirs]
    waiting: list[tuple[int, ...]] = [()]
    for _ in range(MAX_ATTEMPTS):
        if not waiting:
            break
        chosen = waiting.pop()
        depth = len(chosen)
        so_far = [theirs[place] for place in chosen]
        if not same_bag(_turned([*known, *ours[:depth]]), _turned([*known, *so_far])):
            continue
        if depth == len(ours):
            return True
        free = {twins[place]: place for place in fits[depth] if place not in chosen}
        waiting.extend((*chosen, place) for place in free.values())
    return False


def _turned(rows: list[Row]) -> list[Row]:
    return list(zip(*rows, strict=True))
