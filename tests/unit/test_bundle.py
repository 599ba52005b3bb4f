"""The adapter bundle: digest, manifest, publishing, aliases, and what must not be accepted."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eval.task.audit import FILE
from eval.task.bundle import (
    CONFIG,
    EVIDENCE,
    MANIFEST,
    MAX_JSON_BYTES,
    MAX_JSON_DEPTH,
    VERSION_NAME,
    WEIGHTS,
    BundleError,
    Manifest,
    bundle_digest,
    parse_json,
    read_bundle,
    read_version,
    write_manifest,
)
from eval.task.prompt import TEMPLATE, PromptFormat
from eval.task.store import (
    ALIASES,
    Alias,
    add_version,
    default_store,
    point_alias,
    publish,
    read_aliases,
    write_aliases,
)

ROOT = Path(__file__).parents[2]
MADE = Manifest(
    base_model="base/model",
    base_model_sha256="b" * 64,
    quantisation="nf4",
    rank=8,
    alpha=16,
    target_modules=["q_proj", "v_proj"],
    prompt_template=TEMPLATE,
    serialisation="keys",
    dialect="sqlite",
    stop="<eos>",
    data=[{"name": "é", "sha256": "d" * 64, "examples": 3}],
    recipe={"alias": "smoke"},
    commit="abc1234",
    created="2026-01-01T00:00:00+00:00",
)


def stage(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / CONFIG).write_bytes(b"{}")
    (folder / WEIGHTS).write_bytes(weights)
    (folder / EVIDENCE).mkdir()
    (folder / EVIDENCE / "README.md").write_text("card")
    write_manifest(folder, MADE)
    return folder


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    return stage(tmp_path / "run" / "bundle")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store"


def versions(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if path.is_dir() and path.name[0] != ".")


def edit_manifest(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps(record | changes))


def test_the_digest_is_that_of_the_lines(staging: Path) -> None:
    def sha256(raw: bytes) -> str:
        return hashlib.sha256(raw).hexdigest()

    lines = (
        f"adapter_config.json\0{sha256(b'{}')}\n"
        f"adapter_model.safetensors\0{sha256(b'weights')}\n"
        f"sqlwright.json\0{sha256((staging / 'sqlwright.json').read_bytes())}\n"
    )
    assert bundle_digest(staging) == sha256(lines.encode())


def test_a_digest_to_the_letter(tmp_path: Path) -> None:
    for name in (CONFIG, WEIGHTS, MANIFEST):
        (tmp_path / name).touch()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    lines = "".join(f"{name}\0{empty}\n" for name in sorted([MANIFEST, WEIGHTS, CONFIG]))
    assert bundle_digest(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()


def test_evidence_is_not_part_of_the_digest(staging: Path) -> None:
    before = bundle_digest(staging)
    (staging / EVIDENCE / "eval.json").write_text("{}")
    assert bundle_digest(staging) == before


def test_the_manifest_holds_the_files_hashes(staging: Path) -> None:
    manifest = read_bundle(staging).manifest
    assert manifest.files == {
        CONFIG: hashlib.sha256(b"{}").hexdigest(),
        WEIGHTS: hashlib.sha256(b"weights").hexdigest(),
    }
    assert manifest.data == MADE.data
    assert manifest.format_version == 1
    assert manifest.prompt_format == PromptFormat(TEMPLATE, "keys")
    assert [p.name for p in staging.iterdir() if p.name.startswith(".")] == []


def test_what_is_published_is_read_again(staging: Path, store: Path) -> None:
    published = publish(staging, store, "smoke")
    assert published.digest == bundle_digest(staging)
    assert published.short == published.digest[:12]
    assert published.folder == store / published.short
    assert read_version(store, published.short) == published
    assert read_aliases(store) == {"smoke": Alias(published.short)}
    assert (published.folder / EVIDENCE / "README.md").read_text() == "card"
    assert versions(store) == [published.short]
    assert VERSION_NAME.fullmatch(f"smoke@{published.short}")


def test_a_published_version_does_not_depend_on_its_staging(staging: Path, store: Path) -> None:
    published = publish(staging, store, "smoke")
    shutil.rmtree(staging)
    stage(staging, b"other weights")
    assert read_version(store, published.short).digest == published.digest


def test_other_users_may_read_a_published_version(staging: Path, store: Path) -> None:
    folder = publish(staging, store, "smoke").folder
    assert folder.stat().st_mode & 0o055 == 0o055


def test_publishing_twice_changes_nothing(staging: Path, store: Path) -> None:
    first = publish(staging, store, "smoke")
    stamp = (first.folder / WEIGHTS).stat().st_mtime_ns
    assert publish(staging, store, "smoke") == first
    assert read_aliases(store) == {"smoke": Alias(first.short, previous=None)}
    assert (first.folder / WEIGHTS).stat().st_mtime_ns == stamp
    assert versions(store) == [first.short]


def test_one_version_may_have_two_aliases(staging: Path, store: Path) -> None:
    first = publish(staging, store, "smoke")
    publish(staging, store, "other")
    assert read_aliases(store) == {"other": Alias(first.short), "smoke": Alias(first.short)}


def test_the_version_before_is_remembered(staging: Path, store: Path, tmp_path: Path) -> None:
    one = publish(staging, store, "smoke").short
    two = publish(stage(tmp_path / "two", b"2"), store, "smoke").short
    assert read_aliases(store)["smoke"] == Alias(two, previous=one)
    three = publish(stage(tmp_path / "three", b"3"), store, "smoke").short
    assert read_aliases(store)["smoke"] == Alias(three, previous=two)
    publish(staging, store, "smoke")
    assert read_aliases(store)["smoke"] == Alias(one, previous=three)
    assert versions(store) == sorted([one, two, three])


def tamper_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"weightz")


def tamper_config(folder: Path) -> None:
    (folder / CONFIG).write_bytes(b'{"r": 9}')


def cut_weights(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 3)


def link_weights(folder: Path) -> None:
    real = folder.parent / "elsewhere"
    (folder / WEIGHTS).rename(real)
    (folder / WEIGHTS).symlink_to(real)


def link_manifest(folder: Path) -> None:
    real = folder.parent / "elsewhere"
    (folder / MANIFEST).rename(real)
    (folder / MANIFEST).symlink_to(real)


def pipe_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


def folder_for_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


def drop_field(folder: Path) -> None:
    record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    del record["stop"]
    (folder / MANIFEST).write_text(json.dumps(record))


HARMS: dict[str, tuple[Any, str]] = {
    "weights": (tamper_weights, f"tampered: {WEIGHTS}"),
    "config": (tamper_config, f"tampered: {CONFIG}"),
    "cut weights": (cut_weights, f"tampered: {WEIGHTS}"),
    "linked weights": (link_weights, f"incomplete: {WEIGHTS}"),
    "linked manifest": (link_manifest, f"incomplete: {MANIFEST}"),
    "pipe": (pipe_weights, f"incomplete: {WEIGHTS}"),
    "folder": (folder_for_weights, f"incomplete: {WEIGHTS}"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), f"incomplete: {MANIFEST}"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), f"incomplete: {WEIGHTS}"),
    "no config": (lambda f: (f / CONFIG).unlink(), f"incomplete: {CONFIG}"),
    "no folder": (shutil.rmtree, "incomplete: "),
    "missing field": (drop_field, "missing field 'stop'"),
    "unknown field": (lambda f: edit_manifest(f, extra=1), "unknown field 'extra'"),
    "format 2": (lambda f: edit_manifest(f, format_version=2), "format 2, not 1"),
    "format text": (lambda f: edit_manifest(f, format_version="1"), "format '1', not 1"),
    "not JSON": (lambda f: (f / MANIFEST).write_text("{"), "can't be read"),
    "not UTF-8": (lambda f: (f / MANIFEST).write_bytes(b'{"\xff": 1}'), "can't be read"),
    "a list": (lambda f: (f / MANIFEST).write_text("[]"), "must hold an object"),
    "deep": (lambda f: (f / MANIFEST).write_text("[" * 100_000), "can't be read"),
    "huge": (lambda f: (f / MANIFEST).write_text(" " * (MAX_JSON_BYTES + 1)), "over 1048576"),
    # A field of another type must be found here, not where it is used.
    "files a list": (lambda f: edit_manifest(f, files=[]), "files"),
    "files null": (lambda f: edit_manifest(f, files=None), "files"),
    "files empty": (lambda f: edit_manifest(f, files={}), "tampered"),
    "rank text": (lambda f: edit_manifest(f, rank="8"), "rank"),
    "rank a bool": (lambda f: edit_manifest(f, rank=True), "rank"),
    "alpha null": (lambda f: edit_manifest(f, alpha=None), "alpha"),
    "modules text": (lambda f: edit_manifest(f, target_modules="q_proj"), "target_modules"),
    "stop null": (lambda f: edit_manifest(f, stop=None), "stop"),
    "template a number": (lambda f: edit_manifest(f, prompt_template=1), "template"),
    "template without question": (
        lambda f: edit_manifest(f, prompt_template="{schema}"),
        "question",
    ),
    "unknown serialisation": (lambda f: edit_manifest(f, serialisation="x"), "serialisation"),
    "serialisation a list": (lambda f: edit_manifest(f, serialisation=[]), "serialisation"),
}


@pytest.mark.parametrize("name", HARMS)
def test_what_is_no_whole_and_untouched_bundle(name: str, staging: Path, store: Path) -> None:
    harm, message = HARMS[name]
    harm(staging)
    with pytest.raises(BundleError, match=message):
        read_bundle(staging)
    with pytest.raises(BundleError, match=message):
        publish(staging, store, "smoke")
    assert not store.exists()


def test_a_manifest_that_was_changed_changes_the_digest(staging: Path, store: Path) -> None:
    published = publish(staging, store, "smoke")
    edit_manifest(published.folder, commit="other")
    with pytest.raises(BundleError, match=f"tampered: the digest of folder {published.short}"):
        read_version(store, published.short)


def test_a_renamed_version_is_refused(staging: Path, store: Path) -> None:
    published = publish(staging, store, "smoke")
    published.folder.rename(store / "0123456789ab")
    with pytest.raises(BundleError, match="tampered: the digest of folder 0123456789ab"):
        read_version(store, "0123456789ab")
    with pytest.raises(BundleError, match="incomplete"):
        read_version(store, published.short)


def test_a_name_that_leaves_the_store_is_no_version(staging: Path, store: Path) -> None:
    publish(staging, store, "smoke")
    for name in ("../../run/bundle", str(staging), ".", "", "smoke"):
        with pytest.raises(BundleError):
            read_version(store, name)


@pytest.mark.parametrize(
    "alias",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc",
        "a/b",
        "a b",
        "Upper",
        "a@b",
        "é",
        "-a",
        "a\n",
        "a" * 65,
        "a\x00",
    ],
)
def test_an_illegal_alias_is_refused_before_anything_is_written(
    alias: str, staging: Path, store: Path
) -> None:
    with pytest.raises(BundleError, match="alias"):
        publish(staging, store, alias)
    assert not store.exists()


@pytest.mark.parametrize("alias", ["a", "7b", "spider-v1.2_x", "a" * 64])
def test_legal_aliases(alias: str, staging: Path, store: Path) -> None:
    publish(staging, store, alias)
    assert list(read_aliases(store)) == [alias]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"b": [{"a": 1, "a": 1}]}', "stands twice"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1}'.encode("utf-16"), "decode"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"[[[1]]]", "nests deeper than 2"),
        (b'{"a": {"a": []}}', "nests deeper than 2"),
        (b"[" * 100_000, "nests deeper than 2"),
    ],
)
def test_json_that_is_read_in_different_ways_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(content, 2)


def test_json_up_to_its_depth_is_read(staging: Path) -> None:
    assert parse_json('{"a": ["é", 1]}'.encode(), 2) == {"a": ["é", 1]}
    for depth, reason in ((MAX_JSON_DEPTH - 1, "unknown field"), (MAX_JSON_DEPTH, "nests deeper")):
        (staging / MANIFEST).write_text('{"x": ' + "[" * depth + "]" * depth + "}")
        with pytest.raises(BundleError, match=reason):
            read_bundle(staging)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"a": 5}',
        '{"a": []}',
        '{"a": {}}',
        '{"a": {"active": "0123456789ab", "more": 1}}',
        '{"a": {"active": 5}}',
        '{"a": {"active": null}}',
        '{"a": {"active": "../../etc"}}',
        '{"a": {"active": "0123456789ab", "canary": "x"}}',
        '{"a": null}',
        '{"a": {"active": ["0123456789ab"]}}',
        '{"a": {"active": "0123456789ab", "previous": ""}}',
        '{"../a": {"active": "0123456789ab"}}',
    ],
)
def test_malformed_aliases_are_an_error(text: str, store: Path) -> None:
    store.mkdir(parents=True)
    (store / ALIASES).write_text(text)
    with pytest.raises(BundleError, match=r"aliases\.json"):
        read_aliases(store)


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"active": "x"}, "active"),
        ({"previous": "../../../etc"}, "previous"),
        ({"shadow": 5}, "shadow"),
        ({"canary": "0123456789AB", "share": 0.5}, "canary"),
        ({"canary": "1" * 12, "shadow": "2" * 12, "share": 0.5}, "canary, shadow"),
        ({"canary": "0" * 12, "share": 0.5}, "canary"),
        ({"shadow": "0" * 12, "share": 0.5}, "shadow"),
        ({"canary": "1" * 12}, "share"),
        ({"canary": "1" * 12, "share": 0}, "share"),
        ({"canary": "1" * 12, "share": 1.01}, "share"),
        ({"canary": "1" * 12, "share": -0.1}, "share"),
        ({"canary": "1" * 12, "share": True}, "share"),
        ({"canary": "1" * 12, "share": "0.5"}, "share"),
        ({"share": 0.5}, "share"),
        ({"automatic": 1}, "automatic"),
        ({"pinned": None}, "pinned"),
    ],
)
def test_an_alias_that_contradicts_itself_is_an_error_that_names_the_field(
    fields: dict[str, Any], at_fault: str, store: Path
) -> None:
    store.mkdir(parents=True)
    (store / ALIASES).write_text(json.dumps({"a": {"active": "0" * 12} | fields}))
    with pytest.raises(BundleError, match=rf"aliases\.json: entry 'a': .*{at_fault}"):
        read_aliases(store)


def test_aliases_of_before_rollouts_are_read(store: Path) -> None:
    store.mkdir(parents=True)
    entry = {"active": "0" * 12, "previous": "1" * 12, "canary": None}
    (store / ALIASES).write_text(json.dumps({"a": entry}))
    assert read_aliases(store) == {"a": Alias("0" * 12, "1" * 12)}


def test_malformed_aliases_are_not_written_over(staging: Path, store: Path) -> None:
    store.mkdir(parents=True)
    (store / ALIASES).write_text("{ by hand")
    with pytest.raises(BundleError):
        publish(staging, store, "smoke")
    assert (store / ALIASES).read_text() == "{ by hand"


def test_aliases_are_written_and_read(store: Path) -> None:
    store.mkdir(parents=True)
    assert read_aliases(store) == {}
    aliases = {"b": Alias("0" * 12, "1" * 12, "2" * 12, share=0.1), "a": Alias("3" * 12)}
    write_aliases(store, aliases)
    assert read_aliases(store) == aliases
    assert list(json.loads((store / ALIASES).read_text())) == ["a", "b"]
    assert [path.name for path in store.iterdir()] == [ALIASES]


def test_a_version_that_another_publisher_made_meanwhile(
    staging: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looked, neither found it: the second rename meets a folder that is not empty."""
    first = publish(staging, store, "smoke")
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda p: p.name != first.short and exists(p))
    assert publish(staging, store, "other").digest == first.digest
    monkeypatch.undo()
    assert set(read_aliases(store)) == {"smoke", "other"}
    assert sorted(path.name for path in store.iterdir() if path.is_dir()) == [first.short]


