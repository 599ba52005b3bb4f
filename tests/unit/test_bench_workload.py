"""The questions that are asked, and the body that asks each API."""

import json
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.client import request_body
from benchmarks.plan import Api, BenchError, Target
from benchmarks.workload import Question, load_workload

DDL = "CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT);"
ROW = {"id": "1", "db_id": "stage", "question": "How many\nsingers?", "sql": "SELECT 1"}
URL = "http://localhost:8000"
QUESTION = Question("Who?", "shop", "sqlite", "-- prompt\n")


def data_file(folder: Path, row: dict[str, str], ddl: str | None = DDL) -> str:
    path = folder / "questions.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    if ddl is not None:
        (folder / "schemas").mkdir()
        (folder / "schemas" / "stage.sql").write_text(ddl, encoding="utf-8")
    return str(path)


def test_samples_name_a_database_of_the_server():
    workload = load_workload("samples")
    assert workload.name == "samples"
    assert {q.db_id for q in workload.questions} >= {"shop", "clinic"}
    assert all(q.ddl is None for q in workload.questions)
    assert len({q.text for q in workload.questions}) > 100


def test_a_file_brings_its_schema_and_prompt(tmp_path):
    (question,) = load_workload(data_file(tmp_path, ROW)).questions
    assert question.ddl == DDL
    assert "table singer: id" in question.prompt
    assert question.prompt.endswith("-- How many singers?\n")


@pytest.mark.parametrize(
    ("row", "ddl", "named"),
    [
        (ROW, None, "stage.sql"),
        (ROW, "DROP TABLE x", "stage.sql"),
        ({**ROW, "dialect": "klingon"}, DDL, "klingon"),
        ({**ROW, "extra": "1"}, DDL, "questions.jsonl:1"),
    ],
    ids=["no schema", "bad schema", "bad dialect", "bad row"],
)
def test_data_that_cannot_be_used_names_the_place(tmp_path, row, ddl, named):
    with pytest.raises(BenchError, match=named):
        load_workload(data_file(tmp_path, row, ddl))


def test_a_missing_file_is_named():
    with pytest.raises(BenchError, match=r"nowhere\.jsonl"):
        load_workload("nowhere.jsonl")


def test_the_order_is_fixed_by_the_seed_and_repeats():
    workload = load_workload("samples")
    size = len(workload.questions)
    twice = list(islice(workload.endless(3), 2 * size))
    assert twice[:size] == twice[size:]
    assert set(twice) == set(workload.questions)
    assert twice == list(islice(workload.endless(3), 2 * size))
    assert twice[:20] != list(islice(workload.endless(4), 20))


def test_generate_sql_names_the_database_or_brings_the_ddl():
    target = Target(URL)
    own = {"natural_language_query": "Who?", "database": "shop"}
    assert request_body(target, QUESTION) == own
    foreign = Question("Who?", "stage", "postgres", "p", DDL)
    assert request_body(Target(URL, model="spider"), foreign) == {
        "natural_language_query": "Who?",
        "ddl": DDL,
        "dialect": "postgres",
        "model": "spider",
    }


def test_a_streamed_completion_asks_for_usage():
    target = Target(URL, Api.COMPLETIONS, "base", 64, logprobs=True, stream=True)
    assert request_body(target, QUESTION) == {
        "model": "base",
        "prompt": "-- prompt\n",
        "max_tokens": 64,
        "temperature": 0,
        "logprobs": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_chat_asks_one_user_message():
    body = request_body(Target(URL, Api.CHAT, "base", 64), QUESTION)
    assert body["messages"] == [{"role": "user", "content": "-- prompt\n"}]
    assert not {"prompt", "stream", "logprobs"} & set(body)


@pytest.mark.parametrize("url", ["http://host:8000", "http://host:8000/v1", "http://host:8000/v1/"])
def test_a_closing_v1_may_stay(url):
    assert Target(url, Api.CHAT, "m", 1).url == "http://host:8000/v1/chat/completions"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"base_url": "localhost:8000"}, "--base-url"),
        ({"base_url": "ftp://host"}, "--base-url"),
        ({"base_url": "http://me:secret@host"}, "SQLWRIGHT_API_KEY"),
        ({"max_tokens": 5}, "--max-tokens"),
        ({"stream": True}, "--stream"),
        ({"logprobs": True}, "--logprobs"),
        ({"api": Api.CHAT, "logprobs": True}, "--logprobs"),
        ({"timeout_seconds": 0.0}, "--timeout"),
    ],
)
def test_a_target_that_makes_no_sense_names_the_option(settings, named):
    with pytest.raises(BenchError, match=named) as caught:
        Target(**{"base_url": URL, **settings})
    assert "secret" not in str(caught.value)
