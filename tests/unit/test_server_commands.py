"""The commands that register databases, as they are typed."""

import io
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from server import introspect
from server.__main__ import main
from server.databases import key_id
from server.registry import Registry
from server.settings import PREFIX

SCRIPT = """CREATE TABLE users (id INTEGER PRIMARY KEY, city TEXT, "a,b.c" TEXT);
CREATE TABLE secrets (id INTEGER, user_id INTEGER REFERENCES users (id));
INSERT INTO users VALUES (1, 'Ulm', NULL), (2, 'Bern', '');"""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    import os

    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SQLWRIGHT_STORE", str(tmp_path / "data" / "store"))
    return tmp_path / "data" / "databases"


@pytest.fixture
def url(tmp_path: Path) -> str:
    path = tmp_path / "My Data.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCRIPT)
    return f"sqlite:///{path}"


def test_a_database_is_added_listed_and_removed(url, folder, capsys):
    assert main(["add-database", url]) == 0
    assert capsys.readouterr().out == "my-data: 2 tables, 5 columns\n"
    assert main(["list-databases", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row == {
        "name": "my-data",
        "dialect": "sqlite",
        "tables": 2,
        "source": url,
        "grants": "",
        "state": "whole",
    }
    assert main(["list-databases"]) == 0
    assert "my-data" in capsys.readouterr().out
    assert main(["remove-database", "my-data"]) == 0
    assert capsys.readouterr().out == "my-data: removed\n"
    assert list(folder.iterdir()) == []


def test_the_folder_stands_beside_the_store_or_where_it_is_said(url, folder, tmp_path, monkeypatch):
    assert main(["add-database", url, "--name", "a"]) == 0
    assert (folder / "a.json").is_file()
    monkeypatch.setenv("SQLWRIGHT_DATABASES", str(tmp_path / "b"))
    assert main(["add-database", url, "--name", "b"]) == 0
    assert (tmp_path / "b" / "b.json").is_file()
    assert main(["add-database", url, "--name", "c", "--databases", str(tmp_path / "c")]) == 0
    assert (tmp_path / "c" / "c.json").is_file()


def test_tables_values_and_grants_are_as_asked_for(url, folder):
    key = key_id("k1")
    asked = ["--include", "users", "--sample-values", "5", "--grant", '*=users.id, users."a,b.c"',
             "--grant", f"{key}=users", "--grant", "*=users.city"]  # fmt: skip
    assert main(["add-database", url, "--name", "x", *asked]) == 0
    found = Registry(folder).databases()["x"]
    (users,) = found.schema.tables
    assert [column.values for column in users.columns] == [(), ("Bern", "Ulm"), ()]
    assert found.grants == {"*": ("users.id", 'users."a,b.c"', "users.city"), key: ("users",)}
    everyone = found.grants_for(None)
    assert everyone and everyone.has_column("users", "a,b.c")
    assert not everyone.tables


def test_the_url_may_come_on_standard_input(url, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(url + "\n"))
    assert main(["add-database", "-", "--name", "x"]) == 0
    assert (folder / "x.json").is_file()


def test_what_was_not_read_is_said(url, monkeypatch, capsys):
    monkeypatch.setattr(introspect, "VALUES_SECONDS", -1.0)
    assert main(["add-database", url, "--sample-values", "1"]) == 0
    assert "users.city: no values" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add-database", "s3cr3t"], "not the URL of a database"),
        (["add-database", "oracle://u:s3cr3t@h/d"], "'oracle' can't be read"),
        (["add-database", "sqlite:///nowhere.db"], "there is no SQLite file"),
        (["add-database", "URL", "--name", "No Name"], "must match"),
        (["add-database", "URL", "--name", "shop"], "is a sample's"),
        (["add-database", "URL", "--include", "nope"], "no table matches 'nope'"),
        (["add-database", "URL", "--grant", "users"], "--grant 'users': write WHO="),
        (["add-database", "URL", "--grant", "s=users"], "--grant 's=users': write WHO="),
        (["add-database", "URL", "--grant", "*=nope"], "the grant of 'nope' to * names nothing"),
        (["add-database", "URL", "--grant", "*=users."], "can't be read"),
        (["remove-database", "nope"], "'nope' is not registered"),
        (["remove-database", "../nope"], "must match"),
    ],
)
def test_a_mistake_is_one_line_and_the_status_1(url, folder, capsys, arguments, message):
    assert main([url if a == "URL" else a for a in arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("sqlwright-serve: error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert "s3cr3t" not in said.err
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["add-database"],
        ["add-database", "URL", "--nope"],
        ["add-database", "URL", "--sample-values", "-1"],
        ["add-database", "URL", "--sample-values", "51"],
        ["remove-database"],
        ["list-databases", "x"],
    ],
)
def test_a_wrong_use_has_the_status_2(arguments, capsys):
    assert main(arguments) == 2
    assert "sqlwright-serve" in capsys.readouterr().err


def test_help_is_no_error(capsys):
    assert main(["add-database", "--help"]) == 0
    assert "--sample-values" in capsys.readouterr().out


def test_a_name_is_not_taken_twice(url, capsys):
    assert main(["add-database", url]) == 0
    assert main(["add-database", url]) == 1
    assert "give --replace" in capsys.readouterr().err
    assert main(["add-database", url, "--replace"]) == 0


def test_a_broken_file_is_listed_with_its_fault(folder, capsys):
    folder.mkdir(parents=True)
    (folder / "x.json").write_text("{")
    assert main(["list-databases", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "x"
    assert row["state"].startswith("x.json: file: Invalid JSON")


def test_a_setting_out_of_range_is_named(url, monkeypatch, capsys):
    monkeypatch.setenv("SQLWRIGHT_PORT", "70000")
    assert main(["list-databases"]) == 1
    assert "error: port: " in capsys.readouterr().err
    monkeypatch.setenv("SQLWRIGHT_NOPE", "1")
    assert main(["add-database", url]) == 1
    assert "SQLWRIGHT_NOPE is no setting" in capsys.readouterr().err


def test_a_driver_that_is_missing_is_named_with_the_remedy(url, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "server.introspect", None)
    monkeypatch.delattr("server.introspect", raising=False)
    assert main(["add-database", url]) == 1
    assert "pip install" in capsys.readouterr().err
