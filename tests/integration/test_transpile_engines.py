"""Queries that were put into another dialect, on the engines themselves.

Where no note says that an answer may differ, the same data must give the same rows.
"""

import datetime
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from decimal import Decimal

import pytest
from sqlalchemy.exc import SQLAlchemyError

from tests.unit.servers import TestServer, new_server
from tests.unit.sql_cases import Case
from tests.unit.test_transpile import ALL_CASES, DDL

Row = tuple[object, ...]
Run = Callable[[str], list[Row]]
FAILURES = (SQLAlchemyError, sqlite3.Error)
ENGINES = ("sqlite", "postgres", "mysql")
INSERTS = (
    "INSERT INTO singer VALUES "
    "(1, 'Ann', 'abc', 30, 2.5, 9.99, TRUE, '1990-05-01', 1), "
    "(2, 'bob', 'a', -7, NULL, 1.5, FALSE, '2001-12-31', 2), "
    "(3, '20x', 'B', 4, 0.5, 0.25, NULL, NULL, NULL), "
    "(4, NULL, NULL, NULL, 1.25, NULL, TRUE, '1990-05-01', 1)",
    "INSERT INTO band VALUES (1, 'ann', 4), (2, 'Zed', 30), (3, NULL, NULL)",
)


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Run]]:
    with ExitStack() as stack:
        found = {"sqlite": stack.enter_context(closing(sqlite3.connect(":memory:")))}
        lite = found["sqlite"]
        lite.executescript(";".join((DDL, *INSERTS)))
        runs: dict[str, Run] = {"sqlite": lambda sql: lite.execute(sql).fetchall()}
        for dialect in ENGINES[1:]:
            server = stack.enter_context(new_server(dialect))
            _fill(server)
            runs[dialect] = server.run
        yield runs


def _fill(server: TestServer) -> None:
    # In SQLite a REAL has eight bytes.
    ddl = DDL.replace("REAL", "DOUBLE PRECISION")
    server.run(*(part for part in ddl.split(";") if part.strip()), *INSERTS)


def _plain(value: object) -> object:
    if isinstance(value, bool | int | float | Decimal):
        return round(float(value), 4)
    return str(value) if isinstance(value, datetime.date) else value


def _rows(run: Run, sql: str) -> list[str]:
    return [repr(tuple(map(_plain, row))) for row in run(sql)]


def _answers(case: Case, engines: dict[str, Run]) -> tuple[list[str], list[str]]:
    """What the query gives where it was written, and what the other one gives elsewhere."""
    before, after = engines[case.dialect], engines[case.write or ""]
    pair = _rows(before, case.sql), _rows(after, case.gives or "")
    return pair if "ORDER BY" in case.sql else (sorted(pair[0]), sorted(pair[1]))


CASES = [
    case for case in ALL_CASES if case.code == "ok" and {case.dialect, case.write} <= set(ENGINES)
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_rows_come_back(case: Case, engines: dict[str, Run]) -> None:
    try:
        engines[case.dialect](case.sql)
    except FAILURES:
        with pytest.raises(FAILURES):  # a subquery of several rows, say
            engines[case.write or ""](case.gives or "")
        return
    try:
        before, after = _answers(case, engines)
    except FAILURES:
        assert case.note
        return
    assert before == after or case.note


def test_most_cases_run_and_give_rows(engines: dict[str, Run]) -> None:
    cases = [case for case in CASES if not case.note]
    assert len(cases) >= 60
    num_with_rows = 0
    for case in cases:
        try:
            num_with_rows += bool(engines[case.dialect](case.sql))
        except FAILURES:
            continue
    assert num_with_rows >= len(cases) // 2
