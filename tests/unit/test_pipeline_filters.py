"""Filter and duplicates: every planted row is dropped for its reason, and no clean one is."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.unit.planted import as_row, build_databases, no_tick, planted, row, rows_of
from trainer.pipeline.clean import Clean
from trainer.pipeline.filters import Duplicates, Filter, query_key, question_key
from trainer.pipeline.poison import Poison
from trainer.pipeline.row import Dropped, Row, Stage

DROPPED = {r["id"]: r["reason"] for r in planted("dirty") if "reason" in r}
BY_SCHEMA = {"unknown_table", "unknown_column", "ambiguous_column"}


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_databases(tmp_path_factory.mktemp("databases"))


def through(stages: tuple[Stage, ...], rows: list[Row]) -> tuple[list[Row], list[Dropped]]:
    dropped: list[Dropped] = []
    for stage in stages:
        outcome = stage(rows, no_tick)
        assert len(outcome.rows) + len(outcome.dropped) == len(rows)
        rows = outcome.rows
        dropped += outcome.dropped
    return rows, dropped


def judge(given: Row, stage: Stage) -> str:
    outcome = stage([given], no_tick)
    return outcome.dropped[0].reason if outcome.dropped else ""


def test_enough_is_planted() -> None:
    assert len(DROPPED) >= 25
    assert len(set(DROPPED.values())) >= 15


def test_every_planted_row_is_dropped_for_its_reason_and_no_other_row(databases: Path) -> None:
    rows = [*rows_of("clean", databases), *rows_of("dirty", databases)]
    kept, dropped = through((Clean(), Filter(), Duplicates()), rows)
    assert {drop.id: drop.reason for drop in dropped} == DROPPED
    assert [row.id for row in kept] == [row.id for row in rows if row.id not in DROPPED]


def test_the_scan_for_poison_takes_nothing_dirty_but_attacks(databases: Path) -> None:
    rows = [*rows_of("clean", databases), *rows_of("dirty", databases)]
    reasons = {drop.id: drop.reason for drop in Poison()(rows, no_tick).dropped}
    assert reasons == {"dirty-statement": "writes", "dirty-two-statements": "stacked"}


@pytest.mark.parametrize("seed", [1, 2])
def test_all_stages_together_leave_the_clean_and_the_mended(seed: int, databases: Path) -> None:
    rows = [r for name in ("clean", "dirty", "poisoned") for r in rows_of(name, databases)]
    bad = DROPPED.keys() | {record["id"] for record in planted("poisoned")}
    good = [row.id for row in rows if row.id not in bad]
    random.Random(seed).shuffle(rows)
    rows.sort(key=lambda row: row.id in DROPPED)  # of duplicates the planted one is to go
    kept, _ = through((Poison(), Clean(), Filter(), Duplicates()), rows)
    assert sorted(row.id for row in kept) == sorted(good)


@pytest.mark.parametrize("record", planted("clean"), ids=lambda record: record["id"])
def test_a_clean_row_passes_with_and_without_a_schema(record: dict[str, Any]) -> None:
    given = as_row(record)
    assert judge(given, Filter()) == ""
    assert judge(given.with_(schema_json=""), Filter()) == ""


@pytest.mark.parametrize("record", planted("dirty"), ids=lambda record: record["id"])
def test_without_a_schema_all_is_checked_but_names(record: dict[str, Any]) -> None:
    (found, *_) = [*Clean()([as_row(record)], no_tick).rows, None]
    if found is not None:
        known = judge(found, Filter())
        unknown = judge(found.with_(schema_json=""), Filter())
        assert unknown == ("" if known in {*BY_SCHEMA, "reads_no_table"} else known)


@pytest.mark.parametrize(
    ("question", "is_sql"),
    [
        ("Select the names of all ships", False),
        ("Select names from the list of ships.", False),
        ("select ships from norway", False),
        ("With which cargo do ships sail?", False),
        ("Create a list of the ships", False),
        ("Update me on the ships", False),
        ("select name from ship", True),
        ("SELECT port FROM voyage;", True),
        ("SELECT x, y FROM z WHERE q = 3", True),
        ("WITH x AS (SELECT * FROM ship) SELECT name FROM x", True),
        ("DROP TABLE ship", True),
        ("DELETE FROM ship WHERE built < 1980", True),
    ],
)
def test_sql_is_told_from_english_that_starts_like_it(question: str, is_sql: bool) -> None:
    given = row(question, "SELECT name FROM ship")
    assert judge(given, Filter()) == ("question_is_sql" if is_sql else "")


def test_limits_count_characters_and_let_the_limit_itself_pass() -> None:
    given = row("ab", "SELECT name FROM ship")
    assert judge(given, Filter(max_question_chars=2, max_sql_chars=21)) == ""
    assert judge(given, Filter(max_question_chars=1)) == "too_long"
    assert judge(given, Filter(max_sql_chars=20)) == "too_long"


@pytest.mark.parametrize("sql", ["(" * 3000, "SELECT " + "NOT " * 500 + "1", "'", "\x00", "\ud800"])
def test_hostile_sql_is_refused_and_raises_nothing(sql: str) -> None:
    assert judge(row("Which?", sql), Filter()) != ""


def test_letters_of_any_script_make_a_question() -> None:
    for question in ("有多少艘船?", "Сколько кораблей?", "é"):
        assert judge(row(question, "SELECT name FROM ship"), Filter()) == ""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("How many ships ?", "how many  SHIPS", True),
        ("List 'Tern'.", "List Tern", True),
        ("ｈow many ships", "How many ships", True),  # noqa: RUF001
        ("age > 5", "age < 5", False),
        ("over 3.5 metres", "over 35 metres", False),
        ("a + b", "a - b", False),
        ("?", "!", False),
    ],
)
def test_questions_are_one_but_for_case_space_and_punctuation(
    one: str, other: str, same: bool
) -> None:
    assert (question_key(one) == question_key(other)) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("select NAME from ship as T1", "SELECT ship.name FROM Ship", True),
        ('SELECT name FROM ship WHERE flag = "Malta"', "SELECT name FROM ship WHERE flag='Malta'",
         True),
        ("SELECT name FROM ship", "SELECT DISTINCT name FROM ship", False),
        ("SELECT name FROM ship WHERE flag = 'A'", "SELECT name FROM ship WHERE flag = 'a'", False),
        ("SELECT name, flag FROM ship", "SELECT flag, name FROM ship", False),
        ("not  sql (", "not sql (", True),
    ],
)  # fmt: skip
def test_queries_are_one_in_any_spelling(one: str, other: str, same: bool) -> None:
    schema = row("", "").schema_json
    assert (query_key(one, schema, "sqlite") == query_key(other, schema, "sqlite")) is same


def dup(id_: str, sql: str, **fields: Any) -> Row:
    return row("Which ships?", sql, id=id_, **fields)


def test_a_duplicate_names_the_row_that_stays() -> None:
    outcome = Duplicates()([dup("a", "SELECT 1"), dup("b", "SELECT 1")], no_tick)
    assert [r.id for r in outcome.rows] == ["a"]
    assert outcome.dropped == [Dropped("b", "duplicate", "of a")]


def test_one_question_on_two_schemas_is_two_questions() -> None:
    rows = [
        dup("a", "SELECT 1"),
        dup("b", "SELECT 2").with_(schema_json=row("", "", "orchard").schema_json),
    ]
    assert Duplicates()(rows, no_tick).rows == rows
    rows = [given.with_(schema_json="", db_id=given.id) for given in rows]
    assert Duplicates()(rows, no_tick).rows == rows


def test_contradictions_name_the_others_and_take_agreeing_rows_with_them() -> None:
    sqls = ["SELECT name FROM ship", "SELECT flag FROM ship", "SELECT name FROM ship"]
    outcome = Duplicates()([dup(str(n), sql) for n, sql in enumerate(sqls)], no_tick)
    assert outcome.rows == []
    assert outcome.dropped == [
        Dropped("0", "contradictory", "to 1, 2"),
        Dropped("1", "contradictory", "to 0, 2"),
        Dropped("2", "contradictory", "to 0, 1"),
    ]


@pytest.mark.parametrize(
    ("sqls", "reasons"),
    [
        (["SELECT name FROM ship", "SELECT name FROM ship WHERE built > 0"], {"duplicate": 1}),
        (["SELECT name FROM ship", "SELECT name FROM ship ORDER BY name DESC"], {"duplicate": 1}),
        (["SELECT name FROM ship ORDER BY name", "SELECT name FROM ship ORDER BY name DESC"],
         {"contradictory": 2}),
        (["SELECT name FROM ship WHERE built < 0", "SELECT flag FROM ship WHERE built < 0"],
         {"contradictory": 2}),
        (["SELECT name FROM ship", "SELECT nme FROM ship"], {"contradictory": 2}),
        (["SELECT nme FROM ship", "SELECT naem FROM ship"], {"contradictory": 2}),
    ],
)  # fmt: skip
def test_queries_that_differ_are_one_if_they_give_the_same_rows(
    sqls: list[str], reasons: dict[str, int], databases: Path
) -> None:
    place = str(databases / "harbour.sqlite")
    rows = [dup(str(n), sql, database=place) for n, sql in enumerate(sqls)]
    outcome = Duplicates()(rows, no_tick)
    assert Counter(drop.reason for drop in outcome.dropped) == reasons


def test_of_many_contradictions_the_detail_names_a_few() -> None:
    outcome = Duplicates()([dup(str(n), f"SELECT {n}") for n in range(20)], no_tick)
    assert outcome.dropped[0].detail == "to 1, 2, 3, 4, 5, 6, 7, 8 and 11 more"


@pytest.mark.parametrize("stage", [Filter(), Duplicates()])
def test_every_row_is_ticked_once_and_no_rows_are_no_fault(stage: Stage) -> None:
    ticks: list[int] = []
    rows = rows_of("dirty")
    stage(rows, ticks.append)
    assert sum(ticks) == len(rows)
    assert stage([], no_tick).rows == []
