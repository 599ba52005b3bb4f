"""The grammar of a question: in the adapter's spelling, ending in its own token, made once."""

from dataclasses import replace

import pytest

from server.decode.grammars import Grammars
from tests.conftest import make_client
from tests.unit.test_server_decode_resume import asked
from tests.unit.test_server_generate import answer_to
from tests.unit.test_server_metrics import series, value

llguidance = pytest.importorskip("llguidance")


def error_in(grammar: str) -> str:
    made = llguidance.grammar_from("grammar", grammar)
    return str(llguidance.LLMatcher.validate_grammar(made, None))


@pytest.mark.parametrize("stops", [(), (7,), (7, 12)])
async def test_the_engine_can_read_it_whatever_it_ends_in(generator, stops):
    question = asked(generator)
    question = replace(question, served=replace(question.served, stop_token_ids=stops))
    grammar = await Grammars(generator.metrics).of(question)
    assert error_in(grammar) == ""
    ends = ",".join(map(str, stops))
    assert f"<[{ends}]>" in grammar if stops else "<[" not in grammar
    assert grammar.count("\nstart:") + grammar.startswith("start:") == 1


@pytest.mark.parametrize(
    ("names", "has_bare"), [("qualified", False), ("full", True), ("written", True), (None, True)]
)
async def test_columns_are_spelled_as_the_adapter_was_taught(generator, names, has_bare):
    """A model that was taught `users.name` everywhere, or bare names where there is one table."""
    question = asked(generator)
    assert question.served.manifest
    manifest = replace(question.served.manifest, recipe={"names": names} if names else {})
    question = replace(question, served=replace(question.served, manifest=manifest))
    grammar = await Grammars(generator.metrics).of(question)
    matcher = llguidance.LLMatcher(
        llguidance.LLTokenizer("byte"), llguidance.grammar_from("grammar", grammar)
    )
    assert (matcher.try_consume_tokens(list(b"SELECT name FROM users")) == 22) is has_bare


async def test_one_schemas_grammar_is_made_once_and_both_are_counted(client):
    ddl = "CREATE TABLE made_for_this_test (colour TEXT)"
    for _ in range(3):
        await answer_to(client, ddl=ddl, decoding="constrained")
    found = await series(client)
    assert value(found, "sqlwright_grammar_cache_total", outcome="miss") == 1
    assert value(found, "sqlwright_grammar_cache_total", outcome="hit") == 2
    assert value(found, "sqlwright_grammar_build_seconds_count") == 1


async def test_where_there_is_no_grammar_the_answer_is_free_and_says_why(generator, engine):
    engine.enqueue("SELECT nme FROM users")
    async with make_client(replace(generator, max_tokens=16)) as client:
        body = await answer_to(client)
    assert (body["decoding"], body["valid"]) == ("free", False)
    assert body["notes"][0].startswith("there is no grammar for this schema: ")
    assert not any(one.grammar for one in engine.questions)
