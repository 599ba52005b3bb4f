"""The ways to get answers, on a real server with a real vLLM: every route, versions, the cache."""

import asyncio
from pathlib import Path

import pytest

from eval.ask.api import APIS, Answer, Asked, Body, request_key
from eval.ask.cache import open_cache
from eval.ask.client import ask_all
from eval.ask.connection import Server, ServerError
from eval.ask.models import resolve_model
from eval.dataset import open_dataset
from eval.task.bundle import read_version
from tests.integration.live import Live


def ask(live: Live, api: str, asked: Asked, num_questions: int = 3) -> dict[str, Answer]:
    """The answers to the first questions of the samples, by the key of their request."""
    with open_dataset("samples", limit=num_questions) as dataset:
        bodies = [APIS[api].body(question, asked) for question in dataset.questions]
    keyed: dict[str, Body] = {request_key(APIS[api], body): body for body in bodies}
    answers: dict[str, Answer] = {}
    asyncio.run(ask_all(Server(live.url), APIS[api], keyed, answers.__setitem__))
    assert answers.keys() == keyed.keys()
    return answers


@pytest.fixture(scope="module")
def generated(live: Live) -> dict[str, Answer]:
    return ask(live, "generate-sql", Asked("spider"))


@pytest.fixture(scope="module")
def completed(live: Live) -> dict[str, Answer]:
    version = read_version(live.store, live.active("spider").split("@")[1])
    prompt = version.manifest.prompt_format
    return ask(live, "completions", Asked("spider", 64, logprobs=True, prompt_format=prompt))


def test_generate_sql_answers_with_version_and_confidence(
    live: Live, generated: dict[str, Answer]
) -> None:
    for answer in generated.values():
        assert (answer.error, answer.model) == (None, resolve_model(Server(live.url), "spider"))
        assert answer.confidence is not None
        assert answer.completion_tokens


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_the_openai_routes_give_a_confidence_where_it_is_wanted(live: Live, api: str) -> None:
    for wanted in (True, False):
        asked = Asked("base", max_tokens=8, logprobs=wanted)
        (answer,) = ask(live, api, asked, num_questions=1).values()
        assert (answer.error, answer.model, answer.truncated) == (None, "base", True)
        assert 0 < (answer.completion_tokens or 0) <= 8
        assert (answer.confidence is not None) == wanted
        assert not wanted or 0 < (answer.confidence or 0) < 1


def test_completions_and_generate_sql_agree_on_the_adapter(
    generated: dict[str, Answer], completed: dict[str, Answer]
) -> None:
    """Both send one prompt; vLLM's batches may move the last digits."""
    pairs = list(zip(generated.values(), completed.values(), strict=True))
    whole = [(ours, plain) for ours, plain in pairs if not ours.truncated]
    assert whole
    for ours, plain in whole:
        assert plain.completion_tokens == ours.completion_tokens
        assert plain.confidence == pytest.approx(ours.confidence, rel=0.05)


def test_a_missing_model_is_said_with_those_that_are_there(live: Live) -> None:
    for api in APIS:
        with pytest.raises(ServerError, match="no adapter 'spidr'") as caught:
            ask(live, api, Asked("spidr"))
        assert f"the server offers spider, {live.active('spider')}" in str(caught.value)


def test_a_field_that_is_not_taken_is_named(live: Live) -> None:
    with pytest.raises(ServerError, match="422: unknown field 'reasoning_effort'"):
        ask(live, "chat", Asked("base", extra={"reasoning_effort": "low"}))


def test_the_cache_knows_the_version_behind_an_alias(
    live: Live, completed: dict[str, Answer], tmp_path: Path
) -> None:
    server = Server(live.url)
    whole = {key: answer for key, answer in completed.items() if not answer.truncated}
    assert whole
    with open_cache(tmp_path, server, "spider") as cache:
        assert cache.model == live.active("spider")
        for key, answer in completed.items():
            cache.put(key, answer)
    with open_cache(tmp_path, server, live.active("spider")) as cache:
        found = {key: cache.get(key) for key in completed}
    assert {key: answer for key, answer in found.items() if answer} == whole


def test_without_a_name_the_cache_says_which_there_are(live: Live, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="name a model by --model: the server offers"):
        open_cache(tmp_path, Server(live.url), None)
