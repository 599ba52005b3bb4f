"""Binding and renaming: the renamed query on a renamed database gives the rows of the original."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from eval.task.schema import ForeignKey, Schema, parse_ddl
from eval.task.sql import check_sql
from trainer.pipeline.augment.bind import Key, UnboundError, bind, parse
from trainer.pipeline.augment.names import rename_row
from trainer.pipeline.row import Row, dump_schema

CASES = Path(__file__).parents[1] / "fixtures" / "train" / "augment_queries.sql"
DDL = """
CREATE TABLE keeper (keeper_id INTEGER PRIMARY KEY, Name TEXT, age INT, boss_id INT,
    FOREIGN KEY (boss_id) REFERENCES keeper (keeper_id));
CREATE TABLE lamp (lamp_id INTEGER PRIMARY KEY, lens TEXT, keeper_id INT REFERENCES keeper);
CREATE TABLE "sea rock" ("rock name" TEXT PRIMARY KEY, "group" TEXT);
"""
ROWS = """
INSERT INTO keeper VALUES
    (1, 'ann', 33, NULL), (2, 'bob', 51, 1), (3, 'cyd', 28, 1), (4, 'ann', 40, 2);
INSERT INTO lamp VALUES (1, 'red', 1), (2, 'green', 1), (3, 'red', 3), (4, 'blue', NULL);
INSERT INTO "sea rock" VALUES ('gull', 'n'), ('seal', 's'), ('crab', 'n');
"""
# Every name changes. In SWAPPED some go where others were before.
FRESH: dict[Key, str] = {
    ("keeper", ""): "guard",
    ("keeper", "keeper_id"): "guard_id",
    ("keeper", "Name"): "label",
    ("keeper", "age"): "winters",
    ("keeper", "boss_id"): "head_id",
    ("lamp", ""): "light",
    ("lamp", "lamp_id"): "light_id",
    ("lamp", "lens"): "glass",
    ("lamp", "keeper_id"): "guard_id",
    ("sea rock", ""): "sea stack",
    ("sea rock", "rock name"): "stack name",
    ("sea rock", "group"): "order",
}
SWAPPED = FRESH | {
    ("keeper", "Name"): "age",
    ("keeper", "age"): "Name",
    ("keeper", "boss_id"): "keeper_id",
    ("lamp", ""): "keeper",
    ("lamp", "lamp_id"): "lens",
    ("lamp", "lens"): "lamp_id",
}
Databases = dict[str, sqlite3.Connection]


def queries() -> list[str]:
    lines = CASES.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("--")]


@pytest.fixture(scope="module")
def schema() -> Schema:
    return parse_ddl(DDL)


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with ExitStack() as stack:
        found = {}
        for kind, names in (("old", {}), ("fresh", FRESH), ("swapped", SWAPPED)):
            found[kind] = stack.enter_context(closing(sqlite3.connect(":memory:")))
            found[kind].executescript(DDL + ROWS)
            _rename_database(found[kind], names)
        yield found


def _rename_database(db: sqlite3.Connection, names: dict[Key, str]) -> None:
    """Through names that nothing has, for some of the new ones are old ones of others."""
    columns = {key: new for key, new in names.items() if key[1]}
    for table, column in columns:
        db.execute(f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "tmp {column}"')
    for (table, column), new in columns.items():
        db.execute(f'ALTER TABLE "{table}" RENAME COLUMN "tmp {column}" TO "{new}"')
    tables = {key[0]: new for key, new in names.items() if not key[1]}
    for table in tables:
        db.execute(f'ALTER TABLE "{table}" RENAME TO "tmp {table}"')
    for table, new in tables.items():
        db.execute(f'ALTER TABLE "tmp {table}" RENAME TO "{new}"')


def make_row(sql: str, schema: Schema) -> Row:
    return Row("a", "sea", "?", sql, schema_json=dump_schema(schema), database="sea.sqlite")


def test_the_file_holds_queries() -> None:
    assert len(queries()) > 30


@pytest.mark.parametrize("sql", queries())
def test_a_renamed_query_gives_the_same_rows(
    sql: str, schema: Schema, databases: Databases
) -> None:
    copy = rename_row(make_row(sql, schema), FRESH)
    assert copy and copy.schema
    assert copy.sql != sql
    assert check_sql(copy.sql, copy.schema).valid
    assert (
        databases["old"].execute(sql).fetchall() == databases["fresh"].execute(copy.sql).fetchall()
    )


def test_names_may_go_where_other_names_were(schema: Schema, databases: Databases) -> None:
    num_copies = 0
    for sql in queries():
        if copy := rename_row(make_row(sql, schema), SWAPPED):
            num_copies += 1
            old = databases["old"].execute(sql).fetchall()
            assert databases["swapped"].execute(copy.sql).fetchall() == old, copy.sql
    assert num_copies > 25  # the others have an alias that is one of the new names


def test_a_string_in_double_quotes_is_not_taken_for_a_column(schema: Schema) -> None:
    row = make_row('SELECT Name FROM keeper WHERE Name = "ann"', schema)
    assert rename_row(row, FRESH) is None


def test_keys_follow_their_names(schema: Schema) -> None:
    copy = rename_row(make_row("SELECT Name FROM keeper", schema), FRESH)
    assert copy and copy.schema and copy.database == ""
    owner, lamp, rock = copy.schema.tables
    assert owner.primary_key == ("guard_id",)
    assert owner.foreign_keys == (ForeignKey(("head_id",), "guard", ("guard_id",)),)
    assert lamp.foreign_keys == (ForeignKey(("guard_id",), "guard", ()),)
    assert rock.primary_key == ("stack name",)


def test_names_that_do_not_change_keep_their_spelling(schema: Schema) -> None:
    copy = rename_row(
        make_row("SELECT NAME, age FROM KEEPER", schema), {("keeper", "age"): "years"}
    )
    assert copy and copy.sql == "SELECT NAME, years FROM KEEPER"


def test_an_output_name_follows_its_column_but_an_alias_stays(schema: Schema) -> None:
    sql = "SELECT t.name, t.n FROM (SELECT name, age AS n FROM keeper) AS t"
    names = {("keeper", "Name"): "label", ("keeper", "age"): "years"}
    copy = rename_row(make_row(sql, schema), names)
    assert copy
    assert copy.sql == "SELECT t.label, t.n FROM (SELECT label, years AS n FROM keeper) AS t"


REFUSED: dict[str, tuple[str, dict[Key, str]]] = {
    "nothing changes": ("SELECT age FROM keeper", {("keeper", "age"): "age"}),
    "a table's name is taken": ("SELECT age FROM keeper", {("keeper", ""): "Lamp"}),
    "a column's name is taken": ("SELECT age FROM keeper", {("keeper", "age"): "NAME"}),
    "a name that must be quoted": ("SELECT age FROM keeper", {("keeper", "age"): "how old"}),
    "a reserved word": ("SELECT age FROM keeper", {("keeper", ""): "order"}),
    "an alias of the query": (
        "SELECT age AS years FROM keeper ORDER BY years",
        {("keeper", "Name"): "Years"},
    ),
    "an alias of a table": ("SELECT k.age FROM keeper AS k", {("lamp", ""): "k"}),
    "a CTE of the query": (
        "WITH c AS (SELECT age FROM keeper) SELECT age FROM c",
        {("keeper", ""): "C"},
    ),
    "a bare name caught by another table": (
        "SELECT age, lens FROM keeper JOIN lamp ON lamp.keeper_id = keeper.keeper_id",
        {("keeper", "age"): "shade", ("lamp", "lens"): "shade"},
    ),
    "a bare outer name caught by an inner table": (
        "SELECT Name FROM keeper WHERE EXISTS (SELECT 1 FROM lamp WHERE lens = age)",
        {("keeper", "age"): "lamp_id"},
    ),
    "merged columns part": (
        "SELECT lens FROM keeper JOIN lamp USING (keeper_id)",
        {("keeper", "keeper_id"): "owner_id"},
    ),
    "a NATURAL join": ("SELECT age FROM keeper NATURAL JOIN lamp", {("keeper", "age"): "years"}),
    "an unknown column": ("SELECT beard FROM keeper", {("keeper", "age"): "years"}),
    "an unknown table": ("SELECT age FROM tower", {("keeper", "age"): "years"}),
    "no query": ("DELETE FROM keeper", {("keeper", "age"): "years"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_change_of_meaning_is_refused(name: str, schema: Schema) -> None:
    sql, names = REFUSED[name]
    assert rename_row(make_row(sql, schema), names) is None


def test_a_binding_says_what_each_name_stands_for(schema: Schema) -> None:
    sql = "SELECT k.Name FROM keeper AS k JOIN lamp ON lamp.keeper_id = k.keeper_id"
    found = [(i.name, origin) for i, origin in bind(parse(sql, "sqlite"), schema).names]
    assert sorted(found) == [
        ("Name", (("keeper", "Name"),)),
        ("keeper", (("keeper", ""),)),
        ("keeper_id", (("keeper", "keeper_id"),)),
        ("keeper_id", (("lamp", "keeper_id"),)),
        ("lamp", (("lamp", ""),)),
        ("lamp", (("lamp", ""),)),
    ]


def test_a_name_of_two_tables_is_not_guessed(schema: Schema) -> None:
    sql = "SELECT keeper_id FROM keeper JOIN lamp ON lamp.keeper_id = keeper.keeper_id"
    with pytest.raises(UnboundError, match="'keeper_id' of two sources"):
        bind(parse(sql, "sqlite"), schema)
