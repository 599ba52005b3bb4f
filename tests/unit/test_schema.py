"""Schemas from DDL of several dialects and from SQLite files, and DDL that gives none."""

import logging
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.task.dialect import DIALECTS, DialectError
from eval.task.samples import build_databases, sample_names, sample_schema
from eval.task.schema import (
    MAX_DDL_BYTES,
    MAX_TABLES,
    Column,
    DdlError,
    ForeignKey,
    Schema,
    Table,
    parse_ddl,
    schema_from_sqlite,
)


def only_table(ddl: str, dialect: str = "sqlite") -> Table:
    (table,) = parse_ddl(ddl, dialect).tables
    return table


def types(ddl: str, dialect: str = "sqlite") -> dict[str, str]:
    return {column.name: column.type for column in only_table(ddl, dialect).columns}


def test_a_table_to_the_letter() -> None:
    ddl = """
    CREATE TABLE IF NOT EXISTS singer (
        id INTEGER PRIMARY KEY AUTOINCREMENT,  -- the key
        name VARCHAR(20) NOT NULL DEFAULT 'x; DROP TABLE singer; --' COLLATE NOCASE, /* a, b */
        band_id INT REFERENCES band (id) ON DELETE CASCADE,
        age INT CHECK (age < 200),
        UNIQUE (name), CHECK (age > 0)
    );
    """
    assert only_table(ddl) == Table(
        "singer",
        (
            Column("id", "int"),
            Column("name", "varchar(20)"),
            Column("band_id", "int"),
            Column("age", "int"),
        ),
        ("id",),
        (ForeignKey(("band_id",), "band", ("id",)),),
    )


def test_table_keys_and_composite_keys() -> None:
    ddl = """CREATE TABLE p (a INT, b INT, c INT, CONSTRAINT pk PRIMARY KEY (b, a),
        CONSTRAINT fk FOREIGN KEY (a, b) REFERENCES q (x, y), FOREIGN KEY (c) REFERENCES r)"""
    table = only_table(ddl)
    assert table.primary_key == ("b", "a")
    assert table.foreign_keys == (
        ForeignKey(("a", "b"), "q", ("x", "y")),
        ForeignKey(("c",), "r", ()),
    )


def test_the_columns_of_a_key_are_spelled_as_they_are_created() -> None:
    ddl = """CREATE TABLE "Band" (Id INT, PRIMARY KEY (ID));
    CREATE TABLE singer (Band INT, FOREIGN KEY (BAND) REFERENCES band (iD));"""
    band, singer = parse_ddl(ddl).tables
    assert band.primary_key == ("Id",)
    assert singer.foreign_keys == (ForeignKey(("Band",), "band", ("Id",)),)


def test_quoted_names_keep_what_is_in_them() -> None:
    table = only_table('CREATE TABLE "t; DROP" ("c""d" INT, [e f] INT, `g` INT, "Select" INT)')
    assert table.name == "t; DROP"
    assert table.column_names == ('c"d', "e f", "g", "Select")


def test_columns_without_a_type_are_columns() -> None:
    assert types("CREATE TABLE t (a)") == {"a": ""}
    ddl = 'CREATE TABLE t (a INT, b, "c d", e PRIMARY KEY, f NOT NULL, g DEFAULT 3, h REFERENCES b)'
    assert types(ddl) == {"a": "int"} | dict.fromkeys(["b", "c d", "e", "f", "g", "h"], "")
    assert only_table(ddl).primary_key == ("e",)


def test_any_words_may_be_a_type_in_sqlite() -> None:
    ddl = "CREATE TABLE t (a character varchar(4), b LONG INTEGER UNSIGNED, c BANANA)"
    assert types(ddl) == {"a": "character varchar(4)", "b": "long integer unsigned", "c": "banana"}


@pytest.mark.parametrize(
    "end",
    [
        "CREATE INDEX i ON t (a)",
        "CREATE UNIQUE INDEX i ON t (a)",
        "INSERT INTO t VALUES (1, 2)",
        "CREATE TABLE u (x INT PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE u (x INT, y INT GENERATED ALWAYS AS (x + 1))",
        "CREATE TABLE u (x INT) STRICT",
    ],
)
def test_odd_types_and_what_stands_beside_them(end: str) -> None:
    """sqlglot can't parse the first table, so SQLite itself must take all of it."""
    schema = parse_ddl(f"CREATE TABLE t (a character varchar(4), b INT); {end};")
    assert schema.tables[0].column_names == ("a", "b")


