"""The same verdicts on three engines: translation, copies, and why verdicts part."""

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TypedDict

import pytest
import typer

from eval.dataset import Dataset, open_dataset
from eval.execution import Database, open_database
from eval.live.url import parse_url
from eval.measures.context import Context
from eval.portability import __main__ as command
from eval.portability.agreement import Case, Engine
from eval.portability.copies import Content, Copies, contents, copied
from eval.portability.predictions import mirrored, predictions
from eval.portability.reasons import REASONS, reason_of_difference, reason_of_error
from eval.portability.tally import ENGINES, Tally, figure_of, measure
from eval.portability.translate import translate
from eval.task.rows import same_rows
from eval.task.sqlite_judge import Answer
from tests.unit.servers import admin_url, connect, execute

SHOP = """
CREATE TABLE Users (Id INTEGER PRIMARY KEY, Name TEXT, "Birth Year" INT, score REAL, mixed INT,
                    photo BLOB, empty INT);
INSERT INTO Users VALUES (1, 'Ann', 1990, 1.5, 1, x'ff00', NULL), (2, 'ann', 1990, 2, 'two', NULL,
                          NULL), (3, 'Bo ', NULL, NULL, 2.5, NULL, NULL);
CREATE TABLE visits (user_id INT, day TEXT, PRIMARY KEY (user_id, day));
INSERT INTO visits VALUES (1, '2024-01-02'), (1, '2024-01-01'), (2, '2024-01-01');
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "databases").mkdir()
    path = tmp_path / "databases" / "Shop_1.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SHOP)
    return path


def dataset_file(shop: Path, *golds: str) -> str:
    path = shop.parent.parent / "questions.jsonl"
    rows = [
        {"id": f"q{n}", "db_id": "Shop_1", "question": "?", "sql": sql}
        for n, sql in enumerate(golds)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("sql", "dialect", "expected"),
    [
        ("SELECT Name FROM Users", "sqlite", "SELECT Name FROM Users"),
        ("SELECT Name FROM Users", "postgres", 'SELECT "name" FROM "users"'),
        ("SELECT U.Name FROM Users U", "mysql", "SELECT `u`.`name` FROM `users` AS `u`"),
        (
            "SELECT 1 FROM t WHERE a LIKE 'X%'",
            "postgres",
            """SELECT 1 FROM "t" WHERE "a" ILIKE 'X%'""",
        ),
        (
            "SELECT a FROM t ORDER BY a",
            "postgres",
            'SELECT "a" FROM "t" ORDER BY "a" NULLS FIRST',
        ),
        (
            "SELECT COUNT(*) FROM (SELECT a FROM t)",
            "postgres",
            'SELECT COUNT(*) FROM (SELECT "a" FROM "t") AS "derived_0"',
        ),
        ("SELECT /* note */ 1", "mysql", "SELECT 1"),
        ("SELECT", "sqlite", "SELECT"),
        ("hello ( world", "postgres", None),
        ("SELECT 1; SELECT 2", "postgres", None),
        ("", "mysql", None),
        ("(" * 500, "mysql", None),
    ],
)
def test_a_query_is_translated_or_given_up(sql: str, dialect: str, expected: str | None) -> None:
    assert translate(sql, dialect) == expected


def test_a_mirrored_query_has_another_text_and_the_same_answer() -> None:
    with open_dataset("samples") as samples:
        changed = 0
        for question in samples.questions:
            gold = question.example.sql
            other = mirrored(gold)
            changed += other != gold
            with closing(open_database(question.database)) as database:
                expected, found = database.run(gold), database.run(other)
            assert found.error is None
            assert same_rows(expected.rows, found.rows, ordered=False)
    assert changed > 20


def test_what_can_not_be_mirrored_stays() -> None:
    assert mirrored("hello ( world") == "hello ( world"


def test_predictions_are_the_same_each_time_and_start_with_the_gold_query() -> None:
    with open_dataset("samples") as samples:
        question = samples.questions[1]
        golds = [q.example.sql for q in samples.questions]
    made = [
        list(predictions(question.example.sql, question.schema, golds, num_mutants=3))
        for _ in range(2)
    ]
    assert made[0] == made[1]
    kinds = [prediction.kind for prediction in made[0]]
    assert (kinds[0], kinds[-1], len(kinds)) == ("gold", "other_gold", 6)
    assert made[0][0].sql == question.example.sql != made[0][-1].sql
    alone = predictions("SELECT 1", question.schema, ["SELECT 1"], num_mutants=0)
    assert [prediction.kind for prediction in alone] == ["gold"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ('column "t.a" must appear in the GROUP BY clause or be used', "strict_group_by"),
        ("for SELECT DISTINCT, ORDER BY expressions must appear in", "strict_distinct_order"),
        ("Subquery returns more than 1 row", "scalar_subquery"),
        ("more than one row returned by a subquery used as an expression", "scalar_subquery"),
        ("operator does not exist: text > integer", "strict_types"),
        ("function avg(text) does not exist", "strict_types"),
        ("function date(unknown, unknown) does not exist", "not_supported"),
        ("division by zero", "division_by_zero"),
        ("over 10 s", "time_limit"),
        ("something new", "unexplained"),
        (None, "not_translatable"),
    ],
)
def test_each_message_has_its_reason(error: str | None, reason: str) -> None:
    assert reason_of_error(error) == reason
    assert reason in REASONS


def test_a_table_is_read_with_its_rows_and_names_in_lower_case(shop: Path) -> None:
    users, visits = contents(shop)
    assert isinstance(users, Content)
    assert users.name == "users"
    assert users.columns[:3] == ("id", "name", "birth year")
    assert users.primary_key == ("id",)
    assert visits.primary_key == ("user_id", "day")
    assert [len(users.rows), len(visits.rows)] == [3, 3]


class Admins(TypedDict):
    """Administrators' URLs."""

    postgres: str
    mariadb: str


