"""Collection: what an alias names stays, what is young stays, the rest goes oldest first."""

import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.task.audit import read_last
from eval.task.bundle import WEIGHTS, BundleError, put_evidence, read_bundle, read_version
from eval.task.store import ALIASES, Alias, add_version, locked, read_aliases, write_aliases
from server.adapters.collection import (
    DAY,
    LEFTOVER_AGE,
    Policy,
    bytes_over,
    collect,
    size_of,
    stored_versions,
)
from tests.conftest import make_bundle, publish_new


def aged(path: Path, seconds: float) -> Path:
    then = time.time() - seconds
    for each in (*path.rglob("*"), path):
        os.utime(each, (then, then))
    return path


def add(store: Path, tag: str, age: float = 2 * DAY) -> str:
    """A version that no alias names, put there `age` seconds ago."""
    short = add_version(make_bundle(store.parent / f"made-{tag}", tag), store).short
    aged(store / short, age)
    return short


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one alias whose only version is old."""
    folder = tmp_path / "store"
    aged(folder / publish_new(folder, tag="active"), 9 * DAY)
    return folder


def shorts(found) -> list[str]:
    return [version.short for version in found.removed]


def test_what_no_alias_names_goes_and_is_in_the_audit_log(store):
    one, two = add(store, "1", 3 * DAY), add(store, "2")
    active = read_aliases(store)["spider"].active
    found = collect(store, Policy(), "shell:me")
    assert shorts(found) == [one, two]
    assert sorted(p.name for p in store.iterdir() if p.is_dir()) == [active]
    (line,) = read_last(store, 1)
    assert (line["actor"], line["action"]) == ("shell:me", "collect")
    assert one in line["detail"] and two in line["detail"]


@pytest.mark.parametrize("role", ["previous", "canary", "shadow"])
def test_a_version_that_an_alias_names_stays_however_old(store, role):
    short = add(store, "other", 99 * DAY)
    entry = read_aliases(store)["spider"]
    fields: dict[str, Any] = {role: short, "share": 0.0 if role == "previous" else 0.1}
    write_aliases(store, {"spider": replace(entry, **fields)})
    assert collect(store, Policy(min_age=0), "me").removed == ()
    assert read_version(store, short)


def test_a_young_version_stays_even_over_the_quota(store):
    short = add(store, "young", DAY - 60)
    found = collect(store, Policy(max_bytes=1), "me")
    assert (found.removed, found.is_within) == ((), False)
    assert read_version(store, short)


def test_the_oldest_go_first_until_the_store_is_within_its_quota(store):
    new, oldest, old = add(store, "a", 2 * DAY), add(store, "b", 4 * DAY), add(store, "c", 3 * DAY)
    each = size_of(store / new)
    found = collect(store, Policy(max_bytes=size_of(store) - each - 1), "me")
    assert shorts(found) == [oldest, old]
    assert found.is_within and found.freed == 2 * each
    assert (store / new).is_dir()
    audit = (store / "audit.jsonl").stat().st_size
    assert size_of(store) - found.size <= audit


def test_nothing_goes_from_a_store_that_is_within_its_quota(store):
    add(store, "1")
    assert collect(store, Policy(max_bytes=size_of(store)), "me").removed == ()


def test_a_dry_run_says_the_same_and_touches_nothing(store):
    short = add(store, "1")
    aged(_leftover(store, ".staging-x"), 2 * LEFTOVER_AGE)
    before = sorted(store.rglob("*"))
    planned = collect(store, Policy(), "me", dry_run=True)
    assert (shorts(planned), planned.leftovers) == ([short], 1)
    assert sorted(store.rglob("*")) == before
    done = collect(store, Policy(), "me")
    assert (shorts(done), done.leftovers, done.size) == ([short], 1, planned.size)


def _leftover(store: Path, name: str) -> Path:
    (store / name).mkdir()
    (store / name / WEIGHTS).write_bytes(b"half")
    return store / name


@pytest.mark.parametrize("name", [".staging-abc", ".removing-0123456789ab-7"])
def test_what_killed_processes_left_goes_when_nobody_has_written_it_for_an_hour(store, name):
    folder = aged(_leftover(store, name), LEFTOVER_AGE + 60)
    fresh = _leftover(store, f"{name}0")
    slow = aged(_leftover(store, f"{name}1"), LEFTOVER_AGE + 60)
    os.utime(slow / WEIGHTS)  # a large file that is still being copied
    assert collect(store, Policy(), "me").leftovers == 1
    assert [path.exists() for path in (folder, fresh, slow)] == [False, True, True]


def test_what_is_not_the_stores_own_is_left_alone(store, tmp_path):
    aged(_leftover(store, "notes"), 9 * DAY)
    target = aged(_leftover(tmp_path, "elsewhere"), 9 * DAY)
    (store / "0123456789ab").symlink_to(target)
    collect(store, Policy(min_age=0), "me")
    assert (store / "notes" / WEIGHTS).exists()
    assert (target / WEIGHTS).exists() and (store / "0123456789ab").is_symlink()


@pytest.mark.parametrize("text", [None, "{", '{"spider": {}}'])
def test_nothing_goes_where_the_aliases_cant_be_read(store, text):
    add(store, "1")
    (store / ALIASES).unlink()
    if text:
        (store / ALIASES).write_text(text)
    before = sorted(store.rglob("*"))
    with pytest.raises(BundleError, match=ALIASES):
        collect(store, Policy(), "me")
    assert sorted(store.rglob("*")) == before


def test_a_version_is_never_seen_half(store, monkeypatch):
    """A collector that is killed while it deletes leaves the version whole or not there."""
    short = add(store, "1")

    def killed(folder, **_):
        raise SystemExit(9)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(SystemExit):
        collect(store, Policy(), "me")
    monkeypatch.undo()
    assert not (store / short).exists()
    assert short in read_last(store, 1)[0]["detail"]
    assert collect(store, Policy(), "me").leftovers == 1
    assert list(store.glob(".removing-*")) == []


def test_what_was_removed_before_a_fault_is_in_the_audit_log(store, monkeypatch):
    one, two = add(store, "1", 3 * DAY), add(store, "2")
    rename = Path.rename

    def fail(path, target):
        if path.name == two:
            raise PermissionError(13, "no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(PermissionError):
        collect(store, Policy(), "me")
    assert one in read_last(store, 1)[0]["detail"]
    assert two not in read_last(store, 1)[0]["detail"]
    assert (store / two).is_dir()


def test_a_version_that_is_named_while_the_collector_waits_is_kept(store):
    short = add(store, "1")
    with locked(store):
        collector = threading.Thread(target=collect, args=(store, Policy(), "me"))
        collector.start()
        collector.join(0.05)  # it has come to the lock, or comes later: the outcome is the same
        write_aliases(store, {**read_aliases(store), "other": Alias(short)})
    collector.join()
    assert read_version(store, short)


def test_versions_are_listed_with_who_names_them(store):
    short = add(store, "1", 3 * DAY)
    active = read_aliases(store)["spider"].active
    write_aliases(store, {**read_aliases(store), "again": Alias(active)})
    first, second = stored_versions(store)
    assert (first.short, first.aliases) == (active, ("again", "spider"))
    assert (second.short, second.aliases) == (short, ())
    assert second.size == size_of(store / short) > 0
    assert round(second.age / DAY) == 3


def test_a_store_that_is_not_there_holds_no_versions(tmp_path):
    assert stored_versions(tmp_path / "none") == []


def test_a_bundle_fits_the_quota_or_is_over_by_so_many_bytes(store, tmp_path):
    bundle = read_bundle(make_bundle(tmp_path / "new", "new"))
    put_evidence(bundle.folder, "eval.json", {"n": 1})
    needed = size_of(store) + size_of(bundle.folder)
    assert bytes_over(store, bundle, needed) == 0
    assert bytes_over(store, bundle, needed - 7) == 7
    add_version(bundle.folder, store)
    assert bytes_over(store, bundle, 1) == 0
