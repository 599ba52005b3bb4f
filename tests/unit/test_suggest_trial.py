"""The proof: wrong rewrites are told from right ones; what can't be tried is not called proved."""

import time

import pytest
from sqlglot import exp

from eval.suite.mutate import mutants
from eval.task.dialect import parse_statements
from eval.task.samples import sample_examples, sample_schema
from eval.task.schema import parse_ddl
from server.suggest.suggestion import Known
from server.suggest.trial import NUM_DATABASES, Verdict, try_rewrites

SCHEMA = parse_ddl("""
CREATE TABLE venues (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE events (id INTEGER PRIMARY KEY, name TEXT, at TIMESTAMP, day DATE, n INTEGER,
    venue_id INTEGER REFERENCES venues(id));
""")
JOINED = "SELECT e.name FROM events AS e JOIN venues AS v ON e.venue_id = v.id"


def parsed(sql: str, dialect: str = "sqlite") -> exp.Query:
    (tree,) = parse_statements(sql, dialect, max_bytes=100_000, max_tokens=10_000)
    assert isinstance(tree, exp.Query)
    return tree


def verdict(sql: str, rewrite: str, dialect: str = "sqlite", seconds: float = 60) -> Verdict:
    deadline = time.monotonic() + seconds
    known = Known(SCHEMA, dialect)
    trees = [parsed(rewrite, dialect)]
    (found,) = try_rewrites(parsed(sql, dialect), trees, known, deadline=deadline)
    return found


@pytest.mark.parametrize(
    ("sql", "wrong"),
    [
        (  # the last day of the year
            "SELECT id FROM events WHERE strftime('%Y', at) = '2024'",
            "SELECT id FROM events WHERE at >= '2024-01-01' AND at <= '2024-12-31'",
        ),
        (  # a time of day on the last day
            "SELECT id FROM events WHERE date(at) <= '2024-02-28'",
            "SELECT id FROM events WHERE at <= '2024-02-28'",
        ),
        (
            "SELECT id FROM events WHERE strftime('%Y', day) > '2024'",
            "SELECT id FROM events WHERE day > '2024-01-01'",
        ),
        (
            "SELECT id FROM events WHERE n * 3 >= 10",
            "SELECT id FROM events WHERE n >= 3",
        ),
        ("SELECT id FROM events WHERE n + 3 > 10", "SELECT id FROM events WHERE n >= 7"),
        (  # NULLs
            "SELECT id FROM events WHERE n <> 5",
            "SELECT id FROM events WHERE coalesce(n, 0) <> 5",
        ),
        ("SELECT count(n) FROM events", "SELECT count(*) FROM events"),
        (JOINED, "SELECT name FROM events"),
        (  # rows that come twice
            "SELECT v.name FROM venues AS v JOIN events AS e ON e.venue_id = v.id",
            "SELECT name FROM venues WHERE id IN (SELECT venue_id FROM events)",
        ),
        ("SELECT DISTINCT name FROM events", "SELECT name FROM events"),
        ("SELECT count(DISTINCT venue_id) FROM events", "SELECT count(venue_id) FROM events"),
        (  # other case
            "SELECT id FROM events WHERE lower(name) = 'gala'",
            "SELECT id FROM events WHERE name = 'gala'",
        ),
        (
            "SELECT id FROM events WHERE name LIKE 'gala%'",
            "SELECT id FROM events WHERE name GLOB 'gala*'",
        ),
        ("SELECT id FROM events ORDER BY n, id", "SELECT id FROM events ORDER BY n DESC, id"),
        ("SELECT id FROM events ORDER BY n, id", "SELECT id FROM events"),
        ("SELECT id FROM events", "SELECT nothing FROM events"),
    ],
)
def test_a_wrong_rewrite_is_found_out(sql: str, wrong: str) -> None:
    found = verdict(sql, wrong)
    assert found.differs and not found.is_proved


@pytest.mark.parametrize(
    ("sql", "right"),
    [
        (JOINED, "SELECT name FROM events WHERE venue_id IS NOT NULL"),
        ("SELECT id FROM events ORDER BY n", "SELECT id FROM events ORDER BY n, id DESC"),
        ("SELECT avg(n) FROM events", "SELECT sum(n) * 1.0 / count(n) FROM events"),
    ],
)
def test_a_right_one_is_proved_though_ties_or_kinds_of_numbers_are_other(
    sql: str, right: str
) -> None:
    assert verdict(sql, right).is_proved


def test_databases_on_which_the_query_itself_is_not_certain_say_nothing() -> None:
    """Which of the rows that tie comes first is the database's to choose."""
    found = verdict(
        "SELECT id FROM events ORDER BY n LIMIT 1", "SELECT id FROM events ORDER BY n, id LIMIT 1"
    )
    assert not found.differs
    assert found.num_databases < NUM_DATABASES


@pytest.mark.parametrize(
    ("sql", "rewrite", "dialect"),
    [
        # finds nothing anywhere
        ("SELECT id FROM events WHERE n <> n", "SELECT id FROM events WHERE 1 = 0", "sqlite"),
        # has no meaning in SQLite
        (
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY n) FROM events",
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY n) FROM events",
            "postgres",
        ),
        ("SELECT pi_of(n) FROM events", "SELECT pi_of(n) FROM events", "sqlite"),
    ],
)
def test_what_shows_nothing_proves_nothing(sql: str, rewrite: str, dialect: str) -> None:
    found = verdict(sql, rewrite, dialect)
    assert (found.is_proved, found.differs) == (False, False)


def test_late_means_unproved() -> None:
    assert verdict(JOINED, JOINED, seconds=-1) == Verdict()
    endless = (
        "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) "
        "SELECT count(*) FROM c, events"
    )
    assert verdict(endless, endless, seconds=0.05) == Verdict()


def test_several_rewrites_are_told_apart() -> None:
    texts = [JOINED, "SELECT name FROM events", "SELECT name FROM events WHERE venue_id NOTNULL"]
    known, deadline = Known(SCHEMA, "sqlite"), time.monotonic() + 60
    found = try_rewrites(parsed(JOINED), [parsed(t) for t in texts], known, deadline=deadline)
    assert [v.differs for v in found] == [False, True, False]
    assert try_rewrites(parsed(JOINED), [], known, deadline=deadline) == []


def test_nearly_every_near_miss_of_the_samples_is_told_from_its_gold_query() -> None:
    """Near misses are rewrites that are wrong by one operator, column, literal or join; some can't
    be told by any data. A rule's mistake would be one of them."""
    wanted = {"changed_literal", "changed_operator", "dropped_predicate", "other_join_key"}
    verdicts = []
    for example in sample_examples("test")[::2]:
        schema = sample_schema(example.db_id)
        trees = [parsed(m.sql) for m in mutants(example.sql, schema) if m.kind in wanted]
        known, deadline = Known(schema, "sqlite"), time.monotonic() + 60
        verdicts += try_rewrites(parsed(example.sql), trees, known, deadline=deadline)
    assert len(verdicts) > 100
    assert sum(v.differs for v in verdicts) >= 0.95 * len(verdicts)
