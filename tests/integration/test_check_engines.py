"""What the check lets pass, PostgreSQL and MariaDB take; SQLite is asked in the unit tests."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from eval.task.dialect import resolve_dialect
from eval.task.schema import parse_ddl
from tests.unit.servers import TestServer, new_server
from tests.unit.sql_cases import Case
from tests.unit.test_check_sql import ALL_CASES, DDL

# By default MariaDB shows any row's value beside an aggregate; MySQL does not.
STRICT = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',ONLY_FULL_GROUP_BY')"
# MySQL has it, MariaDB has not.
MYSQL_ONLY = "REGEXP_LIKE"


def target(case: Case) -> str:
    return resolve_dialect(case.write or case.dialect)


CASES = [
    case
    for case in ALL_CASES
    if case.code == "ok"
    and target(case) in ("postgres", "mysql")
    and MYSQL_ONLY not in (case.gives or "")
]


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, TestServer]]:
    with ExitStack() as stack:
        found = {name: stack.enter_context(new_server(name)) for name in ("postgres", "mysql")}
        found["mysql"].run(STRICT)
        for dialect, server in found.items():
            ddl = DDL.replace('"', "`") if dialect == "mysql" else DDL
            server.run(*(part for part in ddl.split(";") if part.strip()))
        yield found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_passes_is_taken(case: Case, engines: dict[str, TestServer]) -> None:
    check = case.check(parse_ddl(DDL))
    assert engines[target(case)].run(f"EXPLAIN {check.sql}")


def test_there_are_cases_of_both_engines() -> None:
    assert min(sum(target(c) == name for c in CASES) for name in ("postgres", "mysql")) >= 15
