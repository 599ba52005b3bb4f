"""From one dialect to another: cases that are data, see tests/fixtures/transpile.sql."""

import pytest

from eval.task.schema import Schema, parse_ddl
from eval.task.sql import check_sql
from tests.unit.sql_cases import FIXTURES, Case, read_cases, said, stray_blocks

CASES = FIXTURES / "transpile.sql"
ALL_CASES = read_cases(CASES)
DDL = """
CREATE TABLE singer (singer_id INTEGER PRIMARY KEY, name TEXT, country TEXT, age INT, fee REAL,
    price DECIMAL(8, 2), active BOOLEAN, born DATE, band_id INT);
CREATE TABLE band (band_id INTEGER PRIMARY KEY, name TEXT, founded INT);
"""


@pytest.fixture(scope="module")
def schema() -> Schema:
    return parse_ddl(DDL)


def test_every_block_of_the_file_is_a_case_or_a_comment() -> None:
    assert len(ALL_CASES) >= 200
    assert stray_blocks(CASES) == []


@pytest.mark.parametrize("case", ALL_CASES, ids=str)
def test_case(case: Case, schema: Schema) -> None:
    check = case.check(schema)
    assert [v.code for v in check.violations[:1]] == ([] if case.code == "ok" else [case.code])
    assert said(check, case.sql) == case.says
    assert check.sql == (case.gives or case.sql)
    assert check.notes == case.note


@pytest.mark.parametrize("case", [case for case in ALL_CASES if case.code == "ok"], ids=str)
def test_what_is_regenerated_passes_in_its_own_dialect(case: Case, schema: Schema) -> None:
    check = check_sql(case.gives or "", schema, case.write or "")
    assert check.violations == ()
    assert check.tables == check_sql(case.sql, schema, case.dialect).tables


@pytest.mark.parametrize(("num_doublings", "codes"), [(5, []), (8, ["not_transpilable"])])
def test_aliases_that_stand_for_ever_more_are_not_written_out(schema, num_doublings, codes):
    doubled = (f"x{i} || x{i} AS x{i + 1}" for i in range(num_doublings))
    sql = f"SELECT name AS x0, {', '.join(doubled)} FROM singer"
    assert check_sql(sql, schema, "clickhouse").valid
    found = check_sql(sql, schema, "clickhouse", "sqlite")
    assert [violation.code for violation in found.violations] == codes