def test_generated_columns_are_columns_on_either_way() -> None:
    ddl = "CREATE TABLE t (a INT, b INT GENERATED ALWAYS AS (a + 1), c INT AS (a) STORED)"
    odd = ddl.replace("a INT", "a character varchar(4)")
    assert only_table(ddl).column_names == only_table(odd).column_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("dialect", "ddl", "found"),
    [
        (
            "postgres",
            "CREATE TABLE public.t (a SERIAL PRIMARY KEY, b NUMERIC(10,2), c TIMESTAMPTZ)",
            {"a": "serial", "b": "decimal(10, 2)", "c": "timestamptz"},
        ),
        (
            "mysql",
            "CREATE TABLE `t` (`a` INT AUTO_INCREMENT, b ENUM('x','y') COMMENT 'z',"
            " PRIMARY KEY (a), KEY k (b)) ENGINE=InnoDB DEFAULT CHARSET=utf8",
            {"a": "int", "b": "enum('x', 'y')"},
        ),
        (
            "mssql",
            "CREATE TABLE [dbo].[t] ([a b] NVARCHAR(20), c INT IDENTITY(1,1),"
            " CONSTRAINT pk PRIMARY KEY CLUSTERED (c ASC, [a b]))",
            {"a b": "varchar(20)", "c": "int"},
        ),
        (
            "bigquery",
            "CREATE TABLE `p.d.t` (a STRUCT<x INT64, y STRING>, b ARRAY<STRUCT<z INT64>>, c INT64)",
            {"a": "struct<x bigint, y text>", "b": "array<struct<z bigint>>", "c": "bigint"},
        ),
        (
            "snowflake",
            "CREATE TABLE t (a OBJECT(x INT), b VARIANT, c NUMBER(38,0))",
            {"a": "object<x int>", "b": "variant", "c": "decimal(38, 0)"},
        ),
        (
            "clickhouse",
            "CREATE TABLE t (a Int32, b Nested(x Int32, y String)) ENGINE=MergeTree ORDER BY a",
            {"a": "int", "b": "nested<x int, y text>"},
        ),
        (
            "hive",
            "CREATE EXTERNAL TABLE t (a STRUCT<x: INT>, b MAP<STRING, INT>) STORED AS ORC",
            {"a": "struct<x int>", "b": "map<text, int>"},
        ),
        (
            "oracle",
            "CREATE TABLE t (a VARCHAR2(20), b NUMBER(10) PRIMARY KEY)",
            {"a": "varchar(20)", "b": "decimal(10)"},
        ),
        (
            "duckdb",
            "CREATE OR REPLACE TABLE t (a HUGEINT, b INT[])",
            {"a": "int128", "b": "array<int>"},
        ),
    ],
)
def test_dialects(dialect: str, ddl: str, found: dict[str, str]) -> None:
    """The fields of a nested type are no columns."""
    assert types(ddl, dialect) == found


@pytest.mark.parametrize(
    ("dialect", "ddl", "key"),
    [
        (
            "tsql",
            "CREATE TABLE t (a INT, b INT, CONSTRAINT k PRIMARY KEY CLUSTERED (b, a))",
            ("b", "a"),
        ),
        (
            "tsql",
            "CREATE TABLE t (a INT, CONSTRAINT k UNIQUE CLUSTERED (a), b INT PRIMARY KEY)",
            ("b",),
        ),
        ("sqlite", "CREATE TABLE t (a INT PRIMARY KEY DESC, b INT)", ("a",)),
        (
            "sqlite",
            "CREATE TABLE t (a TEXT, b TEXT, PRIMARY KEY (b COLLATE NOCASE, a DESC))",
            ("b", "a"),
        ),
        ("sqlite", "CREATE TABLE t (a INT)", ()),
    ],
)
def test_ways_to_write_a_primary_key(dialect: str, ddl: str, key: tuple[str, ...]) -> None:
    assert only_table(ddl, dialect).primary_key == key


def test_inserts_and_indexes_between_tables_are_passed_over() -> None:
    ddl = """CREATE TABLE a (x INT); INSERT INTO a VALUES (1), (2); CREATE INDEX i ON a (x);
    ;; CREATE TABLE b (y INT); INSERT INTO b VALUES ('DROP TABLE b');"""
    assert [table.name for table in parse_ddl(ddl).tables] == ["a", "b"]


def test_tables_are_found_whatever_the_case() -> None:
    schema = parse_ddl("CREATE TABLE Singer (a INT)")
    assert schema.find("SINGER") is schema.find("singer") is schema.tables[0]
    assert schema.find("sing") is None


