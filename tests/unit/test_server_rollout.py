"""Shadow and canary: who is asked what, what is kept of it, and what the evidence then does."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from eval.task.audit import read_last
from eval.task.bundle import WEIGHTS
from eval.task.store import add_version, read_aliases
from server.adapters.evidence import Evidence
from server.adapters.operations import Mode, Operations
from server.adapters.sequential import Rules
from server.adapters.table import AdapterTable
from server.errors import EngineFailed, NotReady
from server.rollout import MAX_TASKS, Rollouts
from tests.conftest import GOOD_SQL, QUESTION, Ask, FakeEngine, make_bundle, make_client

RULES = Rules(min_pairs=5, max_pairs=400)


@pytest.fixture
def two(store, tmp_path):
    """A version in the store that no alias names."""
    return add_version(make_bundle(tmp_path / "two", tag="two"), store).short


@pytest.fixture
def operate(store):
    return Operations(store, "shell:test")


@pytest.fixture
def rollouts(table):
    return Rollouts(table, RULES)


@pytest.fixture
async def asking(generator, rollouts):
    async with make_client(replace(generator, rollouts=rollouts)) as client:
        yield client


async def ask(client: httpx.AsyncClient, count: int = 1, **fields: Any) -> list[Any]:
    """The versions that answered `count` questions; what went on behind them has ended."""
    models = []
    for number in range(count):
        body = QUESTION | {"user": f"user {number}"} | fields
        response = await client.post("/generate-sql", json=body)
        models.append(response.json().get("model"))
        while pending := [t for t in asyncio.all_tasks() if "Rollouts" in str(t.get_coro())]:
            await asyncio.wait(pending)
    return models


async def begin(
    table: AdapterTable,
    operate: Operations,
    mode: Mode,
    version: str,
    share: float = 1.0,
    **more: Any,
) -> None:
    operate.try_out(mode, "spider", version, share, **more)
    await table.refresh()


def asked_of(engine: FakeEngine, version: str) -> list[Ask]:
    return [ask for ask in engine.questions if ask.model.endswith(version)]


async def test_a_shadow_is_asked_the_same_after_its_asker_has_the_answer(
    asking, table, operate, engine, two, store
):
    await begin(table, operate, "shadow", two)
    old = read_aliases(store)["spider"].active
    assert await ask(asking, 3) == [f"spider@{old}"] * 3
    assert len(asked_of(engine, two)) == 3
    assert asked_of(engine, two)[0].text == asked_of(engine, old)[0].text


async def test_a_shadow_is_asked_its_share(asking, table, operate, engine, two, monkeypatch):
    await begin(table, operate, "shadow", two, share=0.25)
    draws = iter([0.1, 0.3, 0.24, 0.9])
    monkeypatch.setattr(random, "random", lambda: next(draws))
    await ask(asking, 4)
    assert len(asked_of(engine, two)) == 2


async def test_a_shadow_that_fails_costs_nobody_an_answer(
    asking, table, operate, engine, rollouts, two, store
):
    await begin(table, operate, "shadow", two)
    engine.fail(EngineFailed("no"), f"spider@{two}")
    assert None not in await ask(asking, 6)
    await rollouts.flush()
    (found,) = Evidence(store).report("spider")["rollouts"]
    assert found["arms"]["candidate"]["failed"]["value"] == 1.0
    assert found["arms"]["active"]["usable"]["value"] == 1.0


async def test_an_engine_that_is_down_says_nothing_of_a_candidate(
    asking, table, operate, engine, rollouts, two, store
):
    await begin(table, operate, "shadow", two)
    engine.fail(NotReady("down"), f"spider@{two}")
    await ask(asking, 3)
    await rollouts.flush()
    (found,) = Evidence(store).report("spider")["rollouts"]
    assert found["observations"] == 0


async def test_a_canary_answers_its_share_and_each_asker_alike(asking, table, operate, two, store):
    await begin(table, operate, "canary", two, share=0.3)
    first = await ask(asking, 60)
    assert 8 <= first.count(f"spider@{two}") <= 30
    assert await ask(asking, 60) == first


async def test_an_asker_of_a_canary_keeps_it_when_the_share_grows(asking, table, operate, two):
    await begin(table, operate, "canary", two, share=0.2)
    few = await ask(asking, 40)
    await begin(table, operate, "canary", two, share=0.6)
    many = await ask(asking, 40)
    candidate = f"spider@{two}"
    assert all(later == candidate for now, later in zip(few, many, strict=True) if now == candidate)
    assert many.count(candidate) > few.count(candidate)


async def test_a_version_that_is_named_is_no_part_of_a_canary(asking, table, operate, two, store):
    old = read_aliases(store)["spider"].active
    await begin(table, operate, "canary", two, share=0.9)
    assert await ask(asking, 2, model=f"spider@{old}") == [f"spider@{old}"] * 2


async def test_a_worse_candidate_is_rolled_back_by_its_evidence(
    asking, table, operate, engine, rollouts, two, store
):
    await begin(table, operate, "shadow", two)
    old = read_aliases(store)["spider"].active
    engine.fail(EngineFailed("no"), f"spider@{two}")
    with capture_logs() as logs:
        for _ in range(10):
            await ask(asking, 5)
            await rollouts.flush()
    entry = read_aliases(store)["spider"]
    assert (entry.active, entry.candidate) == (old, None)
    assert [log["verdict"] for log in logs if log["event"] == "rollout_decided"] == ["roll_back"]
    (line, *_) = read_last(store, 1)
    assert (line["actor"], line["action"]) == ("rollout", "roll_back")
    (found,) = Evidence(store).report("spider")["rollouts"]
    assert (found["verdict"], found["actor"]) == ("roll_back", "rollout")
    assert table.metrics.rollouts.labels("roll_back")._value.get() == 1


async def test_an_equal_candidate_is_promoted_and_the_old_version_kept(
    asking, table, operate, rollouts, two, store
):
    await begin(table, operate, "shadow", two)
    old = read_aliases(store)["spider"].active
    for _ in range(20):
        await ask(asking, 10)
        await rollouts.flush()
    entry = read_aliases(store)["spider"]
    assert (entry.active, entry.previous) == (two, old)
    assert await ask(asking) == [f"spider@{two}"]


async def test_a_rollout_by_hand_is_followed_but_not_decided(
    asking, table, operate, engine, rollouts, two, store
):
    await begin(table, operate, "shadow", two, automatic=False)
    engine.fail(EngineFailed("no"), f"spider@{two}")
    for _ in range(5):
        await ask(asking, 5)
        await rollouts.flush()
    assert read_aliases(store)["spider"].shadow == two
    (found,) = Evidence(store).report("spider")["rollouts"]
    assert (found["state"], found["verdict"]) == ("roll_back", None)


async def test_a_candidate_that_is_refused_is_rolled_back_at_once(
    table, operate, rollouts, two, store
):
    weights = store / two / WEIGHTS
    weights.write_bytes(weights.read_bytes() + b" ")
    await begin(table, operate, "canary", two, share=0.9)
    await rollouts.flush()
    assert read_aliases(store)["spider"].candidate is None
    assert "tampered" in read_last(store, 1)[0]["detail"]


async def test_two_servers_decide_once(asking, table, operate, engine, rollouts, two, store):
    await begin(table, operate, "shadow", two)
    engine.fail(EngineFailed("no"), f"spider@{two}")
    other = Rollouts(table, RULES)
    await ask(asking, 40)
    await asyncio.gather(rollouts.flush(), other.flush())
    assert [line["action"] for line in read_last(store, 10)].count("roll_back") == 1


async def test_evidence_that_cant_be_written_is_said_and_answers_go_on(
    asking, table, operate, rollouts, two, store
):
    await begin(table, operate, "shadow", two)
    (store / "rollouts.sqlite").write_bytes(b"no database" * 100)
    await ask(asking, 2)
    with capture_logs() as logs:
        await rollouts.flush()
    assert [log["event"] for log in logs] == ["rollout_not_followed"]
    assert None not in await ask(asking, 2)


async def test_shadows_wait_for_nobody_and_are_dropped_where_there_are_many(
    asking, table, operate, engine, two
):
    await begin(table, operate, "shadow", two)
    gate = asyncio.Event()
    complete = engine.complete

    async def slow(model, prompt, **more):
        if model.endswith(two):
            await gate.wait()
        return await complete(model, prompt, **more)

    engine.complete = slow
    for _ in range(MAX_TASKS + 3):
        assert (await asking.post("/generate-sql", json=QUESTION)).status_code == 200
    assert table.metrics.trials.labels("dropped")._value.get() == 3
    gate.set()


async def test_answers_that_differ_are_told_from_those_that_agree(
    asking, table, operate, engine, rollouts, two, store
):
    await begin(table, operate, "shadow", two)
    for sql in (GOOD_SQL, "SELECT name FROM users", GOOD_SQL, "SELECT email FROM users"):
        engine.enqueue(sql)
    await ask(asking, 2)
    await rollouts.flush()
    (found,) = Evidence(store).report("spider")["rollouts"]
    assert (found["compared"], found["agreement"]) == (2, 0.5)


async def test_a_repaired_answer_is_no_merit_of_its_version(
    asking, table, operate, engine, rollouts, two, store
):
    await begin(table, operate, "shadow", two)
    for sql in (GOOD_SQL, "SELECT nothing FROM nowhere", GOOD_SQL):
        engine.enqueue(sql)  # the candidate's own, and what its repair finds
    await ask(asking)
    await rollouts.flush()
    (found,) = Evidence(store).report("spider")["rollouts"]
    assert found["arms"]["active"]["usable"]["value"] == 1.0
    assert found["arms"]["candidate"]["usable"]["value"] == 0.0
    assert found["agreement"] == 1.0
