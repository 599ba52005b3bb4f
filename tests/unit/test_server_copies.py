"""The engine reads copies that were admitted: what happens to the store later is nothing to it."""

import errno
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from eval.task.bundle import CONFIG, MANIFEST, WEIGHTS, read_version
from eval.task.store import read_aliases
from server.adapters import copies as module
from server.adapters.admission import Admission
from server.adapters.copies import Copies
from server.adapters.refusal import Refusal
from tests.conftest import BASE_SHA256, make_table, publish_new


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path / "run" / f"versions-{os.getpid()}")


@pytest.fixture
def short(store: Path) -> str:
    return read_aliases(store)["spider"].active


def test_a_copy_has_the_bundle_and_nothing_else(copies, store, short):
    (store / short / "evidence").mkdir()
    (store / short / "evidence/README.md").write_text("card")
    bundle = copies.take(store, short, Admission(BASE_SHA256))
    assert bundle.folder == copies.folder / short
    assert {path.name for path in bundle.folder.iterdir()} == {CONFIG, MANIFEST, WEIGHTS}
    assert (
        bundle.digest
        == read_version(store, short).digest
        == read_version(copies.folder, short).digest
    )
    assert (
        copies.folder.stat().st_mode & 0o777,
        (bundle.folder / WEIGHTS).stat().st_mode & 0o777,
    ) == (
        0o700,
        0o400,
    )


def test_what_happens_to_the_store_later_is_nothing_to_the_copy(copies, store, short):
    digest = copies.take(store, short, Admission()).digest
    (store / short / WEIGHTS).write_bytes(b"something else")
    assert copies.take(store, short, Admission()).digest == digest
    assert read_version(copies.folder, short).digest == digest


def test_what_is_not_admitted_leaves_no_copy(copies, store, short):
    with pytest.raises(Refusal, match="wrong_base"):
        copies.take(store, short, Admission("c" * 64))
    assert list(copies.folder.iterdir()) == []


def test_what_is_not_what_its_name_says_leaves_no_copy(copies, store, short):
    (store / short).rename(store / "0123456789ab")
    with pytest.raises(Refusal, match="tampered"):
        copies.take(store, "0123456789ab", Admission())
    assert list(copies.folder.iterdir()) == []


def test_a_link_that_takes_a_files_place_after_the_first_look_is_not_followed(
    copies, store, short, monkeypatch
):
    def look(folder: Path) -> None:
        weights = folder / WEIGHTS
        weights.rename(folder.parent / "elsewhere")
        weights.symlink_to(folder.parent / "elsewhere")

    monkeypatch.setattr(module, "check_files", look)
    with pytest.raises(Refusal, match="unreadable"):
        copies.take(store, short, Admission())


def test_a_pipe_that_takes_a_files_place_is_not_waited_for(copies, store, short, monkeypatch):
    def look(folder: Path) -> None:
        (folder / CONFIG).unlink()
        os.mkfifo(folder / CONFIG)

    monkeypatch.setattr(module, "check_files", look)
    with pytest.raises(Refusal, match="not_regular"):
        copies.take(store, short, Admission())


def test_a_file_that_grows_while_it_is_copied_is_given_up(copies, store, short, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", dict.fromkeys((CONFIG, MANIFEST, WEIGHTS), 10))
    with pytest.raises(Refusal, match="over 10 bytes"):
        copies.take(store, short, Admission())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said(copies, store, short, monkeypatch, number):
    def full(*_: object) -> Path:
        raise OSError(number, "full")

    monkeypatch.setattr(module, "_copied", full)
    with pytest.raises(Refusal, match=r"no_space: .*SQLWRIGHT_CACHE"):
        copies.take(store, short, Admission())


def test_a_folder_that_can_not_be_written_is_an_os_error(copies, store, short):
    copies.folder.parent.write_text("a file")
    with pytest.raises(OSError, match="Not a directory"):
        copies.take(store, short, Admission())


def test_copies_of_servers_that_were_killed_go_too(copies, store, short):
    copies.take(store, short, Admission())
    ended, running = (copies.folder.parent / f"versions-{pid}" for pid in (2**22 + 1, 1))
    other = copies.folder.parent / "versions-mine"
    for folder in (ended, running, other):
        folder.mkdir()
    copies.remove()
    assert sorted(copies.folder.parent.iterdir()) == sorted([running, other])


async def test_a_table_serves_from_copies(copies, store, engine, short):
    table = make_table(store, engine, admission=Admission(BASE_SHA256), copies=copies)
    await table.refresh()
    assert table.find("spider").name == f"spider@{short}"
    publish_new(store, "second", tag="two", base_model_sha256="c" * 64)
    with capture_logs() as logs:
        await table.refresh()
    assert [log["code"] for log in logs if log["event"] == "adapter_refused"] == ["wrong_base"]
    assert [path.name for path in copies.folder.iterdir()] == [short]
