"""What each kind may do to a row, on our own sample databases, and what it must leave alone."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlglot import exp, parse_one

from eval.task.prompt import quote
from eval.task.samples import build_databases, sample_examples, sample_names, sample_schema
from eval.task.schema import Schema, parse_ddl
from eval.task.sql import check_sql
from trainer.pipeline.augment.distract import distract
from trainer.pipeline.augment.literals import literals
from trainer.pipeline.augment.mentions import WORD
from trainer.pipeline.augment.naming import stems
from trainer.pipeline.augment.pool import Pool, make_pool, name_phrase
from trainer.pipeline.augment.prune import prune
from trainer.pipeline.augment.rename import rename
from trainer.pipeline.augment.restyle import Style, restyle, styled_names
from trainer.pipeline.augment.shuffle import shuffle
from trainer.pipeline.augment.synonym import synonym
from trainer.pipeline.augment.transpile import map_type, transpile
from trainer.pipeline.row import Row, dump_schema

Kind = Callable[[Row, random.Random, Pool], Row | None]

RENAMING: dict[str, Kind] = {"rename": rename, "restyle": restyle, "synonym": synonym}
KEEPING: dict[str, Kind] = {"shuffle": shuffle, "prune": prune, "distract": distract}
STEP = 4  # every fourth sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("databases")
    build_databases(folder)
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[Row]:
    schemas = {name: dump_schema(sample_schema(name)) for name in sample_names()}
    return [
        Row(e.id, e.db_id, e.question, e.sql, e.dialect, e.source, schemas[e.db_id],
            str(folder / f"{e.db_id}.sqlite"))
        for e in sample_examples("train")[::STEP]
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pool(rows: list[Row]) -> Pool:
    return make_pool(rows)


def make_row(question: str, sql: str, ddl: str, database: str = "") -> Row:
    schema = dump_schema(parse_ddl(ddl))
    return Row("a", "harbour", question, sql, schema_json=schema, database=database)


def made(kind: Kind, row: Row, pool: Pool, num_seeds: int = 40) -> list[Row]:
    """The copies that `num_seeds` seeds make of `row`."""
    found = (kind(row, random.Random(seed), pool) for seed in range(num_seeds))
    return [copy for copy in found if copy]


def copies(kind: Kind, name: str, rows: list[Row], pool: Pool) -> list[tuple[Row, Row]]:
    pairs = [(row, kind(row, random.Random(f"{name}{row.id}"), pool)) for row in rows]
    return [(row, copy) for row, copy in pairs if copy]


def shape(sql: str, *, with_literals: bool = True) -> str:
    """The tree of a query without its names."""
    tree = parse_one(sql, read="sqlite")
    for identifier in list(tree.find_all(exp.Identifier)):
        identifier.replace(exp.to_identifier("x"))
    for literal in () if with_literals else list(tree.find_all(exp.Literal)):
        literal.replace(exp.Literal.number(0))
    return tree.sql("sqlite")


def run(database: str | sqlite3.Connection, sql: str) -> list[tuple[object, ...]]:
    if isinstance(database, sqlite3.Connection):
        return database.execute(sql).fetchall()
    with closing(sqlite3.connect(database)) as db:
        return db.execute(sql).fetchall()


def renamed_database(database: str, old: Schema, new: Schema) -> sqlite3.Connection:
    """A copy in memory of the file, its tables and columns renamed from `old` to `new`; through
    names that nothing has, for a new name may be the old one of another."""
    db = sqlite3.connect(":memory:")
    with closing(sqlite3.connect(database)) as source:
        source.backup(db)
    for number, (before, after) in enumerate(zip(old.tables, new.tables, strict=True)):
        for i, column in enumerate(before.column_names):
            db.execute(f"ALTER TABLE {quote(before.name)} RENAME {quote(column)} TO tmp_{i}")
        for i, column in enumerate(after.column_names):
            db.execute(f"ALTER TABLE {quote(before.name)} RENAME tmp_{i} TO {quote(column)}")
        db.execute(f"ALTER TABLE {quote(before.name)} RENAME TO tmp_{number}")
    for number, table in enumerate(new.tables):
        db.execute(f"ALTER TABLE tmp_{number} RENAME TO {quote(table.name)}")
    return db


def expect_sound(copy: Row) -> None:
    schema = copy.schema
    assert schema
    assert check_sql(copy.sql, schema, copy.dialect).valid, copy.sql
    names = [[t.name for t in schema.tables], *([*t.column_names] for t in schema.tables)]
    for group in names:
        assert len({name.lower() for name in group}) == len(group)
    for table in schema.tables:
        assert set(table.primary_key) <= set(table.column_names)
        for key in table.foreign_keys:
            target = schema.find(key.table)
            assert target and set(key.columns) <= set(table.column_names)
            assert set(key.references) <= set(target.column_names)


@pytest.mark.parametrize("name", RENAMING)
def test_renaming_keeps_shape_and_rows(name: str, rows: list[Row], pool: Pool) -> None:
    some = rows[::STEP]  # SQLite reads its whole schema again after each ALTER
    found = copies(RENAMING[name], name, some, pool)
    assert len(found) > 0.9 * len(some)
    for row, copy in found:
        expect_sound(copy)
        assert shape(copy.sql) == shape(row.sql)
        assert copy.database == ""
        assert row.schema and copy.schema
        with closing(renamed_database(row.database, row.schema, copy.schema)) as db:
            assert run(db, copy.sql) == run(row.database, row.sql), copy.sql


@pytest.mark.parametrize("name", KEEPING)
def test_other_schemas_leave_question_query_and_database(
    name: str, rows: list[Row], pool: Pool
) -> None:
    found = copies(KEEPING[name], name, rows, pool)
    assert len(found) > 0.8 * len(rows)
    for row, copy in found:
        expect_sound(copy)
        assert copy == row.with_(schema_json=copy.schema_json)
        assert run(copy.database, copy.sql) == run(row.database, row.sql)


@pytest.mark.parametrize("name", ["restyle", "synonym"])
def test_only_rename_touches_the_question(name: str, rows: list[Row], pool: Pool) -> None:
    assert all(c.question == r.question for r, c in copies(RENAMING[name], name, rows, pool))


def test_the_same_seed_makes_the_same_copy(rows: list[Row], pool: Pool) -> None:
    for kind in (*RENAMING.values(), *KEEPING.values(), literals):
        first, second = (kind(rows[3], random.Random(7), pool) for _ in range(2))
        assert first == second


@pytest.mark.parametrize("name", ["rename", "restyle", "synonym", "shuffle", "prune", "distract"])
def test_a_row_without_a_schema_is_no_one_s_to_change(name: str, pool: Pool) -> None:
    row = Row("a", "b", "How many?", "SELECT COUNT(*) FROM t")
    assert (RENAMING | KEEPING)[name](row, random.Random(1), pool) is None
    assert literals(row, random.Random(1), pool) is None


# rename

FLEET = """
CREATE TABLE skipper (skipper_id INT PRIMARY KEY, name TEXT, age INT, StaffSkiID INT);
CREATE TABLE boat (boat_id INT PRIMARY KEY, length_m REAL, color TEXT, skipper_id INT,
    FOREIGN KEY (skipper_id) REFERENCES skipper (skipper_id));
