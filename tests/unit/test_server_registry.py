"""Registered databases on disk: one file each, written whole, broken ones named and let be."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from eval.task.schema import Column, ForeignKey, Schema, Table, parse_ddl
from server import registry as module
from server.databases import Database, key_id
from server.registry import Registry, RegistryError

SCHEMA = Schema(
    (
        Table(
            "users", (Column("id", "int"), Column("name", "text", "said", ("Ann", "Bo"))), ("id",)
        ),
        Table(
            'odd "one"',
            (Column("a b", ""), Column("user", "int")),
            ("a b", "user"),
            (ForeignKey(("user",), "users", ("id",)),),
            "a comment",
        ),
    )
)
SHOP = Database(
    "my-shop",
    SCHEMA,
    "postgres",
    "postgresql://host/db",
    {"*": ("users.id",), key_id("k"): ("users",)},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "databases"


@pytest.fixture
def registry(folder: Path) -> Registry:
    return Registry(folder)


def test_what_is_added_is_read_back_to_the_letter(registry, folder):
    path = registry.add(SHOP)
    assert path == folder / "my-shop.json"
    assert registry.read(path) == SHOP
    assert registry.read(path).schema.digest == SCHEMA.digest
    assert Registry(folder).databases()["my-shop"] == SHOP


def test_a_file_is_readable_by_its_owner_only_and_nothing_is_left_beside_it(registry, folder):
    path = registry.add(SHOP)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(folder.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(registry, folder, monkeypatch):
    path = registry.add(SHOP)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        registry.add(Database("my-shop", parse_ddl("CREATE TABLE t (a INT)")), replace=True)
    assert registry.read(path) == SHOP
    assert list(folder.iterdir()) == [path]


def test_a_name_is_replaced_only_if_that_is_asked_for(registry):
    path = registry.add(SHOP)
    other = Database("my-shop", parse_ddl("CREATE TABLE t (a INT)"))
    with pytest.raises(RegistryError, match="is registered; give --replace"):
        registry.add(other)
    assert registry.read(path) == SHOP
    registry.add(other, replace=True)
    assert registry.read(path) == other


@pytest.mark.parametrize("name", ["", "Shop", "a b", "../x", "a/b", ".x", "x" * 65, "a\nb", "ü"])
def test_a_name_that_no_file_should_have_is_refused(registry, folder, name):
    with pytest.raises(RegistryError, match="must match"):
        registry.add(Database(name, SCHEMA))
    with pytest.raises(RegistryError, match="must match"):
        registry.remove(name)
    assert not folder.exists()


def test_a_samples_name_is_refused(registry):
    with pytest.raises(RegistryError, match="'shop' is a sample's"):
        registry.add(Database("shop", SCHEMA))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dialect": "klingon"}, "unknown dialect 'klingon'"),
        ({"grants": {"*": ("nope",)}}, "the grant of 'nope' to \\* names nothing"),
        ({"grants": {"*": ("users.nope",)}}, "'users.nope'"),
        ({"grants": {"*": ("a b c.",)}}, "can't be read"),
        ({"grants": {"me": ("users",)}}, "grants"),
        ({"schema": Schema((Table("a\nb", (Column("x"),)),))}, r"U\+000A"),
        ({"schema": Schema((Table("a", (Column("x"), Column("X"))),))}, "created twice"),
    ],
)
def test_a_database_that_could_not_be_served_is_not_added(registry, folder, changes, message):
    values: dict[str, Any] = {"name": "x", "schema": SCHEMA} | changes
    with pytest.raises(RegistryError, match=message):
        registry.add(Database(**values))
    assert not folder.exists()


def test_removing_takes_the_file_away(registry, folder):
    registry.add(SHOP)
    registry.remove("my-shop")
    assert list(folder.iterdir()) == []
    with pytest.raises(RegistryError, match="'my-shop' is not registered"):
        registry.remove("my-shop")


def record(**changes: Any) -> dict[str, Any]:
    """What a file of a database `x` holds, with `changes`; None takes a field away."""
    values: dict[str, Any] = {
        "format_version": 1,
        "name": "x",
        "dialect": "sqlite",
        "source": "",
        "tables": [{"name": "t", "columns": [{"name": "a", "type": "int"}]}],
    } | changes
    return {key: value for key, value in values.items() if value is not None}


def table(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "t", "columns": [{"name": "a"}]} | changes]


BROKEN = [
    ("", "file: Invalid JSON"),
    ("{", "file: Invalid JSON"),
    ("[]", "file: "),
    ("null", "file: "),
    ('{"a": ' * 100_000, "file: "),
    (b"\xff\xfe", "file: "),
    (record(name=None), "name: "),
    (record(name="y"), "another name"),
    (record(format_version=2), "format_version: "),
    (record(format_version=None), "format_version: "),
    (record(password="p"), "password: Extra"),
    (record(dialect="klingon"), "unknown dialect"),
    (record(dialect=1), "dialect: "),
    (record(tables=None), "tables: "),
    (record(tables={}), "tables: "),
    (record(tables=table(nope=1)), "tables.0.nope: "),
    (record(tables=table(columns=[{"name": 1}])), "tables.0.columns.0.name: "),
    (record(tables=table(columns=[{"name": "a", "values": "x"}])), "tables.0.columns.0.values: "),
    (record(tables=table(name="a\nb")), "U+000A"),
    (record(tables=table() * 2), "'t' is created twice"),
    (
        record(tables=[*table(), *({"name": f"t{i}", "columns": []} for i in range(500))]),
        "501 tables",
    ),
    (record(grants={"*": ["nope"]}), "names nothing"),
    (record(grants={"key": ["t"]}), "grants.key"),
    (record(grants={"*": "t"}), "grants.*: "),
]


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_a_broken_file_is_named_once_and_the_others_are_served(registry, folder, content, message):
    registry.add(SHOP)
    path = folder / "x.json"
    text = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with capture_logs() as logs:
        for _ in range(3):
            found = registry.databases()
            path.touch()
    assert "my-shop" in found
    assert "x" not in found
    (line,) = [line for line in logs if line["event"] == "database_refused"]
    assert line["file"] == "x.json"
    assert message in line["reason"]
    assert line["still_served"] is False
    assert len(line["reason"]) < 400


def test_a_file_that_breaks_leaves_what_was_served(registry):
    path = registry.add(SHOP)
    assert registry.databases()["my-shop"] == SHOP
    path.write_text("{")
    with capture_logs() as logs:
        assert registry.databases()["my-shop"] == SHOP
    assert [line["still_served"] for line in logs] == [True]
    registry.add(SHOP, replace=True)
    with capture_logs() as logs:
        assert registry.databases()["my-shop"] == SHOP
    assert [line["event"] for line in logs] == ["database_served"]


def test_a_file_is_read_again_only_if_it_changed(registry, monkeypatch):
    read: list[str] = []
    real = Registry.read

    def reading(self: Registry, path: Path) -> Database:
        read.append(path.name)
        return real(self, path)

    monkeypatch.setattr(Registry, "read", reading)
    registry.add(SHOP)
    for _ in range(3):
        registry.databases()
    assert read == ["my-shop.json"]
    registry.add(Database("my-shop", parse_ddl("CREATE TABLE t (a INT)")), replace=True)
    assert registry.databases()["my-shop"].schema.find("t")
    assert len(read) == 2


def test_what_is_removed_is_withdrawn_and_what_is_added_is_served(registry, folder):
    assert set(registry.databases()) == set(registry._samples)
    registry.add(SHOP)
    assert "my-shop" in registry.databases()
    registry.remove("my-shop")
    with capture_logs() as logs:
        assert "my-shop" not in registry.databases()
    assert logs == [{"event": "database_withdrawn", "database": "my-shop", "log_level": "info"}]


def test_a_folder_that_is_gone_keeps_what_was_served(registry, folder):
    registry.add(SHOP)
    registry.databases()
    folder.rename(folder.with_name("elsewhere"))
    with capture_logs() as logs:
        for _ in range(3):
            assert registry.databases()["my-shop"] == SHOP
    assert [line["reason"] for line in logs] == ["is gone: is it still mounted?"]
    folder.with_name("elsewhere").rename(folder)
    assert registry.databases()["my-shop"] == SHOP


def test_a_folder_that_is_a_file_holds_nothing(folder):
    folder.parent.mkdir()
    folder.write_text("x")
    assert set(Registry(folder).databases()) == set(Registry(folder)._samples)


@pytest.mark.parametrize("kind", ["fifo", "folder", "other name", "dangling link"])
def test_what_is_no_file_is_passed_over(registry, folder, kind):
    folder.mkdir(parents=True)
    path = folder / ("x.txt" if kind == "other name" else "x.json")
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "other name":
            path.write_text("{")
        case _:
            path.symlink_to(folder / "nowhere")
    with capture_logs() as logs:
        assert "x" not in registry.databases()
    assert logs == []


def test_a_file_that_is_too_large_is_not_read(registry, folder, monkeypatch):
    registry.add(SHOP)
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 100)
    with pytest.raises(RegistryError, match=r"my-shop\.json: over"):
        registry.read(folder / "my-shop.json")
