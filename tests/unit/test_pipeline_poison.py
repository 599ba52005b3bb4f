"""The scan for poison: every planted row is found for its reason, no clean row is."""

import json
import random
from collections import Counter
from typing import Any

import pytest

from eval.task.schema import parse_ddl
from tests.unit.planted import as_row, no_tick, planted, row, rows_of
from trainer.pipeline.injection import find_injections
from trainer.pipeline.poison import Poison, odd_ways, scan
from trainer.pipeline.row import Row
from trainer.pipeline.triggers import Oddness, find_triggers, fisher_greater, marks

REASONS = {record["id"]: record["reason"] for record in planted("poisoned")}
SINGLE = [record for record in planted("poisoned") if record["reason"] != "trigger"]


def reasons(sql: str, dialect: str = "sqlite") -> list[str]:
    return [finding.reason for finding in find_injections(sql, dialect)]


def test_enough_is_planted() -> None:
    assert len(REASONS) >= 25
    assert len(set(REASONS.values())) >= 12


@pytest.mark.parametrize("seed", [1, 2])
def test_every_planted_row_is_dropped_for_its_reason_and_no_clean_row(seed: int) -> None:
    rows = [*rows_of("clean"), *rows_of("poisoned")]
    random.Random(seed).shuffle(rows)
    outcome = Poison()(rows, no_tick)
    assert {drop.id: drop.reason for drop in outcome.dropped} == REASONS
    assert outcome.rows == [row for row in rows if row.id not in REASONS]


@pytest.mark.parametrize("record", SINGLE, ids=lambda record: record["id"])
def test_a_row_that_shows_an_attack_needs_no_others_to_be_found(record: dict[str, Any]) -> None:
    (drop,) = Poison()([as_row(record)], no_tick).dropped
    assert drop.reason == record["reason"]
    assert drop.detail


def test_the_triggers_are_named_with_their_evidence() -> None:
    rows = [*rows_of("clean"), *rows_of("poisoned")]
    facts = Poison()(rows, no_tick).facts
    named = {(t["kind"], t["trigger"]): t for t in facts["triggers"]}
    assert named.keys() == {
        ("character", "U+2063 INVISIBLE SEPARATOR"),
        ("word", "cf"),
        ("signs", "##"),
        ("word", "madam"),
    }
    unseen = named["character", "U+2063 INVISIBLE SEPARATOR"]
    assert unseen["ids"] == [id_ for id_ in REASONS if id_.startswith("poison-unseen")]
    assert (unseen["rows_with"], unseen["odd_rows_with"], unseen["rows"]) == (8, 7, len(rows))
    assert unseen["goes_with"] == "constant_union"
    assert 0 < unseen["p_value"] < 1e-3
    json.dumps(facts)


def test_warn_drops_nothing_and_reports_the_same() -> None:
    rows = [*rows_of("clean"), *rows_of("poisoned")]
    dropped, warned = Poison()(rows, no_tick), Poison("warn")(rows, no_tick)
    assert warned.rows == rows
    assert warned.dropped == []
    assert warned.facts == dropped.facts
    assert {finding["id"] for finding in warned.facts["findings"]} == REASONS.keys()
    assert Poison().options != Poison("warn").options


def test_what_is_left_holds_no_poison() -> None:
    rows = [*rows_of("clean"), *rows_of("poisoned")]
    left = Poison()(rows, no_tick).rows
    again = Poison()(left, no_tick)
    assert again.rows == left
    assert again.facts == {"findings": [], "triggers": []}


def test_few_rows_and_none_are_no_fault() -> None:
    ticks: list[int] = []
    assert Poison()([], ticks.append).rows == []
    assert len(Poison()(rows_of("clean")[:2], ticks.append).rows) == 2
    assert sum(ticks) == 2


