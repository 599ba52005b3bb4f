"""Execution feedback: only where it is allowed, only reading, and an empty answer is no good."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from server.databases import Database, Databases
from server.decode.options import Options
from tests.conftest import make_client
from tests.unit.test_server_generate import answer_to

EMPTY = "SELECT name FROM users WHERE id < 0"
FULL = "SELECT name FROM users WHERE id > 0"
OPTIONS = Options(num_samples=2, may_run=True)


@pytest.fixture
def live(tmp_path, generator):
    """The shop on a SQLite file with one user."""
    path = tmp_path / "a shop.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE users (id INT, name TEXT)")
        db.execute("INSERT INTO users VALUES (1, 'Ann')")
        db.commit()
    shop = generator.databases.registered["shop"]
    database = Database("shop", shop.schema, "sqlite", f"sqlite:///{path}")
    return replace(generator, databases=Databases({"shop": database}, "shop"), options=OPTIONS)


async def asked(generator, engine, *texts: str):
    for text in texts:
        engine.enqueue(text)
    async with make_client(generator) as client:
        return await answer_to(client, repair="execute")


async def test_a_valid_answer_that_finds_rows_stays(live, engine):
    body = await asked(live, engine, FULL)
    assert (body["decoding"], body["repaired"], len(engine.questions)) == ("free", False, 1)


@pytest.mark.parametrize("first", [EMPTY, "SELECT email FROM users", "SELECT nme FROM users"])
async def test_one_that_finds_none_or_fails_gives_way_to_a_sample_that_does(live, engine, first):
    body = await asked(live, engine, first, EMPTY, FULL)
    assert (body["sql_query"], body["decoding"]) == (FULL, "sampled")
    assert body["repaired"] is True


async def test_then_to_the_constrained_answer(live, engine):
    body = await asked(live, engine, EMPTY, EMPTY, EMPTY, FULL)
    assert (body["sql_query"], body["decoding"]) == (FULL, "constrained")


async def test_where_nothing_finds_rows_the_first_valid_answer_stays(live, engine):
    body = await asked(live, engine, EMPTY, EMPTY, EMPTY, EMPTY)
    assert (body["decoding"], body["repaired"]) == ("free", False)


@pytest.mark.parametrize("source", ["", "sqlite:///nowhere.sqlite", "postgresql://host/db"])
async def test_a_database_that_is_no_file_here_is_not_run(live, engine, source):
    database = replace(live.databases.find("shop"), source=source)
    other = replace(live, databases=Databases({"shop": database}, "shop"))
    assert (await asked(other, engine, EMPTY))["decoding"] == "free"
    body = await asked(other, engine, "SELECT nme FROM users")
    assert (body["decoding"], body["notes"]) == (
        "constrained",
        ["queries may not be run on this database"],
    )


async def test_nothing_runs_where_the_operator_does_not_allow_it(live, engine, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("a query was run")

    monkeypatch.setattr("server.decode.execute._has_row", never)
    body = await asked(replace(live, options=Options()), engine, EMPTY)
    assert (body["decoding"], body["repaired"]) == ("free", False)


async def test_a_file_that_is_no_database_finds_nothing_and_is_no_server_error(live, engine):
    path = live.databases.find("shop").source.removeprefix("sqlite:///")
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"not a database" * 100)
    assert (await asked(live, engine, FULL, FULL, FULL, FULL))["decoding"] == "free"
