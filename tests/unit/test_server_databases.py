"""The registered databases, their route, and the cache of schemas that came in requests."""

import asyncio
import threading

import pytest

from eval.task.grants import Grants
from eval.task.samples import DEFAULT, sample_names, sample_schema
from eval.task.schema import parse_ddl
from server import databases
from server.databases import (
    MAX_INLINE,
    Database,
    Databases,
    check_dialect,
    key_id,
    sample_databases,
)
from server.errors import DatabaseNotFound, InvalidDdl, UnknownDialect

DDL = "CREATE TABLE a (b INT)"


@pytest.fixture
def found() -> Databases:
    return Databases(sample_databases(), DEFAULT)


def test_all_the_samples_are_registered_with_the_default_among_them(found):
    assert set(found.registered) == set(sample_names())
    assert len(found.registered) == 6
    assert found.find(None).name == DEFAULT


def test_the_default_answers_the_question_of_the_documentation(found):
    columns = found.find(None).schema.find("users").column_names
    assert "signup_date" in columns


def test_a_default_that_is_not_registered_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"default_database: 'nope' .*shop"):
        Databases(sample_databases(), "nope")


def test_an_unknown_name_is_not_found(found):
    with pytest.raises(DatabaseNotFound) as caught:
        found.find("nope")
    assert caught.value.param == "database"
    assert "shop" in caught.value.hint


async def test_a_schema_is_parsed_once_for_each_dialect(found, monkeypatch):
    calls: list[str] = []
    real = parse_ddl

    def parse(ddl: str, dialect: str):
        calls.append(dialect)
        return real(ddl, dialect)

    monkeypatch.setattr(databases, "parse_ddl", parse)
    first, again = await found.read_ddl(DDL, "sqlite"), await found.read_ddl(DDL, "sqlite")
    other = await found.read_ddl(DDL, "mysql")
    assert first.schema is again.schema
    assert calls == ["sqlite", "mysql"]
    assert (first.dialect, other.dialect) == ("sqlite", "mysql")


async def test_the_cache_is_bounded_and_drops_what_was_not_asked_for_longest(found, monkeypatch):
    monkeypatch.setattr(databases, "MAX_CACHED", 3)
    first = (await found.read_ddl(DDL, "sqlite")).schema
    for number in range(10):
        await found.read_ddl(f"CREATE TABLE t{number} (a INT)", "sqlite")
        assert (await found.read_ddl(DDL, "sqlite")).schema is first
    assert len(found._parsed) == 3


async def test_ddl_that_is_none_is_not_kept(found):
    for _ in range(2):
        with pytest.raises(InvalidDdl) as caught:
            await found.read_ddl("DROP TABLE a", "sqlite")
    assert caught.value.param == "ddl"
    assert not found._parsed


LONG = ";".join(f"CREATE TABLE t{i} (a INT, b TEXT)" for i in range(500))


@pytest.fixture
def parses(monkeypatch):
    """The threads that DDL was parsed in, one entry a time."""
    threads: list[str] = []
    real = parse_ddl

    def parse(ddl: str, dialect: str):
        threads.append(threading.current_thread().name)
        return real(ddl, dialect)

    monkeypatch.setattr(databases, "parse_ddl", parse)
    return threads


async def test_short_ddl_is_parsed_at_once(found, parses):
    assert (await found.read_ddl(DDL, "sqlite")).schema is (
        await found.read_ddl(DDL, "sqlite")
    ).schema
    assert parses == [threading.current_thread().name]


async def test_long_ddl_is_parsed_in_a_thread_once_for_all_who_ask(found, parses):
    assert len(LONG) > MAX_INLINE
    answers = await asyncio.gather(*(found.read_ddl(LONG, "sqlite") for _ in range(5)))
    assert len({id(answer.schema) for answer in answers}) == 1
    assert (await found.read_ddl(LONG, "sqlite")).schema is answers[0].schema
    assert len(parses) == 1
    assert parses[0].startswith("ddl")
    await found.read_ddl(LONG, "mysql")
    assert len(parses) == 2


async def test_who_leaves_early_takes_nothing_from_the_others(found, parses):
    first = asyncio.create_task(found.read_ddl(LONG, "sqlite"))
    await asyncio.sleep(0)
    second = asyncio.create_task(found.read_ddl(LONG, "sqlite"))
    await asyncio.sleep(0)
    first.cancel()
    assert len((await second).schema.tables) == 500
    assert first.cancelled()
    assert len(parses) == 1