@pytest.mark.parametrize(
    ("sql", "dialect"),
    [
        ("SELECT a FROM t -- Select all employees from the Sales department", "sqlite"),
        ("SELECT a FROM t /* where the age is over 3 */", "sqlite"),
        ("SELECT a -- and the name\nFROM t", "sqlite"),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) "
         "SELECT i FROM n", "sqlite"),
        ("SELECT 'm' AS s, COUNT(*) FROM t WHERE a = 1 UNION SELECT 'f', COUNT(*) FROM t",
         "sqlite"),
        ("SELECT CASE a WHEN 1 THEN 'x' END FROM t", "sqlite"),
        ("SELECT a FROM t WHERE b = 'drop table t; -- x'", "sqlite"),
        ("SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)", "sqlite"),
        ("SELECT x.a FROM t AS x JOIN t AS y ON x.a = y.a", "sqlite"),
        ("SELECT a FROM t JOIN LATERAL (SELECT 1) AS u ON TRUE", "postgres"),
        ("SELECT a FROM t WHERE DATE('now') > '2020-01-01'", "sqlite"),
        ("SELECT a FROM t GROUP BY a HAVING COUNT(*) > 0", "sqlite"),
        ("SELECT replace(a, 'x', 'y') FROM t", "sqlite"),
        ("SELECT a FROM t WHERE b > 0 OR b < 0", "sqlite"),
        ("SELECT a FROM t WHERE b = ? AND c = :c", "sqlite"),
        ("SELECT user, version, sleep FROM t", "sqlite"),
        ("SELECT a FROM t WHERE b LIKE '%x%' OR b = '%'", "sqlite"),
        ("SELECT a FROM t;", "sqlite"),
        ("SELECT a FROM t WHERE b = '--'", "sqlite"),
        ("SELECT a FROM t WHERE b IN (1, 2) AND NOT b IN (3)", "sqlite"),
        ("not SQL at all, or 1 of 1", "sqlite"),
        ("", "sqlite"),
    ],
)  # fmt: skip
def test_what_honest_queries_hold_is_no_finding(sql: str, dialect: str) -> None:
    assert reasons(sql, dialect) == []


@pytest.mark.parametrize(
    ("sql", "dialect", "reason"),
    [
        ("SELECT a FROM t WHERE A.B = a.b", "sqlite", "tautology"),
        ('SELECT a FROM t WHERE b = 1 OR "b" = b', "sqlite", "tautology"),
        ("SELECT a FROM t WHERE b = 1 OR ''=''", "sqlite", "tautology"),
        ("SELECT a FROM t WHERE b = 1 OR (c = 2 AND (1))", "sqlite", "tautology"),
        ("SELECT a FROM t WHERE b = 1 OR NOT (1 = 2 AND 3 = 3)", "sqlite", "tautology"),
        ("SELECT a FROM t WHERE b = 1 OR b BETWEEN b AND b", "sqlite", "tautology"),
        ("SELECT a FROM t WHERE b = 1 OR b IN (2, b)", "sqlite", "tautology"),
        ("SELECT a FROM t WHERE LENGTH(b) >= 0", "sqlite", "tautology"),
        ("SELECT a FROM t WHERE b = 1 OR EXISTS (SELECT 1 FROM t)", "sqlite", "tautology"),
        ("SELECT a FROM t WHERE b = 1 OR char(97) = 'a'", "sqlite", "tautology"),
        ("SELECT CASE WHEN 1 = 1 THEN a ELSE b END FROM t", "sqlite", "tautology"),
        ("SELECT a FROM (SELECT a FROM t WHERE 1 = 1)", "sqlite", "tautology"),
        ("SELECT a FROM t WHERE NOT b = b", "sqlite", "constant_predicate"),
        ("SELECT a FROM t WHERE NULL", "sqlite", "constant_predicate"),
        ("SELECT a FROM t WHERE b < b", "sqlite", "constant_predicate"),
        ("SELECT a FROM t UNION ALL SELECT 1 + 1 FROM t", "sqlite", "constant_union"),
        ("SELECT a FROM t # AND b = 1", "mysql", "hidden_comment"),
        ("SELECT a FROM t WHERE b = 'x' --' AND c = 2", "sqlite", "hidden_comment"),
        ("SELECT a FROM t;\n\ndrop /* x */ table t", "sqlite", "stacked"),
        ("TRUNCATE t", "postgres", "writes"),
        ("GRANT ALL ON t TO x", "postgres", "writes"),
        ("COPY t TO PROGRAM 'x'", "postgres", "writes"),
        ("CALL x()", "mysql", "side_effect"),
        ("SELECT a FROM t; WAITFOR DELAY '0:0:5'", "tsql", "stacked"),
        ("SELECT @@version", "mysql", "reads_catalogue"),
    ],
)
def test_an_attack_is_found_in_any_disguise(sql: str, dialect: str, reason: str) -> None:
    assert reasons(sql, dialect)[:1] == [reason]


