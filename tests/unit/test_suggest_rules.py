"""What each rule suggests: kinds, rewrites and what they assume; and where it keeps still."""

import pytest
from sqlglot import exp, parse_one

from eval.task.dialect import DialectError
from eval.task.sql import check_sql
from server.suggest import Kind, Proof, suggest
from tests.unit.suggesting import BUDGET_MS, SCHEMA, advice, the_one

REWRITES = [
    (
        Kind.UNUSED_JOIN,
        "SELECT e.name FROM events AS e LEFT JOIN venues AS v ON e.venue_id = v.id",
        "SELECT e.name FROM events AS e",
    ),
    (
        Kind.UNUSED_JOIN,
        "SELECT e.name FROM events AS e LEFT JOIN stays AS s "
        "ON s.venue_id = e.venue_id AND s.day = e.day AND s.guest = 'x'",
        "SELECT e.name FROM events AS e",
    ),
    (
        Kind.UNUSED_JOIN,
        "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id = v.id",
        "SELECT e.name FROM events AS e WHERE NOT e.venue_id IS NULL",
    ),
    (
        Kind.UNUSED_JOIN,
        "SELECT e.name FROM venues AS v JOIN events AS e ON v.id = e.venue_id WHERE e.n > 3",
        "SELECT e.name FROM events AS e WHERE e.n > 3 AND NOT e.venue_id IS NULL",
    ),
    (
        Kind.UNUSED_JOIN,
        "SELECT e.name FROM events AS e, venues AS v WHERE e.venue_id = v.id",
        "SELECT e.name FROM events AS e WHERE NOT e.venue_id IS NULL",
    ),
    (  # the key of the parent is all that is used: the child has it
        Kind.UNUSED_JOIN,
        "SELECT v.id, COUNT(*) FROM venues AS v JOIN events AS e ON e.venue_id = v.id "
        "GROUP BY v.id",
        "SELECT e.venue_id AS id, COUNT(*) FROM events AS e WHERE NOT e.venue_id IS NULL "
        "GROUP BY e.venue_id",
    ),
    (  # a part of the child's own key is never NULL
        Kind.UNUSED_JOIN,
        "SELECT s.guest FROM stays AS s JOIN venues AS v ON s.venue_id = v.id",
        "SELECT s.guest FROM stays AS s",
    ),
    (  # but for the rows that a LEFT JOIN leaves without one
        Kind.UNUSED_JOIN,
        "SELECT t.name FROM teams AS t LEFT JOIN stays AS s ON s.guest = t.name "
        "JOIN venues AS v ON s.venue_id = v.id",
        "SELECT t.name FROM teams AS t LEFT JOIN stays AS s ON s.guest = t.name "
        "WHERE NOT s.venue_id IS NULL",
    ),
    (  # a join that loses its condition is still a join
        Kind.UNUSED_JOIN,
        "SELECT t.name FROM teams AS t CROSS JOIN venues AS v JOIN events AS e "
        "ON e.venue_id = v.id WHERE e.name < t.name",
        "SELECT t.name FROM teams AS t CROSS JOIN events AS e "
        "WHERE e.name < t.name AND NOT e.venue_id IS NULL",
    ),
    (
        Kind.DISTINCT_OVER_KEY,
        "SELECT DISTINCT id, name FROM events",
        "SELECT id, name FROM events",
    ),
    (
        Kind.DISTINCT_OVER_KEY,
        "SELECT DISTINCT e.id FROM events AS e JOIN venues AS v ON e.venue_id = v.id "
        "WHERE v.city = 'x'",
        "SELECT e.id FROM events AS e JOIN venues AS v ON e.venue_id = v.id WHERE v.city = 'x'",
    ),
    (
        Kind.DISTINCT_OVER_KEY,
        "SELECT DISTINCT day, guest FROM stays WHERE venue_id = 5",
        "SELECT day, guest FROM stays WHERE venue_id = 5",
    ),
    (
        Kind.DISTINCT_OVER_KEY,
        "SELECT DISTINCT name, COUNT(*) FROM events GROUP BY name",
        "SELECT name, COUNT(*) FROM events GROUP BY name",
    ),
    (
        Kind.COUNT_DISTINCT_KEY,
        "SELECT COUNT(DISTINCT id) FROM events",
        "SELECT COUNT(id) FROM events",
    ),
    (
        Kind.COUNT_DISTINCT_KEY,
        "SELECT v.name, COUNT(DISTINCT e.id) FROM venues AS v LEFT JOIN events AS e "
        "ON e.venue_id = v.id GROUP BY v.id, v.name",
        "SELECT v.name, COUNT(e.id) FROM venues AS v LEFT JOIN events AS e "
        "ON e.venue_id = v.id GROUP BY v.id, v.name",
    ),
    (
        Kind.REDUNDANT_DISTINCT,
        "SELECT name FROM venues WHERE id IN (SELECT DISTINCT venue_id FROM events)",
        "SELECT name FROM venues WHERE id IN (SELECT venue_id FROM events)",
    ),
    (
        Kind.REDUNDANT_DISTINCT,
        "SELECT DISTINCT name FROM venues EXCEPT SELECT DISTINCT name FROM events",
        "SELECT name FROM venues EXCEPT SELECT name FROM events",
    ),
    (
        Kind.REDUNDANT_ORDER,
        "SELECT name FROM venues WHERE id IN (SELECT venue_id FROM events ORDER BY n)",
        "SELECT name FROM venues WHERE id IN (SELECT venue_id FROM events)",
    ),
    (
        Kind.REDUNDANT_ORDER,
        "SELECT t.name FROM (SELECT name, n FROM events ORDER BY n) AS t ORDER BY t.name",
        "SELECT t.name FROM (SELECT name, n FROM events) AS t ORDER BY t.name",
    ),
    (
        Kind.REDUNDANT_ORDER,
        "SELECT COUNT(*) FROM (SELECT name FROM events ORDER BY n) AS t",
        "SELECT COUNT(*) FROM (SELECT name FROM events) AS t",
    ),
    (
        Kind.REDUNDANT_CONDITION,
        "SELECT name FROM events WHERE n > 5 AND n > 3 AND 1 = 1",
        "SELECT name FROM events WHERE n > 5",
    ),
    (
        Kind.REDUNDANT_CONDITION,
        "SELECT name FROM events WHERE n = 5 OR 1 = 1",
        "SELECT name FROM events",
    ),
    (
        Kind.SELECT_STAR,
        "SELECT * FROM venues",
        "SELECT id, name, city FROM venues",
    ),
    (
        Kind.SELECT_STAR,
        "SELECT v.*, e.n FROM events AS e JOIN venues AS v ON v.id = e.venue_id",
        "SELECT v.id, v.name, v.city, e.n FROM events AS e JOIN venues AS v ON v.id = e.venue_id",
    ),
    (
        Kind.SELECT_STAR,
        "SELECT * FROM (SELECT name AS title, n FROM events) AS t",
        "SELECT title, n FROM (SELECT name AS title, n FROM events) AS t",
    ),
    (
        Kind.SELECT_STAR,
        'SELECT * FROM "order"',
        'SELECT "select", "two words" FROM "order"',
    ),
]


