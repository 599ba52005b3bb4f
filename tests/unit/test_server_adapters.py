"""The adapter table follows the store: a version is proved before its alias flips, and whatever is
wrong with it is said once while the old version goes on serving."""

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from eval.task.bundle import CONFIG, MANIFEST, WEIGHTS, bundle_digest
from eval.task.store import ALIASES, read_aliases
from server.adapters.__main__ import app as command
from server.adapters.admission import Admission
from server.errors import (
    AdapterNotFound,
    BadRequest,
    EngineFailed,
    EngineTimeout,
    NotReady,
    Unprocessable,
)
from server.metrics import Metrics
from tests.conftest import BASE_SHA256, FakeEngine, make_bundle, make_table, publish_new


def refusals(logs: list[Any]) -> list[Any]:
    return [entry for entry in logs if entry["event"] == "adapter_refused"]


def count(metrics: Metrics, outcome: str) -> float:
    value: float = metrics.adapter_loads.labels(outcome)._value.get()
    return value


def point(store: Path, **versions: object) -> None:
    """Write aliases.json by hand, over what is there."""
    found = {name: asdict(entry) for name, entry in read_aliases(store).items()}
    added = {name: {"active": version} for name, version in versions.items()}
    (store / ALIASES).write_text(json.dumps(found | added))


async def test_an_alias_is_found_by_name_and_by_version(table, store):
    await table.refresh()
    short = read_aliases(store)["spider"].active
    served = table.find("spider")
    assert served is table.find(f"spider@{short}")
    assert (served.name, served.digest[:12]) == (f"spider@{short}", short)
    assert table.find("base").manifest is None


async def test_a_version_is_warmed_with_one_token_before_anyone_finds_it(table, engine):
    engine.gate = asyncio.Event()
    running = asyncio.create_task(table.refresh())
    while not engine.asked:
        await asyncio.sleep(0.001)
    with pytest.raises(AdapterNotFound):
        table.find("spider")
    engine.gate.set()
    await running
    assert engine.warmed == [table.find("spider").name]


async def test_an_alias_flips_only_after_the_new_version_is_warm(table, engine, store):
    await table.refresh()
    old = table.find("spider")
    new = publish_new(store, tag="two")
    engine.gate = asyncio.Event()
    running = asyncio.create_task(table.refresh())
    while len(engine.asked) < 2:
        await asyncio.sleep(0.001)
    assert table.find("spider") is old
    engine.gate.set()
    await running
    assert table.find("spider").name == f"spider@{new}"
    assert table.find(old.name) is old


async def test_a_roll_back_flips_to_the_old_version(table, store):
    old = read_aliases(store)["spider"].active
    publish_new(store, tag="two")
    await table.refresh()
    point(store, spider=old)
    await table.refresh()
    assert table.find("spider").name == f"spider@{old}"


async def test_what_is_served_is_not_loaded_again(table, engine, store):
    for _ in range(3):
        await table.refresh()
    point(store, second=read_aliases(store)["spider"].active)
    await table.refresh()
    assert engine.warmed == [table.find("spider").name, table.find("second").name]
    assert count(table.metrics, "served") == 2
    assert table.metrics.adapters._value.get() == 2


async def test_an_empty_or_missing_store_serves_the_base_only(tmp_path, engine):
    table = make_table(tmp_path / "none", engine)
    with capture_logs() as logs:
        await table.refresh()
    assert (table.active, logs, engine.asked) == ({}, [], [])


Spoil = Callable[[Path, str], object]


def drop(name: str) -> Spoil:
    return lambda store, short: (store / short / name).unlink()


def rewrite(**changes: object) -> Spoil:
    """Change the manifest and move the folder to its new digest, as a careful forger would."""

    def spoil(store: Path, short: str) -> None:
        path = store / short / MANIFEST
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        new = bundle_digest(store / short)[:12]
        (store / short).rename(store / new)
        point(store, spider=new)

    return spoil


