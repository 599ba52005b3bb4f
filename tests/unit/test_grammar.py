"""The grammar of a schema: which texts it takes, and that it takes no others."""

import random
import re
import sqlite3
from contextlib import closing

import pytest

from eval.task.dialect import DIALECTS, DialectError
from eval.task.samples import sample_examples, sample_names, sample_schema
from eval.task.schema import Column, ForeignKey, Schema, Table, parse_ddl
from eval.task.sql import check_sql
from server.grammar import GrammarError, grammar_of
from tests.unit.grammars import matcher_of, taken, takes, walk
from trainer.pipeline.spelling import canonical_sql

SCHEMA = parse_ddl("""
CREATE TABLE singer (singer_id INT PRIMARY KEY, name TEXT, age INT, country TEXT);
CREATE TABLE concert (concert_id INT PRIMARY KEY, venue TEXT, year INT,
    singer_id INT REFERENCES singer (singer_id));
CREATE TABLE award (award_id INT PRIMARY KEY, title TEXT,
    concert_id INT REFERENCES concert (concert_id));
CREATE TABLE worker (id INT PRIMARY KEY, name TEXT, boss INT REFERENCES worker (id));
CREATE TABLE flight (id INT PRIMARY KEY, origin INT REFERENCES airport (code),
    target INT REFERENCES airport (code));
CREATE TABLE airport (code INT PRIMARY KEY, "order" TEXT);
CREATE TABLE label (city TEXT);
CREATE TABLE hours ("interval" INT);
""")
MATCHER = matcher_of(grammar_of(SCHEMA))
FULL = matcher_of(grammar_of(SCHEMA, names="full"))
JOINED = "singer JOIN concert ON singer.singer_id = concert.singer_id"

TAKEN = [
    "SELECT * FROM singer",
    "SELECT DISTINCT singer.name FROM singer",
    "SELECT COUNT(*) FROM label",
    "SELECT COUNT(DISTINCT singer.country), MAX(singer.age) FROM singer",
    "SELECT singer.name, singer.age + 1 FROM singer",
    "SELECT AVG(singer.age - concert.year) FROM " + JOINED,
    "SELECT 100.0 * SUM(CASE WHEN singer.age > 3 THEN 1 ELSE 0 END) / COUNT(*) FROM singer",
    "SELECT CASE WHEN singer.age < 20 THEN 'young' ELSE 'old' END FROM singer",
    "SELECT STRFTIME('%Y', concert.year), COUNT(*) FROM concert",
    "SELECT singer.name FROM " + JOINED,
    "SELECT singer.name FROM singer JOIN concert ON concert.singer_id = singer.singer_id",
    "SELECT singer.name FROM singer LEFT JOIN concert ON singer.singer_id = concert.singer_id"
    " WHERE concert.concert_id IS NULL",
    "SELECT singer.name, award.title FROM award JOIN concert ON award.concert_id ="
    " concert.concert_id JOIN singer ON concert.singer_id = singer.singer_id",
    "SELECT T1.name, T2.name FROM worker AS T1 JOIN worker AS T2 ON T1.boss = T2.id",
    "SELECT COUNT(*) FROM flight JOIN airport AS T2 ON flight.origin = T2.code JOIN airport AS T3"
    " ON flight.target = T3.code WHERE T2.\"order\" = 'a' AND T3.\"order\" = 'b'",
    "SELECT singer.name FROM singer WHERE singer.country = 'O''Hara' OR singer.name LIKE '%é%'",
    "SELECT singer.name FROM singer WHERE (singer.age = 1 OR singer.age = 2) AND NOT singer.name"
    " IS NULL",
    "SELECT singer.name FROM singer WHERE singer.age BETWEEN 20 AND 30.5 AND singer.name NOT LIKE"
    " 'A%'",
    "SELECT singer.name FROM singer WHERE NOT singer.country IN ('France', 'Peru')",
    "SELECT concert.venue FROM concert WHERE concert.year >= DATE('now', 'start of month', '-1"
    " month')",
    "SELECT singer.name FROM singer WHERE singer.age > (SELECT AVG(singer.age) FROM singer)",
    "SELECT singer.name FROM singer WHERE NOT singer.singer_id IN (SELECT concert.singer_id FROM"
    " concert WHERE concert.year = 2014)",
    "SELECT singer.name FROM singer WHERE EXISTS(SELECT 1 FROM concert WHERE concert.singer_id ="
    " singer.singer_id AND concert.year > 2000)",
    "SELECT COUNT(*) FROM (SELECT singer.name FROM singer WHERE singer.age = 3)",
    "SELECT singer.country, COUNT(*) FROM singer GROUP BY singer.country HAVING COUNT(*) > 2 ORDER"
    " BY COUNT(*) DESC LIMIT 3",
    "SELECT singer.name FROM singer ORDER BY singer.age ASC, singer.name DESC",
    "SELECT singer.name, singer.age FROM singer UNION SELECT worker.name, worker.id FROM worker",
    "SELECT singer.name FROM singer EXCEPT SELECT singer.name FROM " + JOINED,
]

