"""Answers kept across evaluations: found again for the same version only, by several processes."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from eval.ask.api import Answer
from eval.ask.cache import AnswerCache, CacheError, open_cache
from eval.ask.connection import Server

ANSWER = Answer("SELECT '\ud800 é'", None, "spider@0123456789ab", 0.5, True, False, 7, 1.5)
VERSION = "spider@0123456789ab"
URL = "http://h:80"


def opened(folder: Path, server: str = URL, model: str = VERSION) -> AnswerCache:
    return AnswerCache(folder, server=server, model=model)


def test_an_answer_is_found_again_by_another_evaluation(tmp_path):
    with opened(tmp_path / "a/b") as cache:
        assert cache.get("k") is None
        cache.put("k", ANSWER)
    with opened(tmp_path / "a/b") as cache:
        assert cache.get("k") == ANSWER
        assert cache.get("other") is None


@pytest.mark.parametrize(
    "other", [{"server": "http://h:81"}, {"model": "spider@ba9876543210"}, {"model": "spider"}]
)
def test_another_server_or_version_has_answers_of_its_own(tmp_path, other):
    with opened(tmp_path) as cache:
        cache.put("k", ANSWER)
    with opened(tmp_path, **other) as cache:
        assert cache.get("k") is None


@pytest.mark.parametrize(
    "answer",
    [
        Answer(error="no response within 120 s", model=VERSION),
        Answer("SELECT", truncated=True, model=VERSION),
        Answer("SELECT 1", model="spider@ba9876543210"),
        Answer("SELECT 1"),
    ],
)
def test_what_may_be_answered_otherwise_next_time_is_not_kept(tmp_path, answer):
    with opened(tmp_path) as cache:
        cache.put("k", answer)
        assert cache.get("k") is None


def test_a_server_without_versions_may_call_its_model_as_it_likes(tmp_path):
    with opened(tmp_path, model="gpt") as cache:
        cache.put("k", Answer("SELECT 1", model="gpt-2026-01-02"))
        assert cache.get("k") == Answer("SELECT 1", model="gpt-2026-01-02")


def test_the_newer_of_two_answers_stays(tmp_path):
    with opened(tmp_path, model="gpt") as one, opened(tmp_path, model="gpt") as two:
        one.put("k", Answer("SELECT 1"))
        two.put("k", Answer("SELECT 2"))
        assert one.get("k") == Answer("SELECT 2")


@pytest.mark.parametrize(
    "text", ["", "nope", "[]", '{"colour": 1}', '{"predicted": 5}', "[" * 9999]
)
def test_an_entry_of_another_version_of_this_program_is_asked_anew(tmp_path, text):
    with opened(tmp_path) as cache:
        with closing(sqlite3.connect(cache.path)) as db, db:
            db.execute("INSERT INTO answers VALUES (?, ?, 'k', ?)", (URL, VERSION, text))
        assert cache.get("k") is None
        cache.put("k", ANSWER)
        assert cache.get("k") == ANSWER


def test_several_processes_write_at_a_time(tmp_path):
    code = (
        "import sys; from pathlib import Path; from eval.ask.cache import AnswerCache\n"
        "from eval.ask.api import Answer\n"
        "with AnswerCache(Path(sys.argv[1]), server='s', model='m') as cache:\n"
        "    for i in range(50): cache.put(sys.argv[2] + str(i), Answer(sys.argv[2]))\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen([*words, name]) for name in "abc"]
    assert [process.wait() for process in running] == [0, 0, 0]
    with opened(tmp_path, server="s", model="m") as cache:
        found = [cache.get(f"{name}{i}") for name in "abc" for i in range(50)]
    assert found == [Answer(name) for name in "abc" for _ in range(50)]


@pytest.mark.parametrize("break_it", [Path.mkdir, lambda path: path.write_text("x" * 9999)])
def test_a_file_that_is_no_cache_is_said_with_its_name_and_the_remedy(tmp_path, break_it):
    break_it(tmp_path / "answers.sqlite")
    with pytest.raises(CacheError, match=r"answers\.sqlite: .*go on without --cache"):
        opened(tmp_path)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(CacheError, match="File exists"):
        opened(tmp_path / "cache")


def test_a_cache_that_breaks_while_it_is_used_is_said_so(tmp_path):
    with opened(tmp_path) as cache:
        with closing(sqlite3.connect(cache.path)) as db, db:
            db.execute("DROP TABLE answers")
        with pytest.raises(CacheError, match="no such table"):
            cache.put("k", ANSWER)
        with pytest.raises(CacheError, match="no such table"):
            cache.get("k")


def test_it_is_opened_for_what_the_name_means_at_the_server_now(tmp_path, monkeypatch):
    asked = []

    def resolve(server, model):
        asked.append((server, model))
        return VERSION

    monkeypatch.setattr("eval.ask.cache.resolve_model", resolve)
    server = Server("HTTP://H/v1/")
    with open_cache(tmp_path, server, "spider") as cache:
        assert (cache.server, cache.model) == ("http://h:80", VERSION)
    assert asked == [(server, "spider")]
