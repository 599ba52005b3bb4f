"""`sqlwright-adapters`: each operation from the shell, as a table and as JSON, logged as its
user's; errors in one line."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eval.task.audit import read_last
from eval.task.bundle import WEIGHTS
from eval.task.store import ALIASES, Alias, read_aliases
from server.adapters.__main__ import app
from server.adapters.collection import size_of
from server.adapters.evidence import Evidence
from server.adapters.sequential import Rules
from server.adapters.shell import age_text, audit_cells
from server.adapters.trials import Observation, Trial
from tests.conftest import make_bundle


class Shell:
    """Runs commands on one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"

    def __call__(self, *words: object, status: int = 0) -> Any:
        command = [*map(str, words), "--store", str(self.store)]
        done = CliRunner(env={"COLUMNS": "250"}).invoke(app, command)
        assert done.exit_code == status, done.output
        return done

    def json(self, *words: object) -> Any:
        return json.loads(self(*words, "--json").stdout)

    def bundle(self, tag: str) -> Path:
        return make_bundle(self.folder / tag, tag)

    @property
    def spider(self) -> Alias:
        return read_aliases(self.store)["spider"]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("LOGNAME", "ann")
    return Shell(tmp_path)


@pytest.fixture
def one(shell: Shell) -> str:
    """The version that "spider" has active."""
    shell("publish", shell.bundle("1"), "spider")
    return shell.spider.active


@pytest.fixture
def two(shell: Shell, one: str) -> str:
    """A version that no alias names."""
    short: str = shell.json("publish", shell.bundle("2"), "spider", "--only-store")["model"]
    return short


def test_a_bundle_is_published_and_active_at_once(shell, one):
    done = shell("publish", shell.bundle("new"), "spider")
    assert shell.spider.previous == one
    assert done.stdout == f"spider@{shell.spider.active}\n"
    (line,) = read_last(shell.store, 1)
    assert (line["actor"], line["action"], line["alias"]) == ("shell:ann", "publish", "spider")


def test_a_bundle_is_put_into_the_store_only(shell, one, two):
    assert (shell.store / two).is_dir()
    assert shell.spider == Alias(one)
    assert read_last(shell.store, 1)[0]["action"] == "add"


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_bundle_is_published_as_a_candidate(shell, one, mode):
    found = shell.json("publish", shell.bundle("new"), "spider", f"--{mode}", 0.25)
    entry = shell.spider
    assert found == {"model": f"spider@{entry.candidate}"}
    assert (entry.active, entry.mode, entry.share, entry.automatic) == (one, mode, 0.25, True)
    assert read_last(shell.store, 1)[0]["action"] == mode


def test_a_rollout_may_be_decided_by_hand(shell, one):
    shell("publish", shell.bundle("new"), "spider", "--canary", 0.5, "--manual")
    assert shell.spider.automatic is False


@pytest.mark.parametrize(
    "words",
    [
        ("--shadow", 0.1, "--canary", 0.1),
        ("--only-store", "--canary", 0.1),
        ("--manual",),
        ("--canary", 2),
    ],
    ids=str,
)
def test_options_that_contradict_each_other_are_refused(shell, one, words):
    done = shell("publish", shell.bundle("new"), "spider", *words, status=1)
    assert done.stderr.startswith("sqlwright-adapters: error: ")
    assert shell.spider == Alias(one)


def test_a_bundle_over_the_quota_is_refused(shell, one, monkeypatch):
    gib = (size_of(shell.store) + 10) / (1 << 30)
    monkeypatch.setenv("SQLWRIGHT_STORE_GIB", f"{gib:.12f}")
    done = shell("publish", shell.bundle("new"), "spider", status=1)
    assert "bytes over" in done.stderr and "SQLWRIGHT_STORE_GIB" in done.stderr
    assert shell.spider == Alias(one)
    shell("publish", shell.folder / "new", "spider", "--max-gib", 1)
    assert shell.spider.previous == one


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_version_is_tried_out_promoted_and_taken_back(shell, one, two, mode):
    found = shell.json(mode, "spider", two, "--share", 0.3, "--manual")
    assert found == {"alias": "spider", **asdict(shell.spider)}
    assert found[mode] == two
    assert f"{mode} {two} 0.3, by hand" in shell("list").stdout
    assert shell.json("promote", "spider")["active"] == two
    assert shell.json("rollback", "spider") == {"alias": "spider", **asdict(Alias(one, two))}
    assert shell.json("promote", "spider", two)["active"] == two
    actions = [line["action"] for line in shell.json("audit", "--limit", 4)]
    assert actions == ["promote", "rollback", "promote", mode]


def test_a_candidate_is_dropped(shell, one, two):
    shell("shadow", "spider", two)
    assert two not in shell("rollback", "spider").stdout
    assert shell.spider == Alias(one)


def test_an_alias_is_pinned_and_unpinned(shell, one):
    assert "yes" in shell("pin", "spider").stdout
    assert shell.spider.pinned
    assert shell.json("unpin", "spider")["pinned"] is False
    assert not shell.spider.pinned


