"""The stage that composes: what it adds to the rows of the sample databases, and to odd ones."""

import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from eval.task.samples import build_databases, sample_examples, sample_schema
from eval.task.schema import parse_ddl
from eval.task.sql import check_sql
from eval.task.sqlite_judge import open_readonly
from trainer.pipeline.compose.agreement import agrees
from trainer.pipeline.compose.stage import Compose, ComposeError, Shares
from trainer.pipeline.compose.templates import shape_of
from trainer.pipeline.compose.worker import first_row, has_answer
from trainer.pipeline.row import Outcome, Row, dump_schema
from trainer.pipeline.spelling import canonical_sql

FIXTURES = Path(__file__).parents[1] / "fixtures" / "train"
NUM_ROWS = 300


def quiet(_: int) -> None:
    """Takes ticks."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("databases")
    build_databases(folder)
    made = []
    for example in sample_examples("train"):
        schema = sample_schema(example.db_id)
        sql = canonical_sql(example.sql, schema, example.dialect, names="full")
        row = Row(example.id, example.db_id, example.question, sql)
        database = str(folder / f"{example.db_id}.sqlite")
        made.append(row.with_(schema_json=dump_schema(schema), database=database))
    return made


@pytest.fixture(scope="module")
def outcome(rows: list[Row]) -> Outcome:
    return Compose(NUM_ROWS, seed=3)(rows, quiet)


@pytest.fixture(scope="module")
def made(rows: list[Row], outcome: Outcome) -> list[Row]:
    return outcome.rows[len(rows) :]


def odd_row(database: Path) -> Row:
    """A row on tables with names that SQL must quote and English can't say."""
    ddl = (FIXTURES / "compose_odd.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(database)) as db:
        db.executescript(ddl)
    row = Row(
        "1", "odd", "?", 'SELECT "group" FROM "order"', schema_json=dump_schema(parse_ddl(ddl))
    )
    return row.with_(database=str(database))


def test_all_rows_are_kept_and_the_new_ones_follow(rows: list[Row], outcome: Outcome) -> None:
    assert outcome.rows[: len(rows)] == rows
    assert outcome.changed == {"composed": NUM_ROWS}
    assert not outcome.dropped


def test_new_rows_say_where_they_are_from(rows: list[Row], made: list[Row]) -> None:
    known = {(row.db_id, row.schema_json, row.database) for row in rows}
    assert [row.id for row in made] == [f"compose-{n:06d}" for n in range(1, NUM_ROWS + 1)]
    assert {(row.source, row.made_by) for row in made} == {("compose", "compose")}
    assert {(row.db_id, row.schema_json, row.database) for row in made} <= known
    assert {row.origin.split(".")[0] for row in made} == {"grammar", "template"}


def test_every_query_passes_the_check_in_the_spelling_of_the_golds(made: list[Row]) -> None:
    for row in made:
        assert row.schema
        assert check_sql(row.sql, row.schema).valid, row
        assert canonical_sql(row.sql, row.schema, "sqlite", names="full") == row.sql


def test_every_query_runs_and_most_have_an_answer(made: list[Row]) -> None:
    opened = {name: open_readonly(Path(name)) for name in {row.database for row in made}}
    answers = [first_row(opened[row.database], row.sql) for row in made]
    for db in opened.values():
        db.close()
    assert None not in answers
    assert sum(has_answer(a) for a in answers if a is not None) >= 0.9 * len(made)


def test_questions_say_what_their_queries_do(made: list[Row]) -> None:
    wrong = [(row.question, row.sql) for row in made if not agrees(row.question, row.sql)]
    assert not wrong


def test_questions_are_sentences_without_open_slots(made: list[Row]) -> None:
    for row in made:
        assert row.question[0].isupper()
        assert not set("{}[]|") & set(row.question), row.question
        assert "zz" not in row.question and "  " not in row.question and " ." not in row.question


def test_every_value_of_a_query_stands_in_its_question(made: list[Row]) -> None:
    for row in made:
        texts = row.sql.split("'")[1::2]
        assert all(text.strip("%") in row.question for text in texts), row


def test_no_question_comes_twice_on_a_database(rows: list[Row], made: list[Row]) -> None:
    asked = Counter((row.db_id, row.question.lower().rstrip(".?! ")) for row in [*rows, *made])
    twice = {key for key, number in asked.items() if number > 1}
    assert not twice & {(row.db_id, row.question.lower().rstrip(".?! ")) for row in made}


def test_the_number_of_workers_changes_nothing(rows: list[Row], made: list[Row]) -> None:
    stage = Compose(NUM_ROWS, seed=3, num_workers=2)
    assert stage(rows, quiet).rows[len(rows) :] == made
    assert stage.options == Compose(NUM_ROWS, seed=3).options


def test_a_query_is_judged_alike_however_often_it_ran() -> None:
    """Which process ran it before depends on the number of workers."""
    counting = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 60000) "
    with closing(sqlite3.connect(":memory:")) as db:  # each run takes a third of the steps
        assert [first_row(db, counting + "SELECT COUNT(*) FROM n") for _ in range(4)] == [
            (60_000,)
        ] * 4


