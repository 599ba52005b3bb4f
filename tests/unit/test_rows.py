"""Two answers: bags, lists and sets of rows, noise in floats, permuted columns."""

import math
import random
from datetime import date, datetime
from decimal import Decimal
from itertools import permutations

import pytest

from eval.task.rows import MAX_ATTEMPTS, Row, same_blocks, same_rows, same_sets

NOISE = 1 + 1e-14

ROWS: list[tuple[list[Row], list[Row], bool]] = [
    ([], [], True),
    ([(1,)], [], False),
    ([(1,), (2,)], [(2,), (1,)], True),
    ([(1,), (1,), (2,)], [(1,), (2,), (2,)], False),
    ([(1, 2)], [(1,)], False),
    ([(1, 2)], [(2, 1)], False),
    # Noise of floats.
    ([(0.1 + 0.2,)], [(0.3,)], True),
    ([(1 / 3,)], [(0.333333333,)], False),
    ([(1 / 3,)], [(0.333333333333333,)], True),
    ([(0.1 + 0.2 - 0.3,)], [(0,)], True),
    ([(0.0,)], [(-0.0,)], True),
    ([(1e-9,)], [(0,)], False),
    ([(1e300,)], [(1e300 * NOISE,)], True),
    # Rounding to digits parts these two; they are 1e-16 apart.
    ([(0.12345678949999999,)], [(0.12345678950000001,)], True),
    # Whole numbers are exact, however large, and floats up to 1e11 too.
    ([(1,)], [(1.0,)], True),
    ([(True,)], [(1,)], True),
    ([(12_345_678_901,)], [(12_345_678_901.0,)], True),
    ([(12_345_678_901.000_002,)], [(12_345_678_901,)], True),
    ([(12_345_678_901,)], [(12_345_678_902,)], False),
    ([(12_345_678_901.0,)], [(12_345_678_902.0,)], False),
    ([(10**9,)], [(999_999_999.999_999_9,)], True),
    ([(2**62,)], [(2**62 + 1,)], False),
    ([(2**62,), (1.5,)], [(2**62 + 1,), (1.5,)], False),
    ([(2**62,), (2**62 + 1,), (1.5,)], [(1.5 * NOISE,), (2**62 + 1,), (2**62,)], True),
    ([(10**400,), (0.5,)], [(10**400,), (0.5 * NOISE,)], True),
    ([(10**400,), (0.5,)], [(10**400 + 1,), (0.5,)], False),
    # What is not a number.
    ([(math.inf,)], [(math.inf,)], True),
    ([(math.inf,)], [(-math.inf,)], False),
    ([(math.inf,)], [(1e308,)], False),
    ([(math.nan,)], [(float("nan"),)], True),
    ([(math.nan,)], [(None,)], False),
    ([(math.nan,)], [(0.0,)], False),
    ([(None, 1)], [(None, 1)], True),
    ([(None,)], [(0,)], False),
    ([(None,)], [("",)], False),
    ([(None, 0.1 + 0.2)], [(None, 0.3)], True),
    ([("1",)], [(1,)], False),
    ([("1.0", 0.5)], [(1.0, 0.5)], False),
    ([("a",)], [("A",)], False),
    ([("\ud800",)], [("\ud800",)], True),
    ([(b"a",)], [("a",)], False),
    # Noise in one column does not change which rows pair up.
    ([(1.0, "a"), (NOISE, "b")], [(NOISE, "a"), (1.0, "b")], True),
    ([(1.0, 5.0), (NOISE, 7.0)], [(NOISE, 5.0), (1.0, 7.0)], True),
    ([(1.0, 5.0), (2.0, 7.0)], [(1.0 * NOISE, 7.0), (2.0, 5.0)], False),
    ([(1.0,), (1.0,), (2.0,)], [(1.0,), (2.0,), (2.0 * NOISE,)], False),
    # Neighbours that are near each other pair up as far as the tolerance goes; they make no bridge.
    ([(1 + i * 8e-12,) for i in range(9)], [(1 + i * 8e-12,) for i in (*range(8), 0)], True),
    ([(1 + i * 8e-12,) for i in range(9)], [(1 + i * 8e-12,) for i in (*range(7), 0, 0)], False),
    # What other drivers return.
    ([(Decimal("1.50"),)], [(1.5,)], True),
    ([(Decimal("0.1"),)], [(0.1,)], True),
    ([(Decimal("1E+2"),)], [(100,)], True),
    ([(Decimal(2**62),)], [(2**62,)], True),
    ([(Decimal("1E+9999999"),)], [(Decimal("1E+9999999"),)], True),
    ([(Decimal("NaN"),)], [(Decimal("sNaN"),)], True),
    ([(Decimal("Infinity"),)], [(math.inf,)], True),
    ([(date(2024, 2, 29),)], [("2024-02-29",)], True),
    ([(datetime(2024, 2, 29, 8, 30),)], [("2024-02-29 08:30:00",)], True),
    ([(date(2024, 2, 29),)], [(datetime(2024, 2, 29),)], False),
    ([(memoryview(b"a"),)], [(b"a",)], True),
    ([(bytearray(b"a"),)], [(b"b",)], False),
    ([([1, 2],)], [([1, 2],)], True),
    ([({"a": 1},)], [({"a": 2},)], False),
]


@pytest.mark.parametrize(("expected", "found", "same"), ROWS)
def test_same_rows(expected: list[Row], found: list[Row], same: bool) -> None:
    assert same_rows(expected, found, ordered=False) is same
    assert same_rows(found, expected, ordered=False) is same


