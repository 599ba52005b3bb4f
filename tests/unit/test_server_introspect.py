"""Schemas of live databases: PostgreSQL, MariaDB and SQLite as they are, read and never written."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from eval.task.prompt import serialise_keys
from eval.task.schema import Column, ForeignKey, Schema, schema_from_sqlite
from server import introspect as module
from server.introspect import (
    MAX_VALUE,
    Introspected,
    Selection,
    introspect,
    is_private,
)
from server.live_url import IntrospectError
from tests.unit.servers import PASSWORD, TestServer, new_server

# Each with the same tables; names that must be quoted, and one that no file system would take.
SETUP = {
    "postgres": [
        "CREATE TABLE shops (id int PRIMARY KEY, city text NOT NULL, email text)",
        "COMMENT ON TABLE shops IS 'Where we\nsell; DROP TABLE shops'",
        "COMMENT ON COLUMN shops.city IS 'the town''s name'",
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        'CREATE TABLE "order items%" ("shop/id" int REFERENCES shops, "a""b%s :c" varchar(200),'
        ' n numeric(8, 2), feeling mood, PRIMARY KEY ("shop/id", n))',
        "CREATE VIEW towns AS SELECT city FROM shops",
        "CREATE SCHEMA other",
        "CREATE TABLE other.things (id int PRIMARY KEY, shop int REFERENCES shops)",
    ],
    "mysql": [
        "CREATE TABLE shops (id int PRIMARY KEY, city text NOT NULL COMMENT 'the town''s name',"
        " email text) COMMENT 'Where we\nsell; DROP TABLE shops' CHARACTER SET utf8mb4",
        'CREATE TABLE `order items%` (`shop/id` int, `a"b%s :c` varchar(200) CHARACTER SET utf8mb4'
        " COLLATE utf8mb4_bin, n decimal(8, 2), feeling enum('sad', 'ok'),"
        " PRIMARY KEY (`shop/id`, n), FOREIGN KEY (`shop/id`) REFERENCES shops (id))"
        " CHARACTER SET utf8mb4",
        "CREATE VIEW towns AS SELECT city FROM shops",
    ],
    "sqlite": [
        "CREATE TABLE shops (id INTEGER PRIMARY KEY, city text NOT NULL, email text)",
        'CREATE TABLE "order items%" ("shop/id" int REFERENCES shops (id),'
        ' "a""b%s :c" varchar(200),'
        ' n decimal(8, 2), feeling text, PRIMARY KEY ("shop/id", n))',
        "CREATE VIEW towns AS SELECT city FROM shops",
    ],
}
ROWS = [
    "INSERT INTO shops VALUES (1, 'Ulm', 'a@b'), (2, 'Bern', 'c@d'), (3, 'Ulm', NULL), (4, '', '')",
    "INSERT INTO {items} VALUES (1, '" + "x" * (MAX_VALUE + 1) + "', 1, 'ok')",
    "INSERT INTO {items} VALUES (2, '" + "y" * MAX_VALUE + "', 2, 'ok')",
    "INSERT INTO {items} VALUES (3, ' two\nlines\t', 3, 'sad')",
]
ITEMS = {"postgres": '"order items%"', "mysql": "`order items%`", "sqlite": '"order items%"'}
ODD = 'a"b%s :c'


class Live:
    """One database with the tables of `SETUP`, by the URL of a role that may read them."""

    def __init__(self, dialect: str, url: str, server: TestServer | None = None) -> None:
        self.dialect = dialect
        self.url = url
        self.server = server

    def read(self, **selected: object) -> Introspected:
        return introspect(self.url, Selection(**selected))  # type: ignore[arg-type]


def text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def rows(dialect: str) -> list[str]:
    return [row.format(items=ITEMS[dialect]) for row in ROWS]


def write_sqlite(path: Path, *statements: str) -> str:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(";".join(statements))
    return f"sqlite:///{path}"


@pytest.fixture(scope="module", params=["postgres", "mysql", "sqlite"])
def live(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    dialect = request.param
    if dialect == "sqlite":
        path = tmp_path_factory.mktemp("live") / "my shop #1.db"
        with closing(sqlite3.connect(path)) as db:
            db.executescript(";".join([*SETUP[dialect], *rows(dialect)]))
        yield Live(dialect, f"sqlite:///{path}")
        return
    with new_server(dialect) as server:
        server.run(*SETUP[dialect], *rows(dialect))
        reader = server.reader()
        if dialect == "mysql":
            server.run(f"GRANT SHOW VIEW ON {server.name}.* TO {server.roles[0]}")
        yield Live(dialect, text(reader), server)


def columns(schema: Schema, table: str) -> dict[str, Column]:
    found = schema.find(table)
    assert found
    return {column.name: column for column in found.columns}


def test_tables_views_and_keys_are_read(live):
    found = live.read()
    assert sorted(table.name for table in found.schema.tables) == ["order items%", "shops", "towns"]
    items = found.schema.find("order items%")
    assert items.primary_key == ("shop/id", "n")
    assert items.foreign_keys == (ForeignKey(("shop/id",), "shops", ("id",)),)
    assert items.column_names == ("shop/id", ODD, "n", "feeling")
    assert found.schema.find("towns").column_names == ("city",)
    assert found.dialect == live.dialect
    assert found.notes == ()


def test_types_read_as_they_would_from_ddl(live):
    kinds = {name: c.type for name, c in columns(live.read().schema, "order items%").items()}
    assert kinds["shop/id"] in ("int", "int(11)")
    assert kinds[ODD] == "varchar(200)"
    assert kinds["n"] == "decimal(8, 2)"
    assert kinds["feeling"] in ("mood", "enum('sad', 'ok')", "text")


def test_comments_are_one_line(live):
    if live.dialect == "sqlite":
        pytest.skip("SQLite has no comments")
    shops = live.read().schema.find("shops")
    assert shops.comment == "Where we sell; DROP TABLE shops"
    assert columns(live.read().schema, "shops")["city"].comment == "the town's name"
    assert "sell" not in serialise_keys(live.read().schema)


def test_no_value_is_read_unless_asked_for(live):
    for table in live.read().schema.tables:
        assert all(column.values == () for column in table.columns)


def test_values_are_short_distinct_text_of_columns_that_are_not_private(live):
    schema = live.read(values=5).schema
    shops, items = columns(schema, "shops"), columns(schema, "order items%")
    assert shops["city"].values == ("Bern", "Ulm")
    assert shops["email"].values == shops["id"].values == ()
    assert items[ODD].values == ("two lines", "y" * MAX_VALUE)
    assert items["n"].values == ()
    assert columns(schema, "towns")["city"].values == ("Bern", "Ulm")


def test_at_most_as_many_values_as_asked_for(live):
    assert len(columns(live.read(values=1).schema, "shops")["city"].values) == 1


def test_the_source_has_neither_user_nor_password(live):
    found = live.read()
    assert PASSWORD not in repr(found)
    assert "@" not in found.source
    assert found.source.startswith({"postgres": "postgresql://"}.get(live.dialect, live.dialect))
    assert found.name == ("my-shop-1" if live.dialect == "sqlite" else live.server.name)


@pytest.mark.parametrize(
    ("selected", "names"),
    [
        ({"include": ("shops",)}, ["shops"]),
        ({"include": ("SHOP*",)}, ["shops"]),
        ({"include": ("order*",)}, ["order items%"]),
        ({"exclude": ("order*", "towns")}, ["shops"]),
        ({"include": ("*s",), "exclude": ("towns",)}, ["shops"]),
    ],
)
def test_tables_are_chosen_by_globs(live, selected, names):
    schema = live.read(**selected).schema
    assert sorted(table.name for table in schema.tables) == names
    known = {table.name for table in schema.tables}
    assert all(key.table in known for table in schema.tables for key in table.foreign_keys)


@pytest.mark.parametrize(
    ("selected", "message"),
    [
        ({"include": ("nope",)}, "no table matches 'nope'"),
        ({"exclude": ("nope",)}, "no table matches 'nope'"),
        ({"exclude": ("*",)}, "no tables that the role can see are left"),
        ({"schema": "nope"}, "there is no schema 'nope'; known: "),
    ],
)
def test_a_selection_of_nothing_is_refused(live, selected, message):
    with pytest.raises(IntrospectError, match=message):
        live.read(**selected)


def test_another_schema_is_read_without_keys_that_leave_it(live):
    if live.dialect != "postgres":
        pytest.skip("one schema only")
    live.server.run(f"GRANT USAGE ON SCHEMA other TO {live.server.roles[0]}")
    found = live.read(schema="other")
    (things,) = found.schema.tables
    assert (things.name, things.column_names) == ("things", ("id", "shop"))
    assert things.foreign_keys == ()
    assert found.source.endswith("(schema other)")


def test_a_session_can_not_write(live, monkeypatch):
    """Whatever it would run: the role may write here, the session may not."""
    owner = text(live.server.inside) if live.server else live.url
    real = module._values

    def writing(connection, *arguments):
        connection.exec_driver_sql("INSERT INTO shops VALUES (9, 'x', 'y')")
        return real(connection, *arguments)

    monkeypatch.setattr(module, "_values", writing)
    found = introspect(owner, Selection(values=1, include=("shops",)))
    (note,) = found.notes
    assert note.startswith("shops.city: no values, ")
    assert "read" in note.lower()
    monkeypatch.undo()
    assert columns(live.read(values=50).schema, "shops")["city"].values == ("Bern", "Ulm")


def test_a_column_that_takes_too_long_has_no_values(live, monkeypatch):
    if live.dialect == "sqlite":
        slow = (
            "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT max(i) FROM c"
        )
    else:
        slow = (
            "SELECT pg_sleep(60)" if live.dialect == "postgres" else "SELECT SLEEP(60) FROM shops"
        )

    def sleeping(connection, *_):
        module._limit(connection, 0.2)
        rows = connection.exec_driver_sql(slow).fetchall()
        return tuple(map(str, rows))

    monkeypatch.setattr(module, "_values", sleeping)
    found = live.read(values=1, include=("shops",))
    (note,) = found.notes
    assert note.startswith("shops.city: no values, ")
    assert columns(found.schema, "shops")["city"].values == ()


def test_the_time_for_all_values_is_bounded(live, monkeypatch):
    monkeypatch.setattr(module, "VALUES_SECONDS", -1.0)
    found = live.read(values=3)
    assert found.notes
    assert all("were over" in note for note in found.notes)


def test_a_table_without_rights_gives_a_note_for_its_values(live):
    if not live.server:
        pytest.skip("SQLite has no roles")
    if live.dialect == "postgres":
        url = live.server.role("GRANT SELECT (id) ON shops TO {role}")
    else:
        url = live.server.role("GRANT SELECT ON {db}.`order items%` TO {role}")
    found = introspect(text(url), Selection(values=2))
    if live.dialect == "postgres":
        assert any("permission denied" in note for note in found.notes)
    else:
        assert [table.name for table in found.schema.tables] == ["order items%"]


def test_a_view_that_may_not_be_shown_is_said_with_the_remedy(live):
    if live.dialect != "mysql":
        pytest.skip("of MariaDB and MySQL only")
    url = live.server.role("GRANT SELECT ON {db}.* TO {role}")
    with pytest.raises(IntrospectError, match="GRANT SELECT, SHOW VIEW to the role"):
        introspect(text(url), Selection())


def test_a_wrong_password_is_said_and_not_shown(live):
    if live.dialect != "mysql":
        pytest.skip("the local PostgreSQL may trust every password")
    wrong = live.url.replace("mysql+pymysql", "mysql").replace(
        text(URL.create("x", "u", PASSWORD, "h"))[len("x://u:") : -len("@h")], "s3cr3t-wrong"
    )
    with pytest.raises(IntrospectError, match="check the user and the password") as caught:
        introspect(wrong, Selection())
    assert "s3cr3t" not in str(caught.value)


def test_more_tables_than_are_read_are_refused_with_the_remedy():
    with new_server("postgres") as server:
        server.run("; ".join(f"CREATE TABLE t{i} (a int)" for i in range(501)))
        with pytest.raises(IntrospectError, match=r"has 501 tables; at most 500 .* --exclude"):
            introspect(text(server.inside), Selection())
        chosen = introspect(text(server.inside), Selection(include=("t1*",)))
        assert len(chosen.schema.tables) == 111


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3cr3t",
        "postgresql",
        "postgresql://user:s3cr3t@@host/db",
        "postgresql://user:@s3cr3t@host/db",
        "postgresql://user@host:s3cr3t/db",
        "oracle://user:s3cr3t@host/db",
        "postgresql+asyncpg://user:s3cr3t@host/db",
        "mysql+pymysql+s3cr3t",
        "postgresql://user:s3cr3t@127.0.0.1:1/db",
        "postgresql:///db?host=127.0.0.1&port=1&password=s3cr3t",
        "postgresql:///db?nonsense=s3cr3t",
        "mysql://user:s3cr3t@127.0.0.1:1/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///missing.db",
    ],
)
def test_a_url_that_leads_nowhere_is_refused_without_a_secret(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IntrospectError) as caught:
        introspect(url, Selection())
    assert "s3cr3t" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "a.db").write_text("no database, but long enough to be looked at " * 9)
    with pytest.raises(IntrospectError, match="not a database"):
        introspect(f"sqlite:///{tmp_path}/a.db", Selection())


def test_a_sqlite_file_gives_the_schema_of_its_ddl(tmp_path):
    """Else a model trained on the one would be asked with the other."""
    url = write_sqlite(tmp_path / "a.db", "CREATE TABLE t (a character varchar(4), b INTEGER)")
    assert introspect(url, Selection()).schema == schema_from_sqlite(tmp_path / "a.db")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\nb", r"holds U\+000A"),
        ("a\u202eb", r"holds U\+202E"),
        ("n" * 1000, "has 1000 characters"),
    ],
)
def test_a_hostile_name_is_refused_and_may_be_left_out(tmp_path, name, message):
    hostile = f'CREATE TABLE evil ("{name}" TEXT)'
    url = write_sqlite(tmp_path / "a.db", hostile, "CREATE TABLE good (a TEXT)")
    with pytest.raises(IntrospectError, match=f"{message}.*--exclude"):
        introspect(url, Selection())
    assert introspect(url, Selection(exclude=("evil",))).schema.find("good")


@pytest.mark.parametrize(
    "name",
    ["password", "pwd_hash", "apiKey", "access_token", "SSN", "e_mail", "Email Address", "phoneNo",
     "credit_card", "first_name", "date_of_birth", "iban", "ip_addr"],
)  # fmt: skip
def test_private_columns(name):
    assert is_private(name)


@pytest.mark.parametrize("name", ["name", "city", "status", "author", "title", "country", "genre"])
def test_columns_that_are_not_private(name):
    assert not is_private(name)