@pytest.mark.parametrize(("kind", "sql", "rewrite"), REWRITES)
def test_a_rewrite_is_shown_and_proved(kind: Kind, sql: str, rewrite: str) -> None:
    found = the_one(sql, kind)
    assert (found.rewrite, found.proof) == (rewrite, Proof.EQUIVALENT)
    assert check_sql(rewrite, SCHEMA).valid


@pytest.mark.parametrize(
    "sql",
    [
        # unused joins that drop or repeat rows, or are used after all
        "SELECT v.name FROM venues AS v JOIN events AS e ON e.venue_id = v.id",
        "SELECT v.name FROM venues AS v LEFT JOIN events AS e ON e.venue_id = v.id",
        "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id = v.id AND v.city = 'x'",
        "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id = v.id ORDER BY v.name",
        "SELECT e.name FROM events AS e JOIN venues AS v ON e.n = v.id",
        "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id > v.id",
        "SELECT e.name FROM events AS e LEFT JOIN stays AS s ON s.venue_id = e.venue_id",
        "SELECT e.name FROM events AS e LEFT JOIN venues AS v ON e.venue_id = v.id "
        "WHERE v.id IS NULL",
        "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id = v.id "
        "WHERE EXISTS (SELECT 1 FROM stays AS s WHERE s.guest = v.name)",
        "SELECT e.name FROM venues AS v LEFT JOIN events AS e ON e.venue_id = v.id",
        # rows that may come twice
        "SELECT DISTINCT name FROM events",
        "SELECT DISTINCT venue_id FROM stays",
        "SELECT DISTINCT v.id, v.name FROM venues AS v JOIN stays AS s ON s.venue_id = v.id",
        "SELECT DISTINCT COUNT(*) FROM events GROUP BY name",
        "SELECT COUNT(DISTINCT name) FROM events",
        "SELECT COUNT(DISTINCT v.id) FROM venues AS v JOIN stays AS s "
        "ON s.venue_id = v.id WHERE v.city = 'x'",
        "SELECT DISTINCT name FROM venues UNION ALL SELECT name FROM events",
        # an order that is seen
        "SELECT t.name FROM (SELECT name FROM events ORDER BY n) AS t",
        "SELECT t.name FROM (SELECT name FROM events ORDER BY n) AS t ORDER BY t.name LIMIT 3",
        "SELECT t.name FROM (SELECT name FROM events ORDER BY n LIMIT 3) AS t ORDER BY t.name",
        "SELECT (SELECT name FROM events ORDER BY n) FROM venues",
        "SELECT GROUP_CONCAT(t.name) FROM (SELECT name FROM events ORDER BY n) AS t",
        # stars that read nothing
        "SELECT COUNT(*) FROM events",
        "SELECT name FROM venues AS v WHERE EXISTS (SELECT * FROM events WHERE venue_id = v.id)",
        # connected, if by other means than equal columns
        "SELECT e.name FROM events AS e, venues AS v WHERE e.name < v.name",
        "SELECT e.name FROM events AS e, venues AS v WHERE e.venue_id = 5 AND v.id = 5",
        "SELECT e.name FROM events AS e, teams AS t",
        "SELECT name FROM events NATURAL JOIN venues",
        "SELECT e.n FROM events AS e JOIN venues AS v USING (name)",
        "SELECT n FROM teams AS t WHERE EXISTS (SELECT 1 FROM events AS e, venues AS v "
        "WHERE e.name = t.name AND v.name = t.name)",
        # names that do not mean what they seem to
        "WITH events AS (SELECT 1 AS id) SELECT DISTINCT id FROM events",
        "SELECT DISTINCT rowid, name FROM events",
        "SELECT name FROM events WHERE n > 5 AND n < 9",
    ],
)
def test_rules_keep_still_where_nothing_is_sure(sql: str) -> None:
    assert advice(sql) == {}


