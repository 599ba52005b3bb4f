"""Prompts, to the letter, and how SQL is taken out of a completion."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.task.prompt import (
    SERIALISERS,
    TEMPLATE,
    PromptError,
    PromptFormat,
    extract_sql,
    quote,
    serialise_columns,
    serialise_keys,
)
from eval.task.schema import Schema, parse_ddl

DDL = """
CREATE TABLE band (band_id INTEGER PRIMARY KEY, name VARCHAR(20), "founded in" INT);
CREATE TABLE singer (id INT, band INT REFERENCES band, name, PRIMARY KEY (id));
CREATE TABLE "order items" (singer_id INT, n INT, PRIMARY KEY (n, singer_id),
    FOREIGN KEY (singer_id) REFERENCES singer (id));
"""
COLUMNS = """\
band(band_id int, name varchar(20), "founded in" int)
singer(id int, band int, name)
"order items"(singer_id int, n int)"""
KEYS = """\
table band: band_id int pk, name varchar(20), "founded in" int
table singer: id int pk, band int -> band.band_id, name
table "order items": singer_id int pk -> singer.id, n int pk"""

QUALIFIED = """\
table band: band.band_id int pk, band.name varchar(20), band."founded in" int
table singer: singer.id int pk, singer.band int -> band.band_id, singer.name
table "order items": "order items".singer_id int pk -> singer.id, "order items".n int pk"""


@pytest.fixture(scope="module")
def schema() -> Schema:
    return parse_ddl(DDL)


def test_columns_to_the_letter(schema: Schema) -> None:
    assert serialise_columns(schema) == COLUMNS


def test_keys_to_the_letter(schema: Schema) -> None:
    assert serialise_keys(schema) == KEYS


@pytest.mark.parametrize(
    ("name", "text"), [("columns", COLUMNS), ("keys", KEYS), ("qualified", QUALIFIED)]
)
def test_the_prompt_to_the_letter(name: str, text: str, schema: Schema) -> None:
    found = PromptFormat(serialisation=name).render(schema, "How many bands?", "mysql")
    assert found == f"-- mysql\n{text}\n-- How many bands?\n"


def test_the_schema_comes_before_the_question() -> None:
    """vLLM's prefix cache holds what questions have in common."""
    assert TEMPLATE.index("{schema}") < TEMPLATE.index("{question}")


def test_keys_are_found_whatever_their_case() -> None:
    ddl = """
    CREATE TABLE Band (Band_ID INT, PRIMARY KEY (BAND_ID));
    CREATE TABLE singer (band INT, FOREIGN KEY (BAND) REFERENCES band (band_id));
    """
    text = "table Band: Band_ID int pk\ntable singer: band int -> Band.Band_ID"
    assert serialise_keys(parse_ddl(ddl)) == text


def test_a_key_to_a_table_that_is_not_there_is_shown_as_written() -> None:
    schema = parse_ddl("CREATE TABLE a (x INT REFERENCES b (y), z INT REFERENCES c)")
    assert serialise_keys(schema) == "table a: x int -> b.y, z int -> c"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("name", "name"),
        ("Name_2", "Name_2"),
        ("_x", "_x"),
        ("2nd", '"2nd"'),
        ("item id", '"item id"'),
        ('a"b', '"a""b"'),
        ("naïve", '"naïve"'),
        ("a;b", '"a;b"'),
        ("", '""'),
        ("name\n", '"name\n"'),
        ("group", '"group"'),
        ("Order", '"Order"'),
        ("FROM", '"FROM"'),
        ("ordering", "ordering"),
    ],
)
def test_names_are_written_as_sql_needs_them(name: str, written: str) -> None:
    """A small model copies what it reads: a bare `order` gives SQL that can't be parsed."""
    assert quote(name) == written


@pytest.mark.parametrize(
    ("question", "line"),
    [
        ("  How\n many\r\n\tbands? ", "How many bands?"),
        ("{schema} {question} {dialect} {x}", "{schema} {question} {dialect} {x}"),
        ("a\\g<1> \\1 $1 %s", "a\\g<1> \\1 $1 %s"),
        ("-- x\n; DROP TABLE band", "-- x ; DROP TABLE band"),
        ("a\u2028b\u2029c\x85d\x0be", "a b c d e"),
        ("日本 🎸 \u202eabc", "日本 🎸 \u202eabc"),
    ],
)
def test_a_question_is_one_line_and_no_template(question: str, line: str, schema: Schema) -> None:
    found = PromptFormat("{schema}|{question}", "columns").render(schema, question)
    assert found == f"{COLUMNS}|{line}"


def test_braces_in_names_are_no_fields() -> None:
    schema = parse_ddl('CREATE TABLE "{question}" ("{dialect}" INT)')
    found = PromptFormat("{dialect}|{schema}|{question}", "columns").render(schema, "Q")
    assert found == 'sqlite|"{question}"("{dialect}" int)|Q'


