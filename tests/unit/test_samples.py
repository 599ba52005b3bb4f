"""Checks on the bundled sample databases and question/SQL pairs in eval/task/samples."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

SAMPLES = Path(__file__).parents[2] / "eval/task/samples"
KEYS = {"id", "db_id", "question", "sql", "dialect", "source"}
DB_IDS = sorted(path.stem for path in SAMPLES.glob("*.sql"))
DEMO_QUESTION = "Show me all users who signed up last month"

Pair = dict[str, Any]


def _read_pairs(split: str) -> list[Pair]:
    lines = (SAMPLES / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


TRAIN = _read_pairs("train")
TEST = _read_pairs("test")
ALL = TRAIN + TEST


def _normalised(pair: Pair) -> str:
    return sqlglot.parse_one(pair["sql"], read="sqlite").sql("sqlite")


def _is_informative(rows: list[tuple[Any, ...]]) -> bool:
    return any(value is not None for row in rows for value in row)


@pytest.fixture(scope="module")
def databases() -> Iterator[dict[str, sqlite3.Connection]]:
    connections: dict[str, sqlite3.Connection] = {}
    for db_id in DB_IDS:
        connection = sqlite3.connect(":memory:")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.executescript((SAMPLES / f"{db_id}.sql").read_text(encoding="utf-8"))
        connections[db_id] = connection
    yield connections
    for connection in connections.values():
        connection.close()


def test_there_are_at_least_six_databases() -> None:
    assert len(DB_IDS) >= 6


@pytest.mark.parametrize("db_id", DB_IDS)
def test_script_parses_as_create_and_insert_statements_only(db_id: str) -> None:
    script = (SAMPLES / f"{db_id}.sql").read_text(encoding="utf-8")
    statements = [s for s in sqlglot.parse(script, read="sqlite") if s is not None]
    assert statements
    assert all(isinstance(s, exp.Create | exp.Insert) for s in statements)


@pytest.mark.parametrize("db_id", DB_IDS)
def test_database_has_no_dangling_foreign_keys(
    databases: dict[str, sqlite3.Connection], db_id: str
) -> None:
    assert databases[db_id].execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert databases[db_id].execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize("db_id", DB_IDS)
def test_database_has_four_to_seven_tables_of_ten_to_sixty_rows(
    databases: dict[str, sqlite3.Connection], db_id: str
) -> None:
    connection = databases[db_id]
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert 4 <= len(found) <= 7
    for (table,) in found:
        (count,) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
        assert 10 <= count <= 60, table


def test_there_are_enough_pairs_in_each_split() -> None:
    assert len(TRAIN) >= 270
    assert len(TEST) >= 60
    assert len(ALL) >= 330


def test_every_database_has_pairs_in_both_splits() -> None:
    everywhere = Counter(pair["db_id"] for pair in ALL)
    in_test = Counter(pair["db_id"] for pair in TEST)
    assert set(everywhere) == set(DB_IDS)
    assert all(everywhere[db_id] >= 50 for db_id in DB_IDS)
    assert all(in_test[db_id] >= 10 for db_id in DB_IDS)


def test_every_pair_has_exactly_the_agreed_keys() -> None:
    for pair in ALL:
        assert set(pair) == KEYS, pair
        assert all(isinstance(value, str) and value.strip() for value in pair.values()), pair
        assert pair["dialect"] == "sqlite"
        assert pair["source"] == "sqlwright"


def test_ids_are_unique_over_both_splits() -> None:
    assert len({pair["id"] for pair in ALL}) == len(ALL)


def test_no_question_occurs_twice_in_a_database() -> None:
    asked = Counter((p["db_id"], p["question"].casefold().rstrip(" .?!")) for p in ALL)
    assert [key for key, count in asked.items() if count > 1] == []


def test_every_gold_query_parses_to_a_single_query() -> None:
    for pair in ALL:
        statements = sqlglot.parse(pair["sql"], read="sqlite")
        assert len(statements) == 1, pair["id"]
        assert isinstance(statements[0], exp.Query), pair["id"]
        assert not pair["sql"].rstrip().endswith(";"), pair["id"]


def test_train_and_test_share_no_normalised_query() -> None:
    assert {_normalised(pair) for pair in TRAIN}.isdisjoint(_normalised(pair) for pair in TEST)


def test_demo_question_is_held_out_of_train() -> None:
    wanted = DEMO_QUESTION.casefold()
    assert [p["id"] for p in TRAIN if wanted in p["question"].casefold()] == []
    assert [p["db_id"] for p in TEST if p["question"] == DEMO_QUESTION] == ["shop"]


def test_gold_queries_execute_and_nearly_all_return_something(
    databases: dict[str, sqlite3.Connection],
) -> None:
    empty = [
        pair["id"]
        for pair in ALL
        if not _is_informative(databases[pair["db_id"]].execute(pair["sql"]).fetchall())
    ]
    assert len(empty) <= 0.05 * len(ALL), empty
