"""The judge against itself: rewrites keep the answer, near misses count, figures are right."""

import json

import pytest
import typer
from typer.testing import CliRunner

from eval.selftest import __main__ as command
from eval.selftest.check import Survivor, Tally, Work, check_database
from eval.selftest.rewrite import REWRITES, rewrites
from eval.selftest.summary import catch_figure, describe
from eval.suite.cache import Job, build_suite
from eval.suite.distil import is_for_distilling
from eval.task.schema import parse_ddl
from eval.task.statement import normalize_sql
from tests.unit.suites import AIRLINE, GOLDS, airline, question_of, rows_of, source_of

SCHEMA = parse_ddl(AIRLINE)
REWORDED = [
    ("renamed_aliases", "SELECT p.name FROM pilot AS p", "SELECT the_p.name FROM pilot AS the_p"),
    ("mirrored_operands", "SELECT name FROM pilot WHERE age > 3",
     "SELECT name FROM pilot WHERE 3 < age"),
    ("open_between", "SELECT name FROM pilot WHERE age BETWEEN 30 AND 40",
     "SELECT name FROM pilot WHERE (age >= 30 AND age <= 40)"),
    ("closed_between", "SELECT name FROM pilot WHERE age >= 30 AND age <= 40",
     "SELECT name FROM pilot WHERE age BETWEEN 30 AND 40"),
    ("in_as_or", "SELECT name FROM pilot WHERE age IN (29, 35)",
     "SELECT name FROM pilot WHERE (age = 29 OR age = 35)"),
    ("or_as_in", "SELECT name FROM pilot WHERE age = 29 OR age = 35",
     "SELECT name FROM pilot WHERE age IN (29, 35)"),
    ("join_in_where", "SELECT km FROM flight AS f JOIN pilot AS p ON f.pilot_id = p.id",
     "SELECT km FROM flight AS f CROSS JOIN pilot AS p WHERE f.pilot_id = p.id"),
    ("swapped_join", "SELECT km FROM flight AS f JOIN pilot AS p ON f.pilot_id = p.id",
     "SELECT km FROM pilot AS p JOIN flight AS f ON f.pilot_id = p.id"),
    ("reversed_group", "SELECT count(*) FROM pilot GROUP BY base, age",
     "SELECT count(*) FROM pilot GROUP BY age, base"),
    ("count_one", "SELECT count(*) FROM pilot", "SELECT count(1) FROM pilot"),
    ("distinct_membership", "SELECT name FROM pilot WHERE id IN (SELECT pilot_id FROM flight)",
     "SELECT name FROM pilot WHERE id IN (SELECT DISTINCT pilot_id FROM flight)"),
    ("negation_outside", "SELECT name FROM pilot WHERE age <> 35",
     "SELECT name FROM pilot WHERE NOT (age = 35)"),
    ("whole_number_bounds", "SELECT base FROM pilot GROUP BY base HAVING count(*) > 1",
     "SELECT base FROM pilot GROUP BY base HAVING count(*) >= 2"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sql", "reworded"), REWORDED, ids=[c[0] for c in REWORDED])
def test_a_rewrite_gives_these_words_and_the_same_rows(tmp_path, name, sql, reworded):
    found = dict(rewrites(sql, SCHEMA))
    assert normalize_sql(found[name]) == normalize_sql(reworded)
    path = airline(tmp_path)
    assert sorted(rows_of(path, found[name])) == sorted(rows_of(path, sql)) != []


def test_every_rewrite_has_a_case():
    assert {name for name, _, _ in REWORDED} == set(REWRITES)


@pytest.mark.parametrize("sql", ["", "hello", "SELECT 1; SELECT 2", "SELECT 'x", "\0"])
def test_what_is_no_query_is_not_reworded(sql):
    assert list(rewrites(sql, SCHEMA)) == []


@pytest.fixture(scope="module")
def tally(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selftest")
    path = airline(folder)
    job = Job(SCHEMA, path, GOLDS, folder / "suite")
    build_suite(job)
    suite = tuple(sorted(job.folder.glob("*.sqlite")))
    usable = {
        gold: suite if "LIMIT" not in gold else () for gold in GOLDS
    }  # one gold has no suite: execution judges it alone
    questions = tuple(question_of(path, gold) for gold in GOLDS)
    return check_database(Work(questions, tuple(usable[gold] for gold in GOLDS))), path


def test_golds_are_right_and_reworded_golds_too(tally):
    found, _ = tally
    assert found.n["gold"] == found.by_execution["gold"] == found.by_suite["gold"] == len(GOLDS)
    assert found.with_suite == len(GOLDS) - 1
    assert found.wrongly_exposed == []
    assert found.n["shuffled"] == len(GOLDS) and found.by_suite["shuffled"] == 0


def test_only_near_misses_of_the_other_half_are_judged(tally):
    found, path = tally
    source = source_of(path, AIRLINE, *GOLDS)
    other = [
        m.kind for gold in GOLDS for m in source.mutants(gold) if not is_for_distilling(gold, m.sql)
    ]
    judged = {name: n for name, n in found.n.items() if name.startswith("mutant ")}
    assert sum(judged.values()) == len(other)
    assert set(judged) == {f"mutant {kind}" for kind in other}


def test_the_suite_catches_near_misses_that_execution_does_not(tally):
    found, _ = tally
    names = [name for name in found.n if name.startswith("mutant ")]
    survived = sum(found.by_suite[name] for name in names)
    assert survived == len(found.survivors)
    assert survived < sum(found.by_execution[name] for name in names)


def _counted() -> Tally:
    found = Tally(with_suite=3)
    found.n.update({"gold": 4, "mutant changed_literal": 10, "mutant and_or": 10})
    found.by_execution.update({"gold": 4, "mutant changed_literal": 5, "mutant and_or": 10})
    found.by_suite.update({"gold": 4, "mutant changed_literal": 1, "mutant and_or": 8})
    found.survivors.append(Survivor("a", "and_or", "g", "s", 3, told_later=True))
    return found


def test_the_figure_is_the_share_told_over_the_four_kinds():
    figure = catch_figure(_counted(), "judge_mutation_catch_rate")
    assert (figure.figure, figure.value, figure.n) == ("judge_mutation_catch_rate", 0.9, 10)
    rows = {row["what"]: row for row in figure.rows}
    assert rows["and_or"] == {"what": "and_or", "n": 10, "execution": 0.0, "suite": 0.2}
    assert rows["gold"]["suite"] == 0.0


def test_tallies_add_up():
    total = _counted()
    total.add(_counted())
    total.add(Tally(lost=["b: out of memory"]))
    assert (total.n["gold"], total.with_suite, len(total.survivors)) == (8, 6, 2)
    assert "not judged: b: out of memory" in describe(total)


def _command(monkeypatch, found: Tally, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(command, "check", lambda *_, **__: found)
    app = typer.Typer()
    app.command()(command.main)
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


def test_the_command_prints_the_table_and_writes_what_is_asked_for(monkeypatch, tmp_path):
    words = ["--survivors", str(tmp_path / "s.json"), "--results", str(tmp_path)]
    code, output = _command(monkeypatch, _counted(), *words, "--figure", "catch_rate")
    assert code == 0 and "changed_literal" in output
    assert json.loads((tmp_path / "catch_rate.json").read_text())["value"] == 0.9
    assert json.loads((tmp_path / "s.json").read_text())[0]["told_later"] is True


@pytest.mark.parametrize("fault", ["gold", "reworded", "lost"])
def test_the_command_fails_where_a_gold_is_taken_for_wrong_or_is_not_judged(monkeypatch, fault):
    found = _counted()
    if fault == "gold":
        found.by_suite["gold"] -= 1
    if fault == "reworded":
        found.wrongly_exposed.append(found.survivors[0])
    if fault == "lost":
        found.lost.append("a: out of memory")
    assert _command(monkeypatch, found)[0] == 1


def test_the_command_names_a_missing_data_set():
    app = typer.Typer()
    app.command()(command.main)
    result = CliRunner().invoke(app, ["--data", "nowhere.jsonl"])
    assert result.exit_code == 2 and "nowhere.jsonl" in result.output


def test_each_gold_is_judged_once_however_many_questions_ask_for_it(tmp_path):
    path = airline(tmp_path)
    works = command.works_of([question_of(path, gold) for gold in (*GOLDS, GOLDS[0])], None)
    assert [len(work.questions) for work in works] == [len(GOLDS)]
    assert works[0].suites == ((),) * len(GOLDS)


def test_no_near_misses_make_no_figure():
    with pytest.raises(ValueError, match="no near miss"):
        catch_figure(Tally(), "judge_mutation_catch_rate")
    assert "four kinds" in describe(Tally())
