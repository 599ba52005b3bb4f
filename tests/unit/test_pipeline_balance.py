"""Balance: which shape a query has, and how often each row comes."""

import random
from collections import Counter

import pytest

from trainer.pipeline.balance import MAX_COPIES, UNREAD, Balance, _targets, shape
from trainer.pipeline.row import Outcome, Row

PLAIN = "SELECT a FROM t"
JOINED = "SELECT a FROM t JOIN u ON t.id = u.id"
GROUPED = "SELECT a, COUNT(*) FROM t GROUP BY a"
NESTED = "SELECT a FROM t WHERE b > (SELECT AVG(b) FROM t)"


def rows_of(counts: dict[str, int], num_databases: int = 4) -> list[Row]:
    queries = [sql for sql, num in counts.items() for _ in range(num)]
    return [Row(f"r{n}", f"db{n % num_databases}", "Q?", sql) for n, sql in enumerate(queries)]


def balanced(rows: list[Row], **options: float) -> Outcome:
    return Balance(**options)(rows, lambda _: None)  # type: ignore[arg-type]


def by_sql(outcome: Outcome) -> Counter[str]:
    return Counter(row.sql for row in outcome.rows)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (PLAIN, "no join"),
        ("SELECT 1", "no join"),
        (JOINED, "1 join"),
        ("SELECT a FROM t, u", "1 join"),
        ("SELECT a FROM t AS x JOIN t AS y USING (id), u", "2+ joins"),
        ("SELECT COUNT(*) FROM t", "no join, aggregated"),
        (GROUPED, "no join, grouped"),
        ("SELECT a FROM t GROUP BY a HAVING COUNT(*) > 1", "no join, grouped"),
        (NESTED, "no join, aggregated, nested"),
        ("SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id)", "no join, nested"),
        ("WITH c AS (SELECT a FROM t) SELECT a FROM c", "no join, nested"),
        ("SELECT a FROM (SELECT a FROM t JOIN u USING (id)) AS x", "1 join, nested"),
        ("SELECT a FROM t UNION SELECT a FROM u", "no join, set operation"),
        ("SELECT 1 UNION SELECT 2 UNION ALL SELECT 3", "no join, set operation"),
        ("SELECT a FROM t EXCEPT SELECT a FROM u WHERE b IN (SELECT b FROM t)",
         "no join, nested, set operation"),
        ("SELECT 'GROUP BY (SELECT COUNT(*) JOIN'", "no join"),
        ('SELECT "order" FROM "select"', "no join"),
        ("", UNREAD),
        ("SELECT (", UNREAD),
        ("SELECT 1; SELECT 2", UNREAD),
        ("(" * 500, UNREAD),
    ],
)  # fmt: skip
def test_a_shape_says_what_a_query_is_made_of(sql: str, expected: str) -> None:
    assert shape(sql) == expected


def test_a_shape_is_read_in_the_dialect_of_its_row() -> None:
    assert shape("SELECT `a` FROM `t`, `u`", "mysql") == "1 join"
    assert shape("SELECT 1", "klingon") == UNREAD


def test_no_strength_leaves_all_as_it_is() -> None:
    rows = rows_of({PLAIN: 50, JOINED: 3, "SELECT (": 2})
    outcome = balanced(rows, strength=0)
    assert outcome.rows == rows
    assert (outcome.dropped, outcome.changed) == ([], Counter())


def test_full_strength_gives_each_shape_the_same_weight() -> None:
    outcome = balanced(rows_of({PLAIN: 600, JOINED: 300, GROUPED: 150}), strength=1)
    assert all(abs(num - 350) <= 4 for num in by_sql(outcome).values()), by_sql(outcome)
    assert abs(len(outcome.rows) - 1050) <= 1


def test_strength_between_goes_part_of_the_way() -> None:
    counts = by_sql(balanced(rows_of({PLAIN: 900, JOINED: 100}), strength=0.5))
    assert abs(counts[PLAIN] - 750) <= 4  # √900 : √100 is 3 : 1
    assert abs(counts[JOINED] - 250) <= 4


def test_what_a_rare_shape_cannot_fill_the_others_share() -> None:
    counts = by_sql(balanced(rows_of({PLAIN: 500, JOINED: 490, GROUPED: 10}), strength=1))
    assert counts[GROUPED] == 10 * MAX_COPIES
    assert abs(counts[PLAIN] - 485) <= 4 and abs(counts[JOINED] - 485) <= 4


