"""Suggestions come with the answer, in time or not at all."""

import threading

import pytest
from structlog.testing import capture_logs

from eval.task.samples import sample_schema
from server import advice
from server.advice import MAX_WAITING, Adviser
from tests.unit.test_server_generate import answer_to

SHOP = sample_schema("shop")
STAR = "SELECT * FROM users"


async def advise(adviser: Adviser) -> list[str]:
    return [str(found.kind) for found in await adviser.advise(STAR, SHOP, "sqlite")]


async def test_a_valid_answer_comes_with_what_may_be_better_said(client, engine):
    engine.enqueue(STAR)
    (found,) = (await answer_to(client))["suggestions"]
    assert found["kind"] == "select_star"
    assert "email" in found["rewrite"]
    assert set(found) == {
        "kind", "message", "clause", "rewrite", "proof", "num_databases", "assumes", "verdict",
    }  # fmt: skip


async def test_a_budget_of_none_turns_it_off():
    assert await advise(Adviser(0)) == []
    assert await advise(Adviser(20)) == ["select_star"]


@pytest.fixture
def held(monkeypatch):
    """`suggest` waits until the event is set."""
    event = threading.Event()

    def wait(*_: object, **__: object) -> tuple[()]:
        event.wait(10)
        return ()

    monkeypatch.setattr(advice, "suggest", wait)
    yield event
    event.set()


async def test_what_takes_too_long_is_not_waited_for(held):
    assert await advise(Adviser(1)) == []


async def test_while_others_wait_further_answers_go_without(held, monkeypatch):
    adviser = Adviser(1)
    for _ in range(MAX_WAITING):
        await advise(adviser)
    monkeypatch.setattr(Adviser, "_suggest", None)  # not even asked
    assert await advise(adviser) == []


async def test_when_they_are_done_answers_are_advised_again(held):
    adviser = Adviser(1)
    for _ in range(MAX_WAITING):
        await advise(adviser)
    held.set()
    adviser._thread.shutdown(wait=True)
    again = Adviser(20)
    assert await advise(again) == []  # the stand-in's own answer
    assert again._waiting == 0


async def test_a_failure_is_logged_and_costs_no_answer(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise TypeError("odd tree")

    monkeypatch.setattr(advice, "suggest", fail)
    with capture_logs() as logs:
        assert await advise(Adviser(20)) == []
    assert [entry["event"] for entry in logs] == ["suggest_failed"]
