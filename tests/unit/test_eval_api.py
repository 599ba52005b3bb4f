"""What is sent for a question and what is taken from the answer, for the three routes."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from eval.ask.api import APIS, Answer, Api, Asked, answer_from, raw, read_answer, request_key
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
GENERATE, COMPLETIONS, CHAT = APIS["generate-sql"], APIS["completions"], APIS["chat"]


def question_in(dialect: str, ddl: str = DDL, text: str = "How many singers?") -> Question:
    example = Example("a1", "band", text, "SELECT 1", dialect)
    return Question(example, Path("band.sqlite"), ddl, QUESTION.schema)


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


@pytest.mark.parametrize("api", APIS.values())
def test_without_a_model_the_server_chooses(api):
    assert "model" not in api.body(QUESTION, Asked())


def test_the_prompt_names_the_dialect_of_the_question():
    prompt = COMPLETIONS.body(question_in("postgresql"), Asked())["prompt"]
    assert prompt == PromptFormat().render(QUESTION.schema, "How many singers?", "postgres")


def test_chat_sends_schema_dialect_and_question_and_wants_only_the_query():
    body = CHAT.body(QUESTION, Asked("gpt", max_tokens=99))
    system, user = body.pop("messages")
    assert body == {"temperature": 0, "max_tokens": 99, "model": "gpt"}
    assert (system["role"], user["role"]) == ("system", "user")
    assert "exactly one SQLite query" in system["content"]
    assert "Write only the SQL" in system["content"]
    assert user["content"] == f"Schema:\n\n{DDL}\n\nQuestion: How many singers?"


@pytest.mark.parametrize(
    ("dialect", "name"),
    [("sqlite", "SQLite"), ("pg", "PostgreSQL"), ("mariadb", "MySQL"), ("duckdb", "duckdb")],
)
def test_chat_calls_the_dialect_by_its_name(dialect, name):
    system, _ = CHAT.body(question_in(dialect), Asked())["messages"]
    assert system["content"].startswith(f"You are an expert in {name}. ")
    assert f"exactly one {name} query" in system["content"]


def test_braces_of_a_schema_or_a_question_stay_as_they_are():
    ddl = "CREATE TABLE t (a TEXT DEFAULT '{dialect} {question} {');"
    _, user = CHAT.body(question_in("sqlite", ddl, "a\n {ddl}?"), Asked())["messages"]
    assert user["content"] == f"Schema:\n\n{ddl}\n\nQuestion: a {{ddl}}?"


@pytest.mark.parametrize(("api", "wanted"), [(COMPLETIONS, 1), (CHAT, True)])
def test_token_probabilities_are_asked_for_where_they_are_wanted(api, wanted):
    assert api.body(QUESTION, Asked(logprobs=True))["logprobs"] == wanted
    assert "logprobs" not in api.body(QUESTION, Asked())


@pytest.mark.parametrize("api", APIS.values())
def test_extra_fields_are_laid_over_a_body_and_null_takes_one_out(api):
    extra = {"temperature": None, "max_tokens": None, "max_completion_tokens": 5, "model": "other"}
    body = api.body(QUESTION, Asked("spider", extra=extra))
    assert (body["max_completion_tokens"], body["model"]) == (5, "other")
    assert not body.keys() & {"temperature", "max_tokens"}


@pytest.mark.parametrize("api", APIS.values())
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


def chat_answer(message: object, **choice: object) -> Answer:
    payload = {"model": "gpt-1", "choices": [{"message": message} | choice]}
    return read_answer(CHAT, json.dumps(payload))


@pytest.mark.parametrize(
    ("content", "predicted"),
    [
        ("SELECT 1;", "SELECT 1"),
        ("Here it is:\n```sql\nSELECT 1;\n```\nIt counts.", "SELECT 1"),
        ("<think>\n```sql\nSELECT 2\n```\n</think>\n\nSELECT 1", "SELECT 1"),
        ("so SELECT 2 …</think>SELECT 1", "SELECT 1"),
        ("<think>I had better SELECT 2", ""),
        ([{"type": "text", "text": "SELECT"}, {"type": "text", "text": " 1"}], "SELECT 1"),
        ([{"type": "refusal", "refusal": "no"}], ""),
        ("", ""),
        (None, ""),
        ("SELECT '\ud800\x00'", "SELECT '\ud800\x00'"),
    ],
)
def test_what_a_chat_model_said_at_last_is_the_prediction(content, predicted):
    assert chat_answer({"role": "assistant", "content": content}) == Answer(
        predicted, model="gpt-1", truncated=False
    )


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "refusal": "I can't help with that"},
        {"content": None, "tool_calls": [{"function": {"name": "run", "arguments": "{}"}}]},
        {"content": None, "reasoning_content": "First I SELECT 1"},
        {"role": "assistant"},
    ],
)
def test_a_reply_without_content_predicts_nothing(message):
    assert chat_answer(message, finish_reason="length") == Answer(model="gpt-1", truncated=True)


@pytest.mark.parametrize("message", [None, "SELECT 1", {"content": 5}, {"content": ["SELECT 1"]}])
def test_a_message_of_another_shape_is_an_error(message):
    assert "is not one of /v1/chat/completions" in (chat_answer(message).error or "")


def with_logprobs(api: Api, logprobs: object) -> float | None:
    choice: dict[str, Any] = {"text": "SELECT 1", "message": {"content": "SELECT 1"}}
    answer = read_answer(api, json.dumps({"choices": [choice | {"logprobs": logprobs}]}))
    assert answer.predicted == "SELECT 1"
    return answer.confidence


@pytest.mark.parametrize(
    ("logprobs", "confidence"),
    [
        ([-0.5, -0.25], math.exp(-0.75)),
        ([0, -0.5], math.exp(-0.5)),
        ([0.001], 1.0),
        ([-9999.0], 0.0),
        ([-math.inf, -1.0], 0.0),
        ([math.nan], None),
        ([math.inf, -math.inf], None),
        ([None, -0.5], None),
        (["-0.5"], None),
        ([True], None),
        ([], None),
    ],
)
def test_a_confidence_is_exp_of_the_summed_log_probabilities(logprobs, confidence):
    content = [{"token": "x", "logprob": value} for value in logprobs]
    assert with_logprobs(COMPLETIONS, {"token_logprobs": logprobs}) == confidence
    assert with_logprobs(CHAT, {"content": content}) == confidence


@pytest.mark.parametrize(
    "logprobs",
    [None, [], 3, {}, {"content": None}, {"content": [3]}, {"token_logprobs": 3}, {"content": {}}],
)
def test_log_probabilities_of_another_shape_cost_no_answer(logprobs):
    assert with_logprobs(COMPLETIONS, logprobs) is None
    assert with_logprobs(CHAT, logprobs) is None


@pytest.mark.parametrize("confidence", [-0.1, 1.1, math.nan, math.inf, True, "0.5"])
def test_a_confidence_that_is_no_probability_is_left_out(confidence):
    payload = {"sql_query": "SELECT 1", "confidence": confidence}
    assert read_answer(GENERATE, json.dumps(payload)) == Answer("SELECT 1")


FENCED = "Here it is:\n```sql\nSELECT 1\n```"


@pytest.mark.parametrize(
    ("api", "choice"), [(COMPLETIONS, {"text": FENCED}), (CHAT, {"message": {"content": FENCED}})]
)
def test_raw_leaves_the_text_as_the_model_wrote_it(api, choice):
    text = json.dumps({"choices": [choice]})
    assert read_answer(api, text).predicted == "SELECT 1"
    assert read_answer(raw(api), text).predicted == FENCED
    assert (api.label, raw(api).label) == (api.name, f"{api.name}, raw")


def test_a_database_that_the_server_knows_may_be_named():
    body = GENERATE.body(QUESTION, Asked(by_name=True))
    assert (body["database"], "ddl" in body) == ("band", False)


def test_our_own_route_has_no_raw_text():
    with pytest.raises(ValueError, match="completions or chat"):
        raw(GENERATE)


def test_completions_are_asked_in_the_format_of_the_adapter():
    written = PromptFormat(template="{question} of\n{schema}\n")
    prompt = COMPLETIONS.body(QUESTION, Asked(prompt_format=written))["prompt"]
    assert prompt == written.render(QUESTION.schema, QUESTION.example.question, "sqlite")
    assert prompt != COMPLETIONS.body(QUESTION, Asked())["prompt"]


def test_an_answer_is_read_back_from_disk_as_it_was_written():
    answer = Answer("SELECT 1", None, "m@1", 0.5, True, False, 7, 1.5)
    assert answer_from(json.loads(json.dumps(asdict(answer)))) == answer
    assert answer_from(asdict(Answer())) == answer_from({}) == Answer()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"colour": 1}, "unknown field 'colour'"),
        ({"predicted": 1}, "field 'predicted' must be text, is int"),
        ({"truncated": 1}, "field 'truncated' must be bool, is int"),
        ({"completion_tokens": True}, "field 'completion_tokens' must be int, is bool"),
        ({"confidence": math.nan}, "field 'confidence' must be within 0..1, is nan"),
        ({"confidence": 2}, "field 'confidence' must be within 0..1, is 2"),
    ],
)
def test_a_record_that_is_no_answer_is_refused_by_field(record, said):
    with pytest.raises(ValueError, match=said):
        answer_from(record)


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
        (COMPLETIONS, COMPLETIONS.body(QUESTION, Asked("spider", logprobs=True))),
        (CHAT, CHAT.body(QUESTION, Asked("spider"))),
        (raw(CHAT), CHAT.body(QUESTION, Asked("spider"))),
    ]
    keys = [request_key(*body) for body in bodies]
    assert len(set(keys)) == len(bodies)
    assert keys == [request_key(api, dict(reversed(body.items()))) for api, body in bodies]


def test_one_body_at_two_routes_has_two_keys():
    assert request_key(GENERATE, {"a": 1}) != request_key(COMPLETIONS, {"a": 1})