@pytest.fixture(scope="module")
def admins() -> Admins:
    return {"postgres": admin_url("postgres"), "mariadb": admin_url("mysql")}


def names_of(copies: Copies, admins: Admins) -> list[str]:
    """The databases and roles on both servers that belong to `copies`."""
    token = parse_url(copies.urls["postgres"]["Shop_1"])[1].username
    asked = (
        ["SELECT datname FROM pg_database", "SELECT rolname FROM pg_roles"],
        ["SHOW DATABASES", "SELECT user FROM mysql.user"],
    )
    names = []
    for url, queries in zip(admins.values(), asked, strict=True):
        with connect(parse_url(str(url))[1]) as connection:
            names += [str(row[0]) for sql in queries for row in execute(connection, sql)]
    return [name for name in names if str(token) in name]


def test_copies_hold_the_same_values_and_are_dropped(shop: Path, admins: Admins) -> None:
    with copied({"Shop_1": shop}, **admins) as copies:
        for dialect in ("postgres", "mysql"):
            with closing(open_database(copies.urls[dialect]["Shop_1"])) as database:
                assert_same_values(database)
        assert len(names_of(copies, admins)) == 4
    assert names_of(copies, admins) == []


def test_copies_are_dropped_after_a_failure(shop: Path, admins: Admins) -> None:
    with pytest.raises(KeyError), copied({"Shop_1": shop}, **admins) as copies:
        raise KeyError
    assert names_of(copies, admins) == []


def assert_same_values(database: Database) -> None:
    users = database.run("SELECT * FROM users ORDER BY id")
    assert users.rows == (
        (1, "Ann", 1990, 1.5, "1", b"\xff\x00", None),
        (2, "ann", 1990, 2, "two", None, None),
        (3, "Bo ", None, None, "2.5", None, None),
    )
    assert users.columns[:3] == ("id", "name", "birth year")
    for text, number in (("Ann", 1), ("Bo", 0), ("Bo ", 1)):
        counted = database.run(f"SELECT COUNT(*) FROM users WHERE name = '{text}'")
        assert counted.rows == ((number,),)
    assert database.run("SELECT MAX(name) FROM users").rows == (("ann",),)


def tally_of(data: Dataset, admins: Admins) -> Tally:
    files = {q.example.db_id: q.database for q in data.questions if isinstance(q.database, Path)}
    with copied(files, **admins) as copies:
        *_, last = measure(data, copies, num_mutants=0)
    return last


def test_verdicts_and_their_differences_are_counted(shop: Path, admins: Admins) -> None:
    golds = (
        "SELECT Name FROM Users WHERE score > 1 AND Id < 3",
        "SELECT name FROM users WHERE score > 1 AND id < 3 ORDER BY id",
        "SELECT Name, COUNT(*) FROM Users GROUP BY [Birth Year]",
        "SELECT AVG(mixed) FROM Users",
        "SELECT date('now', '-1 day')",
    )
    with open_dataset(dataset_file(shop, *golds)) as data:
        tally = tally_of(data, admins)
    assert tally.num_golds == 2
    assert dict(tally.not_portable) == {"strict_group_by": 1, "strict_types": 1, "not_supported": 1}
    assert tally.kinds["gold"] == tally.right["gold"] == tally.agreeing["gold"] == 2
    assert tally.right["mirrored"] == tally.kinds["mirrored"] == 2
    assert tally.n == tally.kinds.total()
    assert 0 < tally.share <= 1