def append(name: str) -> Spoil:
    def spoil(store: Path, short: str) -> None:
        path = store / short / name
        path.write_bytes(path.read_bytes() + b" ")

    return spoil


def link(store: Path, short: str) -> None:
    moved = store.parent / "outside"
    (store / short / WEIGHTS).rename(moved)
    (store / short / WEIGHTS).symlink_to(moved)


def fifo(store: Path, short: str) -> None:
    (store / short / CONFIG).unlink()
    os.mkfifo(store / short / CONFIG)


def text(content: str) -> Spoil:
    return lambda store, short: (store / short / MANIFEST).write_text(content)


# What is done to the second version, and a word of the reason that is logged.
SPOILT: dict[str, tuple[Spoil, str]] = {
    "no folder": (lambda store, short: shutil.rmtree(store / short), "missing"),
    "no manifest": (drop(MANIFEST), "incomplete"),
    "no weights": (drop(WEIGHTS), "incomplete"),
    "weights link": (link, "not_regular"),
    "config fifo": (fifo, "not_regular"),
    "weights changed": (append(WEIGHTS), "tampered"),
    "config changed": (append(CONFIG), "tampered"),
    "manifest changed": (append(MANIFEST), "tampered"),
    "manifest no json": (text("{"), MANIFEST),
    "manifest deep": (text("[" * 100_000), MANIFEST),
    "manifest huge": (text(" " * (1 << 21)), "too_large"),
    "unknown field": (rewrite(auto_map={}), "auto_map"),
    "format 2": (rewrite(format_version=2), "format"),
    "wrong base": (rewrite(base_model_sha256="c" * 64), "wrong_base"),
    "rank 64": (rewrite(rank=64), "rank_too_high"),
    "head": (rewrite(target_modules=["q_proj", "lm_head"]), "unsupported_modules"),
    "rank text": (rewrite(rank="8"), ""),
    "rank null": (rewrite(rank=None), ""),
    "files list": (rewrite(files=[]), ""),
    "files null": (rewrite(files=None), ""),
    "template number": (rewrite(prompt_template=5), ""),
    "template bare": (rewrite(prompt_template="{schema}"), "question"),
    "serialisation": (rewrite(serialisation="xml"), "xml"),
    "dialect": (rewrite(dialect="klingon"), "klingon"),
    "dialect null": (rewrite(dialect=None), ""),
}


@pytest.mark.parametrize("name", SPOILT)
async def test_a_spoilt_version_is_refused_once_and_the_old_one_serves_on(
    table, engine, store, name
):
    await table.refresh()
    old = table.find("spider")
    spoil, reason = SPOILT[name]
    spoil(store, publish_new(store, tag="two"))
    with capture_logs() as logs:
        for _ in range(3):
            await table.refresh()
    (entry,) = logs
    assert (entry["event"], entry["alias"]) == ("adapter_refused", "spider")
    assert entry["reason"]
    assert reason in entry["reason"]
    assert entry["still_serving"] == old.name
    assert table.find("spider") is old
    assert engine.warmed == [old.name]
    assert count(table.metrics, "refused") == 1


@pytest.mark.parametrize("failure", [BadRequest("no"), EngineFailed("404"), EngineTimeout("slow")])
async def test_a_version_that_the_engine_refuses_is_not_served(table, engine, store, failure):
    await table.refresh()
    old = table.find("spider")
    new = publish_new(store, tag="two")
    engine.fail(failure, f"spider@{new}")
    with capture_logs() as logs:
        for _ in range(3):
            await table.refresh()
    assert [entry["version"] for entry in refusals(logs)] == [new]
    assert table.find("spider") is old
    with pytest.raises(AdapterNotFound):
        table.find(f"spider@{new}")


