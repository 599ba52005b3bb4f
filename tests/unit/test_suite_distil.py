"""The chosen databases tell near misses, and judge no gold that hangs on the order of rows."""

from contextlib import closing

import pytest

from eval.suite.distil import MAX_DATABASES, differs, distil, is_for_distilling
from eval.suite.expose import expose
from eval.suite.stable import Bench
from eval.task.sqlite_judge import Answer
from tests.unit.suites import AIRLINE, GOLDS, airline, source_of

UNSTABLE = "SELECT name FROM pilot LIMIT 1"


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    source = source_of(airline(tmp_path_factory.mktemp("original")), AIRLINE, *GOLDS, UNSTABLE)
    return source, distil(source, folder, seed=0)


def test_few_databases_tell_nearly_all_near_misses_even_those_that_took_no_part(chosen):
    source, found = chosen
    assert 1 <= len(found.databases) <= MAX_DATABASES
    told = {True: 0, False: 0}
    num = {True: 0, False: 0}
    for gold in GOLDS:
        suite = [found.databases[number] for number in found.usable[gold]]
        for mutant in source.mutants(gold):
            half = is_for_distilling(gold, mutant.sql)
            num[half] += 1
            told[half] += expose(mutant.sql, gold, suite) is not None
    assert min(num.values()) > 10
    assert told[True] >= 0.9 * num[True] and told[False] >= 0.9 * num[False]


def test_a_gold_is_judged_only_where_its_answer_is_stable(chosen):
    _, found = chosen
    for gold, numbers in found.usable.items():
        for number, path in enumerate(found.databases):
            with closing(Bench(path, timeout=5, max_rows=10_000)) as bench:
                assert (bench.stable_answer(gold) is not None) == (number in numbers)
    assert len(found.usable[UNSTABLE]) < len(found.databases)


def test_only_files_of_the_chosen_databases_are_left(chosen):
    _, found = chosen
    names = sorted(path.name for path in found.databases[0].parent.iterdir())
    assert names == [path.name for path in found.databases]


def test_the_same_golds_under_other_words_are_not_exposed(chosen):
    _, found = chosen
    suite = [found.databases[number] for number in found.usable[GOLDS[0]]]
    assert expose("SELECT p.name FROM pilot AS p WHERE 35 < p.age", GOLDS[0], suite) is None


def test_an_exposure_shows_few_rows_of_both_answers(chosen):
    _, found = chosen
    gold, wrong = GOLDS[0], "SELECT name, age FROM pilot"
    suite = [found.databases[number] for number in found.usable[gold]]
    exposure = expose(wrong, gold, suite, num_rows=2)
    assert exposure is not None
    assert len(exposure.found.rows) <= 2 and len(exposure.expected.rows) <= 2
    assert exposure.num_found >= exposure.num_expected
    failed = expose("SELECT nothing", gold, suite)
    assert failed is not None and failed.found.error


def test_golds_without_near_misses_get_databases_all_the_same(tmp_path):
    source = source_of(airline(tmp_path), AIRLINE, "SELECT 'x")
    folder = tmp_path / "suite"
    folder.mkdir()
    found = distil(source, folder, seed=0)
    assert found.databases and found.usable == {"SELECT 'x": ()}
    assert (found.num_mutants, found.num_told) == (0, 0)


def test_halves_are_about_equal_and_fixed():
    halves = [is_for_distilling("SELECT 1", f"SELECT {n}") for n in range(400)]
    assert 150 < sum(halves) < 250
    assert halves == [is_for_distilling("SELECT 1", f"SELECT {n}") for n in range(400)]


@pytest.mark.parametrize(
    ("gold", "rows", "is_different"),
    [
        ("SELECT a FROM t", ((2,), (1,)), False),
        ("SELECT a FROM t ORDER BY a", ((2,), (1,)), True),
        ("SELECT a FROM t", ((1,), (2,), (2,)), True),
    ],
)
def test_order_counts_only_where_the_gold_sorts(gold, rows, is_different):
    assert differs(gold, Answer(((1,), (2,))), Answer(rows)) == is_different