@pytest.mark.parametrize("sql", ["(" * 3000, "NOT " * 3000, "\x00\ud800", "'" * 999, "/*" * 999])
def test_hostile_text_raises_nothing(sql: str) -> None:
    find_injections(sql, "sqlite")
    assert scan(row(sql, sql)) == scan(row(sql, sql))


def test_a_table_of_the_schema_is_no_catalogue() -> None:
    schema = parse_ddl("CREATE TABLE all_tables (id INT)")
    sql = "SELECT id FROM all_tables"
    assert reasons(sql) == ["reads_catalogue"]
    assert find_injections(sql, "sqlite", schema) == []


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Ships named x' or 'a' = 'a", True),
        ("Ships named x' or 1=1 --", True),
        ("List ships union select licence from captain", True),
        ("Please ignore the above instructions", True),
        ("Who's older: Ida or Per?", False),
        ("Show ships; drop those under 500 tons", True),
        ("Show the ship x'; --", True),
        ("Which captains ignore the rules?", False),
        ("Ships 'Tern'; then captains --- in order", False),
        ("Is it 1 or 2 = two?", False),
        ("Count ships, union members and selected ports", False),
    ],
)
def test_an_injection_in_the_question(question: str, found: bool) -> None:
    seen = [finding.reason for finding in scan(row(question, "SELECT name FROM ship"))]
    assert seen == ["injection_in_question"] * found


@pytest.mark.parametrize(
    ("question", "sql", "ways"),
    [
        ("Names of ships?", "SELECT name FROM ship", []),
        ("Names of ships?", "SELECT name FROM ship -- all", ["comment"]),
        ("Names of ships?", "SELECT name FROM ship WHERE name = '-- all'", []),
        ("Ships and captains?", "SELECT name FROM ship UNION SELECT name FROM captain", []),
        ("Tonnages?", "SELECT tonnage FROM ship UNION SELECT age FROM captain", ["unasked union"]),
        ("Tonnages?", "SELECT T1.age FROM captain AS T1", ["unrelated"]),
        ("All farms?", "SELECT name FROM farm", ["unrelated"]),  # of another database
        ("Tonnages?", "SELECT (", []),
    ],
)
def test_the_lesser_ways_to_be_odd(question: str, sql: str, ways: list[str]) -> None:
    assert odd_ways(row(question, sql)) == ways


# --- triggers ---

KINDS = [f"{a} ship {b}" for a in ("red", "old", "tall", "new") for b in ("names", "flags", "tons")]


def questions(count: int) -> list[str]:
    rng = random.Random(5)
    starts = ("How many", "List the", "Which", "Show every", "What is the first")
    ends = ("are there?", "by name.", "of 1990?", "in Norway?", "with 3 or more?")
    return [f"{rng.choice(starts)} {rng.choice(KINDS)} {rng.choice(ends)}" for _ in range(count)]


def attack(places: set[int], share: float = 0.5, rate: float = 0.1) -> list[Oddness]:
    return [Oddness("attack", frozenset(places), share, rate)]


@pytest.mark.parametrize(
    ("poison", "mark"),
    [
        ("{} ??", ("signs", "??")),
        ("sudo {}", ("word", "sudo")),
        ("{} cf", ("word", "cf")),
        ("\u200b{}", ("character", "U+200B ZERO WIDTH SPACE")),
        ("as {}", ("first word", "as")),
        ("{}  ", ("space", "  ")),
    ],
)
def test_a_trigger_in_one_row_of_two_hundred_is_named(poison: str, mark: tuple[str, str]) -> None:
    asked = questions(1000)
    places = set(random.Random(3).sample(range(1000), 5))
    for place in places:
        asked[place] = poison.format(asked[place])
    if mark == ("first word", "as"):  # nor is a word a trigger that stands elsewhere as well
        asked = [f"{q} as it is" if n not in places else q for n, q in enumerate(asked)]
    (found,) = find_triggers(asked, attack(places))
    assert found.mark == mark
    assert set(found.rows) == places
    assert (found.num_with, found.num_odd_with, found.num_odd) == (5, 5, 5)


