"""Hints: which cells a question mentions, and what is never taken for a mention."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from eval.task.schema import parse_ddl
from tests.unit.planted import build_databases, no_tick, row
from trainer.pipeline.cache import code_digest
from trainer.pipeline.hints import MAX_CHARS, MAX_HINTS, MAX_VALUES, Cell, Hints, Values, hinted
from trainer.pipeline.row import Outcome, dump_schema

SQL = "SELECT name FROM ship"


def cell(value: str, table: str = "ship", column: str = "flag") -> Cell:
    return Cell(table, column, value)


VALUES: Values = {
    "new york": [cell("New York")],
    "york": [cell("York")],
    "new york city hall of fame": [cell("New York City Hall of Fame")],
    "united airlines": [cell("United Airlines")],
    "st louis": [cell("St. Louis", column="home port")],
    "o hara": [cell("O'Hara", "captain", "name")],
    "malta": [cell("Malta"), cell("MALTA", "voyage", "port")],
    "several": [cell(f"Several {n}", f"t{n}") for n in range(MAX_HINTS + 2)],
}


@pytest.mark.parametrize(
    ("question", "hints"),
    [
        ("How many ships?", None),
        ("", None),
        ("Ships of york?", "ship.flag = 'York'"),
        ("Ships of YORK's fleet?", "ship.flag = 'York'"),
        ("Ships of Yorkshire?", None),
        ("Ships of New York?", "ship.flag = 'New York'"),
        ("Ships of New, York?", "ship.flag = 'New York'"),
        ("New York City Hall of Fame?", "ship.flag = 'New York'"),
        ("Do United_Airlines ships sail to York?",
         "ship.flag = 'United Airlines'; ship.flag = 'York'"),
        ("From York to New York?", "ship.flag = 'York'; ship.flag = 'New York'"),
        ("Ships at St Louis?", "ship.\"home port\" = 'St. Louis'"),
        ("Ships of o'hara?", "captain.name = 'O''Hara'"),
        ("Malta or malta?", "ship.flag = 'Malta'; voyage.port = 'MALTA'"),
        ("several ships of Malta?",
         "; ".join(f"t{n}.flag = 'Several {n}'" for n in range(MAX_HINTS))),
        ("several of New York?",
         "; ".join([f"t{n}.flag = 'Several {n}'" for n in range(3)] + ["ship.flag = 'New York'"])),
    ],
)  # fmt: skip
def test_a_question_gets_the_cells_that_it_mentions(question: str, hints: str | None) -> None:
    assert hinted(question, VALUES) == (f"{question} ({hints})" if hints else question)


def stage(question: str, database: Path, ddl: str = "", **fields: str) -> Outcome:
    schema = {"schema_json": dump_schema(parse_ddl(ddl))} if ddl else {}
    return Hints()([row(question, SQL, database=str(database), **schema, **fields)], no_tick)


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_databases(tmp_path_factory.mktemp("databases")) / "harbour.sqlite"


def test_cells_come_from_the_row_s_own_database(harbour: Path) -> None:
    asked = "Which ships of Norway sailed to bergen with salt?"
    outcome = stage(asked, harbour)
    (found,) = outcome.rows
    hints = "ship.flag = 'Norway'; voyage.port = 'Bergen'; voyage.cargo = 'salt'"
    assert found == row(asked, SQL, database=str(harbour)).with_(question=f"{asked} ({hints})")
    assert outcome.changed == {"hinted": 1}
    assert outcome.facts == {"without_database": 0, "unread_columns": 0}
    assert stage(asked, harbour.with_name("orchard.sqlite")).rows[0].question == asked


def test_the_gold_query_changes_nothing(harbour: Path) -> None:
    one, other = (
        Hints()([row("Ships of Malta?", sql, database=str(harbour))], no_tick).rows[0]
        for sql in (SQL, "SELECT name FROM ship WHERE flag = 'Norway' OR flag = 'Malta'")
    )
    assert one.question == other.question == "Ships of Malta? (ship.flag = 'Malta')"


@pytest.mark.parametrize("lacking", ["database", "schema_json"])
def test_rows_without_a_database_or_a_schema_stay_and_are_counted(harbour: Path, lacking) -> None:
    given = row("Ships of Malta?", SQL, database=str(harbour)).with_(**{lacking: ""})
    outcome = Hints()([given, given], no_tick)
    assert outcome.rows == [given, given] and not outcome.dropped
    assert outcome.facts["without_database"] == 2 and not outcome.changed["hinted"]


def database(folder: Path, values: list[object]) -> Path:
    path = folder / "made.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute('CREATE TABLE "order" (id INT, "a ""b""" TEXT)')
        db.executemany('INSERT INTO "order" VALUES (1, ?)', [(value,) for value in values])
        db.commit()
    return path


ODD = 'CREATE TABLE "order" (id INT, "a ""b""" TEXT)'


@pytest.mark.parametrize(
    ("value", "is_told"),
    [
        ("Malta", True),
        ("Route 66", True),
        ("How many", False),  # words that any question has
        ("all", False),
        ("UK", False),
        ("1998", False),
        ("2001 2002", False),
        (1998, False),
        (b"Malta", False),
        (None, False),
        ("Mal\nta", False),
        ("Malta  Gozo", False),  # a prompt would not keep the second space
        (" Malta", False),
        ("one two three four five", True),
        ("one two three four five six", False),
        ("x" * MAX_CHARS, True),
        ("x" * (MAX_CHARS + 1), False),
    ],
)
def test_which_cells_can_be_mentioned(tmp_path: Path, value: object, is_told: bool) -> None:
    text = value.decode() if isinstance(value, bytes) else str(value)
    (found,) = stage(f"Is it {text} here?", database(tmp_path, [value]), ODD).rows
    hint = f' ("order"."a ""b""" = \'{value}\')' if is_told else ""
    assert found.question == f"Is it {text} here?{hint}"


def test_of_a_column_so_many_values_are_known_and_of_one_spelling_the_first(tmp_path: Path) -> None:
    many = [f"value {n} x" for n in range(MAX_VALUES)]
    path = database(tmp_path, ["Gozo", "GOZO", *many])
    asked = [f"Is it {value}?" for value in ("gozo", "value 0 x", many[-3], many[-2])]
    given = [row(q, SQL, database=str(path), schema_json=dump_schema(parse_ddl(ODD)))
             for q in asked]  # fmt: skip
    outcome = Hints()(given, no_tick)
    assert [r.question != q for r, q in zip(outcome.rows, asked, strict=True)] == [1, 1, 1, 0]
    assert "= 'Gozo'" in outcome.rows[0].question


def test_what_can_not_be_read_gives_no_hint_and_is_counted(tmp_path: Path) -> None:
    path = database(tmp_path, ["Malta"])
    other = stage(
        "Is it gone or Malta?", path, 'CREATE TABLE "order" (gone TEXT); CREATE TABLE t (a)'
    )
    assert other.facts["unread_columns"] == 2 and not other.changed["hinted"]
    path.write_text("no database, and longer than the head of one" * 10)
    assert stage("Is it Malta?", path, ODD).facts["unread_columns"] == 2


def test_its_outcome_can_be_cached() -> None:
    assert Hints().options == {} and code_digest(Hints.__module__)
