"""Cleaning: noise off, one spelling, gold executed; and every planted row is mended as it says."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.planted import as_row, build_databases, no_tick, planted, row, rows_of
from trainer.pipeline.clean import Clean
from trainer.pipeline.noise import clean_question, clean_sql
from trainer.pipeline.row import Outcome, Row

MENDED = [record for record in planted("dirty") if "changed" in record]
FAILING = [record for record in planted("dirty") if record.get("reason") == "gold_fails"]
USUAL = Clean()


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_databases(tmp_path_factory.mktemp("databases"))


def clean(given: Row, stage: Clean = USUAL) -> Outcome:
    return stage([given], no_tick)


def cleaned(given: Row, stage: Clean = USUAL) -> Row:
    (found,) = clean(given, stage).rows
    return found


def test_enough_is_planted() -> None:
    assert len(MENDED) >= 25
    assert len(planted("clean")) >= 60


@pytest.mark.parametrize("record", MENDED, ids=lambda record: record["id"])
@pytest.mark.parametrize("execute", [True, False])
def test_a_planted_row_is_mended(record: dict[str, Any], execute: bool, databases: Path) -> None:
    given = as_row(record, databases)
    outcome = clean(given, Clean(execute=execute))
    (found,) = outcome.rows
    assert sorted(outcome.changed) == sorted(record["changed"])
    assert found.question == record.get("to_question", record["question"])
    assert found.sql == record.get("to_sql", record["sql"])
    assert found.dialect == "sqlite"


@pytest.mark.parametrize("record", MENDED, ids=lambda record: record["id"])
def test_a_mended_row_needs_no_mending(record: dict[str, Any], databases: Path) -> None:
    once = cleaned(as_row(record, databases))
    again = clean(once)
    assert again.rows == [once]
    assert not again.changed


@pytest.mark.parametrize("record", FAILING, ids=lambda record: record["id"])
def test_gold_that_fails_is_dropped_with_its_error(record: dict[str, Any], databases: Path) -> None:
    (dropped,) = clean(as_row(record, databases)).dropped
    assert dropped.reason == "gold_fails"
    assert any(word in dropped.detail for word in ("no such", "do not have the same number"))


def test_clean_rows_are_kept_and_their_questions_untouched(databases: Path) -> None:
    rows = rows_of("clean", databases)
    outcome = Clean()(rows, no_tick)
    assert outcome.dropped == []
    assert [(r.id, r.question) for r in outcome.rows] == [(r.id, r.question) for r in rows]
    assert set(outcome.changed) == {"sql_spelling"}
    assert outcome.facts == {"executed": len(rows), "empty_answers": 2}


def test_names_as_asked_for(databases: Path) -> None:
    given = row("Who is 44?", "select T1.NAME from captain T1").with_(
        database=str(databases / "harbour.sqlite")
    )
    assert cleaned(given, Clean("written")).sql == "SELECT T1.NAME FROM captain AS T1"
    assert cleaned(given, Clean("full")).sql == "SELECT name FROM captain"
    assert cleaned(given, Clean("qualified")).sql == "SELECT captain.name FROM captain"


def test_without_a_schema_names_stay_as_written() -> None:
    given = row("Which?", "select T1.A from T T1", schema_json="")
    assert cleaned(given).sql == "SELECT T1.A FROM T AS T1"


@pytest.mark.parametrize("names", ["written", "full"])
def test_a_spelling_that_gives_other_rows_is_refused(names: Any, databases: Path) -> None:
    """sqlglot joins two strings that stand side by side; to SQLite the second is an alias."""
    sql = "SELECT 'a' 'b' FROM ship"
    given = row("a?", sql).with_(database=str(databases / "harbour.sqlite"))
    outcome = clean(given, Clean(names))
    assert outcome.rows == [given]
    assert outcome.changed == {"respelling_refused": 1}
    assert clean(given, Clean(names, execute=False)).rows[0].sql != sql


def test_a_refused_spelling_falls_back_on_names_as_written(
    databases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misspell(tree: Any, _: Any, names: str) -> None:
        if names != "written":
            tree.set("limit", None)

    monkeypatch.setattr("trainer.pipeline.clean.spell_names", misspell)
    given = row("One ship?", "select name from ship limit 1").with_(
        database=str(databases / "harbour.sqlite")
    )
    outcome = clean(given)
    assert outcome.rows[0].sql == "SELECT name FROM ship LIMIT 1"
    assert outcome.changed == {"sql_spelling": 1, "respelling_refused": 1}


def test_only_a_query_is_run(databases: Path) -> None:
    database = str(databases / "harbour.sqlite")
    for sql in ("DELETE FROM ship", "SELECT (", "", "SELECT 1; SELECT 2"):
        given = row("Off with them?", sql).with_(database=database)
        assert clean(given).rows == [given]  # for `Filter`, which has the reason
    count = row("How many?", "SELECT COUNT(*) FROM ship HAVING COUNT(*) = 4")
    assert clean(count.with_(database=database)).facts == {"executed": 1, "empty_answers": 0}


@pytest.mark.parametrize("name", ["nowhere.sqlite", "no_database.sqlite"])
def test_a_database_that_can_not_be_read_fails_the_gold(name: str, tmp_path: Path) -> None:
    (tmp_path / "no_database.sqlite").write_text("this is a text, and one of some length" * 99)
    given = row("How many?", "SELECT COUNT(*) FROM ship").with_(database=str(tmp_path / name))
    (dropped,) = clean(given).dropped
    assert dropped.reason == "gold_fails"
    assert "database" in dropped.detail


def test_another_dialect_is_never_run_on_sqlite(databases: Path) -> None:
    given = row("Which?", "SELECT name::text FROM ship", dialect="postgresql").with_(
        database=str(databases / "harbour.sqlite")
    )
    outcome = clean(given)
    assert outcome.rows[0].sql == "SELECT CAST(name AS TEXT) FROM ship"
    assert outcome.rows[0].dialect == "postgres"
    assert outcome.facts["executed"] == 0


def test_the_outcome_does_not_depend_on_the_order_of_rows(databases: Path) -> None:
    rows = [*rows_of("clean", databases), *rows_of("dirty", databases)]
    forth, back = Clean()(rows, no_tick), Clean()(rows[::-1], no_tick)
    assert forth.rows == back.rows[::-1]
    assert forth.changed == back.changed


def test_every_row_is_ticked_once(databases: Path) -> None:
    ticks: list[int] = []
    rows = rows_of("dirty", databases)
    Clean()(rows, ticks.append)
    assert sum(ticks) == len(rows)


def test_options_tell_stages_apart() -> None:
    assert Clean().name == "clean"
    assert Clean().options != Clean("written").options != Clean(execute=False).options


@pytest.mark.parametrize(
    "question",
    [
        "Which sales & returns exceed 5 < x?",
        "What is at&t's region?",
        "Show 'Jack' and 'Jill'",
        'Who wrote "Emma" and "Persuasion"',
        "Is it 3:15 now?",
        "Quelle est la ville d'où vient Zoë ?",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, spelled with a joiner
        "Which emoji, \U0001f469\u200d\U0001f680 or another?",
        "",
    ],
)
def test_what_is_no_noise_in_a_question_stays(question: str) -> None:
    assert clean_question(question) == (question, [])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT '<br/>' FROM ship WHERE name = 'R&amp;D'",
        "SELECT name FROM ship WHERE name = 'a; b\n\nWhat a name'",
        "SELECT name FROM ship WHERE name = '```x```'",
        "SELECT name FROM ship WHERE name = '\u2018x\u2019'",
        "SELECT name FROM ship WHERE name = 'a\\nb'",
        'SELECT "name" FROM "ship"',
        "(SELECT name FROM ship)",
        "SELECT name\n\nFROM ship\n\nWHERE built = 1",
        "SELECT name FROM ship -- SQL: none",
        "INSERT INTO ship\nSELECT * FROM ship",
        "UPDATE ship SET name = 'SELECT 1'",
        "EXPLAIN SELECT name FROM ship",
        "SELECT name FROM ship; DROP TABLE ship",
        "SELECT name FROM ship; DROP TABLE ship; all is well",
        "hello world",
        "",
        "word\n\n" * 4000,  # no query, and many places to look for its end
        "SELECT 1 AS n; It is one." + " " * 17_000,
    ],
)
def test_what_is_no_noise_in_sql_stays(sql: str) -> None:
    assert clean_sql(sql) == (sql, [])


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("```\nDELETE FROM ship\n```", "DELETE FROM ship"),
        ("```sql\nSELECT 1\n``` or ```sql\nSELECT 2\n```", "SELECT 1"),
        ("```json\n{}\n```\n```sql\nSELECT 1\n```", "SELECT 1"),
        ("### SQL Query:\nSELECT 1", "SELECT 1"),
        ("Answer: WITH x AS (SELECT 1) SELECT * FROM x;", "WITH x AS (SELECT 1) SELECT * FROM x"),
        ("Easy.\n\nSELECT 1 AS n\n\nThat was it.", "SELECT 1 AS n"),
        ("SELECT name FROM ship WHERE name = 'a;b'; It filters.",
         "SELECT name FROM ship WHERE name = 'a;b'"),
        ("`SELECT 1 AS n`", "SELECT 1 AS n"),
        ("SELECT \u2018a \u201cb\u201d\u2019 AS n", "SELECT 'a \"b\"' AS n"),
    ],
)  # fmt: skip
def test_the_query_is_found_in_its_noise(text: str, sql: str) -> None:
    assert clean_sql(text)[0] == sql
