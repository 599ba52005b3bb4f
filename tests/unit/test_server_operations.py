"""What an operator may do with a store: each in one step, none of two at once lost, all of it in
the audit log."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eval.task import audit
from eval.task import store as kernel
from eval.task.audit import append, read_last
from eval.task.bundle import BundleError
from eval.task.store import ALIASES, Alias, read_aliases, write_aliases
from server.adapters.collection import Policy, size_of
from server.adapters.operations import Mode, OperationError, Operations
from tests.conftest import make_bundle

ROOT = Path(__file__).parents[2]
NONE = "f" * 12


@pytest.fixture
def operations(tmp_path: Path) -> Operations:
    return Operations(tmp_path / "store", "shell:me")


@pytest.fixture
def versions(operations: Operations, tmp_path: Path) -> list[str]:
    """Three versions in the store; "spider" has the first one active."""
    found = [operations.add(make_bundle(tmp_path / tag, tag)).short for tag in ("1", "2", "3")]
    operations.publish(tmp_path / "1", "spider")
    return found


def entry_of(operations: Operations) -> Alias:
    return read_aliases(operations.store)["spider"]


def last(operations: Operations) -> dict[str, Any]:
    return read_last(operations.store, 1)[0]


@pytest.fixture
def refused(operations: Operations) -> Callable[..., None]:
    """Calls and expects an OperationError of a code, and that nothing has changed."""

    def call(code: str, param: str, name: str, *words: Any, **more: Any) -> None:
        before = {p: p.read_bytes() for p in operations.store.rglob("*") if p.is_file()}
        with pytest.raises(OperationError) as caught:
            getattr(operations, name)(*words, **more)
        assert (caught.value.code, caught.value.param) == (code, param)
        assert str(caught.value)
        assert {p: p.read_bytes() for p in operations.store.rglob("*") if p.is_file()} == before

    return call


def test_publishing_again_ends_a_rollout_and_keeps_the_pin(operations, versions, tmp_path):
    one, two, three = versions
    write_aliases(operations.store, {"spider": Alias(one, canary=two, share=0.1, pinned=True)})
    entry = operations.publish(tmp_path / "3", "spider")
    assert entry == entry_of(operations) == Alias(three, one, pinned=True)
    assert last(operations)["action"] == "publish"


@pytest.mark.parametrize("alias", ["../x", "Spider", "base", ""])
def test_nothing_is_published_under_an_illegal_name(operations, versions, refused, tmp_path, alias):
    refused("illegal_name", "alias", "publish", tmp_path / "3", alias)


def test_a_folder_that_is_no_bundle_is_not_added(operations, tmp_path):
    with pytest.raises(BundleError, match="incomplete"):
        operations.add(tmp_path / "nothing")
    assert not operations.store.exists()


def test_a_bundle_that_would_take_the_store_over_its_quota_is_refused(
    operations, versions, refused, tmp_path
):
    small = Operations(operations.store, "me", max_bytes=size_of(operations.store) + 10)
    bundle = make_bundle(tmp_path / "4", "4")
    for call in (lambda: small.add(bundle), lambda: small.publish(bundle, "spider")):
        with pytest.raises(OperationError) as caught:
            call()
        assert (caught.value.code, caught.value.param) == ("over_quota", "bundle")
    assert entry_of(small).active == versions[0]
    assert small.publish(tmp_path / "2", "spider").active == versions[1]  # it is there already


def test_the_candidate_is_promoted(operations, versions):
    one, two, _ = versions
    operations.try_out("canary", "spider", two, 0.25, automatic=False)
    assert entry_of(operations) == Alias(one, canary=two, share=0.25, automatic=False)
    assert operations.promote("spider") == entry_of(operations) == Alias(two, one)


def test_another_version_is_promoted_and_the_rollout_is_over(operations, versions):
    one, two, three = versions
    operations.try_out("shadow", "spider", two)
    assert operations.promote("spider", three) == Alias(three, one)


def test_what_cant_be_promoted(operations, versions, refused):
    refused("no_candidate", "alias", "promote", "spider")
    refused("already_active", "version", "promote", "spider", versions[0])
    for version in (NONE, "../../etc", versions[1][:11], "x"):
        refused("no_such_version", "version", "promote", "spider", version)
    refused("no_such_alias", "alias", "promote", "bird", versions[1])


def test_a_rollback_drops_the_candidate_first(operations, versions):
    one, two, three = versions
    operations.promote("spider", two)
    operations.try_out("canary", "spider", three)
    dropped = operations.rollback("spider")
    assert (dropped.active, dropped.previous, dropped.candidate) == (two, one, None)
    assert operations.rollback("spider").active == one
    assert operations.rollback("spider").active == two  # a second one takes the first one back


def test_what_cant_be_rolled_back(operations, versions, refused):
    refused("no_previous", "alias", "rollback", "spider")
    write_aliases(operations.store, {"spider": Alias(versions[0], previous=NONE)})
    refused("no_such_version", "version", "rollback", "spider")
    refused("no_such_alias", "alias", "rollback", "../x")


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_rollout_begins_and_may_change_its_mode(operations, versions, mode: Mode):
    one, two, three = versions
    operations.try_out("shadow", "spider", three, 1)
    entry = operations.try_out(mode, "spider", two)
    assert entry == entry_of(operations)
    assert (entry.mode, entry.candidate, entry.active, entry.share) == (mode, two, one, 0.1)
    assert entry.automatic
    assert last(operations)["action"] == mode


def test_a_canary_leaves_some_questions_to_compare_with(operations, versions, refused):
    refused("illegal_share", "share", "try_out", "canary", "spider", versions[1], 1)
    assert operations.try_out("shadow", "spider", versions[1], 1).share == 1


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan"), float("inf")])
def test_a_share_is_above_0_and_at_most_1(operations, versions, refused, share):
    refused("illegal_share", "share", "try_out", "canary", "spider", versions[1], share)


def test_what_cant_be_tried_out(operations, versions, refused):
    refused("already_active", "version", "try_out", "shadow", "spider", versions[0])
    refused("no_such_version", "version", "try_out", "shadow", "spider", NONE)
    refused("no_such_alias", "alias", "try_out", "shadow", "bird", versions[1])


@pytest.mark.parametrize("verdict", ["promote", "roll_back"])
def test_evidence_decides_a_rollout(operations, versions, verdict):
    one, two, _ = versions
    tried = operations.try_out("canary", "spider", two)
    server = replace(operations, actor="rollout")
    assert server.decide("spider", tried, verdict, "n=40")
    entry = entry_of(operations)
    expected = (two, one) if verdict == "promote" else (one, None)
    assert (entry.active, entry.previous, entry.candidate) == (*expected, None)
    line = last(operations)
    assert (line["actor"], line["action"], line["detail"]) == ("rollout", verdict, "n=40")
    assert not server.decide("spider", tried, verdict, "n=40")  # another server was first
    assert last(operations) == line


def test_evidence_decides_nothing_that_an_operator_has_changed(operations, versions):
    _, two, three = versions
    tried = operations.try_out("canary", "spider", two)
    changes: list[Callable[[], object]] = [
        lambda: operations.try_out("canary", "spider", two, automatic=False),
        lambda: operations.try_out("canary", "spider", three),
        lambda: operations.promote("spider", three),
        lambda: operations.withdraw("spider"),
    ]
    for change in changes:
        change()
        before = read_aliases(operations.store)
        assert not operations.decide("spider", tried, "promote", "")
        assert read_aliases(operations.store) == before


def test_evidence_decides_no_rollout_that_is_not_automatic(operations, versions):
    tried = operations.try_out("canary", "spider", versions[1], automatic=False)
    assert not operations.decide("spider", tried, "promote", "")
    assert entry_of(operations) == tried


def test_an_alias_is_pinned_and_unpinned(operations, versions, refused):
    assert operations.pin("spider").pinned
    assert entry_of(operations).pinned
    assert not operations.pin("spider", pinned=False).pinned
    assert [line["action"] for line in read_last(operations.store, 2)] == ["unpin", "pin"]
    refused("no_such_alias", "alias", "pin", "bird")


def test_a_withdrawn_alias_is_gone_and_its_versions_stay(operations, versions, refused):
    operations.withdraw("spider")
    assert read_aliases(operations.store) == {}
    assert all((operations.store / version).is_dir() for version in versions)
    assert last(operations)["after"] is None
    refused("no_such_alias", "alias", "withdraw", "spider")


def test_a_store_that_is_not_there_is_not_made(operations):
    with pytest.raises(OperationError, match="no alias"):
        operations.pin("spider")
    assert not operations.store.exists()


def test_a_damaged_store_is_said_and_left_as_it_is(operations, versions):
    (operations.store / ALIASES).write_text("{ by hand")
    for call in (operations.pin, operations.withdraw, operations.rollback):
        with pytest.raises(BundleError, match=ALIASES):
            call("spider")
    assert (operations.store / ALIASES).read_text() == "{ by hand"


def test_a_change_is_logged_with_what_was_and_what_is(operations, versions):
    before = entry_of(operations)
    after = operations.promote("spider", versions[1])
    line = last(operations)
    assert datetime.fromisoformat(line.pop("at")).tzinfo == UTC
    assert line == {
        "actor": "shell:me",
        "action": "promote",
        "alias": "spider",
        "before": asdict(before),
        "after": asdict(after),
        "detail": "",
    }


def test_what_is_collected_and_added_is_logged(operations, versions):
    assert [line["action"] for line in read_last(operations.store, 4)] == ["publish"] + 3 * ["add"]
    removed = operations.collect(Policy(min_age=0)).removed
    assert {version.short for version in removed} == set(versions[1:])
    assert (last(operations)["actor"], last(operations)["action"]) == ("shell:me", "collect")


def test_a_crash_before_the_log_loses_the_line_and_not_the_change(
    operations, versions, monkeypatch
):
    def killed(*_: object, **__: object) -> None:
        raise SystemExit(9)

    monkeypatch.setattr(kernel, "append", killed)
    with pytest.raises(SystemExit):
        operations.promote("spider", versions[1])
    assert entry_of(operations).active == versions[1]


def test_a_crash_before_the_change_leaves_no_line(operations, versions, monkeypatch):
    def killed(*_: object) -> None:
        raise SystemExit(9)

    line = last(operations)
    monkeypatch.setattr(kernel, "write_aliases", killed)
    with pytest.raises(SystemExit):
        operations.promote("spider", versions[1])
    monkeypatch.undo()
    assert last(operations) == line
    assert entry_of(operations).active == versions[0]


PIN = """
import sys
from pathlib import Path
from server.adapters.operations import Operations
operations = Operations(Path(sys.argv[1]), "shell:" + sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    operations.pin(f"{sys.argv[2]}{number}")
"""


def test_two_processes_lose_none_of_each_others_changes(operations, versions):
    names = [f"{name}{number}" for name in "ab" for number in range(20)]
    write_aliases(operations.store, {name: Alias(versions[0]) for name in names})
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PIN, str(operations.store), name],
            cwd=ROOT, stdin=pipe, stdout=pipe, text=True,
        )
        for name in "ab"
    ]  # fmt: skip
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n")
    assert all(entry.pinned for entry in read_aliases(operations.store).values())
    lines = read_last(operations.store, 40)
    assert sorted(line["alias"] for line in lines) == sorted(names)


def test_of_two_who_decide_the_same_rollout_one_does(operations, versions):
    tried = operations.try_out("canary", "spider", versions[1])
    found: list[bool] = []

    def decide() -> None:
        found.append(operations.decide("spider", tried, "promote", ""))

    threads = [threading.Thread(target=decide) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False] * 7 + [True]


def test_the_log_is_read_from_its_end_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "BLOCK", 50)
    for number in range(30):
        append(tmp_path, "é", "pin", "ab"[number % 2], detail=str(number))
    assert [line["detail"] for line in read_last(tmp_path, 3)] == ["29", "28", "27"]
    assert [line["detail"] for line in read_last(tmp_path, 2, "a")] == ["28", "26"]
    assert len(read_last(tmp_path, 99)) == 30
    assert read_last(tmp_path, 0) == []


def test_a_torn_line_is_left_out_and_swallows_none_after_it(tmp_path):
    append(tmp_path, "me", "pin", "a")
    path = tmp_path / audit.FILE
    path.write_bytes(path.read_bytes() + b'{"at": "2026-')
    assert [line["alias"] for line in read_last(tmp_path, 9)] == ["a"]
    append(tmp_path, "me", "pin", "b")
    assert [line["alias"] for line in read_last(tmp_path, 9)] == ["b", "a"]


def test_lines_are_only_added(tmp_path):
    append(tmp_path, "me", "pin", "a")
    first = (tmp_path / audit.FILE).read_bytes()
    append(tmp_path, "me", "pin", "b")
    assert (tmp_path / audit.FILE).read_bytes().startswith(first)
    lines = (tmp_path / audit.FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["alias"] for line in lines] == ["a", "b"]


def test_a_store_without_a_log_has_no_lines(tmp_path):
    assert read_last(tmp_path, 5) == []
