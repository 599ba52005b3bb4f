"""The registered databases, their route, and the cache of schemas that came in requests."""

import pytest

from eval.task.samples import DEFAULT, sample_names, sample_schema
from eval.task.schema import parse_ddl
from server import databases
from server.databases import Databases, check_dialect, sample_databases
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


def test_a_schema_is_parsed_once_for_each_dialect(found, monkeypatch):
    calls: list[str] = []
    real = parse_ddl

    def parse(ddl: str, dialect: str):
        calls.append(dialect)
        return real(ddl, dialect)

    monkeypatch.setattr(databases, "parse_ddl", parse)
    first, again = found.from_ddl(DDL, "sqlite"), found.from_ddl(DDL, "sqlite")
    other = found.from_ddl(DDL, "mysql")
    assert first.schema is again.schema
    assert calls == ["sqlite", "mysql"]
    assert (first.dialect, other.dialect) == ("sqlite", "mysql")


def test_the_cache_is_bounded_and_drops_what_was_not_asked_for_longest(found, monkeypatch):
    monkeypatch.setattr(databases, "MAX_CACHED", 3)
    first = found.from_ddl(DDL, "sqlite").schema
    for number in range(10):
        found.from_ddl(f"CREATE TABLE t{number} (a INT)", "sqlite")
        assert found.from_ddl(DDL, "sqlite").schema is first
    assert len(found._parsed) == 3


def test_ddl_that_is_none_is_not_kept(found):
    for _ in range(2):
        with pytest.raises(InvalidDdl) as caught:
            found.from_ddl("DROP TABLE a", "sqlite")
    assert caught.value.param == "ddl"
    assert not found._parsed


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
