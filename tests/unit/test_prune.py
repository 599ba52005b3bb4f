"""Which tables and columns are kept for a question, and what keeps a part of a schema usable."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.task.linking import Links, words
from eval.task.prompt import PromptFormat
from eval.task.prune import MAX_CORE, Pruned, PruneError, prune
from eval.task.samples import sample_examples, sample_names, sample_schema
from eval.task.schema import Column, ForeignKey, Schema, Table, parse_ddl
from eval.task.sql import check_sql

SCHOOL = parse_ddl("""
CREATE TABLE students (student_id INT PRIMARY KEY, full_name TEXT, age INT, homeTown TEXT);
CREATE TABLE enrolments (student_id INT REFERENCES students (student_id),
    course_id INT REFERENCES courses (course_id), mark INT, PRIMARY KEY (student_id, course_id));
CREATE TABLE courses (course_id INT PRIMARY KEY, title TEXT,
    room_id INT REFERENCES rooms (room_id));
CREATE TABLE rooms (room_id INT PRIMARY KEY, floor INT);
CREATE TABLE invoices (invoice_id INT PRIMARY KEY, amount REAL, paid INT);
CREATE TABLE suppliers (supplier_id INT PRIMARY KEY, supplier TEXT);
""")


def at_most(tables: int) -> Callable[[Schema], bool]:
    return lambda schema: len(schema.tables) <= tables


def columns_at_most(number: int) -> Callable[[Schema], bool]:
    return lambda schema: sum(len(table.columns) for table in schema.tables) <= number


def names(pruned: Pruned) -> list[str]:
    return [table.name for table in pruned.schema.tables]


def test_a_schema_that_fits_is_left_alone():
    pruned = prune(SCHOOL, "How many students?", lambda _: True)
    assert pruned.schema is SCHOOL
    assert pruned.left_out == ()


@pytest.mark.parametrize(
    ("question", "kept"),
    [
        ("How old are the students?", "students"),
        ("How many Invoices were paid?", "invoices"),
        ("Which supplier is the largest?", "suppliers"),
        ("What is the home town of each person?", "students"),
        ("TITLES, please", "courses"),
        ("On which floors are there rooms?", "rooms"),
    ],
)
def test_the_table_that_a_question_names_is_kept(question, kept):
    assert names(prune(SCHOOL, question, at_most(1))) == [kept]


def test_the_table_that_joins_two_others_comes_with_them():
    pruned = prune(SCHOOL, "Which students take which course titles?", at_most(3))
    assert names(pruned) == ["students", "enrolments", "courses"]
    assert pruned.left_out == ("rooms", "invoices", "suppliers")


def test_keys_to_tables_that_are_left_out_are_dropped():
    (courses,) = prune(SCHOOL, "course titles", at_most(1)).schema.tables
    assert courses.foreign_keys == ()
    assert courses.column_names == ("course_id", "title", "room_id")


def test_tables_stay_in_the_order_of_the_schema():
    for question in ("rooms and students", "students and rooms"):
        assert names(prune(SCHOOL, question, at_most(4))) == [
            "students", "enrolments", "courses", "rooms",
        ]  # fmt: skip


def test_comments_and_values_link_too():
    plain = [Table(f"t{i}", (Column("a"), Column("b"))) for i in range(4)]
    noted = [
        *plain,
        Table("x1", (Column("a"), Column("b")), comment="people who owe us money"),
        Table("x2", (Column("a"), Column("b", comment="the colour of the roof"))),
        Table("x3", (Column("a", values=("Ulm", "Bern")), Column("b"))),
    ]
    schema = Schema(tuple(noted))
    assert names(prune(schema, "who owes money?", at_most(1))) == ["x1"]
    assert names(prune(schema, "Which roofs are there?", at_most(1))) == ["x2"]
    assert names(prune(schema, "everything in Bern", at_most(1))) == ["x3"]


def test_a_question_that_names_nothing_keeps_the_first_tables():
    assert names(prune(SCHOOL, "???", at_most(2))) == ["students", "enrolments"]
    assert names(prune(SCHOOL, "", at_most(2))) == ["students", "enrolments"]


def wide(tables: int, columns: int) -> Schema:
    """Tables t0, t1, … in a chain of keys, each with a primary key and `columns` more columns."""
    found = []
    for number in range(tables):
        own = (Column("id"), *(Column(f"thing{number}x{i}") for i in range(columns)))
        key = (ForeignKey(("id",), f"t{number - 1}", ("id",)),) if number else ()
        found.append(Table(f"t{number}", own, ("id",), key))
    return Schema(tuple(found))


def test_columns_go_where_the_linked_tables_do_not_fit_whole():
    schema = wide(3, 100)
    question = "t0 t1 and t2 by thing1x57"
    pruned = prune(schema, question, columns_at_most(30))
    assert names(pruned) == ["t0", "t1", "t2"]
    for table in pruned.schema.tables:
        assert "id" in table.column_names
        assert len(table.columns) == 10
    middle = pruned.schema.find("t1")
    assert middle
    assert "thing1x57" in middle.column_names
    assert len(pruned.left_out) == 3 * 101 - 30
    assert pruned.left_out[0].startswith("t0.thing0x")


def test_fewer_tables_where_even_the_keys_of_all_do_not_fit():
    pruned = prune(wide(6, 10), "t0 t1 t2 t3 t4 t5", columns_at_most(7))
    assert len(pruned.schema.tables) == 3
    assert all(len(table.columns) == 2 for table in pruned.schema.tables)


def test_where_nothing_fits_it_is_said():
    with pytest.raises(PruneError, match="not even the best table"):
        prune(SCHOOL, "students", lambda _: False)


def test_a_large_schema_takes_few_questions_of_fit():
    asked = []

    def fits(schema: Schema) -> bool:
        asked.append(schema)
        return sum(len(table.columns) for table in schema.tables) <= 40

    schema = wide(500, 20)
    pruned = prune(schema, "t17 and t18 by thing18x3", fits)
    assert {"t17", "t18"} <= set(names(pruned))
    assert len(asked) <= 24


@settings(max_examples=150, deadline=None, database=None)
@given(seed=st.integers(0, 10_000), limit=st.integers(1, 60), question=st.text(max_size=60))
def test_a_part_fits_is_sound_and_says_what_it_lacks(seed, limit, question):
    rng = random.Random(seed)
    schema = wide(rng.randint(1, 12), rng.randint(0, 12))
    asked = question + " ".join(rng.choices([t.name for t in schema.tables], k=3))
    fits = columns_at_most(limit)
    try:
        pruned = prune(schema, asked, fits)
    except PruneError:
        assert limit < 2
        return
    assert fits(pruned.schema)
    kept = {(t.name, c) for t in pruned.schema.tables for c in t.column_names}
    whole = {(t.name, c) for t in schema.tables for c in t.column_names}
    gone = {
        (t, c) for t, c in whole - kept if f"{t}.{c}" in pruned.left_out or t in pruned.left_out
    }
    assert kept | gone == whole
    assert not {name for name in pruned.left_out if pruned.schema.find(name)}
    for table in pruned.schema.tables:
        assert table.columns
        for key in table.foreign_keys:
            target = pruned.schema.find(key.table)
            assert target
            assert set(key.columns) <= set(table.column_names)
            assert set(key.references) <= set(target.column_names)
    assert prune(schema, asked, fits) == pruned


def test_the_tables_of_our_own_queries_survive_among_all_samples():
    """All six samples in one, pruned to MAX_CORE tables: at least 90 of 100 keep what they need."""
    tables = {t.name: t for name in sample_names() for t in sample_schema(name).tables}
    merged = Schema(tuple(tables.values()))
    assert len(merged.tables) > 2 * MAX_CORE
    kept = total = 0
    for example in sample_examples("test"):
        gold = check_sql(example.sql, merged, example.dialect, example.dialect)
        if gold.valid:
            total += 1
            left = names(prune(merged, example.question, at_most(MAX_CORE)))
            kept += set(gold.tables) <= set(left)
    assert total > 50
    assert kept / total > 0.9


def test_a_prompt_is_made_to_fit():
    rendered = PromptFormat().render
    schema = wide(100, 10)
    question = "all of t42"

    def fits(part: Schema) -> bool:
        return len(rendered(part, question)) <= 2000

    pruned = prune(schema, question, fits)
    assert len(rendered(pruned.schema, question)) <= 2000
    assert pruned.schema.find("t42")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("student_id", ["student", "id"]),
        ("homeTown", ["home", "town"]),
        ("HTTPServer2", ["http", "server", "2"]),
        ("ORDER ITEMS", ["order", "item"]),
        ("Cities, companies; classes & boxes", ["city", "company", "class", "box"]),
        ("bus status is his", ["bus", "status", "is", "his"]),
        ("enrolled enrolling", ["enroll", "enroll"]),
        ("Größe étés 名前", ["größe", "été", "名前"]),
        ("%$ -- ''", []),
    ],
)
def test_words(text, found):
    assert list(words(text)) == found


def test_a_word_that_stands_everywhere_counts_less():
    schema = Schema(
        (*(Table(f"t{i}", (Column("name"),)) for i in range(9)), Table("u", (Column("roof"),)))
    )
    links = Links(schema, "the name of the roof")
    assert links.tables[9] > 2 * links.tables[0] > 0
    assert links.columns[9] == [links.tables[9]]


def test_a_part_of_a_word_counts_less_than_the_whole():
    schema = Schema(tuple(Table(name, ()) for name in ("singers", "singerclub", "sing", "song")))
    whole, longer, start, other = Links(schema, "singer").tables
    assert whole > longer == start > other == 0