"""


def asked(question: str, sql: str, pool: Pool) -> list[Row]:
    return made(rename, make_row(question, sql, FLEET), pool)


def test_a_table_moves_in_question_schema_and_query(pool: Pool) -> None:
    found = asked("How many boats are there?", "SELECT COUNT(*) FROM boat", pool)
    moved = [c for c in found if c.question != "How many boats are there?"]
    assert len(moved) > 10
    for copy in moved:
        words = stems(w.lower() for w in WORD.findall(copy.question))
        table = parse_one(copy.sql, read="sqlite").find(exp.Table)
        assert table and name_phrase(table.name) == words[2:-2]
        assert "boat" not in copy.schema_json


def test_a_column_that_the_question_does_not_name_keeps_its_name(pool: Pool) -> None:
    question, sql = "Who is the oldest?", "SELECT name FROM skipper ORDER BY age DESC LIMIT 1"
    for copy in asked(question, sql, pool):
        assert copy.question == question
        assert copy.sql == sql


def test_what_a_question_says_otherwise_too_keeps_its_name(pool: Pool) -> None:
    question = "Show the age of the oldest skipper."
    for copy in asked(question, "SELECT MAX(age) FROM skipper", pool):
        assert "age of the oldest" in copy.question
        assert "MAX(age)" in copy.sql


def test_a_word_in_a_value_is_no_mention(pool: Pool) -> None:
    sql = "SELECT color FROM boat JOIN skipper USING (skipper_id) WHERE name = 'Boat Color'"
    found = asked("Show the color of the boat of skipper Boat Color.", sql, pool)
    assert {c.question for c in found} > {found[0].question}
    for copy in found:
        assert copy.question.endswith(" Boat Color.")
        assert copy.sql.endswith("'Boat Color'")


def test_short_forms_follow_their_word(pool: Pool) -> None:
    ddl = "CREATE TABLE Student (StuID INT PRIMARY KEY, Age INT); CREATE TABLE Pet (StuID INT);"
    row = make_row("What are the ids of the students?", "SELECT StuID FROM Student", ddl)
    moved = [c for c in made(rename, row, pool) if "Student" not in c.sql]
    assert moved
    for copy in moved:
        column, table = copy.sql.removeprefix("SELECT ").split(" FROM ")
        assert table.lower().replace("_", "").startswith(column.removesuffix("ID").lower())
        assert "StuID" not in copy.schema_json


def test_a_verb_or_a_word_of_the_same_root_stops_the_change(pool: Pool) -> None:
    ddl = "CREATE TABLE film (id INT PRIMARY KEY, director TEXT, rank INT);"
    row = make_row(
        "Who directed most films? Rank the directors.",
        "SELECT director FROM film GROUP BY director ORDER BY COUNT(*) DESC",
        ddl,
    )
    for copy in made(rename, row, pool):
        assert "director" in copy.sql
        assert copy.question.endswith("Rank the directors.")


def test_a_name_that_the_question_gives_to_another_table_stays(pool: Pool) -> None:
    sql = "SELECT skipper.name, boat.color FROM boat JOIN skipper USING (skipper_id)"
    for copy in asked("Show the boat names and the name of each skipper.", sql, pool):
        assert ".name, " in copy.sql
        assert " names and the name of " in copy.question


# restyle

STYLES = {
    "camel": (Style("camel"), "SELECT albumId, firstName FROM vocalAlbums"),
    "upper": (Style("upper"), "SELECT ALBUM_ID, FIRST_NAME FROM VOCAL_ALBUMS"),
    "long": (Style("snake", spelling="long"), "SELECT album_id, first_name FROM vocal_albums"),
    "singular": (Style("pascal", tables="singular"), "SELECT AlbumId, FirstName FROM VocalAlbum"),
    "prefix": (Style("snake", prefix="add"), "SELECT album_id, vocal_album_first_name"),
    "strip": (Style(prefix="strip"), "SELECT Album_ID, Fname FROM Vocal_Albums"),
}


@pytest.mark.parametrize("name", STYLES)
def test_a_style_is_that_of_all_names(name: str) -> None:
    style, sql = STYLES[name]
    schema = parse_ddl("CREATE TABLE Vocal_Albums (Album_ID INT PRIMARY KEY, Fname TEXT);")
    names = styled_names(schema, style)
    wanted = sql.replace("first_name", "fname").replace("firstName", "fname")
    wanted = wanted.replace("FIRST_NAME", "FNAME").replace("FirstName", "Fname")
    shown = "SELECT {}, {} FROM {}".format(
        names["Vocal_Albums", "Album_ID"], names["Vocal_Albums", "Fname"], names["Vocal_Albums", ""]
    )
    assert shown.startswith(sql if name == "long" else wanted)


def test_keys_become_short_or_long_and_reserved_words_stay() -> None:
    schema = parse_ddl(
        "CREATE TABLE orders (id INT PRIMARY KEY, order_by TEXT);"
        "CREATE TABLE item (item_id INT PRIMARY KEY, order_id INT REFERENCES orders (id));"
    )
    names = styled_names(schema, Style(tables="singular", key="long", prefix="strip"))
    assert names["orders", ""] == "orders"  # `order` would need quotes
    assert names["orders", "id"] == "order_id"
    assert names["orders", "order_by"] == "order_by"  # so would `by`
    names = styled_names(schema, Style(key="short"))
    assert names["item", "item_id"] == "id"
    assert names["item", "order_id"] == "order_id"


def test_a_style_never_makes_two_names_one() -> None:
    schema = parse_ddl("CREATE TABLE box (box_name TEXT, name TEXT, boxName TEXT);")
    names = styled_names(schema, Style("joined", prefix="strip"))
    assert len({name.lower() for key, name in names.items() if key[1]}) == 3


# prune, distract

HARBOUR = """
CREATE TABLE port (port_id INT PRIMARY KEY, name TEXT, depth REAL, berths INT);
CREATE TABLE ship (ship_id INT PRIMARY KEY, name TEXT, port_id INT REFERENCES port, flag TEXT);
CREATE TABLE crane (crane_id INT PRIMARY KEY, port_id INT REFERENCES port, tons REAL);
"""


def test_pruning_keeps_what_is_read_and_the_keys_between(pool: Pool) -> None:
    row = make_row("?", "SELECT flag FROM ship", HARBOUR)
    sizes = set()
    for copy in made(prune, row, pool):
        expect_sound(copy)
        assert copy.schema
        ship = copy.schema.find("ship")
        assert ship and {"ship_id", "flag"} <= set(ship.column_names)
        if copy.schema.find("port"):
            assert "port_id" in ship.column_names and ship.foreign_keys
        else:
            assert not ship.foreign_keys
        sizes.add(len(copy.schema.tables))
    assert sizes == {1, 2, 3}


def test_a_star_reads_every_column(pool: Pool) -> None:
    row = make_row("?", "SELECT * FROM ship", HARBOUR)
    for kind in (prune, distract):
        for copy in made(kind, row, pool):
            assert copy.schema and row.schema
            assert copy.schema.find("ship").columns == row.schema.find("ship").columns  # type: ignore[union-attr]


def test_nothing_is_added_that_the_question_could_mean(pool: Pool) -> None:
    question = "Name and price of the users of each ship"
    row = make_row(question, "SELECT name FROM ship", HARBOUR)
    said = set(stems(w.lower() for w in WORD.findall(question)))
    added = 0
    for copy in made(distract, row, pool):
        expect_sound(copy)
        assert copy.schema and row.schema
        for table in copy.schema.tables:
            if old := row.schema.find(table.name):
                new = set(table.column_names) - set(old.column_names)
                assert said.isdisjoint(word for name in new for word in name_phrase(name))
            else:
                new = {table.name}
                assert said.isdisjoint(name_phrase(table.name))
            added += len(new)
    assert added > 40


def test_an_added_table_has_no_column_that_an_unanchored_question_says(pool: Pool) -> None:
    row = make_row("Show every name.", "SELECT name FROM ship", HARBOUR)
    tables = [t for c in made(distract, row, pool) if c.schema for t in c.schema.tables]
    strangers = [t for t in tables if not parse_ddl(HARBOUR).find(t.name)]
    assert strangers
    assert all("name" not in table.column_names for table in strangers)


def test_without_other_databases_nothing_is_added() -> None:
    row = make_row("?", "SELECT flag FROM ship", HARBOUR)
    assert made(distract, row, make_pool([row])) == []


# literals


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("harbour") / "harbour.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            HARBOUR + "INSERT INTO port VALUES (1, 'Bergen', 12.5, 40), (2, 'Oslo', 9.5, 130),"
            "(3, 'Port  Louis', 1, 2), (4, 'it''s', 1, 2);"
            "INSERT INTO ship VALUES (1, 'Ann Lee', 1, 'NO'), (2, 'Bo Ray', 2, 'SE');"
        )
    return str(path)


# Question and query; what any copy looks like. `#` is a number that is another in each copy.
LITERALS = [
    ("Over 25 berths", "SELECT name FROM port WHERE berths > 25", "Over # berths"),
    ("The three first", "SELECT name FROM port LIMIT 3", "The # first"),
    ("In 1990?", "SELECT name FROM port WHERE berths < 1990", "In #?"),
    (
        "Ships in Oslo",
        "SELECT COUNT(*) FROM ship JOIN port USING (port_id) WHERE port.name = 'Oslo'",
        "Ships in Bergen",
    ),
    ("Ships called Lee", "SELECT flag FROM ship WHERE name LIKE '%Lee%'", "Ships called #"),
]


@pytest.mark.parametrize(("question", "sql", "wanted"), LITERALS)
def test_a_value_changes_in_question_and_query(
    question: str, sql: str, wanted: str, harbour: str, pool: Pool
) -> None:
    found = made(literals, make_row(question, sql, HARBOUR, harbour), pool)
    assert found
    for copy in found:
        assert (copy.question == question) == (copy.sql == sql) is False
        assert shape(copy.sql, with_literals=False) == shape(sql, with_literals=False)
        assert bool(run(harbour, copy.sql)) == bool(run(harbour, sql))
        before, _, after = wanted.partition("#")
        assert copy.question.startswith(before) and copy.question.endswith(after)


UNCHANGED = {
    "not in the question": ("All of them", "SELECT name FROM port WHERE berths > 40"),
    "twice in the question": ("40 or 40", "SELECT name FROM port WHERE berths = 40"),
    "part of a longer number": ("On 2040-01-40", "SELECT name FROM port WHERE berths = 40"),
    "one": ("The one with the most", "SELECT name FROM port ORDER BY berths DESC LIMIT 1"),
    "no value of a column": ("The 3 letters", "SELECT SUBSTR(name, 1, 3) FROM port"),
    "in another case": ("Port of bergen", "SELECT 1 FROM port WHERE name = 'BERGEN'"),
    "an answer that would be empty": ("Only 40", "SELECT name FROM port WHERE berths = 40"),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_a_value_that_can_not_change_stays(name: str, harbour: str, pool: Pool) -> None:
    question, sql = UNCHANGED[name]
    assert made(literals, make_row(question, sql, HARBOUR, harbour), pool) == []


def test_the_order_of_two_numbers_is_kept(harbour: str, pool: Pool) -> None:
    row = make_row(
        "Between 10 and 90", "SELECT name FROM port WHERE berths BETWEEN 10 AND 90", HARBOUR
    )
    found = made(literals, row, pool)
    assert found
    for copy in found:
        low, high = (float(n.name) for n in parse_one(copy.sql).find_all(exp.Literal))
        assert low < high
        assert copy.question == f"Between {low:g} and {high:g}"


def test_a_query_that_can_not_run_makes_no_copy(tmp_path: Path, pool: Pool) -> None:
    row = make_row("Over 25", "SELECT name FROM port WHERE berths > 25", HARBOUR)
    assert made(literals, row, pool)
    assert made(literals, row.with_(database=str(tmp_path / "none.sqlite")), pool) == []


# transpile


def test_a_query_and_its_types_move_to_another_dialect(pool: Pool) -> None:
    ddl = 'CREATE TABLE t ("the name" TEXT, d DATETIME, n INT, x);'
    row = make_row("?", "SELECT IFNULL(\"the name\", 'a') FROM t LIMIT 2", ddl, "t.sqlite")
    copy = transpile(row, random.Random(1), pool, dialect="tsql")
    assert copy and copy.schema
    assert (copy.dialect, copy.database) == ("tsql", "")
    assert copy.sql == "SELECT TOP 2 COALESCE([the name], 'a') FROM t"
    types = [column.type for column in copy.schema.tables[0].columns]
    assert types == ["varchar(max)", "datetime", "integer", ""]
    expect_sound(copy)


def test_what_has_no_form_in_a_dialect_stays(pool: Pool) -> None:
    row = make_row("?", "SELECT flag FROM ship", HARBOUR)
    assert transpile(row, random.Random(1), pool, dialect="sqlite") is None
    row = make_row("?", "SELECT julianday(flag) FROM ship", HARBOUR)
    assert transpile(row, random.Random(1), pool, dialect="postgres") is None


def test_an_unknown_type_is_left_as_it_is() -> None:
    assert map_type("double", "sqlite", "postgres") == "double precision"
    assert map_type("odd type here", "sqlite", "postgres") == "odd type here"
    assert map_type("", "sqlite", "postgres") == ""