def test_fewer_rows_are_the_first_of_more_and_another_seed_gives_others(
    rows: list[Row], made: list[Row]
) -> None:
    assert Compose(20, seed=3)(rows, quiet).rows[len(rows) :] == made[:20]
    others = Compose(20, seed=4)(rows, quiet).rows[len(rows) :]
    assert not {row.question for row in others} & {row.question for row in made[:20]}


def test_shares_decide_the_shapes(rows: list[Row], made: list[Row]) -> None:
    counts = Counter(shape_of(row.sql) for row in made)
    assert counts["join"] + counts["joins"] > 0.35 * NUM_ROWS
    assert counts["nested"] > 0.1 * NUM_ROWS
    only = Compose(20, shares=Shares(flat=0, join=0, joins=1, nested=0))(rows, quiet)
    assert {shape_of(row.sql) for row in only.rows[len(rows) :]} == {"joins"}


def test_templates_alone_or_the_grammar_alone_can_be_asked_for(rows: list[Row]) -> None:
    grammar = Compose(20, induced=0.0)(rows, quiet).facts
    assert grammar["made from"] == {"grammar": 20} and grammar["templates"] == 0
    assert Compose(20)(rows, quiet).facts["templates"] > 0


def test_names_are_spelled_as_asked(rows: list[Row], made: list[Row]) -> None:
    stage = Compose(40, seed=3, names="qualified", induced=0.0)
    dotted = re.compile(r"SELECT (?:\w+\()?[a-z_]+\.[a-z_]+")
    for found, is_dotted in ((stage(rows, quiet).rows[len(rows) :], True), (made, False)):
        flat = [row.sql for row in found if shape_of(row.sql) == "flat" and "*" not in row.sql]
        assert {bool(dotted.search(sql.replace("DISTINCT ", ""))) for sql in flat} == {is_dotted}


def test_ids_that_are_taken_are_passed_over(rows: list[Row]) -> None:
    taken = [replace(rows[0], id="compose-000001"), *rows[1:]]
    made = Compose(2)(taken, quiet).rows[len(rows) :]
    assert [row.id for row in made] == ["compose-000002", "compose-000003"]


def test_copies_and_rows_without_a_schema_give_no_new_rows(rows: list[Row]) -> None:
    copies = [row.with_(made_by="rename") for row in rows[:5]]
    bare = [row.with_(id=f"b{row.id}", schema_json="", database="") for row in rows[:5]]
    assert Compose(10)([*copies, *bare], quiet).rows == [*copies, *bare]
    assert Compose(10)([], quiet).rows == []


@pytest.mark.parametrize("with_database", [True, False])
def test_names_that_need_quotes_are_quoted(tmp_path: Path, with_database: bool) -> None:
    row = odd_row(tmp_path / "odd.sqlite")
    given = row if with_database else row.with_(database="")
    made = Compose(80, answered=0.0)([given], quiet).rows[1:]
    with closing(open_readonly(Path(row.database))) as db:
        assert all(first_row(db, new.sql) is not None for new in made)
    assert sum('"' in new.sql for new in made) > 10
    assert any("JOIN" in new.sql for new in made)


def test_a_schema_that_no_question_fits_ends_the_search() -> None:
    schema = dump_schema(parse_ddl("CREATE TABLE x1 (y2 TEXT)"))
    row = Row("1", "x", "How many?", "SELECT COUNT(*) FROM x1", schema_json=schema)
    assert Compose(300)([row], quiet).rows == [row]


def test_a_database_that_is_missing_is_done_without(rows: list[Row]) -> None:
    gone = [row.with_(database="/nowhere/gone.sqlite") for row in rows[:40]]
    assert len(Compose(20)(gone, quiet).rows) == 60


def test_progress_runs_over_the_rows(rows: list[Row]) -> None:
    ticks: list[int] = []
    Compose(30)(rows, ticks.append)
    assert sum(ticks) == len(rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_rows": -1}, "num_rows: must be 0 or more, is -1"),
        ({"num_rows": 1, "num_workers": -1}, "num_workers: must be 0 or more, is -1"),
        ({"num_rows": 1, "induced": 1.5}, "induced: must be from 0 to 1, is 1.5"),
        ({"num_rows": 1, "answered": -0.1}, "answered: must be from 0 to 1, is -0.1"),
    ],
)
def test_a_setting_that_cannot_be_is_named(options: dict[str, float], said: str) -> None:
    with pytest.raises(ComposeError, match=said):
        Compose(**options)  # type: ignore[arg-type]


def test_shares_must_add_up() -> None:
    with pytest.raises(ComposeError, match=r"shares: must add up to 1, add up to 1.1"):
        Shares(flat=0.45)
    with pytest.raises(ComposeError, match=r"shares\.join: must be from 0 to 1, is 2"):
        Shares(join=2)