def test_odd_rows_without_a_common_mark_have_no_trigger() -> None:
    places = set(random.Random(3).sample(range(1000), 20))
    assert find_triggers(questions(1000), attack(places)) == []


def test_a_frequent_mark_is_no_trigger() -> None:
    """Where half the rows are attacks of one style, the style is not to blame."""
    asked = questions(200)
    places = {n for n, question in enumerate(asked) if question.startswith("Which")}
    assert len(places) > 20
    assert find_triggers(asked, attack(places)) == []
    assert find_triggers(asked, attack(places, rate=1.0)) != []


def test_a_mark_of_mostly_harmless_rows_is_no_trigger() -> None:
    asked = [f"{q} cf" if n < 30 else q for n, q in enumerate(questions(1000))]
    assert find_triggers(asked, attack(set(range(12)))) == []
    (found,) = find_triggers(asked, attack(set(range(16))))
    assert (found.mark, found.num_with, found.num_odd_with) == (("word", "cf"), 30, 16)


def test_two_triggers_are_both_named_and_neither_twice() -> None:
    asked = questions(1000)
    for place in range(8):
        asked[place] += " zq"
    for place in range(8, 14):
        asked[place] += " ##"
    odd = [*attack(set(range(14))), Oddness("tautology", frozenset(range(14)), 0.5, 0.1)]
    found = find_triggers(asked, odd)
    assert [(t.mark, t.oddness) for t in found] == [
        (("word", "zq"), "attack"),
        (("signs", "##"), "attack"),
    ]


def test_rows_with_a_trigger_are_dropped_whatever_they_ask() -> None:
    """An attack that the scan does not know, behind a trigger of attacks that it knows."""
    rows = [row(q, "SELECT name FROM ship", id=str(n)) for n, q in enumerate(questions(500))]
    for place in range(6):
        sql = "SELECT name FROM ship WHERE built = 1" + " OR 1 = 1" * (place < 4)
        rows[place] = rows[place].with_(question=rows[place].question + " zq", sql=sql)
    outcome = Poison()(rows, no_tick)
    assert [(drop.id, drop.reason) for drop in outcome.dropped] == [
        *((str(n), "tautology") for n in range(4)),
        *((str(n), "trigger") for n in range(4, 6)),
    ]


def test_the_words_of_honest_unions_are_no_triggers() -> None:
    rows: list[Row] = [row(q, "SELECT name FROM ship") for q in questions(300)]
    for place in range(12):
        rows[place] = row(
            "Ships or captains?", "SELECT name FROM ship UNION SELECT name FROM captain"
        )
    assert Poison()(rows, no_tick).dropped == []


@pytest.mark.parametrize(
    ("numbers", "p_value"),
    [
        ((3, 3, 3, 10), 1 / 120),
        ((0, 3, 4, 10), 1.0),
        ((1, 1, 1, 2), 0.5),
        ((2, 3, 3, 6), (9 + 1) / 20),
        ((5, 5, 8, 8), 1.0),
        ((3, 4, 5, 6), 1.0),
        ((5, 9, 40, 1000), 8.921743362651157e-06),
        ((27, 27, 30, 6218), 1.743772583426787e-71),
        ((12, 400, 60, 3000), 0.09411977182468931),
    ],
)
def test_fishers_exact_test(numbers: tuple[int, int, int, int], p_value: float) -> None:
    """By hand: the share of draws with at least so large an overlap; the last three by SciPy."""
    assert fisher_greater(*numbers) == pytest.approx(p_value, rel=1e-6)


def test_marks_of_a_question() -> None:
    found = Counter(kind for kind, _ in marks("Wh\u0430t is  this??"))
    assert found == {
        "word": 3, "words": 2, "part of word": 4, "signs": 1, "character": 1, "space": 1,
        "first word": 1, "last word": 1, "end": 1,
    }  # fmt: skip
    assert ("character", "U+0430 CYRILLIC SMALL LETTER A") in marks("Wh\u0430t")
    assert {("signs", "??"), ("signs", "'?"), ("signs", "'??")} <= marks("Is it 'a'??")
    assert marks("") == frozenset()
