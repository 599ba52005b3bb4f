"""What constrained decoding costs: the schemas and grammars that are measured, and the figure."""

import json
from pathlib import Path

import pytest
import typer
import xgrammar.testing
from typer.testing import CliRunner

from benchmarks import grammar_time
from benchmarks.grammar_time import (
    FIRST,
    QUERIES,
    GrammarTimeError,
    Guidance,
    Xgrammar,
    built,
    cost_of,
    ddl_of,
    main,
    schema_of,
)
from benchmarks.loose_grammar import ebnf, lark
from eval.task.schema import parse_ddl
from eval.task.sql import check_sql
from tests.unit.grammars import takes
from tests.unit.tiny import EOS, byte_tokenizer

ROOT = Path(__file__).parents[2]
LOOSE = {
    "SELECT users.name FROM users": True,
    "SELECT users.name FROM orders": True,  # loose: not tied to its table
    "SELECT COUNT(*) FROM users JOIN orders ON users.id = orders.user_id WHERE users.id > 3": True,
    "SELECT users.nothing FROM users": False,
    "SELECT users.name FROM users;": False,
}


@pytest.fixture(autouse=True)
def _from_this_checkout(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize("size", [3, 30, 300])
def test_a_schema_has_so_many_tables_and_its_ddl_reads_back(size):
    schema = schema_of(size)
    assert tuple(table.name for table in schema.tables[:3]) == FIRST
    again = parse_ddl(ddl_of(schema))
    assert [t.column_names for t in again.tables] == [t.column_names for t in schema.tables]
    assert [t.foreign_keys for t in again.tables] == [t.foreign_keys for t in schema.tables]
    assert all(check_sql(query, schema).valid for query in QUERIES)


@pytest.mark.parametrize(("text", "is_taken"), LOOSE.items())
def test_both_notations_say_the_same(text, is_taken):
    schema = schema_of(3)
    assert takes(lark(schema), text) is is_taken
    assert xgrammar.testing._is_grammar_accept_string(ebnf(schema), text) is is_taken


def test_the_server_builds_a_grammar_that_takes_the_queries():
    grammar, ms = built(schema_of(3), "qualified", runs=2)
    assert all(takes(grammar, query) for query in QUERIES)
    assert len(ms) == 2 and min(ms) > 0
    with pytest.raises(GrammarTimeError, match="bare"):
        built(schema_of(3), "bare", runs=1)


def test_every_text_is_compiled_for_and_every_token_masked():
    tokenizer, schema = byte_tokenizer(), schema_of(3)
    texts = [[*tokenizer.encode(query), EOS] for query in QUERIES[:2]]
    for engine, grammar in ((Guidance(tokenizer), lark), (Xgrammar(tokenizer), ebnf)):
        cost = cost_of(engine, grammar(schema), texts)
        assert len(cost.compile_ms) == 2 and len(cost.mask_us) == sum(map(len, texts))
        assert cost.row["mask_us_p50"] <= cost.row["mask_us_p99"]
        with pytest.raises(GrammarTimeError, match="refuses"):
            cost_of(engine, grammar(schema), [tokenizer.encode("DROP TABLE users")])
    with pytest.raises(GrammarTimeError):
        Guidance(tokenizer).matcher("start: nothing")


def test_the_figure_has_a_row_for_each_engine_and_grammar(tmp_path, monkeypatch):
    monkeypatch.setattr(grammar_time, "SIZES", (30,))
    monkeypatch.setattr(grammar_time, "resolve_base_model", lambda _: "")
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda _: byte_tokenizer())
    app = typer.Typer()
    app.command()(main)
    run = CliRunner().invoke(app, ["--runs", "1", "--walks", "2", "--results", str(tmp_path)])
    assert run.exit_code == 0, run.output
    figure = json.loads((tmp_path / "grammar_build_ms_30_tables.json").read_text())
    kinds = [(row["grammar"], row["engine"]) for row in figure["rows"]]
    assert kinds == [
        ("server, qualified", "llguidance"),
        ("server, full", "llguidance"),
        ("loose", "llguidance"),
        ("loose", "xgrammar"),
    ]
    first = figure["rows"][0]
    assert figure["value"] == round(first["text_ms"] + first["compile_ms"], 2) > 0
    assert 0 < first["walk_tokens_p50"] <= first["walk_tokens_max"]