def test_the_digest_depends_on_every_part() -> None:
    ddls = [
        "CREATE TABLE t (a INT)",
        "CREATE TABLE u (a INT)",
        "CREATE TABLE t (b INT)",
        "CREATE TABLE t (a TEXT)",
        "CREATE TABLE t (a INT PRIMARY KEY)",
        "CREATE TABLE t (a INT REFERENCES b)",
    ]
    assert len({parse_ddl(ddl).digest for ddl in ddls}) == len(ddls)
    assert parse_ddl(ddls[0]).digest == parse_ddl("create  table t(a int) -- x").digest


def tables_of(number: int) -> str:
    return ";\n".join(f"CREATE TABLE t{i} (a INT)" for i in range(number))


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        ("", "holds no CREATE TABLE"),
        ("-- nothing", "holds no CREATE TABLE"),
        ("CREATE INDEX i ON t (a)", "holds no CREATE TABLE"),
        ("INSERT INTO t VALUES (1)", "holds no CREATE TABLE"),
        ("hello", "only CREATE TABLE"),
        ("hello world, this is no DDL", "can't be parsed as sqlite"),
        ("CREATE TABLE t (a INT", "can't be parsed as sqlite"),
        ("CREATE TABLE t (a INT DEFAULT ->)", "can't be parsed as sqlite"),
        ("CREATE TABLE t ()", "no columns"),
        ("CREATE TABLE t (PRIMARY KEY (a))", "no columns"),
        ("CREATE TABLE t AS SELECT 1", "only CREATE TABLE with columns"),
        ("CREATE TABLE t (a INT); DROP TABLE t", "found DROP"),
        ("DROP TABLE t; CREATE TABLE t (a INT)", "found DROP"),
        ("CREATE TABLE t (a INT); UPDATE t SET a = 1", "found UPDATE"),
        ("CREATE TABLE t (a INT); DELETE FROM t", "found DELETE"),
        ("CREATE TABLE t (a INT); ALTER TABLE t ADD b INT", "found ALTER"),
        ("CREATE TABLE t (a INT); SELECT 1", "found SELECT"),
        ("CREATE TABLE t (a INT); PRAGMA writable_schema = 1", "found PRAGMA"),
        ("CREATE TABLE t (a INT); ATTACH 'x' AS y", "found ATTACH"),
        ("CREATE TABLE t (a INT); CREATE VIEW v AS SELECT 1", "found CREATE"),
        ("CREATE TABLE t (a INT); CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END", "found"),
        ("CREATE VIRTUAL TABLE t USING fts5 (a)", "found CREATE"),
        ("CREATE TABLE t (a INT); CREATE TABLE T (b INT)", "'T' is created twice"),
        ("CREATE TABLE t (a INT, A TEXT)", "in table 't', column 'A' is created twice"),
        (tables_of(600), "has 600 tables; at most 500"),
        ("-- " + "x" * MAX_DDL_BYTES + "\nCREATE TABLE t (a INT)", "over 512 KiB"),
        ("CREATE TABLE t (a INT DEFAULT " + "(" * 5000 + "1" + ")" * 5001, "brackets nest"),
        (
            "CREATE TABLE t (a INT DEFAULT (SELECT * FROM t " + "JOIN t " * 40 + "))",
            "JOINs without",
        ),
        (
            "CREATE TABLE t (a INT); INSERT INTO t SELECT * FROM t " + "JOIN t " * 40,
            "JOINs without",
        ),
        ("CREATE TABLE t (a INT DEFAULT " + "NOT " * 20_000 + "1)", "prefix operators"),
    ],
)
def test_ddl_that_gives_no_schema(ddl: str, message: str) -> None:
    with pytest.raises(DdlError, match=message) as found:
        parse_ddl(ddl)
    assert len(str(found.value)) < 400


def test_as_many_tables_as_are_allowed() -> None:
    assert len(parse_ddl(tables_of(MAX_TABLES)).tables) == MAX_TABLES == 500


def test_odd_types_open_no_door() -> None:
    """What sqlglot can't parse SQLite runs, in memory: it must not read or write anything else."""
    odd = "CREATE TABLE t (a character varchar(4)); "
    for statement in (
        "ATTACH '/etc/passwd' AS x",
        "PRAGMA table_info(t)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "DROP TABLE t",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE u AS SELECT 1",
        "CREATE TEMP TABLE u (a INT)",
        "INSERT INTO t SELECT load_extension('x')",
        "INSERT INTO t VALUES (randomblob(100))",
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i FROM c) INSERT INTO t SELECT i FROM c",
        "VACUUM INTO 'x'",
        "SELECT 1",
    ):
        with pytest.raises(DdlError):
            parse_ddl(odd + statement)


