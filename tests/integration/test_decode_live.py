"""Decoding on a real engine: what is scored, what the grammar promises, what repairs do."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eval.task.base_model import cache_folder
from eval.task.bundle import read_version
from eval.task.example import Example
from eval.task.samples import sample_examples, sample_schema
from eval.task.sql import check_sql
from server.completions import Completion, Sampling
from server.engine import VllmEngine
from tests.integration.live import Live

# Two of each kind of question, from five databases.
IDS = frozenset(
    """
    shop-002 shop-032 shop-045 clinic-033 clinic-038 fleet-012 fleet-029 streaming-022 farm-045
    observatory-027
    """.split()
)
EXAMPLES = [example for example in sample_examples("test") if example.id in IDS]
MAX_TOKENS = 48


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)
def test_auto_gives_a_valid_answer_where_the_model_alone_may_not(live: Live, example: Example):
    asked = {"natural_language_query": example.question, "database": example.db_id}
    free = live.ask(**asked, decoding="free")
    auto = live.ask(**asked, decoding="auto")
    assert check_sql(auto["sql_query"], sample_schema(example.db_id)).valid
    assert auto["valid"] is True
    assert auto["repaired"] is not free["valid"]
    if free["valid"]:
        assert auto["sql_query"] == free["sql_query"]
    else:
        assert auto["decoding"] == "constrained"
        assert 0 < auto["masked_mass"] <= 1
    assert 0 < auto["confidence"] <= 1


def test_samples_are_put_to_the_vote(live: Live):
    answer = live.ask(n=3)
    assert answer["agreement"] in (1 / 3, 2 / 3, 1.0)
    again = live.ask(n=3)
    assert (again["sql_query"], again["agreement"]) == (answer["sql_query"], answer["agreement"])


@pytest.mark.parametrize("repair", ["continue", "agree"])
def test_every_repair_ends_in_a_valid_answer(live: Live, repair: str):
    question = {"natural_language_query": "Hosts of podcasts by country", "database": "streaming"}
    assert live.ask(**question, repair=repair)["valid"] is True


# The engine itself, behind its socket.


def on_engine(live: Live, ask: Callable[[VllmEngine], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        socket = cache_folder() / "run" / f"engine-{live.process.pid}.sock"
        engine = VllmEngine(socket=socket, timeout=300)
        try:
            return await ask(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


def asked_of(live: Live) -> tuple[str, str, int]:
    """The served version, a prompt in its own format, and its stop token."""
    name = live.active("spider")
    manifest = read_version(live.store, name.split("@")[1]).manifest
    prompt = manifest.prompt_format.render(sample_schema("shop"), "Names of all users")
    return name, prompt, 1  # <|im_start|> of the bundled adapter


def decoded_and_scored(live: Live, sampling: Sampling) -> tuple[Completion, tuple[float, ...]]:
    model, prompt, stop = asked_of(live)

    async def ask(engine: VllmEngine) -> tuple[Completion, tuple[float, ...]]:
        (found,) = await engine.complete(
            model, prompt, max_tokens=MAX_TOKENS, stop_token_ids=[stop], sampling=sampling
        )
        return found, await engine.score(model, found.prompt_ids, found.token_ids)

    found: tuple[Completion, tuple[float, ...]] = on_engine(live, ask)
    return found


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_free_completion_is_scored_as_it_was_decoded(live: Live, temperature: float):
    found, scores = decoded_and_scored(live, Sampling(temperature=temperature))
    assert found.finish_reason == "stop"
    assert len(scores) == len(found.logprobs) == len(found.token_ids)
    assert scores == pytest.approx(found.logprobs, abs=1e-2)


def test_a_mask_inflates_logprobs_and_the_score_does_not(live: Live):
    grammar = 'start: "SELECT " ("email" | "city") " FROM users" <[1]>'
    found, scores = decoded_and_scored(live, Sampling(grammar=grammar))
    assert found.text in ("SELECT email FROM users", "SELECT city FROM users")
    assert found.is_masked
    assert sum(found.logprobs) > sum(scores)
    assert all(own <= masked + 1e-2 for own, masked in zip(scores, found.logprobs, strict=True))
