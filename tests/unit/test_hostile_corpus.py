"""Hostile statements in every dialect and under every name of it: none passes unsafely. Ordinary
queries beside them: all pass, so that the guard can't win by refusing everything."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.corpus import ALIASES, KEYS, CorpusError, Hostile, load_corpus
from benchmarks.guard import judge
from benchmarks.oracle import why_harmful
from eval.task.dialect import DIALECTS, resolve_dialect
from eval.task.samples import sample_schema
from eval.task.sql import check_sql
from eval.task.violation import CODES

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests/fixtures"
# What `*` stands for here; `python -m benchmarks.guard` takes every dialect.
USUAL = """bigquery clickhouse databricks duckdb mysql oracle postgres presto redshift snowflake
    spark sqlite tsql""".split()
CLASSES = {
    "batch", "bomb", "command", "comment", "copy", "cte_write", "ddl", "dml", "escape", "explain",
    "function", "grants", "hidden", "into", "lock", "lookalike", "multi", "source", "system",
    "transpile", "variable",
}  # fmt: skip

HOSTILE: dict[str, list[Hostile]] = {}
for case in load_corpus(FIXTURES / "hostile", USUAL):
    HOSTILE.setdefault(case.id, []).append(case)
BENIGN: list[dict[str, Any]] = [
    json.loads(line) for line in (FIXTURES / "benign.jsonl").read_text().splitlines()
]


def test_the_corpus_is_large_and_holds_every_class() -> None:
    cases = [case for same in HOSTILE.values() for case in same]
    assert len(HOSTILE) >= 1000
    assert {case.kind for case in cases} == CLASSES
    assert min(Counter(case.kind for same in HOSTILE.values() for case in same[:1]).values()) >= 10
    assert len({resolve_dialect(case.dialect) for case in cases}) >= 20
    assert len({(case.sql, case.dialect, case.write, case.grants) for case in cases}) == len(cases)


def test_every_name_of_a_dialect_is_known_to_the_guard() -> None:
    for dialect, names in ALIASES.items():
        assert {resolve_dialect(name) for name in names} == {dialect}


@pytest.mark.parametrize("name", [n for n, same in HOSTILE.items() if same[0].kind != "bomb"])
def test_nothing_hostile_passes(name: str) -> None:
    schema = sample_schema("shop")
    verdicts = [judge(case, schema) for case in HOSTILE[name]]
    assert [(v.case.dialect, v.passed) for v in verdicts if v.passed] == []
    assert {code for v in verdicts for code in v.codes} <= set(CODES)


@pytest.mark.parametrize("row", BENIGN, ids=[row["id"] for row in BENIGN])
def test_ordinary_queries_pass(row: dict[str, Any]) -> None:
    dialects = USUAL if row["dialects"] == ["*"] else row["dialects"]
    for dialect in dialects:
        check = check_sql(row["sql"], sample_schema(row["schema"]), dialect)
        assert check.violations == (), (dialect, row["sql"])
        assert why_harmful(check.sql, dialect) == ""


def test_there_are_enough_ordinary_queries() -> None:
    assert len(BENIGN) >= 150
    assert len({dialect for row in BENIGN for dialect in row["dialects"]} & DIALECTS) >= 10


BOMBS = """
import json, logging, sys, threading
from pathlib import Path
from tests.fuzz.pure_sqlglot import use_pure_sqlglot

if sys.argv[1] == "pure":
    use_pure_sqlglot()
import sqlglot.parser
from benchmarks.corpus import load_corpus
from benchmarks.guard import judge
from eval.task.dialect import DIALECTS
from eval.task.samples import sample_schema

assert sqlglot.parser.__file__.endswith(".py") == (sys.argv[1] == "pure")
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
schema = sample_schema("shop")
corpus = load_corpus(Path(sys.argv[2]), sys.argv[3:])
bombs = [c for c in corpus if c.kind == "bomb" and c.dialect in DIALECTS]
found = {}

def run():
    for case in bombs:
        found[str(case)] = [judge(case, schema).passed]

threading.stack_size(256 * 1024)
thread = threading.Thread(target=run)
thread.start()
thread.join()
print(json.dumps([len(bombs), len(found), {k: v for k, v in found.items() if v != [""]}]))
"""


@pytest.mark.parametrize(
    ("parser", "dialects"), [("compiled", ["sqlite", "bigquery"]), ("pure", ["sqlite"])]
)
def test_bombs_end_in_a_refusal_on_a_small_stack(parser: str, dialects: list[str]) -> None:
    """A thread with 256 KiB: recursion in the compiled parser would end the process there."""
    command = [sys.executable, "-c", BOMBS, parser, str(FIXTURES / "hostile"), *dialects]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    num_bombs, num_found, passed = json.loads(done.stdout)
    assert num_bombs == num_found >= len([n for n in HOSTILE if n.startswith("bomb")])
    assert passed == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "x.jsonl, line 1: not JSON"),
        ('{"sql": "x", "extra": 1}', "line 1: unknown key 'extra'"),
        ('{"id": "x"}', "exactly one of 'sql' and 'recipe'"),
        ('{"sql": "x", "recipe": []}', "exactly one of 'sql' and 'recipe'"),
        ("", "no statement in any"),
    ],
)
def test_a_broken_corpus_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(CorpusError, match=message):
        load_corpus(tmp_path, USUAL)


def test_a_line_of_the_corpus_is_read_as_it_says(tmp_path: Path) -> None:
    row = {
        "id": "a-1", "class": "a", "dialects": ["postgres", "duckdb"], "why": "w",
        "recipe": [["(", 3], ["x", 1]], "write": "mysql", "grants": ["users.id"],
        "expect": "regenerated", "lacks": ["--"],
    }  # fmt: skip
    assert set(row) | {"sql"} == KEYS
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    found = load_corpus(tmp_path, USUAL)
    assert [case.dialect for case in found] == ["postgres", *ALIASES["postgres"], "duckdb"]
    assert {case.sql for case in found} == {"(((x"}
    assert found[0].grants is not None
    assert found[0].grants.columns == {("users", "id")}
    assert (found[0].write, found[0].lacks, found[0].may_pass) == ("mysql", ("--",), True)