def test_same_rows_in_order() -> None:
    assert not same_rows([(1,), (2,)], [(2,), (1,)], ordered=True)
    assert same_rows([(1,), (0.1 + 0.2,)], [(1.0,), (0.3,)], ordered=True)
    assert not same_rows([(0.1 + 0.2,), (1,)], [(1.0,), (0.3,)], ordered=True)


def test_exact_means_no_noise() -> None:
    assert not same_rows([(0.1 + 0.2,)], [(0.3,)], ordered=False, exact=True)
    assert not same_rows([(0.1 + 0.2,)], [(0.3,)], ordered=True, exact=True)
    assert same_rows([(1, 0.5)], [(0.5, 1.0)], ordered=True, exact=True, permute_columns=True)


def test_noise_never_decides_in_many_rows() -> None:
    """Every row is noisy in every column; one pair of cells swapped is still seen."""
    chance = random.Random(0)
    rows: list[Row] = [(chance.random(), i % 7, chance.gauss(0, 1e6)) for i in range(5000)]
    noisy: list[Row] = [
        tuple(cell * (1 + chance.uniform(-1e-14, 1e-14)) for cell in row)  # type: ignore[operator]
        for row in rows
    ]
    chance.shuffle(noisy)
    assert same_rows(rows, noisy, ordered=False)
    first, second = noisy[0], noisy[1]
    noisy[:2] = [(first[0], *second[1:]), (second[0], *first[1:])]
    assert not same_rows(rows, noisy, ordered=False)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_any_permutation_of_columns(order: tuple[int, ...], ordered: bool) -> None:
    rows: list[Row] = [(1, 2, "x", 0.1 + 0.2), (2, 1, "x", None), (1, 1, None, 0.5)]
    permuted: list[Row] = [tuple(row[place] for place in order) for row in rows]
    permuted = [tuple(0.3 if cell == 0.1 + 0.2 else cell for cell in row) for row in permuted]
    assert same_rows(rows, permuted, ordered=ordered, permute_columns=True)
    assert same_rows(permuted, rows, ordered=ordered, permute_columns=True)
    assert same_rows(rows, permuted, ordered=ordered) is (order == (0, 1, 2, 3))


def test_rows_may_be_permuted_only_where_order_does_not_count() -> None:
    rows: list[Row] = [(1, "a"), (2, "b")]
    moved: list[Row] = [("b", 2), ("a", 1)]
    assert same_rows(rows, moved, ordered=False, permute_columns=True)
    assert not same_rows(rows, moved, ordered=True, permute_columns=True)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ([(1, 2), (3, 4)], [(1, 2), (4, 3)]),
        ([(1, 5), (2, 6)], [(1, 6), (2, 5)]),
        ([(1, 1, 2)], [(1, 2, 2)]),
        ([(1, 2)], [(1, 2, 2)]),
        ([(0, 0, 1), (0, 1, 0), (1, 0, 0)], [(0, 0, 1), (0, 1, 0), (0, 0, 1)]),
    ],
)
def test_one_permutation_holds_for_all_rows(expected: list[Row], found: list[Row]) -> None:
    assert not same_rows(expected, found, ordered=False, permute_columns=True)


def test_equal_columns_are_tried_once() -> None:
    width = 60
    rows: list[Row] = [(*[i % 2] * width, i) for i in range(10)]
    assert same_rows(rows, [row[::-1] for row in rows], ordered=False, permute_columns=True)
    other: list[Row] = [(*row[:-1], 9 - i) for i, row in enumerate(rows)]
    assert not same_rows(rows, other, ordered=False, permute_columns=True)


def test_columns_that_all_look_alike_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cyclic shifts: every column is a bag of the same cells, so nothing can be ruled out."""
    monkeypatch.setattr("eval.task.rows.MAX_ATTEMPTS", 50)
    assert MAX_ATTEMPTS > 50
    size = 12
    chance = random.Random(1)
    grid = [[chance.randrange(2) for _ in range(size)] for _ in range(size)]
    rows: list[Row] = [tuple(row) for row in grid]
    changed: list[Row] = [tuple(1 - cell for cell in row) for row in grid]
    found = same_rows(rows, changed, ordered=False, permute_columns=True)
    assert found is False


def test_sets_ignore_order_and_duplicates_but_not_noise() -> None:
    assert same_sets([(1,), (1,), (2,)], [(2.0,), (1,)])
    assert same_sets([], [])
    assert same_sets([(math.nan,)], [(math.nan,)])
    assert not same_sets([(1,)], [(1,), (2,)])
    assert not same_sets([(0.1 + 0.2,)], [(0.3,)])
    assert not same_sets([(1, 2)], [(2, 1)])


def test_rows_may_move_within_a_block_only() -> None:
    rows: list[Row] = [("a",), ("b",), ("c",)]
    blocks = [0, 0, 1]
    assert same_blocks(rows, [("b",), ("a",), ("c",)], blocks)
    assert not same_blocks(rows, [("a",), ("c",), ("b",)], blocks)
    assert not same_blocks(rows, [("a",), ("b",)], blocks)
    assert not same_blocks(rows, [("b",), ("b",), ("c",)], blocks)
    assert same_blocks([(1, "a"), (1, "b")], [("b", 1), ("a", 1)], [0, 0], permute_columns=True)
