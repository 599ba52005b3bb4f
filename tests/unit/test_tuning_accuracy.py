"""Execution accuracy of answers, judged in processes of their own."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eval.task.sqlite_judge import JudgeError, run_query
from tests.unit.tiny import make_database, row_on
from trainer.tuning import accuracy as module
from trainer.tuning import verdicts
from trainer.tuning.accuracy import execution_accuracy
from trainer.tuning.verdicts import Case, Verdict, verdict_of

RUNAWAY = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
SHOPS = '"pet shop"'


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module", autouse=True)
def _no_process_stays() -> Iterator[None]:
    yield
    for number in range(3):
        module._process(number).close()
    module._process.cache_clear()


CASES = [
    # gold, predicted, status, fault
    (f"SELECT name FROM {SHOPS}", f"SELECT T1.NAME FROM {SHOPS} AS T1", "right", ""),
    (f"SELECT name FROM {SHOPS}", f"SELECT name FROM {SHOPS} ORDER BY 1 DESC", "right", ""),
    (f"SELECT name FROM {SHOPS} ORDER BY id", f"SELECT name FROM {SHOPS} ORDER BY id DESC",
     "wrong", "order"),
    # The two shops with 3 in stock tie, in either order.
    (f"SELECT name, id FROM {SHOPS} ORDER BY stock", f"SELECT name, id FROM {SHOPS} "
     "ORDER BY stock, id DESC", "right", ""),
    (f"SELECT name FROM {SHOPS} ORDER BY stock", f"SELECT name FROM {SHOPS} ORDER BY stock DESC",
     "wrong", "order"),
    (f"SELECT city FROM {SHOPS}", f"SELECT DISTINCT city FROM {SHOPS}", "wrong", "num_rows"),
    (f"SELECT DISTINCT city FROM {SHOPS}", f"SELECT city FROM {SHOPS}", "wrong", "num_rows"),
    (f"SELECT id FROM {SHOPS}", f"SELECT id, id FROM {SHOPS}", "wrong", "columns"),
    (f"SELECT name, city FROM {SHOPS}", f"SELECT city, name FROM {SHOPS}", "wrong", "values"),
    (f"SELECT name FROM {SHOPS} WHERE id = 1", "SELECT 'Zoë''s'", "right", ""),
    ("SELECT kind FROM pet WHERE id = 4", "SELECT NULL", "right", ""),
    ("SELECT id FROM pet WHERE id > 9", "SELECT id FROM pet WHERE kind = 'cow'", "right", ""),
    ("SELECT id FROM pet WHERE id > 9", "SELECT id, kind FROM pet WHERE id > 9",
     "wrong", "columns"),
    ("SELECT count(*) FROM pet", "SELECT count(*) FROM pets", "failed", "error"),
    ("SELECT count(*) FROM pet", "DELETE FROM pet", "failed", "error"),
    ("SELECT count(*) FROM pet", "SELECT 4; SELECT 4", "failed", "error"),
    ("SELECT count(*) FROM pet", "I don't know.", "failed", "error"),
    ("SELECT count(*) FROM pet", " \n", "failed", "no_sql"),
    ("SELECT count(*) FROM pest", "SELECT 4", "unjudged", "gold"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "predicted", "status", "fault"), CASES)
def test_an_answer_is_right_if_its_rows_are_the_golds(database, gold, predicted, status, fault):
    found = verdict_of(Case(row_on(database, gold), predicted))
    assert (found.status, found.fault) == (status, fault)
    assert bool(found.detail) == (status != "right")


@pytest.mark.parametrize(
    ("gold", "is_telling"),
    [
        ("SELECT count(*) FROM pet", True),
        ("SELECT count(*) FROM pet WHERE kind = 'cow'", False),
        ("SELECT max(id) FROM pet WHERE kind = 'cow'", False),
        ("SELECT id FROM pet WHERE kind = 'cow'", False),
        ("SELECT 0, 0", True),
        ("SELECT 0 UNION ALL SELECT 0", True),
    ],
)
def test_an_empty_gold_answer_or_a_single_zero_tells_nothing(database, gold, is_telling):
    assert verdict_of(Case(row_on(database, gold), gold)).is_telling is is_telling


def test_valid_is_what_the_check_lets_pass_whether_right_or_not(database):
    def is_valid(sql: str, **fields: Any) -> bool:
        row = row_on(database, "SELECT count(*) FROM pet", **fields)
        return verdict_of(Case(row, sql)).is_valid

    assert is_valid("SELECT count(*) FROM pet") and is_valid('SELECT city FROM "pet shop"')
    assert not is_valid("SELECT cityy FROM pet") and not is_valid("")
    assert not is_valid("SELECT count(*) FROM pet", schema_json="")


@pytest.mark.parametrize(
    ("predicted", "is_right"),
    [
        ("select T1.KIND from PET as T1 where T1.id = 1", True),
        ("SELECT kind FROM pet WHERE id=1;", True),
        ("SELECT kind FROM pet WHERE id = 2", False),
        ("SELECT kind FROM pet WHERE 1 = id", False),
        ("SELECT kind FROM", False),
        ("", False),
    ],
)
def test_without_a_database_the_canonical_spelling_decides(database, predicted, is_right):
    row = row_on(database, "SELECT kind FROM pet WHERE id = 1", database="")
    found = execution_accuracy([predicted], [row], workers=1)
    assert (found.num_right, found.n, found.num_by_text) == (int(is_right), 1, 1)
    assert found.verdicts[0].fault == ("" if is_right else "query")
    assert not found.verdicts[0].is_telling


def test_the_totals_leave_out_what_the_gold_is_to_blame_for(database):
    rows = [row_on(database, gold, id=str(i)) for i, (gold, *_) in enumerate(CASES)]
    answers = [f"Here:\n```sql\n{predicted};\n```" for _, predicted, *_ in CASES]
    found = execution_accuracy(answers, rows, workers=2)
    right = [status == "right" for _, _, status, _ in CASES]
    assert [v.status == "right" for v in found.verdicts] == right
    assert (found.num_right, found.n, found.num_unjudged) == (sum(right), len(rows) - 1, 1)
    assert found.value == sum(right) / (len(rows) - 1)
    assert found.num_valid == sum(v.is_valid for v in found.verdicts[:-1]) < found.n


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_processes_changes_no_verdict(database, workers):
    rows = [row_on(database, gold) for gold, *_ in CASES]
    cases = [Case(row, case[1]) for row, case in zip(rows, CASES, strict=True)]
    assert module.judge(cases, workers=workers) == [verdict_of(case) for case in cases]


def test_a_gold_query_is_run_once_for_all_answers(database, monkeypatch):
    ran: list[str] = []

    def counting(db: Any, sql: str, **options: Any) -> Any:
        ran.append(sql)
        return run_query(db, sql, **options)

    monkeypatch.setattr(verdicts, "run_query", counting)
    row = row_on(database, "SELECT 'only once'")
    assert [verdict_of(Case(row, f"SELECT {i}")).fault for i in range(3)] == ["values"] * 3
    assert ran == ["SELECT 'only once'", "SELECT 0", "SELECT 1", "SELECT 2"]


def test_a_runaway_query_is_cut_and_fails(database, monkeypatch):
    monkeypatch.setattr(verdicts, "TIMEOUT_SECONDS", 0.05)
    found = verdict_of(Case(row_on(database, "SELECT 1"), RUNAWAY))
    assert (found.status, found.detail) == ("failed", "over 0.05 s")


def test_a_cross_join_is_cut_at_the_golds_number_of_rows(database):
    many = "SELECT 1 FROM pet a, pet b, pet c, pet d, pet e, pet f, pet g, pet h, pet i, pet j"
    found = verdict_of(Case(row_on(database, "SELECT count(*) FROM pet"), many))
    assert (found.fault, found.detail) == ("num_rows", "over 1 rows")


def process_that(code: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "SERVE", code)
    return module._Process()


def test_a_process_that_does_not_answer_is_killed(database, monkeypatch):
    monkeypatch.setattr(module, "KILL_SECONDS", 0.05)
    process = process_that("import time; time.sleep(99)", monkeypatch)
    hung = process._popen
    found = process.verdict(Case(row_on(database, "SELECT 1"), "SELECT 1"))
    assert found == Verdict("failed", "error", "over 0.05 s, its process was killed")
    assert hung.returncode == -signal.SIGKILL and process._popen is not hung
    process.close()


def test_what_a_process_dies_of_twice_has_failed(database, monkeypatch):
    process = process_that("pass", monkeypatch)
    found = process.verdict(Case(row_on(database, "SELECT 1"), "SELECT 1"))
    assert found == Verdict("failed", "error", "its process died")
    process.close()


def test_a_process_that_was_killed_meanwhile_costs_no_verdict(database):
    cases = [Case(row_on(database, "SELECT 1"), "SELECT 1")]
    right = [Verdict("right", is_valid=True, is_telling=True)]
    assert module.judge(cases, workers=1) == right
    process = module._process(0)
    os.kill(process._popen.pid, signal.SIGKILL)
    process._popen.wait()
    assert module.judge(cases, workers=1) == right


def test_nothing_is_written_to_a_database(database):
    before = database.read_bytes()
    row = row_on(database, "SELECT count(*) FROM pet")
    texts = ["DROP TABLE pet", "CREATE TABLE x (a)", "SELECT 1; DELETE FROM pet"]
    execution_accuracy(texts, [row] * 3, workers=1)
    assert database.read_bytes() == before
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("SELECT count(*) FROM pet").fetchall() == [(4,)]


def test_a_missing_database_is_said_by_its_path(database):
    row = row_on(database, "SELECT 1", database="/no/where.sqlite")
    with pytest.raises(JudgeError, match=r"no database file /no/where\.sqlite"):
        execution_accuracy(["SELECT 1"], [row], workers=1)


def test_answers_and_rows_must_be_as_many(database):
    with pytest.raises(ValueError, match="shorter"):
        execution_accuracy([], [row_on(database, "SELECT 1")], workers=1)
    with pytest.raises(ValueError, match="workers must be at least 1, is 0"):
        execution_accuracy([], [], workers=0)


def test_of_no_answers_the_accuracy_is_zero():
    found = execution_accuracy([], [], workers=2)
    assert (found.value, found.n, found.verdicts) == (0.0, 0, ())