# What is refused, by the part that is taken; … says that all is, but that it is no whole query.
REFUSED = {
    "a table that is not there": ("SELECT * FROM singers", "SELECT * FROM singer"),
    "a column of another table": ("SELECT singer.venue FROM concert", "SELECT singer."),
    "a table that FROM lacks": ("SELECT singer.name FROM label", "SELECT singer.name FROM "),
    "a join that is owed": ("SELECT singer.name FROM concert", "SELECT singer.name FROM concert …"),
    "scope in WHERE": (
        "SELECT * FROM singer WHERE concert.year = 1",
        "SELECT * FROM singer WHERE ",
    ),
    "scope in ORDER BY": (
        "SELECT * FROM singer ORDER BY award.title",
        "SELECT * FROM singer ORDER BY ",
    ),
    "scope of a subquery": (
        "SELECT * FROM singer WHERE singer.age = (SELECT MAX(concert.year) FROM singer)",
        "SELECT * FROM singer WHERE singer.age = (SELECT MAX(concert.year) FROM singer",
    ),
    "tables that nothing joins": ("SELECT singer.name, label.city", "SELECT singer.name, "),
    "columns that nothing joins": (
        "SELECT singer.name FROM singer JOIN concert ON singer.age = concert.year",
        "SELECT singer.name FROM singer JOIN concert ON singer.",
    ),
    "an alias of two tables": ("SELECT T1.id, T1.code", "SELECT T1.id, T1."),
    "an aggregate in WHERE": (
        "SELECT * FROM singer WHERE COUNT(*) > 1",
        "SELECT * FROM singer WHERE ",
    ),
    "HAVING without groups": (
        "SELECT COUNT(*) FROM singer HAVING COUNT(*) > 1",
        "SELECT COUNT(*) FROM singer ",
    ),
    "an order by an aggregate without groups": (
        "SELECT * FROM singer ORDER BY COUNT(*)",
        "SELECT * FROM singer ORDER BY ",
    ),
    "fewer items in the second query": (
        "SELECT singer.name, singer.age FROM singer UNION SELECT worker.name FROM worker",
        "SELECT singer.name, singer.age FROM singer UNION SELECT worker.name ",
    ),
    "more items in the second query": (
        "SELECT singer.name FROM singer UNION SELECT worker.name, worker.id FROM worker",
        "SELECT singer.name FROM singer UNION SELECT worker.name",
    ),
    "two items of a subquery": (
        "SELECT * FROM singer WHERE singer.age = (SELECT singer.age, singer.name FROM singer)",
        "SELECT * FROM singer WHERE singer.age = (SELECT singer.age",
    ),
    "a second statement": ("SELECT * FROM label; DROP TABLE label", "SELECT * FROM label"),
    "a comment": ("SELECT * FROM label -- all", "SELECT * FROM label "),
    "another statement": ("DELETE FROM label", ""),
    "a trailing space": ("SELECT * FROM label ", "SELECT * FROM label  …"),
    "a string that ends early": (
        "SELECT * FROM label WHERE label.city = 'a' OR 1 = 1",
        "SELECT * FROM label WHERE label.city = 'a' OR ",
    ),
    "a backslash": (
        r"SELECT * FROM label WHERE label.city = '\'",
        "SELECT * FROM label WHERE label.city = '",
    ),
    "a long string": (
        f"SELECT * FROM label WHERE label.city = '{'a' * 41}'",
        f"SELECT * FROM label WHERE label.city = '{'a' * 40}",
    ),
    "a column without its table": ("SELECT name FROM singer", "SELECT "),
}


