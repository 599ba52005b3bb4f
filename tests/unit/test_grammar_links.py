"""Which columns two tables may be joined on, and which sources a FROM clause may name."""

import pytest

from eval.task.samples import sample_names, sample_schema
from eval.task.schema import Schema, parse_ddl
from server.grammar.links import MAX_SHARED, links_of
from server.grammar.sources import MAX_ALIASED, sources_of


def linked(ddl: str) -> set[str]:
    schema = parse_ddl(ddl)
    return {
        " and ".join(
            f"{schema.tables[link.left].name}.{x} = {schema.tables[link.right].name}.{y}"
            for x, y in link.pairs
        )
        for link in links_of(schema)
    }


CASES = {
    "a key": (
        "CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b (x INT REFERENCES a (id))",
        {"b.x = a.id"},
    ),
    "a key without columns means the primary key": (
        "CREATE TABLE a (k INT PRIMARY KEY); CREATE TABLE b (x INT REFERENCES a)",
        {"b.x = a.k"},
    ),
    "a key of two columns": (
        "CREATE TABLE a (k INT, l INT); CREATE TABLE b (x INT, y INT,"
        " FOREIGN KEY (x, y) REFERENCES a (k, l))",
        {"b.x = a.k and b.y = a.l"},
    ),
    "a key to a table that is not there": (
        "CREATE TABLE b (x INT REFERENCES gone (id))",
        set(),
    ),
    "a key to a column that is not there": (
        "CREATE TABLE a (k INT); CREATE TABLE b (x INT REFERENCES a (gone))",
        set(),
    ),
    "another case": (
        "CREATE TABLE Big (Id INT PRIMARY KEY); CREATE TABLE b (X INT REFERENCES BIG (ID))",
        {"b.X = Big.Id"},
    ),
    "siblings": (
        "CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b (x INT REFERENCES a (id));"
        " CREATE TABLE c (y INT REFERENCES a (id))",
        {"b.x = a.id", "c.y = a.id", "b.x = c.y"},
    ),
    "a name that sounds like a key": (
        "CREATE TABLE a (route_id INT); CREATE TABLE b (route_id INT, colour TEXT);"
        " CREATE TABLE c (colour TEXT, route_id INT)",
        {"a.route_id = b.route_id", "a.route_id = c.route_id", "b.route_id = c.route_id"},
    ),
    "any name where nothing else leads to a table": (
        "CREATE TABLE list (grade INT, room TEXT); CREATE TABLE teachers (who TEXT, room TEXT)",
        {"list.room = teachers.room"},
    ),
    "vague names": (
        "CREATE TABLE a (id INT, name TEXT); CREATE TABLE b (id INT, name TEXT)",
        set(),
    ),
    "named after a table": (
        "CREATE TABLE stations (id INT PRIMARY KEY); CREATE TABLE trip (start_station_id INT)",
        {"trip.start_station_id = stations.id"},
    ),
    "named after a table in camel case, in the plural": (
        "CREATE TABLE Countries (code TEXT PRIMARY KEY); CREATE TABLE city (homeCountry TEXT)",
        {"city.homeCountry = Countries.code"},
    ),
    "named after a table that has the very name": (
        "CREATE TABLE player (player_id INT); CREATE TABLE salary (player_id INT)",
        {"salary.player_id = player.player_id"},
    ),
    "no guess where a key joins the two": (
        "CREATE TABLE a (id INT PRIMARY KEY, route_id INT);"
        " CREATE TABLE b (route_id INT, a INT REFERENCES a (id))",
        {"b.a = a.id"},
    ),
}


@pytest.mark.parametrize(("ddl", "expected"), CASES.values(), ids=CASES)
def test_columns_pair_that_refer_or_seem_to(ddl, expected):
    assert linked(ddl) == expected


def test_a_name_in_many_tables_pairs_only_with_the_table_whose_key_it_is():
    tables = [f"CREATE TABLE t{i} (route_id INT)" for i in range(MAX_SHARED)]
    assert len(linked("; ".join(tables))) == MAX_SHARED * (MAX_SHARED - 1) // 2
    owner = "CREATE TABLE r (route_id INT PRIMARY KEY)"
    found = linked("; ".join([owner, *tables]))
    assert found == {f"t{i}.route_id = r.route_id" for i in range(MAX_SHARED)}


def names(schema: Schema) -> list[str]:
    return [f"{s.table.name} {s.alias}".strip() for s in sources_of(schema)]


def test_a_table_that_refers_to_itself_has_two_aliases_one_referred_to_twice_three():
    found = names(sample_schema("shop"))
    assert {name for name in found if name.startswith("users")} == {"users", "users T1", "users T2"}
    schema = parse_ddl(
        "CREATE TABLE p (id INT PRIMARY KEY); CREATE TABLE f (a INT REFERENCES p, b INT"
        " REFERENCES p)"
    )
    assert sorted(names(schema)) == ["f", "p", "p T1", "p T2", "p T3"]


def test_no_aliases_where_a_table_has_such_a_name():
    ddl = "CREATE TABLE t1 (a INT); CREATE TABLE u (id INT PRIMARY KEY, b INT REFERENCES u)"
    assert sorted(names(parse_ddl(ddl))) == ["t1", "u"]


def test_only_some_tables_have_aliases():
    ddl = "; ".join(
        f"CREATE TABLE u{i} (k INT PRIMARY KEY, up INT REFERENCES u{i})" for i in range(9)
    )
    aliased = {s.aliased for s in sources_of(parse_ddl(ddl))}
    assert aliased == set(range(MAX_ALIASED + 1))


@pytest.mark.parametrize("database", sample_names())
def test_sources_that_joins_bring_together_have_numbers_in_a_row(database):
    sources = sources_of(sample_schema(database))
    assert [source.number for source in sources] == list(range(1, len(sources) + 1))
    for source in sources:
        assert source.first <= source.number <= source.last
        for other, ways in source.joins.items():
            neighbour = sources[other - 1]
            assert (neighbour.first, neighbour.last) == (source.first, source.last)
            turned = {tuple((y, x) for x, y in way) for way in ways}
            assert turned == set(neighbour.joins[source.number])
            for x, y in (pair for way in ways for pair in way):
                assert x in source.table.column_names and y in neighbour.table.column_names


def test_those_that_join_the_most_come_first():
    sources = sources_of(parse_ddl("CREATE TABLE lone (a INT); CREATE TABLE p (id INT PRIMARY KEY);"
                                   " CREATE TABLE c (p INT REFERENCES p)"))  # fmt: skip
    assert [source.table.name for source in sources] == ["p", "c", "lone"]
    assert [source.num_joined for source in sources] == [2, 2, 1]
