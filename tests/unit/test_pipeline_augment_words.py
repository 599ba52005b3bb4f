"""Names as words, and words in questions: cases as data."""

import json
from pathlib import Path

import pytest

from trainer.pipeline.augment.mentions import Question
from trainer.pipeline.augment.naming import (
    STYLES,
    is_plain,
    plural,
    restyled,
    singular,
    snake,
    split_name,
    stems,
    usual_joint,
)
from trainer.pipeline.augment.pool import column_class, synonyms, table_class
from trainer.pipeline.augment.words import (
    ABBREVIATIONS,
    COLUMNS,
    GLUED_WORDS,
    SYNONYMS,
    TABLES,
    TELLING,
)

QUESTIONS = Path(__file__).parents[1] / "fixtures" / "train" / "augment_questions.jsonl"

# A singular and its plural; the same twice has none.
NOUNS = """
singer singers|city cities|day days|class classes|box boxes|match matches|person people|bus buses
child children|status statuses|address addresses|analysis analyses|movie movies|course courses
house houses|series series|staff staff|aircraft aircraft|company companies|thesis theses
employee employees|page pages|bonus bonuses|woman women|university universities|price prices
"""
PAIRS = [pair.split() for line in NOUNS.split("\n") if line for pair in line.split("|")]


@pytest.mark.parametrize(("one", "many"), PAIRS)
def test_nouns_are_inflected_both_ways(one: str, many: str) -> None:
    assert (plural(one), plural(many)) == (many, many)
    assert (singular(many), singular(one)) == (one, one)


NAMES = {
    "Song_release_year": "song release year",
    "songReleaseYear": "song release year",
    "StuID": "stu id",
    "URLName": "url name",
    "driverid": "driver id",
    "driversname": "drivers name",
    "valid": "valid",
    "line_1": "line 1",
    "rock name": "rock name",
    "_id": "_id",
    "%_Change_2007": "%_change_2007",
    "Größe": "größe",
    "x": "x",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_taken_apart_and_written_again(name: str) -> None:
    parts = split_name(name, frozenset({"driver"}))
    assert " ".join(parts.words) == NAMES[name]
    assert parts.text == name


# The name, what is put for what in it, the result.
PUT = [
    ("singer_id", "singer", "pilot", "pilot_id"),
    ("Singer_ID", "singer", "tour guide", "Tour_Guide_ID"),
    ("singerId", "singer", "tour guide", "tourGuideId"),
    ("SINGER_ID", "singer", "tour guide", "TOUR_GUIDE_ID"),
    ("best_singers", "singer", "pilot", "best_pilots"),
    ("BestSingers", "singer", "pilot", "BestPilots"),
    ("Song_release_year", "release year", "price", "Song_price"),
    ("Name", "name", "display name", "Display_Name"),
    ("rock name", "name", "age", "rock age"),
]


@pytest.mark.parametrize(("name", "old", "new", "result"), PUT)
def test_words_of_a_name_are_replaced_in_its_own_style(
    name: str, old: str, new: str, result: str
) -> None:
    parts, phrase = split_name(name), tuple(old.split())
    start = parts.find(phrase)
    words = tuple(new.split())
    if parts.words[start : start + len(phrase)] != phrase:
        words = (*words[:-1], plural(words[-1]))
    assert parts.put(start, len(phrase), words, "_").text == result


def test_every_style_writes_a_name_that_is_read_back() -> None:
    words = ("tour", "guide", "name")
    texts = {style: restyled(snake(words), style).text for style in STYLES}
    assert texts == {
        "snake": "tour_guide_name",
        "camel": "tourGuideName",
        "pascal": "TourGuideName",
        "joined": "tourguidename",
        "upper": "TOUR_GUIDE_NAME",
        "title": "Tour_Guide_Name",
    }
    read = {style: split_name(text).words for style, text in texts.items() if style != "joined"}
    assert set(read.values()) == {words}


def test_the_usual_joint_is_that_of_most_names() -> None:
    assert usual_joint(["a_b", "c_d", "eF", "x"]) == "_"
    assert usual_joint(["aB", "cD", "e_f"]) == ""


@pytest.mark.parametrize(
    "name", ["order", "Group", "Transaction", "rock name", "1st", "größe", "a-b", ""]
)
def test_what_a_database_reads_only_in_quotes_is_not_plain(name: str) -> None:
    assert not is_plain(name)


CASES = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["question"] or "empty")
def test_mentions_are_replaced_in_their_number_and_case(case: dict[str, str]) -> None:
    question = Question(case["question"], case.get("literals", ()))
    old, new = tuple(case["old"].split()), tuple(case["new"].split())
    assert question.replaced((m, new) for m in question.says(old)) == case["gives"]


def test_the_longer_of_two_mentions_wins() -> None:
    question = Question("Show the first names and the names of the first.")
    found = question.find([("name",), ("first", "name"), ("first",)])
    assert [(m.start, m.phrase) for m in found] == [
        (2, ("first", "name")),
        (6, ("name",)),
        (9, ("first",)),
    ]


# Whether the word may be a verb there.
VERBS = {
    "Rank the cities.": False,
    "Show them. List all.": False,
    "Which books rank highest?": True,
    "Who do they rank?": False,
    "Show the rank of each.": True,
    "The lists are long.": True,
}


@pytest.mark.parametrize("text", VERBS)
def test_a_word_that_may_be_a_verb_is_no_noun(text: str) -> None:
    question = Question(text)
    mentions = question.find([("rank",), ("list",)])
    assert [question.is_noun(m) for m in mentions] == [VERBS[text]]


def test_a_word_of_the_same_root_is_seen() -> None:
    question = Question("Which films are directed by a director of plays?")
    mentions = question.says(("director",))
    assert question.has_relative(("director",), mentions)
    assert not question.has_relative(("film",), question.says(("film",)))


def test_phrases_are_classed_by_their_longest_ending() -> None:
    assert column_class(("song", "release", "year")) == "year"
    assert column_class(("serial", "number")) == "code"
    assert column_class(("xyzzy",)) == ""
    assert table_class(("body", "builder")) == table_class(("singer",)) == "person"


def test_the_word_lists_are_whole() -> None:
    """No empty phrase, none twice in a class, all in lower case; what they refer to is there."""
    for classes in (COLUMNS, TABLES, dict(enumerate(SYNONYMS)), ABBREVIATIONS, GLUED_WORDS):
        for key, phrases in classes.items():
            assert len(set(phrases)) == len(phrases), key
            assert all(p and p == " ".join(p.lower().split()) for p in phrases), key
    assert set(TELLING) <= set(COLUMNS)
    assert all(len(group) > 1 for group in SYNONYMS)
    assert ("nation",) in synonyms()[stems(("country",))]
    assert all(is_plain("_".join(p.split())) for ps in COLUMNS.values() for p in ps)
