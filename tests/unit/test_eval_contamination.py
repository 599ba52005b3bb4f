"""What a model may have seen before, on invented questions and on the samples."""

from collections.abc import Sequence

import pytest

from eval.contamination import PUBLIC_SETS, find_contamination, find_overlap, normalize_question
from eval.task import samples
from eval.task.example import Example, load_examples

TRAIN = [
    Example("t1", "zoo", "How many animals are there?", "SELECT count(*) FROM animal"),
    Example("t2", "zoo", "Name the keepers", "SELECT name FROM keeper WHERE age > 30"),
]


def item(question: str, sql: str, db_id: str = "farm", **fields) -> Example:
    return Example("e1", db_id, question, sql, **fields)


@pytest.mark.parametrize(
    ("example", "seen"),
    [
        (item("how many  animals are there", "SELECT 1"), {"question"}),
        (item("How many plants are there?", "select COUNT(*)  from ANIMAL -- all"), {"sql"}),
        (item("Count!", "SELECT 1", alternatives=("SELECT count(*) FROM animal",)), {"sql"}),
        (item("Count!", "SELECT 1", db_id="zoo"), {"database"}),
        (
            item("Name the keepers", "SELECT name FROM keeper WHERE age > 30", db_id="zoo"),
            {"question", "sql", "database"},
        ),
        (item("Count!", "SELECT name FROM keeper WHERE age > 31"), set()),
        (item("Name a keeper", "SELECT 1"), set()),
    ],
)
def test_question_gold_and_database_are_looked_up_each(example: Example, seen: set[str]):
    overlap = find_overlap([example], TRAIN)
    found = {name for name in ("question", "sql", "database") if getattr(overlap, name)}
    assert found == seen
    assert overlap.leaked == ({"e1"} if seen & {"question", "sql"} else set())


@pytest.mark.parametrize(
    ("question", "normalized"),
    [
        ("  How MANY,\n are there?", "how many are there"),
        ("Straße, Café", "strasse café"),
        ("\uff28ello", "hello"),
        (" ?? ", "??"),
        ("", ""),
        ("a\x00b \ud800", "a b"),
    ],
)
def test_questions_are_compared_by_their_words(question: str, normalized: str):
    assert normalize_question(question) == normalized


def test_training_data_is_counted_and_said():
    examples = [
        Example("e1", "zoo", "Name the keepers", "SELECT 1", source="ours"),
        Example("e2", "farm", "Who?", "SELECT count(*) FROM animal", source="ours"),
    ]
    found = find_contamination(examples, TRAIN)
    assert found.counts == {
        "items": 2,
        "distinct_golds": 2,
        "repeated_questions": 0,
        "in_train_question": 1,
        "in_train_sql": 1,
        "in_train_database": 1,
    }
    assert found.overlap and found.overlap.leaked == {"e1", "e2"}
    assert found.notes == (
        "of the 2 items, the training data holds the question of 1, a gold query of 1 and the "
        "database of 1",
    )


def test_without_training_data_nothing_is_said_of_it():
    found = find_contamination([item("Who?", "SELECT 1", source="ours")])
    assert (found.notes, found.overlap) == ((), None)
    assert set(found.counts) == {"items", "distinct_golds", "repeated_questions"}


@pytest.mark.parametrize("source", ["spider", " Spider ", "spider_syn", "BIRD"])
def test_public_sets_are_named_with_their_year(source: str):
    name, year, _ = PUBLIC_SETS[source.strip().lower().replace("_", "-")]
    (note,) = find_contamination([item("Who?", "SELECT 1", source=source)]).notes
    assert note.startswith(f"{name} has been public since {year}")
    assert "may have seen its questions, SQL and databases" in note


def test_items_without_a_source_are_not_taken_as_new():
    (note,) = find_contamination([item("Who?", "SELECT 1")]).notes
    assert note.startswith("1 of 1 items name no source")


def test_repeated_golds_and_questions_are_counted_per_database():
    examples = [
        Example("1", "zoo", "How many?", "SELECT count(*) FROM animal", source="ours"),
        Example("2", "zoo", "how many", "select COUNT(*) from animal", source="ours"),
        Example("3", "farm", "How many?", "SELECT count(*) FROM animal", source="ours"),
    ]
    found = find_contamination(examples)
    assert (found.counts["distinct_golds"], found.counts["repeated_questions"]) == (2, 1)
    assert found.notes == (
        "the 3 questions have 2 distinct gold queries: fewer independent trials than questions",
        "questions that repeat another one on the same database: 1",
    )


@pytest.mark.parametrize("train", [None, []])
def test_no_items_and_no_training_data_are_counted_as_none(train: Sequence[Example] | None):
    found = find_contamination([], train)
    assert not any(found.counts.values())


@pytest.mark.parametrize("sql", ["", "SELECT", "\x00", "\ud800", "(" * 5000, "-- only"])
def test_golds_that_do_not_parse_are_compared_as_text(sql: str):
    examples = [Example("e1", "zoo", "Who?", sql, source="ours")]
    assert find_overlap(examples, examples).sql == ("e1",)
    assert find_overlap(examples, TRAIN).sql == ()


def test_the_samples_test_split_shares_no_question_with_their_train_split():
    test = load_examples(samples.FOLDER / "test.jsonl")
    train = load_examples(samples.FOLDER / "train.jsonl")
    overlap = find_overlap(test, train)
    assert not overlap.question