def test_no_row_comes_more_than_three_times() -> None:
    outcome = balanced(rows_of({PLAIN: 900, JOINED: 7, NESTED: 1}), strength=1)
    assert max(Counter(row.origin or row.id for row in outcome.rows).values()) == MAX_COPIES


def test_every_row_is_accounted_for() -> None:
    rows = rows_of({PLAIN: 300, JOINED: 30, NESTED: 30})
    outcome = balanced(rows, strength=0.8, max_per_database=40)
    gone = {drop.id for drop in outcome.dropped}
    kept = {row.id for row in rows} - gone
    assert {drop.reason for drop in outcome.dropped} == {"thinned"}
    assert {row.origin or row.id for row in outcome.rows} == kept
    assert len(outcome.rows) == len(kept) + outcome.changed["repeated"]


def test_no_database_is_above_its_limit() -> None:
    rows = [Row(f"r{n}", "big" if n > 20 else f"small{n % 5}", "Q?", PLAIN) for n in range(300)]
    rows += [Row(f"g{n}", "big", "Q?", GROUPED) for n in range(40)]
    for seed in range(5):
        outcome = balanced(rows, strength=1, max_per_database=50, seed=seed)
        counts = Counter(row.db_id for row in outcome.rows)
        assert max(counts.values()) <= 50
        assert counts["big"] >= 48


def test_databases_of_one_row_each_are_thinned_fairly() -> None:
    rows = [Row(f"r{n}", f"db{n}", "Q?", GROUPED if n % 10 == 0 else PLAIN) for n in range(1000)]
    counts = by_sql(balanced(rows, strength=1))
    assert abs(counts[PLAIN] - 700) <= 40
    assert counts[GROUPED] == 300


def test_the_same_rows_are_chosen_in_whatever_order_they_come() -> None:
    rows = rows_of({PLAIN: 200, JOINED: 20})
    mixed = random.Random(7).sample(rows, len(rows))
    one, other = balanced(rows, strength=1), balanced(mixed, strength=1)
    assert sorted(row.id for row in one.rows) == sorted(row.id for row in other.rows)


def test_another_seed_chooses_other_rows() -> None:
    rows = rows_of({PLAIN: 200, JOINED: 20})
    one, other = (balanced(rows, strength=1, seed=seed) for seed in (1, 2))
    assert {drop.id for drop in one.dropped} != {drop.id for drop in other.dropped}
    assert one == balanced(rows, strength=1, seed=1)


def test_a_repeated_row_has_an_id_of_its_own_and_names_its_origin() -> None:
    rows = [*rows_of({PLAIN: 50}), Row("x", "db0", "Q?", JOINED, made_by="rename", origin="o")]
    outcome = balanced(rows, strength=1)
    found = [(r.id, r.origin, r.made_by) for r in outcome.rows if r.sql == JOINED]
    repeated = [(f"x#{n}", "o", "rename,repeat") for n in (2, 3)]
    assert found == [("x", "o", "rename"), *repeated]
    again = balanced(outcome.rows, strength=1)
    assert len({row.id for row in again.rows}) == len(again.rows)


def test_facts_show_shapes_and_databases_before_and_after() -> None:
    rows = rows_of({PLAIN: 90, JOINED: 10}, num_databases=30)
    facts = balanced(rows, strength=1).facts
    assert facts["shapes_before"] == {"no join": 90, "1 join": 10}
    assert facts["shapes_after"] == {"no join": 70, "1 join": 30}
    before, after = facts["largest_databases_before"], facts["largest_databases_after"]
    assert before.keys() == after.keys() and 10 <= len(before) <= 20
    assert set(before.values()) <= {3, 4}


def test_every_row_is_ticked() -> None:
    ticks: list[int] = []
    Balance()(rows_of({PLAIN: 7}), ticks.append)
    assert sum(ticks) == 7


def test_nothing_comes_of_nothing() -> None:
    assert balanced([]).rows == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": -0.1}, "strength must be between 0 and 1, is -0.1"),
        ({"strength": 1.5}, "strength must be between 0 and 1"),
        ({"strength": float("nan")}, "strength must be between 0 and 1"),
        ({"max_per_database": -1}, "max_per_database must not be negative"),
    ],
)
def test_an_option_out_of_its_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        balanced([], **options)


def test_weights_add_up_alike_on_every_python() -> None:
    """Python 3.11's `sum` of ten tenths is below 1, that of 3.12 is not."""
    tenths = {f"shape {n}": 0.1 for n in range(10)}
    assert _targets(tenths, strength=1.0) == tenths
