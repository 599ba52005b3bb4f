"""Names as English, columns by kind, values as SQL and as a question has them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eval.task.schema import Column, parse_ddl
from trainer.pipeline.compose.agreement import agrees
from trainer.pipeline.compose.catalogue import Catalogue, build_catalogue
from trainer.pipeline.compose.hops import from_clause, is_simple, quote
from trainer.pipeline.compose.phrases import (
    article,
    expand,
    join_words,
    of_one,
    plural,
    singular,
    with_article,
)
from trainer.pipeline.compose.values import (
    ColumnValues,
    literal,
    made_up_values,
    read_values,
    spoken,
    threshold,
)
from trainer.pipeline.compose.wording import expand_choices, sentence

FIXTURES = Path(__file__).parents[1] / "fixtures" / "train"
DDL = (FIXTURES / "compose_people.sql").read_text(encoding="utf-8")
KINDS = {
    "id": "id", "name": "name", "title": "category", "city": "category", "age": "number",
    "year": "year", "score": "number", "is_member": "flag", "joined_on": "date", "phone": "text",
    "boss_id": "id", "office_id": "id", "bio": "text",
}  # fmt: skip


def cases(name: str) -> list[dict[str, Any]]:
    lines = (FIXTURES / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(DDL)
        return build_catalogue(parse_ddl(DDL), db)


@pytest.mark.parametrize("case", cases("compose_names.jsonl"), ids=lambda case: case["name"])
def test_a_name_reads_as_words(case: dict[str, Any]) -> None:
    assert " ".join(expand(case["name"], case.get("known", ()))) == case["words"]


@pytest.mark.parametrize("case", cases("compose_plurals.jsonl"), ids=lambda case: case["one"])
def test_plural_and_singular_are_each_others_inverse(case: dict[str, Any]) -> None:
    assert plural(case["one"]) == case["many"]
    assert singular(case["many"]) == case["one"]
    assert plural(case["many"]) == case["many"]
    assert singular(case["one"]) == case["one"]


def test_articles_go_by_sound_and_plurals_have_none() -> None:
    said = [with_article(w) for w in ("age", "hour", "university", "price", "hours per week")]
    assert said == ["an age", "an hour", "a university", "a price", "hours per week"]
    assert article("older dog") == "an"


def test_a_clause_agrees_with_a_singular_but_not_what_hangs_on_it() -> None:
    assert of_one("that have dogs that have fleas") == "that has dogs that have fleas"
    assert of_one("who do not have a dog") == "who does not have a dog"
    assert of_one("with a dog") == "with a dog"


def test_lists_of_words() -> None:
    assert [join_words(list("abc"[:n])) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert join_words(list("abc"), ",") == "a, b, and c"


@pytest.mark.parametrize(("column", "kind"), list(KINDS.items()))
def test_columns_have_kinds(catalogue: Catalogue, column: str, kind: str) -> None:
    attribute = catalogue.entities["people"].find(column)
    assert attribute and attribute.kind == kind


def test_phrases_leave_out_the_noun_that_stands_beside_them(catalogue: Catalogue) -> None:
    clubs, offices = catalogue.entities["clubs"], catalogue.entities["offices"]
    assert [a.phrase for a in clubs.attributes] == ["id", "name"]
    assert [(a.phrase, a.kind) for a in offices.attributes][1] == ("name", "name")
    assert catalogue.entities["people"].one == "person"


def test_a_table_that_is_called_a_verb_has_no_noun(catalogue: Catalogue) -> None:
    assert not catalogue.entities["has_club"].is_noun


def test_two_tables_never_have_the_same_noun() -> None:
    ddl = "CREATE TABLE pilot (id INT, name TEXT); CREATE TABLE pilot_record (id INT, a TEXT);"
    entities = build_catalogue(parse_ddl(ddl), None).entities.values()
    assert [e.one for e in entities] == ["pilot", "pilot record"]
    alone = build_catalogue(parse_ddl("CREATE TABLE Ref_Colors (id INT);"), None)
    assert alone.entities["Ref_Colors"].one == "color"


def test_hops_follow_clear_keys_alone(catalogue: Catalogue) -> None:
    """Offices and people are linked three ways, which no question would tell apart; people and
    clubs over `has_club` and over visits."""
    ends = {t: [(h.end, h.kind) for h in hops] for t, hops in catalogue.hops.items()}
    assert ends["offices"] == []
    assert ends["people"] == [("visits", "down")]
    assert ends["visits"] == [("people", "up"), ("clubs", "up")]


def test_a_table_that_holds_pairs_often_is_no_bridge() -> None:
    ddl = DDL.replace("PRIMARY KEY (person_id, club_id),", "").replace("visits", "dropped", 1)
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(ddl)
        db.execute("INSERT INTO has_club VALUES (1, 1), (1, 1)")
        schema = parse_ddl("\n".join(ddl.split("CREATE TABLE dropped")[0].splitlines()))
        hops = build_catalogue(schema, db).hops["people"]
    assert [(hop.end, hop.kind) for hop in hops] == [("clubs", "through")]
    assert is_simple(hops)
    assert from_clause("people", hops) == (
        "people JOIN has_club ON people.id = has_club.person_id"
        " JOIN clubs ON has_club.club_id = clubs.club_id"
    )


@pytest.mark.parametrize("name", ["order", "group", "a b", 'say "hi"', "1st", "select", "Größe"])
def test_names_that_sqlite_or_sqlglot_do_not_take_are_quoted(name: str) -> None:
    assert quote(name) == '"' + name.replace('"', '""') + '"'


def test_plain_names_stay_plain() -> None:
    assert [quote(name) for name in ("age", "Rank", "T2_x")] == ["age", "Rank", "T2_x"]


def test_keys_are_matched_by_name_where_none_is_declared() -> None:
    ddl = "CREATE TABLE a (a_id INT PRIMARY KEY, n TEXT); CREATE TABLE b (id INT, a_id INT);"
    assert build_catalogue(parse_ddl(ddl), None).edges == ((("b", "a_id"), ("a", "a_id")),)


@pytest.mark.parametrize(
    ("value", "sql", "said"),
    [(3.0, "3", "3"), (2.5, "2.5", "2.5"), (7, "7", "7"), ("O'Neil", "'O''Neil'", "O'Neil")],
)
def test_values_as_sql_and_as_words(value: str | float, sql: str, said: str) -> None:
    assert (literal(value), spoken(value)) == (sql, said)


def test_only_values_that_a_question_carries_whole_are_quoted() -> None:
    odd = (" x", "it's", "a  b", "a , b", "5%", "x" * 41, "", "a\nb", "[a|b]", 0.123456)
    assert ColumnValues((*odd, "fine, so", 12, 0.25)).usable() == ("fine, so", 12, 0.25)


def test_a_threshold_splits_the_values() -> None:
    drawn = {threshold(Random(seed), (1, 5, 9, 13, 1000)) for seed in range(50)}
    assert drawn <= {5, 9, 13} and len(drawn) == 3
    assert threshold(Random(1), (1, 5)) is None
    assert threshold(Random(1), (2001, 2004, 2009)) == 2004


def test_values_are_read_by_frequency_and_missing_columns_give_none() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(DDL)
        assert read_values(db, "people", "city") == ColumnValues(("Oslo", "Rome"), 3, 2)
        assert read_values(db, "people", "no such") == ColumnValues()


def test_values_are_made_up_by_name_and_type() -> None:
    assert "France" in made_up_values(Column("home_country", "text"), ("home", "country")).values
    assert made_up_values(Column("price", "real"), ("price",)).is_numeric
    assert made_up_values(Column("note", "text"), ("note",)).values == ()


def test_choices_nest() -> None:
    found = {expand_choices("[a|b[c|]] d", Random(seed)) for seed in range(40)}
    assert found == {"a d", "bc d", "b d"}


@pytest.mark.parametrize(
    ("text", "dressed"),
    [
        ("show  the names", "Show the names."),
        ("what are the names", "What are the names?"),
        ("for all dogs, what are the names", "For all dogs, what are the names?"),
        ("Which dogs bark? Give their names.", "Which dogs bark? Give their names."),
        ("show a , b", "Show a, b."),
    ],
)
def test_a_sentence_gets_its_capital_and_mark(text: str, dressed: str) -> None:
    assert sentence(text, Random(1)) == dressed


@pytest.mark.parametrize(
    ("question", "sql", "is_right"),
    [
        ("the oldest dog", "SELECT a FROM t ORDER BY age DESC LIMIT 1", True),
        ("the lowest age", "SELECT MAX(age) FROM t", False),
        ("dogs with the fewest fleas", "SELECT a FROM t ORDER BY f DESC LIMIT 1", False),
        ("dogs with at least 2 fleas", "SELECT a FROM t WHERE f > 2", False),
        ("dogs with more than 2 fleas", "SELECT a FROM t WHERE f > 2", True),
        ("dogs with fleas above 2", "SELECT a FROM t WHERE f < 2", False),
        ("different dogs", "SELECT a FROM t", False),
        ("dogs", "SELECT DISTINCT a FROM t", False),
        ("the total age", "SELECT AVG(age) FROM t", False),
        ("dogs without fleas", "SELECT a FROM t WHERE NOT id IN (SELECT d FROM f)", True),
        ("dogs with fleas", "SELECT a FROM t EXCEPT SELECT a FROM f", False),
    ],
)
def test_disagreement_is_seen(question: str, sql: str, is_right: bool) -> None:
    assert agrees(question, sql) is is_right
