"""Suites are made once, appear whole, and go when they are old."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from eval.dataset import Question
from eval.suite import cache
from eval.suite.cache import MANIFEST, SuiteError, Suites, open_suites, prune
from eval.task.example import Example
from eval.task.schema import parse_ddl
from tests.unit.suites import AIRLINE, GOLDS, airline, make_database, question_of

UNSTABLE = "SELECT name FROM pilot LIMIT 1"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Workers that are not processes: starting those takes seconds."""

    def run_chunks(function, chunks, on_lost, *, seconds_per_item, tick):
        found = []
        for chunk in chunks:
            found.append(function(chunk))
            tick(len(chunk))
        return found

    monkeypatch.setattr(cache, "run_chunks", run_chunks)


def opened(questions: Sequence[Question], folder: Path) -> tuple[Suites, int]:
    ticks: list[int] = []
    return open_suites(questions, cache=folder, tick=ticks.append), sum(ticks)


def test_each_question_gets_databases_and_is_counted_once(tmp_path):
    path = airline(tmp_path)
    questions = [question_of(path, gold) for gold in (*GOLDS, GOLDS[0])]
    suites, ticks = opened(questions, tmp_path / "cache")
    assert ticks == len(questions)
    assert all(suites.of(question) for question in questions)
    assert all(file.is_file() for file in suites.databases)


def test_a_second_call_makes_nothing_and_finds_the_same(tmp_path, monkeypatch):
    questions = [question_of(airline(tmp_path), GOLDS[0])]
    first, _ = opened(questions, tmp_path / "cache")
    monkeypatch.setattr(cache, "build_suite", lambda job: pytest.fail("made again"))
    second, ticks = opened(questions, tmp_path / "cache")
    assert (second.digest, second.databases, ticks) == (first.digest, first.databases, 1)


@pytest.mark.parametrize("change", ["gold", "rows", "version"])
def test_other_golds_rows_or_rules_make_another_suite(tmp_path, monkeypatch, change):
    path = airline(tmp_path)
    first, _ = opened([question_of(path, GOLDS[0])], tmp_path / "cache")
    if change == "rows":
        make_database(path, "DELETE FROM flight WHERE number = 10")
    if change == "version":
        monkeypatch.setattr(cache, "VERSION", -1)
    gold = GOLDS[1] if change == "gold" else GOLDS[0]
    second, _ = opened([question_of(path, gold)], tmp_path / "cache")
    assert second.digest != first.digest


def test_a_database_must_be_usable_for_every_gold_of_a_question(tmp_path):
    question = question_of(airline(tmp_path), GOLDS[0], UNSTABLE)
    suites, _ = opened([question], tmp_path / "cache")
    only = [question_of(question.database, gold) for gold in question.example.golds]  # type: ignore[arg-type]
    assert set(suites.of(question)) == set(suites.of(only[0])) & set(suites.of(only[1]))
    assert set(suites.of(question)) < set(suites.of(only[0]))


def test_a_question_on_a_server_has_no_suite(tmp_path):
    example = Example(id="1", db_id="a", question="?", sql="SELECT 1")
    question = Question(example, "postgresql://host/base", AIRLINE, parse_ddl(AIRLINE))
    suites, ticks = opened([question], tmp_path / "cache")
    assert suites.of(question) == () and ticks == 1


def test_no_questions_have_no_suites(tmp_path):
    suites, ticks = opened([], tmp_path / "cache")
    assert suites.databases == () and ticks == 0


def test_the_manifest_holds_no_text_of_the_golds(tmp_path):
    suites, _ = opened([question_of(airline(tmp_path), GOLDS[0])], tmp_path / "cache")
    text = (suites.databases[0].parent / MANIFEST).read_text(encoding="utf-8")
    assert "pilot" not in text
    assert json.loads(text)["num_told"] > 0


def test_a_stopped_build_leaves_no_half_suite(tmp_path, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "distil", stop)
    with pytest.raises(KeyboardInterrupt):
        opened([question_of(airline(tmp_path), GOLDS[0])], tmp_path / "cache")
    assert list((tmp_path / "cache" / "suites").iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"usable": 3}'])
def test_a_broken_manifest_is_named_with_the_remedy(tmp_path, text):
    questions = [question_of(airline(tmp_path), GOLDS[0])]
    suites, _ = opened(questions, tmp_path / "cache")
    (suites.databases[0].parent / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(SuiteError, match=r"manifest\.json is broken: remove .* and run again"):
        opened(questions, tmp_path / "cache")


def test_an_original_that_can_not_be_copied_is_named(tmp_path):
    path = airline(tmp_path)
    make_database(path, "CREATE VIRTUAL TABLE words USING fts5(word);")
    with pytest.raises(SuiteError, match=r"airline\.sqlite: "):
        opened([question_of(path, GOLDS[0])], tmp_path / "cache")


def test_a_cache_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    with pytest.raises(SuiteError, match="can't write generated databases to"):
        opened([question_of(airline(tmp_path), GOLDS[0])], tmp_path / "cache")


def test_the_oldest_suites_go_first_and_never_those_in_use(tmp_path):
    for age, name in enumerate(["new", "old", "used"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text("x" * 100, encoding="utf-8")
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / ".building-x").mkdir()
    os.utime(tmp_path / ".building-x", (0, 0))
    prune(tmp_path, keep={"used"}, max_bytes=250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "used"]
