"""Near misses: which there are, and what they never are."""

import json
from pathlib import Path

import pytest

from eval.suite.mutate import KINDS, MAIN_KINDS, mutants
from eval.task.schema import parse_ddl
from eval.task.sql import check_sql
from eval.task.statement import normalize_sql
from tests.unit.suites import AIRLINE, GOLDS

CASES = [
    json.loads(line)
    for line in Path("tests/fixtures/suite_mutants.jsonl").read_text(encoding="utf-8").splitlines()
]
SCHEMA = parse_ddl(AIRLINE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}: {case['mutant']}")
def test_a_query_has_the_near_miss_of_that_kind(case):
    found = {(m.kind, normalize_sql(m.sql)) for m in mutants(case["sql"], SCHEMA)}
    assert (case["kind"], normalize_sql(case["mutant"])) in found


def test_the_cases_show_every_kind():
    assert {case["kind"] for case in CASES} == set(KINDS)
    assert set(MAIN_KINDS) < set(KINDS)


@pytest.mark.parametrize("gold", [*GOLDS, *(case["sql"] for case in CASES)])
def test_near_misses_differ_from_the_gold_and_from_each_other_and_are_valid(gold):
    texts = [normalize_sql(m.sql) for m in mutants(gold, SCHEMA)]
    assert texts and len(set(texts)) == len(texts)
    assert normalize_sql(gold) not in texts
    assert all(check_sql(text, SCHEMA).valid for text in texts)


def test_near_misses_come_in_the_same_order_every_time():
    assert list(mutants(GOLDS[3], SCHEMA)) == list(mutants(GOLDS[3], SCHEMA))


@pytest.mark.parametrize(
    "sql",
    ["", "   ", "hello", "SELECT 'x", "SELECT 1; SELECT 2", "DROP TABLE pilot", "\0",
     "(" * 500, "SELECT * FROM nowhere WHERE"],
)  # fmt: skip
def test_what_is_no_query_has_no_near_misses(sql):
    assert list(mutants(sql, SCHEMA)) == []


def test_a_query_over_unknown_tables_keeps_the_near_misses_that_need_no_schema():
    kinds = {m.kind for m in mutants("SELECT a FROM nowhere WHERE b > 1", SCHEMA)}
    assert kinds == {
        "changed_literal", "dropped_predicate", "changed_operator", "changed_distinct"
    }  # fmt: skip


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "0x10", "9223372036854775807", "1.5e3"])
def test_numbers_beyond_all_bounds_do_no_harm(number):
    sql = f"SELECT name FROM pilot WHERE age > {number}"
    assert "dropped_predicate" in {m.kind for m in mutants(sql, SCHEMA)}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM pilot",
        "SELECT count(*) FROM pilot",
        "SELECT base, count(*) FROM pilot GROUP BY base",
        "SELECT name FROM pilot ORDER BY age LIMIT 1",
        "SELECT name FROM pilot WHERE id IN (SELECT pilot_id FROM flight)",
    ],
)
def test_distinct_is_not_added_where_it_can_not_matter(sql):
    keys = frozenset({("pilot", ("name",))})
    assert "changed_distinct" not in {m.kind for m in mutants(sql, SCHEMA, keys=keys)}


def test_counting_distinct_values_of_a_key_is_no_near_miss():
    keys = frozenset({("pilot", (name,)) for name in ("name", "base", "age", "born")})
    found = [m for m in mutants("SELECT count(*) FROM pilot", SCHEMA, keys=keys)]
    assert found == []


def test_an_outer_join_to_the_parent_is_no_near_miss():
    sql = "SELECT f.km, p.name FROM flight AS f JOIN pilot AS p ON f.pilot_id = p.id"
    assert "outer_join" not in {m.kind for m in mutants(sql, SCHEMA)}
