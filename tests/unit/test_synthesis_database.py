"""Databases made from a schema and queries alone: keys hold, conditions find rows."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from eval.task.samples import sample_examples, sample_schema
from eval.task.schema import Column, Schema, Table, parse_ddl
from eval.task.synthesis.database import Limits, Recipe, answers, recipe, synthesise

SEEDS = range(6)
SHOP = sample_schema("shop")
EVENTS = parse_ddl("""
CREATE TABLE venues (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE events (id INTEGER PRIMARY KEY, name TEXT, at TIMESTAMP, day DATE, opens TIME, n INT,
    price NUMERIC(8, 2), is_free BOOLEAN, venue_id INTEGER REFERENCES venues(id));
CREATE TABLE seats (venue_id INTEGER, row_no INTEGER, label TEXT, PRIMARY KEY (venue_id, row_no),
    FOREIGN KEY (venue_id) REFERENCES venues(id));
CREATE TABLE tickets (code TEXT PRIMARY KEY, venue_id INTEGER, row_no INTEGER,
    FOREIGN KEY (venue_id, row_no) REFERENCES seats(venue_id, row_no));
CREATE TABLE people (id INTEGER PRIMARY KEY, boss_id INTEGER REFERENCES people(id));
""")
FINDS = [
    "SELECT id FROM events WHERE strftime('%Y', at) = '1987'",
    "SELECT id FROM events WHERE strftime('%Y-%m', day) = '1987-02'",
    "SELECT id FROM events WHERE date(at) = '1987-02-03'",
    "SELECT id FROM events WHERE CAST(strftime('%m', day) AS INTEGER) = 11",
    "SELECT id FROM events WHERE day LIKE '1987-02%'",
    "SELECT id FROM events WHERE day BETWEEN '1987-02-03' AND '1987-02-05'",
    "SELECT id FROM events WHERE at >= date('now', 'start of month', '-1 month') "
    "AND at < date('now', 'start of month')",
    "SELECT id FROM events WHERE day = date('now', '-1 day')",
    "SELECT id FROM events WHERE n * 7 = 91",
    "SELECT id FROM events WHERE n + 1000 > 5000",
    "SELECT id FROM events WHERE lower(name) = 'gala night'",
    "SELECT id FROM events WHERE substr(name, 1, 4) = 'Gala'",
    "SELECT id FROM events WHERE name LIKE '%gala%' AND is_free",
    "SELECT id FROM events WHERE price > 1234.5 AND n IN (7001, 7002)",
    "SELECT e.id FROM events AS e JOIN venues AS v ON e.venue_id = v.id WHERE v.city = 'Oslo'",
    "SELECT t.code FROM tickets AS t JOIN seats AS s ON t.venue_id = s.venue_id "
    "AND t.row_no = s.row_no WHERE s.label = 'box'",
    "SELECT venue_id FROM events GROUP BY venue_id HAVING count(*) >= 20",
    "SELECT name FROM venues WHERE id NOT IN (SELECT venue_id FROM events WHERE n = 4711)",
    "SELECT id FROM events WHERE venue_id IS NULL",
    "SELECT id FROM events WHERE id = 'no number'",
    "SELECT city FROM venues WHERE name = 'a' INTERSECT SELECT city FROM venues WHERE name = 'b'",
]


def found(made: Recipe, sql: str) -> list[int]:
    """How many rows `sql` has on the database of each seed."""
    sizes = []
    for seed in SEEDS:
        with closing(made.database(seed=seed)) as db:
            rows = answers(db, sql)
            assert rows is not None
            sizes.append(len(rows))
    return sizes


def dump(db: sqlite3.Connection) -> list[object]:
    return [db.execute(f"SELECT * FROM {t.name}").fetchall() for t in EVENTS.tables]


@pytest.mark.parametrize("sql", FINDS)
def test_conditions_joins_and_groups_find_rows_on_most_databases(sql: str) -> None:
    assert sum(size > 0 for size in found(recipe(EVENTS, [sql]), sql)) >= len(SEEDS) // 2


def test_nearly_all_gold_queries_of_the_samples_find_something() -> None:
    examples = sample_examples("test")
    empty = []
    for example in examples:
        sizes = found(recipe(sample_schema(example.db_id), [example.sql]), example.sql)
        empty += [] if any(sizes) else [example.id]
    assert len(empty) <= len(examples) // 30, empty


@pytest.mark.parametrize("seed", SEEDS)
def test_keys_hold(seed: int) -> None:
    with closing(synthesise(EVENTS, [], seed=seed)) as db:
        for table in EVENTS.tables:
            (count,) = db.execute(f"SELECT count(*) FROM {table.name}").fetchone()
            assert count > 0
            key = ", ".join(table.primary_key)
            distinct = f"SELECT count(*) FROM (SELECT DISTINCT {key} FROM {table.name})"
            assert db.execute(distinct).fetchone() == (count,)
            for link in table.foreign_keys:
                filled = " AND ".join(f"c.{name} IS NOT NULL" for name in link.columns)
                same = " AND ".join(
                    f"c.{one} = p.{other}"
                    for one, other in zip(link.columns, link.references, strict=True)
                )
                orphans = (
                    f"SELECT 1 FROM {table.name} AS c WHERE {filled} AND NOT EXISTS "
                    f"(SELECT 1 FROM {link.table} AS p WHERE {same})"
                )
                assert db.execute(orphans).fetchall() == []


def test_values_are_of_the_declared_kinds() -> None:
    kinds = {
        "SELECT DISTINCT typeof(n) FROM events WHERE n IS NOT NULL": [("integer",)],
        "SELECT 1 FROM events WHERE day <> date(day)": [],
        "SELECT 1 FROM events WHERE at NOT IN (date(at), datetime(at))": [],
        "SELECT 1 FROM events WHERE opens <> time(opens)": [],
        "SELECT 1 FROM events WHERE is_free NOT IN (0, 1)": [],
        "SELECT DISTINCT typeof(code) FROM tickets": [("text",)],
    }
    for seed in SEEDS:
        with closing(synthesise(EVENTS, [], seed=seed)) as db:
            for sql, expected in kinds.items():
                assert db.execute(sql).fetchall() == expected


def test_values_repeat_and_some_are_missing() -> None:
    seen = set()
    for seed in SEEDS:
        with closing(synthesise(EVENTS, [], seed=seed)) as db:
            seen |= {
                ("tie", n > 1) for (n,) in db.execute("SELECT count(*) FROM events GROUP BY n")
            }
            seen |= {("null", n is None) for (n,) in db.execute("SELECT n FROM events")}
    assert seen == {("tie", True), ("tie", False), ("null", True), ("null", False)}


def test_the_same_arguments_give_the_same_rows_and_another_seed_others() -> None:
    seen = []
    for seed in (1, 1, 2):
        with closing(synthesise(EVENTS, [], seed=seed)) as db:
            seen.append(dump(db))
    assert seen[0] == seen[1] != seen[2]


def test_only_what_the_queries_read_is_there() -> None:
    with closing(synthesise(EVENTS, ["SELECT name FROM venues"], seed=1)) as db:
        assert answers(db, "SELECT id, name FROM venues")
        assert answers(db, "SELECT city FROM venues") is None
        assert answers(db, "SELECT id FROM events") is None
    with closing(synthesise(EVENTS, ["SELECT v.* FROM venues AS v"], seed=1)) as db:
        assert answers(db, "SELECT city FROM venues")


@pytest.mark.parametrize(
    "text", ["", "not SQL at all (", "SELECT 1; SELECT 2", "DROP TABLE events", "((((" * 50]
)
def test_what_cannot_be_read_is_passed_over(text: str) -> None:
    with closing(synthesise(EVENTS, [text, "SELECT id FROM venues"], seed=1)) as db:
        assert answers(db, "SELECT id FROM venues")


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM venues",
        "INSERT INTO venues VALUES (1, 'a', 'b')",
        "PRAGMA table_info(venues)",
        "ATTACH DATABASE ':memory:' AS other",
        "CREATE TABLE x (y)",
        "SELECT load_extension('x')",
        "SELECT nothing FROM venues",
        "SELECT",
    ],
)
def test_a_database_can_only_be_read(sql: str) -> None:
    with closing(synthesise(EVENTS, ["SELECT * FROM venues"], seed=1)) as db:
        before = answers(db, "SELECT * FROM venues")
        assert answers(db, sql) is None
        assert answers(db, "SELECT * FROM venues") == before


def test_an_answer_over_its_limits_is_none() -> None:
    endless = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    )
    with closing(synthesise(EVENTS, ["SELECT * FROM venues"], seed=1)) as db:
        assert answers(db, endless, Limits(timeout_seconds=0.02)) is None
        assert answers(db, "SELECT * FROM venues", Limits(max_rows=1)) is None
        assert answers(db, "SELECT name || name FROM venues", Limits(max_bytes=1)) is None


def test_hostile_values_tell_apart_what_differs_in_case_or_spaces_only() -> None:
    exact, folded = ("SELECT id FROM events WHERE name = 'Gala'",
                     "SELECT id FROM events WHERE lower(name) = 'gala'")  # fmt: skip

    def differ(made: Recipe) -> bool:
        return found(made, exact) != found(made, folded)

    assert differ(recipe(EVENTS, [exact, folded], hostile=True))
    plain = recipe(EVENTS, [exact])
    assert not any("GALA" in c.values for c in plain.profile.tables["events"].columns.values())


def test_sample_values_of_a_column_are_used() -> None:
    columns = (Column("id", "integer"), Column("city", "text", values=("Oslo", "Lima")))
    schema = Schema((Table("places", columns, ("id",)),))
    made = recipe(schema, [])
    assert sum(found(made, "SELECT id FROM places WHERE city = 'Lima'")) > 0


def test_names_that_need_quotes_and_circles_of_keys_are_no_problem() -> None:
    schema = parse_ddl("""
    CREATE TABLE "odd ""table" ("a b" INTEGER, "select" TEXT, PRIMARY KEY ("a b", "select"));
    CREATE TABLE egg (id INTEGER PRIMARY KEY, hen INTEGER, FOREIGN KEY (hen) REFERENCES hen(id));
    CREATE TABLE hen (id INTEGER PRIMARY KEY, egg INTEGER, FOREIGN KEY (egg) REFERENCES egg(id));
    CREATE TABLE plain (x, y);
    """)
    sql = 'SELECT "a b" FROM "odd ""table" WHERE "select" = \'x\''
    assert sum(found(recipe(schema, [sql]), sql)) > 0
    joined = "SELECT hen.id FROM egg JOIN hen ON egg.hen = hen.id JOIN plain ON plain.x = hen.id"
    assert sum(found(recipe(schema, [joined]), joined)) > 0


def test_wide_tables_and_many_rows_stay_small() -> None:
    wide = ", ".join(f"c{i} TEXT" for i in range(1500))
    schema = parse_ddl(f"CREATE TABLE wide (id INTEGER PRIMARY KEY, {wide})")
    with closing(synthesise(schema, ["SELECT * FROM wide"], seed=1, rows=10_000)) as db:
        rows = answers(db, "SELECT count(*) FROM wide")
    assert rows is not None and 0 < int(str(rows[0][0])) < 100


def test_a_database_may_be_used_in_another_thread() -> None:
    with closing(synthesise(EVENTS, [], seed=1)) as db, ThreadPoolExecutor(1) as pool:
        assert pool.submit(answers, db, "SELECT * FROM venues").result()