def test_other_braces_of_a_template_stay() -> None:
    schema = parse_ddl("CREATE TABLE a (b INT)")
    found = PromptFormat("{{x}} {schema} {question} {dialect} {dialect}", "columns")
    assert found.render(schema, "Q") == "{{x}} a(b int) Q sqlite sqlite"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{schema}", "must hold {question}"),
        ("{question}", "must hold {schema} once"),
        ("", "must hold {schema} once"),
        ("{schema} {schema} {question}", "must hold {schema} once"),
        ("{ schema } {question}", "must hold {schema} once"),
    ],
)
def test_a_template_has_the_schema_once_and_the_question(template: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        PromptFormat(template)


def test_a_question_may_stand_before_the_schema_as_well() -> None:
    schema = parse_ddl("CREATE TABLE a (b INT)")
    found = PromptFormat("{question}|{schema}|{question}", "columns").render(schema, "{schema}\n?")
    assert found == "{schema} ?|a(b int)|{schema} ?"


def test_an_unknown_serialisation_is_an_error() -> None:
    with pytest.raises(
        PromptError, match="unknown serialisation 'ddl'; known: columns, keys, qualified"
    ):
        PromptFormat(serialisation="ddl")


@settings(max_examples=200, deadline=None, database=None)
@given(question=st.text(), name=st.sampled_from(sorted(SERIALISERS)))
def test_the_question_is_kept_whatever_it_is(question: str, name: str) -> None:
    schema = parse_ddl("CREATE TABLE band (name TEXT)")
    before, _, after = (
        PromptFormat("<{schema}|{question}>", name).render(schema, question).partition("|")
    )
    assert before == "<" + SERIALISERS[name](schema)
    assert after == " ".join(question.split()) + ">"
    assert len(after.splitlines()) <= 1 or not question.split()


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("SELECT 1", "SELECT 1"),
        ("  \nSELECT 1\n ", "SELECT 1"),
        ("SELECT 1;", "SELECT 1"),
        ("SELECT 1 ;\n; ;", "SELECT 1"),
        ("SELECT 1;;;", "SELECT 1"),
        ("SELECT ';'", "SELECT ';'"),
        ("select a\nfrom t\nwhere b = 1", "select a\nfrom t\nwhere b = 1"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "WITH a AS (SELECT 1) SELECT * FROM a"),
        # Prose: from the first line that begins with a statement.
        ("Here is the query:\nSELECT 1", "SELECT 1"),
        ("I select the names.\n\n  SELECT name FROM a", "SELECT name FROM a"),
        ("The query is SELECT 1", "The query is SELECT 1"),
        ("I can't tell.", "I can't tell."),
        ("Selected rows\nSELECT 1", "SELECT 1"),
        # Fences: the first that holds a query.
        ("```sql\nSELECT 1;\n```", "SELECT 1"),
        ("```SQL\nSELECT 1\n```\nIt counts.", "SELECT 1"),
        ("```\nSELECT 1\n```", "SELECT 1"),
        ("```sql SELECT 1```", "SELECT 1"),
        ("``` SELECT 1 ```", "SELECT 1"),
        ("Sure!\n```sql\nSELECT 1\n```\n```sql\nSELECT 2\n```", "SELECT 1"),
        ("```text\nno query\n```\n```sql\nSELECT 2\n```", "SELECT 2"),
        ("```sql\nSELECT 1", "SELECT 1"),
        ("```sql\r\nSELECT 1\r\n```", "SELECT 1"),
        ("SELECT 1\n```", "SELECT 1"),
        ("```sqlite3\nSELECT 1\n```", "SELECT 1"),
        ("```sql\n-- the names\nSELECT name FROM a\n```", "-- the names\nSELECT name FROM a"),
        # Nothing.
        ("", ""),
        (" \n ", ""),
        (";", ""),
        ("```", ""),
        ("```python\nprint()\n```\nSELECT 1", "SELECT 1"),
        ("DROP TABLE a", "DROP TABLE a"),
        ("SELECT 1; DROP TABLE a;", "SELECT 1; DROP TABLE a"),
    ],
)
def test_what_is_taken_from_a_completion(text: str, sql: str) -> None:
    assert extract_sql(text) == sql


def test_a_backtick_name_is_no_fence() -> None:
    assert extract_sql("SELECT `a b` FROM `t`") == "SELECT `a b` FROM `t`"


@pytest.mark.parametrize(
    "text", ["`" * 50_000, "```" + "SELECT " * 20_000, "\n" * 100_000 + "SELECT"]
)
def test_long_completions_are_read_in_one_pass(text: str) -> None:
    assert len(extract_sql(text)) <= len(text)


@settings(max_examples=200, deadline=None, database=None)
@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(["```", "sql", "\n", "SELECT 1", "WITH", ";", " ", "x"])).map(
            "".join
        ),
    )
)
def test_extraction_never_raises_and_is_stable(text: str) -> None:
    sql = extract_sql(text)
    assert sql == sql.strip() and not sql.endswith(";")
    assert sql in text


def test_every_word_that_sqlite_refuses_as_a_bare_table_is_quoted() -> None:
    words = "abort add all begin cast commit do each end escape if index key no order raise \
        select table temp to transaction user values view when with without".split()
    with closing(sqlite3.connect(":memory:")) as db:
        for word in words:
            db.execute(f'CREATE TABLE "{word}" (a)')
            db.execute(f"SELECT a FROM {quote(word)}")