def test_an_unknown_dialect_is_an_error() -> None:
    with pytest.raises(DialectError):
        parse_ddl("CREATE TABLE t (a INT)", "nonesuch")
    assert parse_ddl("CREATE TABLE t (a INT)", "PostgreSQL").tables


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_every_dialect_reads_a_plain_table(dialect: str) -> None:
    table = only_table("CREATE TABLE singer (id INT, name VARCHAR(10))", dialect)
    assert table.column_names == ("id", "name")


WORDS = """CREATE TABLE t ( ) , ; a b INT TEXT VARCHAR(10) PRIMARY KEY FOREIGN REFERENCES DEFAULT '
    " -> 1 NOT NULL CHECK UNIQUE CONSTRAINT INSERT INTO VALUES DROP STRUCT< > ENUM( -- \x00 \ud800 (
    AS CLUSTERED GENERATED ALWAYS PARTITION BY LIKE""".split()


@settings(max_examples=200, deadline=None, database=None)
@given(
    ddl=st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join)),
    dialect=st.sampled_from(sorted(DIALECTS)),
)
def test_any_text_gives_a_schema_or_a_ddl_error(ddl: str, dialect: str) -> None:
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    for text in (ddl, f"CREATE TABLE t (a INT, {ddl})"):
        with suppress(DdlError):
            assert parse_ddl(text, dialect).tables


SCRIPT = """
CREATE TABLE Band (Id INTEGER PRIMARY KEY, Name VARCHAR(20), x DOUBLE PRECISION, y NUMERIC);
CREATE TABLE s (a INT, b INTEGER REFERENCES band (ID), c TEXT, d BOOLEAN, e BLOB, f REAL,
    PRIMARY KEY (A), FOREIGN KEY (C) REFERENCES band);
CREATE TABLE "order items" ("item id" INTEGER PRIMARY KEY AUTOINCREMENT, n INT AS (1), m,
    UNIQUE (n), FOREIGN KEY (n, "item id") REFERENCES s (a, b));
CREATE INDEX i ON s (a);
INSERT INTO Band VALUES (1, 'x', 2, 3);
"""


def database(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)
    return path


def test_a_file_and_its_script_give_the_same_schema(tmp_path: Path) -> None:
    """Else a model trained on the one would be asked with the other."""
    assert schema_from_sqlite(database(tmp_path / "a b?#.sqlite", SCRIPT)) == parse_ddl(SCRIPT)


def test_a_file_and_its_script_agree_on_odd_types_too(tmp_path: Path) -> None:
    script = "CREATE TABLE t (a character varchar(4), b INTEGER); CREATE TABLE u (c INTEGER);"
    assert schema_from_sqlite(database(tmp_path / "a.sqlite", script)) == parse_ddl(script)


def test_the_samples_are_read_alike_from_file_and_script(tmp_path: Path) -> None:
    build_databases(tmp_path)
    names = sample_names()
    assert len(names) == 6
    for name in names:
        assert schema_from_sqlite(tmp_path / f"{name}.sqlite") == sample_schema(name)


def test_views_triggers_and_sqlites_own_tables_are_left_out(tmp_path: Path) -> None:
    script = SCRIPT + "CREATE VIEW v AS SELECT 1; ANALYZE;"
    schema = schema_from_sqlite(database(tmp_path / "a.sqlite", script))
    assert [table.name for table in schema.tables] == ["Band", "s", "order items"]


def test_a_virtual_table_does_not_hide_the_others(tmp_path: Path) -> None:
    script = "CREATE TABLE a (x INTEGER PRIMARY KEY); CREATE VIRTUAL TABLE f USING fts5 (body);"
    schema = schema_from_sqlite(database(tmp_path / "a.sqlite", script))
    found = schema.find("f")
    assert schema.tables[0] == Table("a", (Column("x", "integer"),), ("x",))
    assert found and found.column_names == ("body",)


def test_files_that_hold_no_schema(tmp_path: Path) -> None:
    with pytest.raises(DdlError, match=r"missing\.sqlite: unable to open"):
        schema_from_sqlite(tmp_path / "missing.sqlite")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DdlError, match="has no tables"):
        schema_from_sqlite(database(tmp_path / "empty.sqlite", ""))
    (tmp_path / "text.sqlite").write_text("no database, but long enough to be looked at" * 9)
    with pytest.raises(DdlError, match="not a database"):
        schema_from_sqlite(tmp_path / "text.sqlite")


def test_schemas_are_equal_by_their_tables() -> None:
    table = Table("t", (Column("a"),))
    assert Schema((table,)) == Schema((table,))
    assert Schema((table,)) != Schema(())
