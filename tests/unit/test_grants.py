"""What a caller may read: how grants are written, and what is left of a schema."""

import pytest

from eval.task.grants import Grants, GrantsError, restrict
from eval.task.schema import parse_ddl

SCHEMA = parse_ddl("""
CREATE TABLE Users (Id INTEGER, Org INTEGER, Name TEXT, PRIMARY KEY (Id, Org),
    FOREIGN KEY (Org) REFERENCES orgs (id));
CREATE TABLE orgs (id INTEGER PRIMARY KEY, boss INTEGER REFERENCES Users);
CREATE TABLE visits (user_id INTEGER, at TEXT, FOREIGN KEY (user_id) REFERENCES Users (Id));
""")


@pytest.mark.parametrize(
    ("text", "tables", "columns"),
    [
        ("Users", {"users"}, set()),
        ("users.*", {"users"}, set()),
        (" users . * ", {"users"}, set()),
        ("users.Name", set(), {("users", "name")}),
        ("order items.item id", set(), {("order items", "item id")}),
        ('"a.b".c', set(), {("a.b", "c")}),
        ('"a ""b""".c', set(), {('a "b"', "c")}),
        ('a."b.c"', set(), {("a", "b.c")}),
    ],
)
def test_a_grant_is_a_table_or_a_column(
    text: str, tables: set[str], columns: set[tuple[str, str]]
) -> None:
    assert Grants.parse([text]) == Grants(frozenset(tables), frozenset(columns))


@pytest.mark.parametrize("text", ["", "  ", "a.b.c", ".a", "a.", '"a', '""', "a" * 200 + ".b.c"])
def test_what_is_no_grant_is_named_with_the_remedy(text: str) -> None:
    with pytest.raises(GrantsError) as raised:
        Grants.parse(["users", text])
    assert str(raised.value) == (
        f"grant {text[:80]!r} can't be read; write table, table.* or table.column, a name with a "
        'dot in double quotes: "a.b".c'
    )


def test_a_whole_table_holds_all_of_its_columns() -> None:
    grants = Grants.parse(["users", "orgs.id"])
    assert grants.has_table("USERS") and grants.has_whole("Users")
    assert grants.has_column("Users", "anything")
    assert grants.has_table("Orgs") and not grants.has_whole("orgs")
    assert grants.has_column("ORGS", "ID") and not grants.has_column("orgs", "boss")
    assert not grants.has_table("visits") and not grants.has_column("visits", "id")


def test_grants_of_nothing_are_named() -> None:
    grants = Grants.parse(["users", "user", "orgs.id", "orgs.name", "nowhere.x", "visits.AT"])
    assert grants.missing(SCHEMA) == ("nowhere.x", "orgs.name", "user")
    assert Grants.parse(["visits"]).missing(SCHEMA) == ()


def test_what_is_not_granted_is_gone_from_the_schema() -> None:
    left = restrict(SCHEMA, Grants.parse(["users.name", "users.org", "visits"]))
    assert [table.name for table in left.tables] == ["Users", "visits"]
    assert left.tables[0].column_names == ("Org", "Name")
    assert left.tables[1].column_names == ("user_id", "at")


def test_a_grant_of_an_unknown_column_leaves_no_empty_table() -> None:
    assert restrict(SCHEMA, Grants.parse(["users.secret"])).tables == ()


@pytest.mark.parametrize(
    ("granted", "primary", "foreign"),
    [
        (["users", "orgs"], ("Id", "Org"), 1),
        (["users.id", "users.name", "orgs"], (), 0),  # half a key is none
        (["users.id", "users.org", "orgs"], ("Id", "Org"), 1),
        (["users", "orgs.boss"], ("Id", "Org"), 0),  # the other end can't be named
        (["users"], ("Id", "Org"), 0),
    ],
)
def test_keys_are_left_where_all_of_them_is(
    granted: list[str], primary: tuple[str, ...], foreign: int
) -> None:
    users = restrict(SCHEMA, Grants.parse(granted)).tables[0]
    assert users.primary_key == primary
    assert len(users.foreign_keys) == foreign


@pytest.mark.parametrize(("other", "kept"), [("users", 1), ("users.id", 0), ("visits", 0)])
def test_a_key_to_a_primary_key_needs_the_whole_table(other: str, kept: int) -> None:
    tables = restrict(SCHEMA, Grants.parse(["orgs", other])).tables
    orgs = next(table for table in tables if table.name == "orgs")
    assert len(orgs.foreign_keys) == kept
