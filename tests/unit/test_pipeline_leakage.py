"""Leakage: what the held-out files hold does not come into training, and nothing else goes."""

import json
from pathlib import Path
from typing import Any

import pytest

from eval.task.example import ExampleError
from eval.task.schema import DdlError, parse_ddl
from tests.unit.planted import FOLDER, no_tick, row, rows_of
from trainer.pipeline.clean import Clean
from trainer.pipeline.leakage import Leakage
from trainer.pipeline.row import Row, dump_schema

SHIP = "CREATE TABLE ship (ship_id INT, name TEXT, flag TEXT, tonnage INT, built INT)"
FLEET = f"{SHIP}; CREATE TABLE crew (id INT, ship_id INT);"
BOAT = "CREATE TABLE ship (id INT, name TEXT)"


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Examples on `fleet`, which has the table `ship` of `harbour` and another one, and on `boat`,
    with a `ship` of its own."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "fleet.sql").write_text(FLEET)
    (tmp_path / "schemas" / "boat.sql").write_text(BOAT)
    return write(
        tmp_path / "dev.jsonl",
        {"db_id": "fleet", "question": "How many vessels?", "sql": "SELECT COUNT(*) FROM ship"},
        {"db_id": "boat", "question": "All boats?", "sql": "SELECT name FROM ship",
         "alternatives": ["SELECT DISTINCT name FROM ship"]},
        {"db_id": "nowhere", "question": "All lakes?", "sql": "SELECT name FROM lake"},
    )  # fmt: skip


def write(path: Path, *records: dict[str, Any]) -> Path:
    lines = [json.dumps({"id": f"dev-{n}", **record}) for n, record in enumerate(records)]
    path.write_text("\n".join(lines))
    return path


def verdict(given: Row, held_out: Path) -> tuple[str, str]:
    outcome = Leakage((held_out,))([given], no_tick)
    if outcome.rows:
        assert outcome.rows == [given]
        return "", ""
    return outcome.dropped[0].reason, outcome.dropped[0].detail


def test_rows_on_other_databases_stay(held_out: Path) -> None:
    rows = rows_of("clean")
    outcome = Leakage((held_out,))(rows, no_tick)
    assert [drop.reason for drop in outcome.dropped] == ["leaks_sql"]  # COUNT(*) FROM ship
    assert outcome.facts == {"held_out_examples": 3, "held_out_databases": 3}


@pytest.mark.parametrize("db_id", ["fleet", "Fleet", "nowhere"])
def test_a_database_leaks_by_its_name(db_id: str, held_out: Path) -> None:
    given = row("Tons?", "SELECT tonnage FROM ship", db_id="harbour").with_(db_id=db_id)
    assert verdict(given, held_out) == ("leaks_database", f"'{db_id}' is held out")
    unknown = given.with_(schema_json="")
    assert verdict(unknown, held_out)[0] == "leaks_database"


def test_one_name_over_schemas_that_share_no_table_is_a_coincidence(held_out: Path) -> None:
    given = row("Farms?", "SELECT name FROM farm", db_id="orchard").with_(db_id="fleet")
    assert verdict(given, held_out) == ("", "")


def test_a_database_leaks_by_an_equal_schema_under_another_name(held_out: Path) -> None:
    mixed = (
        "CREATE TABLE Crew (Ship_ID TEXT, id INT); CREATE TABLE SHIP (built INT, name TEXT, "
        "flag TEXT, tonnage REAL, ship_id INT PRIMARY KEY)"
    )
    given = with_schema(row("Crew?", "SELECT id FROM crew").with_(db_id="armada"), mixed)
    assert verdict(given, held_out) == ("leaks_database", "'fleet' is held out")
    more = with_schema(given, mixed + "; CREATE TABLE x (y INT)")
    assert verdict(more, held_out) == ("", "")


def with_schema(given: Row, ddl: str) -> Row:
    return given.with_(schema_json=dump_schema(parse_ddl(ddl)))