@pytest.mark.parametrize("text", TAKEN)
def test_usual_queries_are_taken(text):
    assert taken(MATCHER, text) == text
    assert check_sql(text, SCHEMA).valid


@pytest.mark.parametrize(("text", "part"), REFUSED.values(), ids=REFUSED)
def test_what_no_engine_would_run_ends_where_it_goes_wrong(text, part):
    assert taken(MATCHER, text) == part


@pytest.mark.parametrize("text", TAKEN)
def test_full_names_take_all_that_qualified_ones_do(text):
    assert taken(FULL, text) == text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("SELECT name, COUNT(*) FROM singer WHERE age > 3 GROUP BY name", ...),
        ("SELECT COUNT(*) FROM concert WHERE year = 2014", ...),
        ("SELECT name FROM worker WHERE id IN (SELECT boss FROM worker WHERE name = 'x')", ...),
        # The first column may be of two tables, both together only of one.
        ("SELECT name, age FROM singer", ...),
        ("SELECT name, age FROM worker", "SELECT name, age FROM "),
        ("SELECT name, venue", "SELECT name, "),
        ("SELECT interval + 1 FROM hours", "SELECT i"),
        ("SELECT name FROM singer JOIN concert", "SELECT name FROM singer "),
        (
            "SELECT COUNT(*) FROM " + JOINED + " WHERE age = 3",
            f"SELECT COUNT(*) FROM {JOINED} WHERE ",
        ),
    ],
)
def test_full_names_stand_alone_where_there_is_one_table(text, part):
    assert taken(FULL, text) == (text if part is ... else part)


@pytest.mark.parametrize("database", sample_names())
@pytest.mark.parametrize("names", ["qualified", "full"])
def test_texts_drawn_at_random_end_pass_the_guard_and_run(database, names):
    """20 queries of each database: a dead end, a name out of scope or a wrong arity would show."""
    schema, rng = sample_schema(database), random.Random(database + names)
    matcher = matcher_of(grammar_of(schema, names=names))
    with closing(sqlite3.connect(":memory:")) as db:
        for table in schema.tables:
            db.execute(f"CREATE TABLE {table.name} ({', '.join(table.column_names)})")
        for _ in range(20):
            text = walk(matcher, rng)
            assert check_sql(text, schema).violations == (), text
            db.execute(f"EXPLAIN {text}")


@pytest.mark.parametrize("dialect", sorted(DIALECTS - {"fabric", "oracle", "teradata", "tsql"}))
def test_texts_drawn_at_random_pass_the_guard_of_their_dialect(dialect):
    matcher, rng = matcher_of(grammar_of(SCHEMA, dialect)), random.Random(dialect)
    for _ in range(8):
        text = walk(matcher, rng)
        found = {violation.code for violation in check_sql(text, SCHEMA, dialect).violations}
        # What must be grouped hangs on the whole select list, which no grammar can look back at.
        assert found <= {"ungrouped_column"}, text


@pytest.mark.parametrize(
    "options",
    [
        {"max_tables": 1},
        {"max_tables": 6, "names": "full"},
        {"max_depth": 0},
        {"max_depth": 1, "max_string": 17},
        {"max_tokens": 100},
        {"max_tokens": 4096},
        {"values": ("Peru", "O'Hara", "a value of more characters")},
    ],
)
def test_options_leave_no_dead_end(options):
    matcher, rng = matcher_of(grammar_of(SCHEMA, **options)), random.Random(1)
    for _ in range(10):
        text = walk(matcher, rng)
        assert check_sql(text, SCHEMA).violations == (), text