def test_an_alias_is_withdrawn(shell, one):
    assert shell("withdraw", "spider").stdout == "spider: withdrawn\n"
    assert read_aliases(shell.store) == {}
    assert (shell.store / one).is_dir()


def test_aliases_are_listed(shell, one, two):
    shell("canary", "spider", two)
    text = shell("list").stdout
    assert one in text and f"canary {two} 0.1, automatic" in text and "whole" in text
    assert shell.json("list") == {"spider": asdict(shell.spider)}
    (shell.store / one / WEIGHTS).write_bytes(b"[bold]")
    assert "tampered" in shell("list").stdout


def test_versions_are_listed_with_size_age_and_who_names_them(shell, one, two):
    os.utime(shell.store / one, (time.time() - 3 * 86_400 - 5,) * 2)
    (row,) = [line for line in shell("versions").stdout.splitlines() if one in line]
    assert "3 d" in row and "spider" in row and "MiB" in row
    found = shell.json("versions")
    assert [(v["short"], v["aliases"]) for v in found] == [(one, ["spider"]), (two, [])]
    assert found[0]["size"] == size_of(shell.store / one)


def test_the_audit_log_is_shown_of_one_alias_the_newest_first(shell, one):
    shell("publish", shell.folder / "1", "bird")
    shell("pin", "spider")
    assert [line["action"] for line in shell.json("audit", "--alias", "spider")] == [
        "pin",
        "publish",
    ]
    text = shell("audit", "--limit", 1).stdout
    assert "shell:ann" in text and "pinned: False → True" in text and "publish" not in text


def test_what_no_alias_names_is_collected(shell, one, two):
    shell("collect")
    assert (shell.store / two).is_dir()  # it is young
    dry = shell("collect", "--min-age-hours", 0, "--dry-run").stdout
    assert two in dry and "would go: 1 versions" in dry
    assert (shell.store / two).is_dir()
    found = shell.json("collect", "--min-age-hours", 0)
    assert [version["short"] for version in found["removed"]] == [two]
    assert not (shell.store / two).exists()
    assert (shell.store / one).is_dir()


def test_a_store_that_stays_over_its_quota_is_said(shell, one, monkeypatch):
    monkeypatch.setenv("SQLWRIGHT_STORE_GIB", "1e-9")
    assert "still over" in shell("collect").stdout
    assert "still over" not in shell("collect", "--max-gib", 0).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("promote", "spider"), "no candidate; name the version"),
        (("promote", "spider", "f" * 12), "no version"),
        (("rollback", "spider"), "previous"),
        (("canary", "spider", "f" * 12), "no version"),
        (("pin", "bird"), "no alias 'bird'"),
        (("unpin", "bird"), "no alias 'bird'"),
        (("withdraw", "bird"), "no alias 'bird'"),
        (("publish", "/nowhere", "bird"), "incomplete"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_error_is_one_line_with_its_remedy(shell, one, words, message):
    done = shell(*words, status=1)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("sqlwright-adapters: error: ") and message in line


@pytest.mark.parametrize("command", ["list", "versions", "collect", "audit"])
def test_a_damaged_store_is_an_error_in_one_line(shell, one, command):
    (shell.store / ALIASES).write_text("{")
    if command == "audit":
        (shell.store / "audit.jsonl").unlink()
        (shell.store / "audit.jsonl").mkdir()
    (line,) = shell(command, status=1).stderr.splitlines()
    assert line.startswith("sqlwright-adapters: error: ")


def test_a_store_that_is_not_there(shell):
    assert shell.json("list") == {}
    assert shell.json("versions") == []
    assert shell.json("audit") == []
    assert "error" in shell("collect", status=1).stderr
    assert not shell.store.exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_an_age_is_said_in_its_largest_unit(seconds, text):
    assert age_text(seconds) == text


def test_a_record_of_another_version_is_shown_as_far_as_it_goes():
    assert audit_cells({"at": "now", "after": {"active": "1"}}) == (
        "now", "", "", "", "active: None → 1",
    )  # fmt: skip


def test_the_evidence_of_a_rollout_is_a_row_for_each_version(shell, one, two):
    shell("shadow", "spider", two, "--share", "0.5")
    evidence = Evidence(shell.store)
    good, bad = Trial(False, True, None, 10.0), Trial(False, False, None, 20.0)
    rollout = evidence.begin("spider", shell.spider, Rules())
    evidence.add(rollout, [Observation(good, bad)] * 4)
    shown = shell("evidence", "spider").stdout
    assert f"{one} (active)" in shown and f"{two} (candidate)" in shown
    assert "100.0 % [51.0, 100.0]" in shown and "0.0 % [0.0, 49.0]" in shown
    assert "after 4 questions the candidate is -100.0 points" in shown
    shell("rollback", "spider")
    (found,) = shell.json("evidence", "spider")["rollouts"]
    assert (found["verdict"], found["actor"], found["pairs"]) == ("rollback", "shell:ann", 4)


def test_an_alias_without_rollouts_has_no_evidence(shell, one):
    assert shell.json("evidence", "spider")["rollouts"] == []
    shell("evidence", "spider")
