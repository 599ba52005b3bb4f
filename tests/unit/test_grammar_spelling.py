"""How names, calls and lengths are written and guessed in a grammar."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlglot import parse_one

from eval.task.dialect import DIALECTS
from eval.task.samples import sample_schema
from eval.task.schema import Column, Schema, Table
from eval.task.sql import check_sql
from server.grammar import GrammarError, grammar_of
from server.grammar.budget import MAX_UNITS, budget_of, tokens_of
from server.grammar.sources import sources_of
from server.grammar.spelling import spelling_of

WITHOUT_LIMIT = {"fabric", "oracle", "teradata", "tsql"}
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("dialect", "name", "written"),
    [
        ("sqlite", "singer_id", "singer_id"),
        ("sqlite", "order", '"order"'),
        ("sqlite", 'a"b c', '"a""b c"'),
        ("mysql", "order", "`order`"),
        ("mysql", "a`b", "`a``b`"),
        ("bigquery", "two words", "`two words`"),
        ("sqlite", "a\nb", ""),
        ("sqlite", "\u202eevil", ""),
        ("sqlite", "", ""),
        ("sqlite", "\u0645\u06cc\u200c\u062e\u0648", '"\u0645\u06cc\u200c\u062e\u0648"'),
    ],
)
def test_a_name_is_written_as_its_dialect_reads_it(dialect, name, written):
    assert spelling_of(dialect).name(name) == written


@pytest.mark.parametrize(
    ("dialect", "text", "written"),
    [("sqlite", "O'Hara", "'O''Hara'"), ("mysql", "a\\", "'a\\\\'"), ("sqlite", "a\nb", "")],
)
def test_a_given_value_is_written_as_a_literal(dialect, text, written):
    assert spelling_of(dialect).string(text) == written


def test_a_word_that_is_more_than_a_name_does_not_stand_alone():
    spelling = spelling_of("sqlite")
    assert [n for n in ("name", "date", "year", "rank", "order") if spelling.stands_alone(n)] == [
        *("name", "date", "year", "rank", "order")
    ]
    assert not spelling.stands_alone("interval")


@pytest.mark.parametrize("dialect", sorted(DIALECTS - WITHOUT_LIMIT))
def test_all_that_a_dialect_calls_passes_the_guard(dialect):
    spelling, schema = spelling_of(dialect), Schema((Table("t", (Column("a"),)),))
    assert {"LOWER(", "ABS("} <= set(spelling.calls) and spelling.set_operators
    for text in (
        *(f"SELECT {call}t.a) FROM t" for call in spelling.calls),
        *(f"SELECT t.a FROM t WHERE t.a > {now}" for now in spelling.now),
        *(f"SELECT t.a FROM t{o}SELECT t.a FROM t" for o in spelling.set_operators),
    ):
        assert check_sql(text, schema, dialect).valid, text
        assert parse_one(text, dialect=dialect).sql(dialect).upper() == text.upper()


@pytest.mark.parametrize("dialect", sorted(WITHOUT_LIMIT))
def test_a_dialect_without_limit_has_no_grammar(dialect):
    with pytest.raises(GrammarError, match="has no LIMIT"):
        spelling_of(dialect)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("singer.name", 4),
        ("EMP_DOB", 5),
        ("Customer_Contact_Channels", 8),
        ("日本", 4),
        ("a1b22", 5),
    ],
)
def test_tokens_are_guessed_from_letters(text, tokens):
    assert tokens_of(text) == tokens


def test_long_names_leave_a_smaller_budget():
    def units(prefix: str, max_tokens: int = 256) -> int:
        table = Table(f"{prefix}table", (Column(f"{prefix}column"),))
        return budget_of(sources_of(Schema((table,))), spelling_of("sqlite"), max_tokens)

    assert units("") > units("a_rather_long_") > units("an_even_longer_prefix_")
    assert units("", 4096) == MAX_UNITS > units("", 512) > units("")


def test_the_command_prints_a_grammar(tmp_path):
    path = tmp_path / "shop.sql"
    path.write_text((ROOT / "eval/task/samples/shop.sql").read_text())
    command = [sys.executable, "-m", "server.grammar", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == grammar_of(sample_schema("shop")).strip()
    timed = [*command, "--names", "full", "--repeat", "3"]
    run = subprocess.run(timed, capture_output=True, text=True, cwd=ROOT, check=True)
    assert len(json.loads(run.stdout)["ms"]) == 3
    failed = [*command[:-1], str(tmp_path / "gone.sql")]
    run = subprocess.run(failed, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 1 and run.stderr.startswith("server.grammar: error:")