def test_a_damaged_version_in_the_store_is_not_published_as_it_is(
    staging: Path, store: Path
) -> None:
    """Publishing the same bundle again either refuses or heals it."""
    first = publish(staging, store, "smoke")
    tamper_weights(first.folder)
    try:
        publish(staging, store, "other")
    except BundleError:
        assert list(read_aliases(store)) == ["smoke"]
    else:
        assert read_version(store, first.short).digest == first.digest


def test_a_bundle_that_changes_while_it_is_copied_is_refused(
    staging: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile = shutil.copyfile

    def copy_late(source: Path, target: Path, **how: Any) -> Path:
        tamper_weights(staging)
        return copyfile(source, target, **how)

    monkeypatch.setattr(shutil, "copyfile", copy_late)
    with pytest.raises(BundleError):
        publish(staging, store, "smoke")
    assert versions(store) == [] and read_aliases(store) == {}


def test_a_failed_copy_leaves_nothing(
    staging: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(OSError, match="disk full"):
        publish(staging, store, "smoke")
    assert [path.name for path in store.iterdir()] == [".lock"]


CRASH = """
import os, sys
from pathlib import Path
from eval.task.store import publish
Path.rename = lambda self, target: os._exit(9)
publish(Path(sys.argv[1]), Path(sys.argv[2]), "smoke")
"""
PUBLISH = """
import sys
from pathlib import Path
from eval.task.store import publish
store, name = Path(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
for number in range(15):
    publish(Path(sys.argv[1]), store, f"{name}{number}")
"""


def python(code: str, *words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_a_crash_before_the_rename_leaves_no_version(staging: Path, store: Path) -> None:
    with python(CRASH, staging, store) as process:
        _, errors = process.communicate()
    assert process.returncode == 9, errors
    assert versions(store) == []
    assert read_aliases(store) == {}
    published = publish(staging, store, "smoke")
    assert versions(store) == [published.short]


def test_two_processes_lose_none_of_each_others_aliases(
    staging: Path, store: Path, tmp_path: Path
) -> None:
    other = stage(tmp_path / "other", b"other")
    pairs = [(staging, "a"), (other, "b"), (staging, "c")]
    processes = [python(PUBLISH, folder, store, name) for folder, name in pairs]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in processes]
    assert errors == ["", "", ""]
    names = {f"{name}{number}" for _, name in pairs for number in range(15)}
    assert set(read_aliases(store)) == names
    assert versions(store) == sorted(bundle_digest(f)[:12] for f in (staging, other))


def test_an_alias_is_pointed_in_one_step(store: Path) -> None:
    store.mkdir(parents=True)
    point_alias(store, "a", "0" * 12)
    point_alias(store, "a", "1" * 12)
    assert read_aliases(store) == {"a": Alias("1" * 12, previous="0" * 12)}
    assert sorted(path.name for path in store.iterdir()) == [".lock", ALIASES, FILE]


@pytest.mark.parametrize("role", ["canary", "shadow"])
@pytest.mark.parametrize("published", ["2" * 12, "3" * 12], ids=["candidate", "another"])
def test_what_is_published_is_active_at_once_and_ends_a_rollout(
    role: str, published: str, store: Path
) -> None:
    store.mkdir(parents=True)
    rollout: dict[str, Any] = {role: "2" * 12, "share": 0.5, "automatic": False}
    write_aliases(store, {"a": Alias("0" * 12, "1" * 12, pinned=True, **rollout)})
    point_alias(store, "a", published)
    assert read_aliases(store) == {"a": Alias(published, "0" * 12, pinned=True)}


def test_a_version_may_be_in_the_store_with_no_alias(staging: Path, store: Path) -> None:
    added = add_version(staging, store)
    assert read_version(store, added.short) == added
    assert read_aliases(store) == {}


def test_a_version_counts_as_new_when_it_is_added_again_or_named_no_more(
    staging: Path, store: Path, tmp_path: Path
) -> None:
    one = publish(staging, store, "a").folder
    os.utime(one, (0, 0))
    add_version(staging, store)
    assert one.stat().st_mtime > 0
    os.utime(one, (0, 0))
    publish(stage(tmp_path / "two", b"2"), store, "a")
    assert one.stat().st_mtime == 0  # it is the previous one
    publish(stage(tmp_path / "three", b"3"), store, "a")
    assert one.stat().st_mtime > 0


def test_the_versions_of_an_alias() -> None:
    entry = Alias("0" * 12, "1" * 12, shadow="1" * 12, share=1)
    assert (entry.versions, entry.candidate) == (("0" * 12, "1" * 12), "1" * 12)
    assert (Alias("0" * 12).versions, Alias("0" * 12).candidate) == (("0" * 12,), None)


def test_the_default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLWRIGHT_STORE", "/a/store")
    assert default_store() == Path("/a/store")
    monkeypatch.delenv("SQLWRIGHT_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", "/b")
    assert default_store() == Path("/b/sqlwright/store")
    monkeypatch.setenv("XDG_DATA_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_store() == Path("/home/someone/.local/share/sqlwright/store")