@pytest.mark.parametrize(
    ("sql", "rewrite"),
    [
        (
            "SELECT e.name FROM events AS e, venues AS v WHERE v.city = 'Oslo'",
            "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id = v.id "
            "WHERE v.city = 'Oslo'",
        ),
        (
            "SELECT e.name FROM events AS e JOIN venues AS v WHERE v.city = 'Oslo'",
            "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id = v.id "
            "WHERE v.city = 'Oslo'",
        ),
        (
            "SELECT e.name FROM events AS e CROSS JOIN venues AS v",
            "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id = v.id",
        ),
        (
            "SELECT e.name FROM events AS e, venues AS v, stays AS s WHERE s.venue_id = v.id",
            "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id = v.id "
            "CROSS JOIN stays AS s WHERE s.venue_id = v.id",
        ),
    ],
)
def test_a_missing_join_condition_is_added_by_the_foreign_key(sql: str, rewrite: str) -> None:
    found = advice(sql)[Kind.MISSING_JOIN_CONDITION]
    assert (found.rewrite, found.proof) == (rewrite, Proof.CHANGES_RESULT)
    assert "events.venue_id -> venues.id" in found.message
    assert (found.num_databases, found.verdict) == (0, "changes the result")


def test_of_two_foreign_keys_none_is_chosen_but_both_are_named() -> None:
    found = the_one("SELECT m.id FROM matches AS m, teams AS t", Kind.MISSING_JOIN_CONDITION)
    assert found.rewrite is None
    assert "home_id" in found.message and "away_id" in found.message


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT id FROM events WHERE name = 'a' AND n > 5", "events (name, n)"),
        ("SELECT id FROM events WHERE name IN ('a', 'b')", "events (name)"),
        ("SELECT name FROM events ORDER BY price DESC LIMIT 5", "events (price)"),
        (
            "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id = v.id "
            "WHERE v.id = 3 AND v.city = 'x'",
            "events (venue_id)",
        ),
        ("SELECT guest FROM stays WHERE day = '2024-01-01'", "stays (day)"),
        ("SELECT id FROM events WHERE id = 5 AND name = 'a'", None),
        ("SELECT id FROM events WHERE name = 'a' OR n = 5", None),
        ("SELECT guest FROM stays WHERE venue_id = 5", None),
        ("SELECT name FROM events ORDER BY price", None),
        ("SELECT id FROM events ORDER BY id LIMIT 5", None),
        ("SELECT name FROM events", None),
    ],
)
def test_an_index_is_named_where_no_key_helps(sql: str, index: str | None) -> None:
    found = suggest(sql, SCHEMA, budget_ms=BUDGET_MS)
    hints = [s for s in found if s.kind is Kind.INDEX_HINT]
    assert [f"an index on {index} " in s.message for s in hints] == ([True] if index else [])
    assert all((s.rewrite, s.proof) == (None, Proof.NO_REWRITE) for s in hints)


