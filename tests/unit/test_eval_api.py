"""What is sent for a question and what is taken from the answer, for both routes."""

import json
from pathlib import Path

import pytest

from eval.api import APIS, Answer, Asked, read_answer, request_key
from eval.dataset import Question
from eval.task.example import Example
from eval.task.prompt import PromptFormat
from eval.task.schema import parse_ddl

DDL = "CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT);"
QUESTION = Question(
    Example("a1", "band", "How many singers?", "SELECT COUNT(*) FROM singer"),
    Path("band.sqlite"),
    DDL,
    parse_ddl(DDL),
)
GENERATE, COMPLETIONS = APIS["generate-sql"], APIS["completions"]


def test_generate_sql_sends_the_question_with_its_ddl():
    assert GENERATE.body(QUESTION, Asked("spider")) == {
        "natural_language_query": "How many singers?",
        "ddl": DDL,
        "dialect": "sqlite",
        "model": "spider",
    }


def test_completions_sends_the_prompt_that_adapters_are_trained_on():
    assert COMPLETIONS.body(QUESTION, Asked("spider", max_tokens=99)) == {
        "prompt": PromptFormat().render(QUESTION.schema, "How many singers?"),
        "temperature": 0,
        "max_tokens": 99,
        "model": "spider",
    }


@pytest.mark.parametrize("api", [GENERATE, COMPLETIONS])
def test_without_a_model_the_server_chooses(api):
    assert "model" not in api.body(QUESTION, Asked())


@pytest.mark.parametrize("api", [GENERATE, COMPLETIONS])
def test_no_request_holds_the_gold_query(api):
    assert "COUNT(*)" not in json.dumps(api.body(QUESTION, Asked("spider")))


def test_an_answer_of_generate_sql():
    payload = {
        "sql_query": "SELECT 1",
        "confidence": 0.75,
        "valid": False,
        "truncated": True,
        "model": "spider@3f2a00000000",
        "usage": {"prompt_tokens": 90, "completion_tokens": 7, "total_tokens": 97},
    }
    assert read_answer(GENERATE, json.dumps(payload)) == Answer(
        predicted="SELECT 1",
        model="spider@3f2a00000000",
        confidence=0.75,
        server_valid=False,
        truncated=True,
        completion_tokens=7,
    )


def test_an_abstention_predicts_nothing():
    assert read_answer(GENERATE, '{"sql_query": null}') == Answer()


@pytest.mark.parametrize(("reason", "truncated"), [("stop", False), ("length", True)])
def test_an_answer_of_completions(reason, truncated):
    payload = {
        "model": "spider",
        "choices": [{"text": "```sql\nSELECT 1;\n```", "finish_reason": reason}],
        "usage": {"completion_tokens": 9},
    }
    assert read_answer(COMPLETIONS, json.dumps(payload)) == Answer(
        predicted="SELECT 1", model="spider", truncated=truncated, completion_tokens=9
    )


@pytest.mark.parametrize("text", ['{"choices": []}', '{"choices": [{}]}', "{}", "3", "nope"])
def test_what_is_no_answer_of_completions_is_an_error(text):
    assert read_answer(COMPLETIONS, text) == Answer(
        error=f"the response is not one of /v1/completions: {text!r}"
    )


def test_fields_of_another_type_are_left_out():
    payload = {"sql_query": "SELECT 1", "confidence": "high", "valid": 1, "usage": None}
    assert read_answer(GENERATE, json.dumps(payload)) == Answer(predicted="SELECT 1")


def test_the_key_of_a_request_tells_apart_all_that_may_change_its_answer():
    bodies = [
        (GENERATE, GENERATE.body(QUESTION, Asked())),
        (GENERATE, GENERATE.body(QUESTION, Asked("spider"))),
        (COMPLETIONS, COMPLETIONS.body(QUESTION, Asked("spider"))),
        (COMPLETIONS, COMPLETIONS.body(QUESTION, Asked("spider", max_tokens=8))),
    ]
    keys = [request_key(*body) for body in bodies]
    assert len(set(keys)) == len(bodies)
    assert keys == [request_key(api, dict(reversed(body.items()))) for api, body in bodies]


def test_one_body_at_two_routes_has_two_keys():
    assert request_key(GENERATE, {"a": 1}) != request_key(COMPLETIONS, {"a": 1})