async def test_no_alias_takes_the_base_models_name(table, store):
    short = read_aliases(store)["spider"].active
    point(store, base=short)
    with capture_logs() as logs:
        await table.refresh()
    (entry,) = refusals(logs)
    assert (entry["alias"], entry["reason"].split(":")[0]) == ("base", "illegal_name")
    assert table.find("base").manifest is None
    assert set(table.active) == {"spider"}


async def test_one_bad_alias_does_not_keep_the_others_from_being_served(table, store):
    point(store, aaa="0" * 12, zzz="1" * 12)
    with capture_logs() as logs:
        await table.refresh()
    assert set(table.active) == {"spider"}
    assert len(refusals(logs)) == 2


async def test_another_fault_of_the_same_version_is_said_too(table, store):
    new = publish_new(store, tag="two")
    append(WEIGHTS)(store, new)
    with capture_logs() as logs:
        await table.refresh()
        drop(WEIGHTS)(store, new)
        await table.refresh()
    assert [entry["reason"].split(":")[0] for entry in refusals(logs)] == ["tampered", "incomplete"]


async def test_a_version_that_was_half_written_is_served_when_it_is_whole(table, store):
    new = publish_new(store, tag="two")
    shutil.move(store / new / MANIFEST, store / "aside")
    await table.refresh()
    assert "spider" not in table.active
    shutil.move(store / "aside", store / new / MANIFEST)
    await table.refresh()
    assert table.find("spider").name == f"spider@{new}"


async def test_while_the_engine_is_down_a_version_waits_in_silence(table, engine):
    engine.fail(NotReady("down"))
    with capture_logs() as logs:
        await table.refresh()
    assert (table.active, refusals(logs)) == ({}, [])
    engine.failures.clear()
    await table.refresh()
    assert "spider" in table.active


async def test_a_withdrawn_alias_is_served_no_more(table, store):
    await table.refresh()
    (store / ALIASES).write_text("{}")
    with capture_logs() as logs:
        await table.refresh()
    assert [entry["event"] for entry in logs] == ["adapter_withdrawn"]
    with pytest.raises(AdapterNotFound):
        table.find("spider")
    assert table.metrics.adapters._value.get() == 0


async def test_a_store_that_is_gone_changes_nothing_and_is_said_once(table, store):
    await table.refresh()
    store.rename(store.with_name("elsewhere"))
    with capture_logs() as logs:
        for _ in range(3):
            await table.refresh()
    (entry,) = refusals(logs)
    assert "is gone" in entry["reason"]
    assert "spider" in table.active


async def test_two_refreshes_at_once_adopt_a_version_once(table, engine):
    with capture_logs() as logs:
        await asyncio.gather(table.refresh(), table.refresh(), table.rewarm())
    assert [entry["event"] for entry in logs] == ["adapter_served", "adapter_active"]
    assert len(engine.warmed) == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        " " * (1 << 21),
        "\xff",
        '{"spider": 5}',
        '{"spider": {}}',
        '{"spider": []}',
        '{"spider": {"x": 1}}',
        '{"spider": {"active": null}}',
        '{"spider": {"active": 5}}',
        '{"spider": {"active": "../../etc"}}',
        '{"spider": {"active": "0123456789abcdef"}}',
        '{"../x": {"active": "0123456789ab"}}',
        '{"/etc": {"active": "0123456789ab"}}',
        '{".hidden": {"active": "0123456789ab"}}',
        '{"CON": {"active": "0123456789ab"}}',
        '{"\\u0455pider": {"active": "0123456789ab"}}',
        '{"": {"active": "0123456789ab"}}',
    ],
    ids=lambda content: content[:40],
)
async def test_malformed_aliases_change_nothing_and_are_said_once_each_time(table, store, content):
    await table.refresh()
    good = (store / ALIASES).read_text()
    with capture_logs() as logs:
        for _ in range(2):
            (store / ALIASES).write_text(content, encoding="latin-1")
            await table.refresh()
            await table.refresh()
            (store / ALIASES).write_text(good)
            await table.refresh()
    assert [entry["alias"] for entry in refusals(logs)] == [ALIASES, ALIASES]
    assert "spider" in table.active