@pytest.mark.parametrize(
    ("sql", "assumed"),
    [
        (
            "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id = v.id",
            ("the foreign key events.venue_id -> venues.id holds",),
        ),
        (
            "SELECT name FROM events WHERE strftime('%Y', day) = '2024'",
            ("events.day holds ISO dates (YYYY-MM-DD, with or without a time)",),
        ),
        ("SELECT name FROM events WHERE n + 1 > 5", ("events.n holds whole numbers only",)),
        ("SELECT DISTINCT venue_id, day FROM stays", ("the primary key of stays holds no NULL",)),
        ("SELECT DISTINCT id FROM events", ()),
    ],
)
def test_what_a_rewrite_assumes_of_the_data_is_said(sql: str, assumed: tuple[str, ...]) -> None:
    (found,) = advice(sql).values()
    assert found.assumes == assumed
    verdict = f"equivalent on {found.num_databases} generated databases"
    assert found.verdict == verdict + (", given what it assumes" if assumed else "")


@pytest.mark.parametrize(
    "text",
    ["", "hello (", "SELECT 1; SELECT 2", "DROP TABLE events", "SELECT nothing FROM nowhere",
     "SELECT * FROM nowhere", "SELECT x.* FROM events AS e", "(SELECT * FROM events)",
     "VALUES (1)", "SELECT 1", "SELECT * FROM events AS e (a, b)", "SELECT " + "(" * 40,
     "SELECT * FROM events WHERE " + " OR ".join(f"n = {i}" for i in range(300))],
)  # fmt: skip
def test_odd_texts_are_no_problem(text: str) -> None:
    for suggestion in suggest(text, SCHEMA, budget_ms=BUDGET_MS):
        assert suggestion.rewrite is None or check_sql(suggestion.rewrite, SCHEMA).valid


def test_a_tree_is_taken_as_well_and_left_alone() -> None:
    sql = "SELECT DISTINCT id FROM events WHERE strftime('%Y', day) = '2024'"
    tree = parse_one(sql, dialect="sqlite")
    assert isinstance(tree, exp.Query)
    assert suggest(tree, SCHEMA, budget_ms=BUDGET_MS) == suggest(sql, SCHEMA, budget_ms=BUDGET_MS)
    assert tree == parse_one(sql, dialect="sqlite")


def test_an_unknown_dialect_is_an_error() -> None:
    with pytest.raises(DialectError, match="klingon"):
        suggest("SELECT 1", SCHEMA, "klingon")


def test_the_most_important_comes_first_and_there_are_only_so_many() -> None:
    sql = (
        "SELECT * FROM events AS e, venues AS v WHERE "
        + " AND ".join(f"lower(e.name) <= '{letter}'" for letter in "abcdefghij")
        + " AND e.n + 1 = 5 AND e.n + 2 = 6"
    )
    found = suggest(sql, SCHEMA, budget_ms=BUDGET_MS)
    assert found[0].kind is Kind.MISSING_JOIN_CONDITION
    assert len(found) <= 8


def test_without_time_rewrites_are_unproved() -> None:
    (found,) = suggest("SELECT DISTINCT id FROM venues", SCHEMA, budget_ms=0)
    assert (found.proof, found.verdict, found.num_databases) == (Proof.UNPROVED, "unproved", 0)
