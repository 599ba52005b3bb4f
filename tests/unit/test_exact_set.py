"""Spider's exact set match: which clauses count, and that it follows the official script."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from eval.dataset import open_dataset
from eval.execution import open_database
from eval.measures.context import Context
from eval.measures.exact_set import exact_set_match, match_sets
from eval.task.samples import sample_examples, sample_schema
from eval.task.schema import parse_ddl

FIXTURE = Path(__file__).parents[1] / "fixtures" / "exact_set.jsonl"
CASES = [json.loads(line) for line in FIXTURE.read_text(encoding="utf-8").splitlines()]
SHOP = sample_schema("shop")
EXAMPLES = sample_examples("train") + sample_examples("test")


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["predicted"])[:70])
def test_clauses_are_compared_as_sets_without_values(case):
    assert match_sets(case["predicted"], case["gold"], SHOP) == case["score"]


def test_every_gold_of_the_samples_matches_itself():
    lost = [e.id for e in EXAMPLES if match_sets(e.sql, e.sql, sample_schema(e.db_id)) != 1.0]
    assert lost == []


def test_golds_of_other_questions_rarely_match():
    pairs = [
        (one, two)
        for one, two in zip(EXAMPLES, EXAMPLES[7:], strict=False)
        if one.db_id == two.db_id and one.sql != two.sql
    ]
    matching = [
        one.id for one, two in pairs if match_sets(one.sql, two.sql, sample_schema(one.db_id))
    ]
    assert len(pairs) > 100
    assert len(matching) <= len(pairs) * 0.05


def test_a_chain_of_foreign_keys_is_one_column():
    ddl = """
        CREATE TABLE a (id INT PRIMARY KEY);
        CREATE TABLE b (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES a (id));
        CREATE TABLE c (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES b (id));
    """
    one, two = (f"SELECT {table}.id FROM a, b, c" for table in "ac")
    assert match_sets(one, two, parse_ddl(ddl)) == 1.0


def test_a_key_merges_only_where_its_table_is_read():
    assert match_sets("SELECT user_id FROM orders", "SELECT id FROM users", SHOP) == 0.0


def test_a_key_to_a_column_that_is_not_there_is_passed_over():
    ddl = "CREATE TABLE a (id INT, b_id INT, FOREIGN KEY (b_id) REFERENCES b (nothing));"
    assert match_sets("SELECT b_id FROM a", "SELECT id FROM a", parse_ddl(ddl)) == 0.0


def test_the_measure_reads_schema_and_dialect_of_the_question():
    with open_dataset("samples", limit=1) as data:
        question = data.questions[0]
        database = open_database(question.database)
        context = Context(question, database)
        assert exact_set_match("SELECT NAME FROM users", "SELECT name FROM users", context) == 1.0
        mysql = replace(question, example=replace(question.example, dialect="mysql"))
        quoted = "SELECT `name` FROM `users`"
        assert exact_set_match(quoted, quoted, replace(context, question=mysql)) == 1.0
        database.close()