async def test_after_a_restart_what_was_served_is_loaded_again(table, engine, store):
    await table.refresh()
    old = table.find("spider").name
    engine.asked.clear()
    new = publish_new(store, alias="bird", tag="two")
    await table.rewarm()
    assert engine.warmed == [old, f"bird@{new}"]


async def test_a_version_that_fails_to_load_again_does_not_keep_the_next_from_it(
    table, engine, store
):
    publish_new(store, alias="zebra", tag="two")
    await table.refresh()
    engine.fail(EngineFailed("no"), table.find("spider").name)
    engine.asked.clear()
    with capture_logs() as logs:
        await table.rewarm()
    assert engine.warmed == [table.find("zebra").name, table.find("spider").name]
    assert [entry["event"] for entry in logs] == ["adapter_rewarm_failed"]


@pytest.mark.parametrize("name", ["", "../x", "/etc", "Spider", "a@b", "spider@" + "G" * 12, "a\0"])
def test_a_name_that_no_model_can_have_is_unprocessable(tmp_path, name):
    table = make_table(tmp_path, FakeEngine())
    with pytest.raises(Unprocessable):
        table.find(name)


async def test_the_watch_makes_the_store_and_follows_it_until_it_is_cancelled(tmp_path, engine):
    table = make_table(tmp_path / "new", engine, admission=Admission(BASE_SHA256))
    watching = asyncio.create_task(table.watch(0.2))
    while not table.store.exists():
        await asyncio.sleep(0.01)
    short = await asyncio.to_thread(publish_new, table.store)
    while "spider" not in table.active:
        assert not watching.done()
        await asyncio.sleep(0.01)
    assert table.find("spider").name == f"spider@{short}"
    (table.store / ALIASES).write_text("{")
    await asyncio.sleep(0.3)
    assert not watching.done()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


def run(*words: object) -> Any:
    return CliRunner().invoke(command, [str(word) for word in words])


def test_the_command_publishes_a_bundle_and_lists_it(tmp_path):
    store, bundle = tmp_path / "store", make_bundle(tmp_path / "bundle")
    published = run("publish", bundle, "spider", "--store", store)
    short = read_aliases(store)["spider"].active
    assert (published.exit_code, published.stdout) == (0, f"spider@{short}\n")
    listed = json.loads(run("list", "--store", store, "--json").stdout)
    assert listed["spider"]["active"] == short
    assert "whole" in run("list", "--store", store).stdout
    append(WEIGHTS)(store, short)
    assert "tampered" in run("list", "--store", store).stdout


@pytest.mark.parametrize("alias", ["../x", "Spider"])
def test_the_command_refuses_in_one_line(tmp_path, alias):
    bundle = make_bundle(tmp_path / "bundle")
    for words in (("publish", bundle, alias), ("publish", tmp_path / "none", "spider")):
        result = run(*words, "--store", tmp_path / "store")
        assert result.exit_code == 1
        assert result.stderr.startswith("sqlwright-adapters: error: ")


def test_the_command_validates_a_bundle(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    short = bundle_digest(bundle)[:12]
    done = run("validate", bundle)
    assert (done.exit_code, done.stdout) == (0, f"admitted: {short}, rank 8 on q_proj\n")
    assert json.loads(run("validate", bundle, "--json").stdout)["admitted"] is True
    for words in (("--max-rank", 4), ("--base", tmp_path)):
        done = run("validate", bundle, "--json", *words)
        assert done.exit_code == 1
        found = json.loads(done.stdout)
        assert (found["admitted"], found["message"] in done.stderr) == (False, True)
    append(WEIGHTS)(tmp_path, "bundle")
    done = run("validate", bundle)
    assert done.exit_code == 1
    assert done.stderr.startswith("sqlwright-adapters: error: tampered: ")