def test_a_question_leaks_on_any_database(held_out: Path) -> None:
    given = row("how many VESSELS ?", "SELECT COUNT(*) FROM farm", db_id="orchard")
    assert verdict(given, held_out) == ("leaks_question", "that of dev-0")


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from SHIP as T1",
        "SELECT COUNT( * ) FROM ship;",
        "SELECT count(*) FROM ship",
    ],
)
def test_a_query_leaks_in_any_spelling_over_an_equal_table(sql: str, held_out: Path) -> None:
    for given in (row("Ships?", sql), row("Ships?", sql).with_(schema_json="")):
        assert verdict(given, held_out) == ("leaks_sql", "that of dev-0")
    (cleaned,) = Clean("qualified")([row("Ships?", sql)], no_tick).rows
    assert verdict(cleaned, held_out)[0] == "leaks_sql"


def test_a_query_over_another_table_of_that_name_does_not_leak(held_out: Path) -> None:
    """`boat` has a `ship` too, of other columns."""
    assert verdict(row("Names?", "SELECT name FROM ship"), held_out) == ("", "")


def test_any_gold_of_a_held_out_example_leaks(held_out: Path) -> None:
    given = with_schema(
        row("Names?", "SELECT DISTINCT name FROM ship"), f"{BOAT}; CREATE TABLE x (y INT)"
    )
    assert verdict(given, held_out) == ("leaks_sql", "that of dev-1")
    assert verdict(given.with_(sql="SELECT DISTINCT id FROM ship"), held_out) == ("", "")


def test_a_schema_that_is_not_known_leaves_the_text_to_decide(held_out: Path) -> None:
    given = with_schema(row("Lakes?", "SELECT name FROM Lake"), "CREATE TABLE lake (name TEXT)")
    assert verdict(given, held_out) == ("leaks_sql", "that of dev-2")


def test_rows_without_a_name_of_their_database_share_none(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.jsonl", {"db_id": "", "question": "q", "sql": "SELECT 1 FROM t"})
    given = row("Tons?", "SELECT tonnage FROM ship").with_(db_id="")
    assert verdict(given, path) == ("", "")


def test_a_schema_can_stand_beside_the_file_or_in_a_database(tmp_path: Path) -> None:
    (tmp_path / "harbour.sql").write_text((FOLDER / "harbour.sql").read_text())
    path = write(tmp_path / "dev.jsonl", {"db_id": "harbour", "question": "q", "sql": "SELECT 1"})
    given = row("Tons?", "SELECT tonnage FROM ship").with_(db_id="renamed")
    assert verdict(given, path) == ("leaks_database", "'harbour' is held out")


@pytest.mark.parametrize("db_id", ["../secret", "/etc/x", "..", "a/b"])
def test_a_database_name_never_leads_out_of_the_folder(db_id: str, tmp_path: Path) -> None:
    (tmp_path / "secret.sql").write_text("not SQL (")
    (tmp_path / "data").mkdir()
    path = write(tmp_path / "data" / "dev.jsonl", {"db_id": db_id, "question": "q", "sql": "x"})
    assert verdict(row("Tons?", "SELECT tonnage FROM ship"), path) == ("", "")


def test_a_missing_file_and_a_bad_schema_are_named(tmp_path: Path) -> None:
    missing = Leakage((tmp_path / "none.jsonl",))
    with pytest.raises(ExampleError, match=r"none\.jsonl: can't be read"):
        missing([], no_tick)
    with pytest.raises(ExampleError, match=r"none\.jsonl: can't be read"):
        _ = missing.options
    (tmp_path / "bad.sql").write_text("CREATE TABLE (")
    path = write(tmp_path / "dev.jsonl", {"db_id": "bad", "question": "q", "sql": "SELECT 1"})
    with pytest.raises(DdlError, match=r"bad\.sql: "):
        Leakage((path,))([], no_tick)


def test_options_change_with_the_content_of_a_file(held_out: Path) -> None:
    before = Leakage((held_out,)).options
    assert Leakage((held_out,)).options == before
    held_out.write_text(held_out.read_text() + "\n")
    assert Leakage((held_out,)).options != before
    json.dumps(before)


def test_every_row_is_ticked_once(held_out: Path) -> None:
    ticks: list[int] = []
    rows = rows_of("dirty")
    Leakage((held_out,))(rows, ticks.append)
    assert sum(ticks) == len(rows)