def test_limits_hold():
    assert takes(grammar_of(SCHEMA, max_tables=2), f"SELECT COUNT(*) FROM {JOINED}")
    one = matcher_of(grammar_of(SCHEMA, max_tables=1))
    assert taken(one, f"SELECT COUNT(*) FROM {JOINED}") == "SELECT COUNT(*) FROM singer "
    flat = matcher_of(grammar_of(SCHEMA, max_depth=0))
    text = "SELECT * FROM singer WHERE singer.age = (SELECT MAX(singer.age) FROM singer)"
    assert taken(flat, text) == "SELECT * FROM singer WHERE singer.age = "
    wide = f"SELECT * FROM label WHERE label.city = '{'a' * 60}'"
    assert takes(grammar_of(SCHEMA, max_string=60), wide)


def test_a_query_that_uses_up_its_budget_ends():
    """Each condition takes of it, so that some day none may follow."""
    condition = "singer.age = 1"
    text = f"SELECT * FROM singer WHERE {' AND '.join([condition] * 40)}"
    found = taken(MATCHER, text)
    assert found.endswith(condition + " ") and 3 < found.count(condition) < 20


def test_given_values_are_the_only_strings_but_for_patterns():
    grammar = grammar_of(SCHEMA, values=("Peru", "O'Hara", "bad\nvalue"))
    start = "SELECT * FROM label WHERE label.city"
    assert takes(grammar, f"{start} = 'Peru'") and takes(grammar, f"{start} = 'O''Hara'")
    assert takes(grammar, f"{start} LIKE '%x%'") and takes(grammar, f"{start} = 3")
    assert taken(matcher_of(grammar), f"{start} = 'Rome'") == f"{start} = '"


HOSTILE = (
    *('a"b', "back\\slash", '"; DROP TABLE x; --', 'a" | "b', 'start: "x"', "//", "#c", "/re/"),
    *("%if true", '{"a":1}', "日本", "it's", "`tick`", "[br]", "select", "a.b", "*", "COUNT("),
    *("\\n", '\\"', "${x}", "a::b", "😀", "x" * 80, "é", "x)y", "(?i)", "<[2]>"),
)
UNSEEN = ("x\ny", "tab\there", "\u202eevil", "zero\u200bwidth", "\x00", "\ud800", "", " ")


@pytest.mark.parametrize("dialect", ["sqlite", "postgres", "mysql", "duckdb", "snowflake"])
def test_hostile_names_are_names_and_nothing_else(dialect):
    """Whatever a name looks like in a grammar, SQL or a regular expression; the unseen are left
    out."""
    columns = tuple(Column(name, "text") for name in (*HOSTILE, *UNSEEN))
    key = (ForeignKey(("it's",), HOSTILE[0], (HOSTILE[1],)),)
    names = (*HOSTILE[:8], *UNSEEN)
    schema = Schema(tuple(Table(name, columns, (HOSTILE[1],), key) for name in names))
    matcher, rng = matcher_of(grammar_of(schema, dialect)), random.Random(dialect)
    for _ in range(12):
        text = walk(matcher, rng)
        found = check_sql(text, schema, dialect).violations
        # The guard lets no backslash in a name pass; some dialects want a GROUP BY.
        assert all("\\" in text or v.code == "ungrouped_column" for v in found), (text, found)
        assert text.isprintable()


def test_each_hostile_name_can_be_written():
    schema = Schema(tuple(Table(name, (Column(name),)) for name in HOSTILE))
    matcher = matcher_of(grammar_of(schema))
    for name in HOSTILE:
        written = '"' + name.replace('"', '""') + '"' if not re.fullmatch("x+", name) else name
        text = f"SELECT {written}.{written} FROM {written}"
        assert taken(matcher, text) == text


def test_what_is_not_granted_is_not_there():
    """A restricted schema may keep keys to tables and columns that it lacks."""
    concert = next(table for table in SCHEMA.tables if table.name == "concert")
    granted = Schema((Table("concert", (Column("venue"),), ("concert_id",), concert.foreign_keys),))
    matcher = matcher_of(grammar_of(granted))
    assert (
        taken(matcher, "SELECT concert.venue FROM concert") == "SELECT concert.venue FROM concert"
    )
    assert taken(matcher, "SELECT concert.year") == "SELECT concert."
    assert taken(matcher, "SELECT COUNT(*) FROM singer") == "SELECT COUNT(*) FROM "