def test_a_limit_of_ties_and_strict_grouping_are_told_apart(
    shop: Path, admins: Admins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions made for the purpose: one that PostgreSQL refuses, one that runs everywhere."""
    from eval.portability import agreement
    from eval.portability.predictions import Prediction

    made = [
        Prediction("grouped", "SELECT day FROM visits GROUP BY user_id, day"),
        Prediction("bare", "SELECT day FROM visits WHERE user_id = 2 GROUP BY user_id"),
        Prediction("unknown", "SELECT nowhere()"),
    ]
    monkeypatch.setattr(agreement, "predictions", lambda *_, **__: iter(made))
    gold = "SELECT day FROM visits WHERE user_id = 2"
    with open_dataset(dataset_file(shop, gold)) as data:
        tally = tally_of(data, admins)
    assert dict(tally.kinds) == {"grouped": 1, "bare": 1}
    assert dict(tally.left_out) == {"not_supported": 1}
    assert {reason: len(cases) for reason, cases in tally.differences.items()} == {
        "strict_group_by": 1
    }
    figure = figure_of("judge_portable_agreement", tally)
    assert (figure.value, figure.n) == (0.5, 2)
    assert "visits" not in json.dumps(figure.rows)
    assert {key: row[key] for row in figure.rows if row.get("ids") for key in ("part", "n")} == {
        "part": "differences",
        "n": 1,
    }


def test_the_command_judges_the_samples_and_writes_a_figure(
    admins: Admins,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command.main(data="samples", **admins, limit=12, num_mutants=1, figure="agreement")
    written = json.loads((tmp_path / "benchmarks/results/agreement.json").read_text())
    assert written["n"] > 8
    assert written["value"] > 0.9
    assert "same verdict on sqlite, postgres, mysql" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"postgres": "postgresql://a:s3cr3t@127.0.0.1:1/x"}, "must name a running server"),
        ({"postgres": "mysql://a:s3cr3t@127.0.0.1:1/x"}, "not a URL of postgres"),
        ({"mariadb": "nothing"}, "not the URL of a database"),
        ({"data": "missing.jsonl"}, "missing.jsonl"),
    ],
)
def test_a_mistake_is_a_line_without_a_secret(
    changes: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"data": "samples", "postgres": command.POSTGRES, "mariadb": command.MARIADB} | changes
    with pytest.raises(typer.Exit):
        command.main(asked["data"], asked["postgres"], asked["mariadb"], limit=1, num_mutants=0)
    said = capsys.readouterr().err
    assert message in said
    assert "s3cr3t" not in said


def test_a_figure_never_holds_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://a:s3cr3t@127.0.0.1:1/x"
    monkeypatch.setattr(sys, "argv", ["portability", f"--postgres={url}"])
    with pytest.raises(typer.Exit):
        command.main(data="samples", postgres=url, figure="agreement")
    said = capsys.readouterr().err
    assert "in the environment" in said
    assert "s3cr3t" not in said


class Recorded:
    """A database that answers what it was told."""

    def __init__(self, dialect: str, answers: dict[str, Answer]) -> None:
        self.dialect = dialect
        self.answers = answers

    def run(self, sql: str) -> Answer:
        return self.answers[sql]

    def close(self) -> None: ...


ANY = "SELECT a FROM t GROUP BY b LIMIT 1"
FREE = "SELECT a FROM t GROUP BY b"
REFUSED = Answer(error='column "t.a" must appear in the GROUP BY clause')
ONE, OTHER, BOTH = Answer(((1,),)), Answer(((2,),)), Answer(((1,), (2,)))


@pytest.mark.parametrize(
    ("found", "verdicts", "unlimited", "reason"),
    [
        ([ONE, REFUSED, ONE], [True, False, True], [BOTH] * 3, "strict_group_by"),
        ([ONE, REFUSED, OTHER], [True, False, False], [BOTH] * 3, "several"),
        ([ONE, REFUSED, Answer(error="over 10 s")], [True, False, False], [BOTH] * 3, "several"),
        ([ONE, ONE, OTHER], [True, True, False], [BOTH] * 3, "limit_of_ties"),
        ([ONE, ONE, OTHER], [True, True, False], [BOTH, BOTH, ONE], "unexplained"),
        ([ONE, ONE, OTHER], [True, True, False], [BOTH, BOTH, REFUSED], "unexplained"),
    ],
)
def test_a_reason_is_given_only_where_it_explains_every_verdict(
    found: list[Answer], verdicts: list[bool], unlimited: list[Answer], reason: str
) -> None:
    with open_dataset("samples") as samples:
        question = samples.questions[0]
    engines = tuple(
        Engine("SELECT 1", Context(question, Recorded(dialect, answers)))
        for dialect, answer, free in zip(ENGINES, found, unlimited, strict=True)
        for answers in [{ANY: answer, FREE: free, "SELECT 1": ONE}]
    )
    judged = dict(zip(ENGINES, verdicts, strict=True))
    case = Case("q", "shop", "made", engines, dict.fromkeys(ENGINES, ANY), judged)
    assert reason_of_difference(case) == reason
