"""Verdicts on pairs of queries, by each measure that runs them.

The cases are in `tests/fixtures/verdicts`: one file a theme, each with the databases' script beside
them. The verdicts follow from the definitions that the measures cite, not from what they said.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.dataset import Question
from eval.execution import Limits, open_database
from eval.measures import execution
from eval.measures.context import Context
from eval.task.example import Example
from eval.task.schema import Schema

FOLDER = Path(__file__).parents[1] / "fixtures" / "verdicts"
LIMITS = Limits(timeout_seconds=0.2, max_rows=1000)

Case = dict[str, Any]


def cases() -> Iterator[Any]:
    for path in sorted(FOLDER.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            yield pytest.param(case, id=f"{path.stem}: {case['name']}")


CASES = list(cases())


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verdicts")
    for script in FOLDER.glob("*.sql"):
        with closing(sqlite3.connect(folder / f"{script.stem}.sqlite")) as db:
            db.executescript(script.read_text(encoding="utf-8"))
    return folder


@contextmanager
def opened(case: Case, databases: Path) -> Iterator[Context]:
    path = databases / f"{case['db']}.sqlite"
    example = Example(case["name"], case["db"], "", case["gold"])
    with closing(open_database(path, LIMITS)) as database:
        question = Question(example, path, "", Schema(()))
        yield Context(question, database)


@pytest.mark.parametrize("case", CASES)
def test_verdict(case: Case, databases: Path) -> None:
    predicted, gold = case["predicted"], case["gold"]
    with opened(case, databases) as context:
        found = {
            "execution_accuracy": execution.execution_accuracy(predicted, gold, context),
            "spider": execution.execution_accuracy_spider(predicted, gold, context),
            "bird": execution.execution_accuracy_bird(predicted, gold, context),
            "runs": execution.runs(predicted, gold, context),
        }
        context = replace(context, permute_columns=True)
        found["permuted"] = execution.execution_accuracy(predicted, gold, context)
    assert found == {measure: case[measure] for measure in found}


def test_every_gold_query_is_right_by_itself(databases: Path) -> None:
    for case in (param.values[0] for param in CASES):
        gold = case["gold"]
        with opened(case, databases) as context:
            assert execution.execution_accuracy(gold, gold, context) == 1, gold
            assert execution.execution_accuracy_spider(gold, gold, context) == 1, gold
            assert execution.execution_accuracy_bird(gold, gold, context) == 1, gold


def test_there_are_many_cases_and_both_verdicts() -> None:
    given = [case.values[0] for case in CASES]
    assert len(given) >= 170
    for measure in ("execution_accuracy", "permuted", "spider", "bird", "runs"):
        share = sum(case[measure] for case in given) / len(given)
        assert 0.2 < share < 0.8, measure