@pytest.mark.parametrize(
    ("message", "schema", "options"),
    [
        ("schema: it has no column", Schema(()), {}),
        ("schema: it has no column", Schema((Table("t", ()),)), {}),
        ("schema: it has no column", Schema((Table("t", (Column("\n"),)),)), {}),
        ("too many", Schema(tuple(Table(f"t{i}", (Column("a"),)) for i in range(451))), {}),
        ("dialect: tsql has no LIMIT", SCHEMA, {"dialect": "mssql"}),
        ("names: 'bare' is neither", SCHEMA, {"names": "bare"}),
        ("max_tables: must be from 1 to 6", SCHEMA, {"max_tables": 0}),
        ("max_depth: must be from 0 to 2", SCHEMA, {"max_depth": 3}),
        ("max_string: must be from", SCHEMA, {"max_string": 16}),
        ("max_tokens: must be from", SCHEMA, {"max_tokens": 5}),
        (
            "max_tokens: 64 are too few",
            Schema((Table("t" * 80, (Column("Quite_A_Long_Name" * 5),)),)),
            {"max_tokens": 64},
        ),
    ],
)
def test_what_has_no_grammar_says_why(message, schema, options):
    with pytest.raises(GrammarError, match=message):
        grammar_of(schema, **options)


def test_an_unknown_dialect_is_an_error():
    with pytest.raises(DialectError):
        grammar_of(SCHEMA, "klingon")


def test_the_same_schema_is_built_once():
    again = Schema(SCHEMA.tables)
    assert grammar_of(again, "sqlite3") is grammar_of(SCHEMA)
    assert grammar_of(SCHEMA, names="full") is not grammar_of(SCHEMA)


def test_many_tables_of_one_name_of_column_stay_within_what_llguidance_follows():
    """`id` alone may be of any of them, so that each is a parse of its own."""
    for count in (25, 60):
        keys = (ForeignKey(("parent",), "t0", ("id",)),)
        tables = [
            Table(f"t{i}", (Column("id"), Column("parent"), Column(f"own{i}")), ("id",), keys)
            for i in range(count)
        ]
        matcher = matcher_of(grammar_of(Schema(tuple(tables)), names="full"))
        for text in ("SELECT own7 FROM t7", "SELECT t3.id FROM t3 JOIN t0 ON t3.parent = t0.id"):
            assert taken(matcher, text) == text
        bare = "SELECT id, parent FROM t7"
        assert taken(matcher, bare) == (bare if count == 25 else "SELECT ")


def test_450_tables_around_one_stay_within_what_llguidance_follows():
    keys = (ForeignKey(("hub",), "t0", ("id",)),)
    tables = [Table(f"t{i}", (Column("id"), Column("hub")), ("id",), keys) for i in range(1, 445)]
    schema = Schema((Table("t0", (Column("id"),), ("id",)), *tables))
    matcher, rng = matcher_of(grammar_of(schema)), random.Random(2)
    for _ in range(3):
        assert check_sql(walk(matcher, rng), schema).valid


def test_most_golds_of_the_samples_are_taken():
    """In the spelling that adapters are trained on. What is not: common table expressions, window
    functions, aliases other than T1 to T3."""
    refused = []
    examples = sample_examples("train") + sample_examples("test")
    matchers = {db: matcher_of(grammar_of(sample_schema(db))) for db in sample_names()}
    for example in examples:
        schema = sample_schema(example.db_id)
        gold = canonical_sql(example.sql, schema, "sqlite", names="qualified")
        if taken(matchers[example.db_id], gold) != gold:
            refused.append(gold)
    assert len(refused) < 0.1 * len(examples)
    odd = re.compile(r"\bWITH\b|\bOVER\b|\bAS [a-z]|\bCAST\b|COALESCE|\bT4\b")
    assert len([gold for gold in refused if not odd.search(gold)]) <= 10
