"""The life of a version at one server: known as soon as it is published, used, pinned, let go."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from eval.task.bundle import WEIGHTS
from eval.task.store import read_aliases
from server.adapters.copies import Copies
from server.adapters.operations import Operations
from server.adapters.residency import WARN_SECONDS, Residency
from server.adapters.slots import fitted
from server.adapters.version_metrics import MAX_VERSIONS, OTHER, VersionMetrics
from server.errors import AdapterNotFound
from server.metrics import Metrics
from server.settings import Settings
from tests.conftest import QUESTION, make_table, publish_new


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


async def test_what_was_published_a_moment_ago_is_no_unknown_version(table, store):
    await table.refresh()
    new = publish_new(store, tag="two")
    assert (await table.choose(f"spider@{new}")).name == f"spider@{new}"
    publish_new(store, "other", tag="three")
    assert (await table.choose("other")).name.startswith("other@")


async def test_an_unknown_name_costs_the_store_no_more_than_a_look(table, engine, monkeypatch):
    await table.refresh()
    monkeypatch.setattr(table, "refresh", None)  # a call would raise
    for _ in range(3):
        with pytest.raises(AdapterNotFound):
            await table.choose("nope")


async def test_the_previous_version_is_served_by_its_name_to_who_comes_later(store, engine):
    old = read_aliases(store)["spider"].active
    publish_new(store, tag="two")
    table = make_table(store, engine)
    await table.refresh()
    assert (await table.choose(f"spider@{old}")).digest[:12] == old
    with pytest.raises(AdapterNotFound):
        await table.choose("spider@000000000000")


async def test_a_version_that_nothing_names_is_served_for_as_long_as_a_request_takes(
    store, engine, clock, tmp_path
):
    copies = Copies(tmp_path / "copies")
    table = make_table(store, engine, clock=clock, copies=copies)
    await table.refresh()
    first = read_aliases(store)["spider"].active
    for tag in ("two", "three"):
        publish_new(store, tag=tag)
    await table.refresh()
    clock.now = 119.0
    await table.refresh()
    assert table.find(f"spider@{first}")
    assert (copies.folder / first).is_dir()
    clock.now = 121.0
    await table.refresh()
    with pytest.raises(AdapterNotFound):
        table.find(f"spider@{first}")
    assert not (copies.folder / first).exists()


async def test_a_version_that_is_named_again_in_time_stays(store, engine, clock):
    table = make_table(store, engine, clock=clock)
    await table.refresh()
    first = read_aliases(store)["spider"].active
    for tag in ("two", "three"):
        publish_new(store, tag=tag)
    await table.refresh()
    Operations(store, "shell:test").promote("spider", first)
    await table.refresh()
    clock.now = 1000.0
    await table.refresh()
    assert table.find("spider").digest[:12] == first


async def test_a_roll_back_loads_nothing(table, store, engine):
    await table.refresh()
    publish_new(store, tag="two")
    await table.refresh()
    before = len(engine.asked)
    Operations(store, "shell:test").rollback("spider")
    await table.refresh()
    assert len(engine.asked) == before


async def test_a_copy_that_another_alias_serves_is_kept(store, engine, clock, tmp_path):
    copies = Copies(tmp_path / "copies")
    table = make_table(store, engine, clock=clock, copies=copies)
    short = publish_new(store, "other", tag="one")
    await table.refresh()
    Operations(store, "shell:test").withdraw("other")
    await table.refresh()
    clock.now = 1000.0
    await table.refresh()
    assert (copies.folder / short).is_dir()
    assert set(table.versions) == {"base", f"spider@{short}"}


async def test_an_engine_that_starts_anew_gets_what_was_used_last_first(table, store, engine):
    for alias in ("b", "c"):
        publish_new(store, alias)
    await table.refresh()
    for alias in ("c", "spider", "b"):
        await table.choose(alias)
    engine.asked.clear()
    await table.rewarm()
    assert [name.partition("@")[0] for name in engine.warmed] == ["b", "spider", "c"]
    assert [n.partition("@")[0] for n in table.residency.recent()] == ["b", "spider", "c"]


async def test_pinned_versions_are_used_before_the_engine_would_drop_them(store, engine):
    table = make_table(store, engine, slots=3)
    for alias in ("b", "c", "d"):
        publish_new(store, alias)
    Operations(store, "shell:test").pin("spider")
    await table.refresh()
    for alias in ("spider", "b", "c"):
        await table.choose(alias)
    engine.asked.clear()
    await table.keep_pinned()
    assert [name.partition("@")[0] for name in engine.warmed] == ["spider"]
    await table.keep_pinned()
    assert len(engine.warmed) == 1  # it is safe now


def test_the_engine_drops_what_was_used_longest_ago(clock):
    metrics = Metrics()
    residency = Residency(2, metrics, clock)
    with capture_logs() as logs:
        for name in ("a@1", "b@1", "a@1", "c@1"):
            residency.use(name)
    assert residency.recent() == ["c@1", "a@1"]
    assert metrics.adapter_evictions._value.get() == 1
    assert [(log["event"], log["dropped"]) for log in logs] == [("adapters_over_slots", "b@1")]
    assert metrics.by_version.residents.labels("b@1")._value.get() == 0


def test_an_engine_that_loads_all_the_time_is_said_once_a_minute(clock):
    residency = Residency(1, Metrics(), clock)
    with capture_logs() as logs:
        for number in range(10):
            residency.use(f"a@{number}")
        clock.now = WARN_SECONDS
        residency.use("b@1")
    assert len(logs) == 2


def test_series_of_versions_are_bounded_and_go_with_their_version():
    registry = CollectorRegistry()
    metrics = VersionMetrics(registry)
    for number in range(MAX_VERSIONS + 10):
        metrics.counted(f"a@{number}", "valid")
    text = generate_latest(registry).decode()
    assert text.count('outcome="valid"') == 2 * (MAX_VERSIONS + 1)  # with the times of creation
    assert f'model="{OTHER}",outcome="valid"}} 10.0' in text
    metrics.answered("a@1", "invalid", tokens=(3, 4), seconds=0.1, confidence=0.5)
    metrics.proved("a@1", 0.01)
    metrics.forget("a@1")
    assert 'model="a@1"' not in generate_latest(registry).decode()
    metrics.counted("new@1", "valid")
    assert 'model="new@1"' in generate_latest(registry).decode()


async def test_answers_are_counted_by_version(client, generator):
    await client.post("/generate-sql", json=QUESTION)
    await client.post("/v1/completions", json={"model": "spider", "prompt": "x"})
    name = generator.adapters.active["spider"].name
    requests = generator.metrics.by_version.requests
    assert requests.labels(name, "valid")._value.get() == 1
    assert requests.labels(name, "passed_on")._value.get() == 1


def settings_of(store: Path, **more: Any) -> Settings:
    return Settings(store=store, **more)


def test_slots_and_rank_follow_the_store(tmp_path, store):
    publish_new(store, "big", tag="big", rank=48)
    for number in range(20):
        publish_new(store, f"a{number}", tag=str(number))
    found = fitted(settings_of(store))
    assert (found.max_cpu_loras, found.max_lora_rank) == (22, 64)
    empty = fitted(settings_of(tmp_path / "none"))
    assert (empty.max_cpu_loras, empty.max_lora_rank) == (16, 32)


def test_settings_that_do_not_hold_the_store_are_kept_and_said(store):
    publish_new(store, "big", tag="big", rank=48)
    with capture_logs() as logs:
        found = fitted(settings_of(store, max_cpu_loras=1, max_lora_rank=32))
    assert (found.max_cpu_loras, found.max_lora_rank) == (1, 32)
    hints = {log["event"]: log["hint"] for log in logs}
    assert "SQLWRIGHT_MAX_CPU_LORAS=2" in hints["adapters_over_slots"]
    assert "SQLWRIGHT_MAX_LORA_RANK=64" in hints["rank_over_limit"]


@pytest.mark.parametrize("content", ["{", '{"rank": "9"}', '{"rank": 100000}', "[]"])
def test_a_manifest_that_is_none_asks_for_no_rank(store, content):
    short = read_aliases(store)["spider"].active
    (store / short / "sqlwright.json").write_text(content)
    assert fitted(settings_of(store)).max_lora_rank == 32


async def test_a_refusal_is_known_by_its_code_until_it_is_over(table, store):
    await table.refresh()
    new = publish_new(store, tag="two")
    os.truncate(store / new / WEIGHTS, 10)
    await table.refresh()
    assert table.refused[f"spider@{new}"].code == "tampered"
    Operations(store, "shell:test").rollback("spider")
    await table.refresh()
    assert table.refused == {}