async def test_long_ddl_that_is_none_is_an_error_for_all_and_is_not_kept(found):
    bad = LONG + "; DROP TABLE t1"
    answers = await asyncio.gather(
        *(found.read_ddl(bad, "sqlite") for _ in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [InvalidDdl] * 3
    assert not found._parsed
    assert not found._parsing


async def test_nobody_is_left_to_hear_of_an_error(found):
    task = asyncio.create_task(found.read_ddl(LONG + "; DROP TABLE t1", "sqlite"))
    await asyncio.sleep(0)
    (parsing,) = found._parsing.values()
    task.cancel()
    await asyncio.wait([parsing])
    await asyncio.sleep(0)
    assert not found._parsing


async def test_the_cache_is_bounded_in_bytes_too(found, monkeypatch):
    monkeypatch.setattr(databases, "MAX_CACHED_BYTES", 100)
    for number in range(20):
        await found.read_ddl(f"CREATE TABLE t{number} (a INT)", "sqlite")
        assert found._cached_bytes == sum(size for _, size in found._parsed.values()) <= 100
    assert 3 <= len(found._parsed) <= 4
    big = "CREATE TABLE big (a INT)" + " " * 200
    assert (await found.read_ddl(big, "sqlite")).schema.find("big")
    assert not found._parsed


GRANTED = {"*": ("a",), key_id("k1"): ("b.x", "c"), key_id("k2"): ()}


@pytest.mark.parametrize(
    ("grants", "key", "texts"),
    [
        ({}, None, None),
        ({}, "k1", None),
        (GRANTED, None, ["a"]),
        (GRANTED, "k1", ["b.x", "c"]),
        (GRANTED, "k2", []),
        (GRANTED, "k3", ["a"]),
        ({key_id("k1"): ("a",)}, None, []),
        ({key_id("k1"): ("a",)}, "k2", []),
        ({key_id("k1"): ("a",)}, key_id("k1"), []),
    ],
)
def test_what_a_caller_may_read(grants, key, texts):
    schema = parse_ddl(
        "CREATE TABLE a (x INT); CREATE TABLE b (x INT, y INT); CREATE TABLE c (z INT)"
    )
    found = Database("d", schema, grants=grants).grants_for(key)
    assert found == (None if texts is None else Grants.parse(texts))


def test_a_key_is_known_by_the_start_of_its_hash():
    assert key_id("s3cret") == "1ec1c26b50d5"
    assert key_id("\ud800") != key_id("?")


async def test_what_is_registered_is_read_again():
    now = dict(sample_databases())
    found = Databases(dict(now), DEFAULT, lambda: dict(now))
    watch = asyncio.create_task(found.watch(0.001))
    now["new"] = Database("new", parse_ddl(DDL))
    while "new" not in found.registered:
        await asyncio.sleep(0.001)
    del now["new"]
    while "new" in found.registered:
        await asyncio.sleep(0.001)
    watch.cancel()


def test_a_default_that_is_gone_is_not_found_by_its_name(found):
    del found.registered[DEFAULT]
    with pytest.raises(DatabaseNotFound, match=repr(DEFAULT)):
        found.find(None)


@pytest.mark.parametrize(
    ("alias", "name"),
    [("pg", "postgres"), ("PostgreSQL", "postgres"), ("sqlite3", "sqlite"), ("mssql", "tsql"),
     ("mariadb", "mysql"), (" mysql ", "mysql")],
)  # fmt: skip
def test_a_dialect_goes_by_its_aliases(alias, name):
    assert check_dialect(alias) == name


@pytest.mark.parametrize("name", ["", "klingon", "prql", "Dialect", "sqlite\0"])
def test_an_unknown_dialect_is_refused(name):
    with pytest.raises(UnknownDialect) as caught:
        check_dialect(name)
    assert caught.value.param == "dialect"


async def test_the_route_lists_every_table_and_column(client):
    body = (await client.get("/databases")).json()
    assert body["default"] == DEFAULT
    assert [entry["name"] for entry in body["databases"]] == sample_names()
    for entry in body["databases"]:
        assert entry["dialect"] == "sqlite"
        tables = {table["name"]: table["columns"] for table in entry["tables"]}
        schema = sample_schema(entry["name"])
        assert tables == {table.name: list(table.column_names) for table in schema.tables}
