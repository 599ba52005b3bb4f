"""What is decoded for a question, what repairs it, and what the response says of it."""

import math
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from server.decode.options import Options, Plan
from server.errors import EngineFailed
from tests.conftest import GOOD_SQL, assert_error, make_client, make_table
from tests.unit.test_server_generate import answer_to, ask
from tests.unit.test_server_metrics import series, value

BAD = "SELECT nme FROM users"
OTHER = "SELECT email FROM users"


async def test_a_valid_answer_is_left_alone(client, engine):
    body = await answer_to(client)
    assert (body["decoding"], body["repaired"], body["masked_mass"]) == ("free", False, 0.0)
    assert [asked.grammar for asked in engine.questions] == [""]


async def test_an_invalid_answer_is_decoded_again_under_the_grammar(client, engine):
    engine.enqueue(BAD)
    engine.enqueue(OTHER)
    body = await answer_to(client)
    assert (body["sql_query"], body["valid"]) == (OTHER, True)
    assert (body["decoding"], body["repaired"], body["truncated"]) == ("constrained", True, False)
    free, constrained, _ = engine.questions
    assert (free.grammar, constrained.text) == ("", free.text)
    assert "email" in constrained.grammar


async def test_an_answer_that_was_cut_off_is_repaired_too(client, engine):
    engine.enqueue(GOOD_SQL, finish_reason="length")
    body = await answer_to(client)
    assert (body["valid"], body["truncated"], body["repaired"]) == (True, False, True)


async def test_what_was_masked_is_scored_without_the_mask(client, engine):
    """The mask inflates log-probabilities: -0.3 in all under it, -1.2 by the model's own."""
    engine.enqueue(BAD)
    engine.enqueue(OTHER)
    body = await answer_to(client)
    score = engine.questions[-1]
    assert (score.how, score.body["token_ids"]) == ("score", (0, 1))
    assert body["confidence"] == pytest.approx(math.exp(-1.2))
    assert body["masked_mass"] == pytest.approx(1 - math.exp(-0.9))
    assert {"repair", "score"} <= set(body["timings_ms"])


async def test_an_answer_that_can_not_be_scored_has_no_confidence(client, engine):
    engine.can_score = False
    body = await answer_to(client, decoding="constrained")
    assert (body["valid"], body["confidence"]) == (True, 0.0)
    assert "could not be scored" in body["notes"][0]


async def test_a_repair_that_does_not_pass_either_gives_the_free_answer(client, engine):
    engine.enqueue(BAD)
    engine.enqueue("SELECT (", finish_reason="length")
    body = await answer_to(client)
    assert (body["sql_query"], body["valid"], body["repaired"]) == (BAD, False, False)
    assert (body["decoding"], body["truncated"]) == ("free", False)
    assert [v["code"] for v in body["violations"]] == ["unknown_column"]
    assert body["confidence"] == pytest.approx(math.exp(-0.3))


async def test_a_repair_that_the_engine_fails_is_noted_and_no_server_error(
    client, engine, monkeypatch
):
    engine.enqueue(BAD)

    async def fail(*_: object, **__: object) -> None:
        raise EngineFailed("the engine answered 500")

    monkeypatch.setattr("server.decode.decoder.Decoder.constrained", fail)
    body = await answer_to(client)
    assert (body["valid"], body["repaired"]) == (False, False)
    assert body["notes"] == ["the repair failed: the engine did not answer it"]


async def test_an_engine_without_grammars_answers_freely_with_a_note_and_one_log_line(
    client, engine
):
    engine.has_grammars = False
    with capture_logs() as logs:
        for decoding in ("auto", "constrained"):
            engine.enqueue(BAD)
            body = await answer_to(client, decoding=decoding)
            assert (body["sql_query"], body["decoding"], body["valid"]) == (BAD, "free", False)
            assert "constrained decoding is not available" in body["notes"][0]
    assert [entry["event"] for entry in logs].count("grammar_refused") == 1


async def test_constrained_decoding_asks_under_the_grammar_at_once(client, engine):
    body = await answer_to(client, decoding="constrained")
    assert [asked.how for asked in engine.questions] == ["complete", "score"]
    assert (body["decoding"], body["repaired"]) == ("constrained", False)


@pytest.mark.parametrize("field", [{"decoding": "free"}, {"repair": "none"}], ids=str)
async def test_a_free_answer_is_never_repaired(client, engine, field):
    engine.enqueue(BAD)
    body = await answer_to(client, **field)
    assert (body["valid"], body["decoding"], len(engine.questions)) == (False, "free", 1)


@pytest.mark.parametrize("plan", [Plan("free"), Plan("auto", "none")], ids=str)
async def test_the_servers_plan_stands_where_a_request_has_none(generator, engine, plan):
    engine.enqueue(BAD)
    async with make_client(replace(generator, plan=plan)) as client:
        assert (await answer_to(client))["valid"] is False
        engine.enqueue(BAD)
        body = await answer_to(client, decoding="auto", repair="constrained")
        assert body["valid"] is True


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("decoding", "greedy"),
        ("decoding", ""),
        ("decoding", 1),
        ("repair", "all"),
        ("n", 0),
        ("n", 17),
        ("n", -1),
        ("n", 1 << 63),
        ("n", 10**30),
        ("n", "2"),
        ("n", 2.0),
        ("n", True),
        ("n", None),
        ("tables", ["users"]),
        ("temperature", 0.5),
    ],
)
async def test_an_unknown_choice_is_refused_by_name(client, engine, field, value):
    response = await ask(client, **{field: value})
    assert response.status_code == 422
    assert response.json()["error"]["param"] == field
    assert not engine.questions


async def test_the_answer_ends_in_the_adapters_own_stop_token_under_the_grammar_too(
    store, engine, generator
):
    """Else the mask leaves only what the tokenizer calls the end, which this adapter never says."""
    table = make_table(store, engine, generator.metrics, token_id={"eos": 7}.get)
    await table.refresh()
    async with make_client(replace(generator, adapters=table)) as client:
        await answer_to(client, decoding="constrained")
    grammar = engine.questions[0].grammar
    starts = [line for line in grammar.splitlines() if line.startswith("start")]
    assert len(starts) == 1
    assert starts[0].endswith("<[7]>")


async def test_the_base_model_is_constrained_in_its_own_template(client, engine):
    engine.enqueue(BAD)
    body = await answer_to(client, model="base")
    assert body["decoding"] == "constrained"
    assert [asked.how for asked in engine.questions] == ["reply", "reply", "score"]


async def test_the_grammar_holds_only_what_the_caller_may_read(generator, engine):
    shop = replace(generator.databases.registered["shop"], grants={"*": ("users.name",)})
    databases = type(generator.databases)({"shop": shop}, "shop")
    async with make_client(replace(generator, databases=databases)) as client:
        await answer_to(client, decoding="constrained")
    assert "email" not in engine.questions[0].grammar
    assert '"name"' in engine.questions[0].grammar


async def test_all_that_was_decoded_is_counted(client, engine):
    engine.enqueue(BAD, (-0.1, -0.1, -0.1))
    body = await answer_to(client)
    assert body["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


async def test_repairs_and_what_won_are_counted(client, engine):
    engine.enqueue(BAD)
    await ask(client)
    engine.enqueue(BAD)
    engine.enqueue(BAD)
    await ask(client)
    found = await series(client)
    for outcome in ("repaired", "failed"):
        name = "sqlwright_repairs_total"
        assert value(found, name, repair="constrained", outcome=outcome) == 1
    for decoding in ("free", "constrained"):
        assert value(found, "sqlwright_decodings_total", decoding=decoding) == 1


# Votes.


async def test_of_several_samples_the_vote_decides_even_over_a_valid_answer(client, engine):
    for text in (GOOD_SQL, OTHER, "SELECT email FROM users;", BAD):
        engine.enqueue(text)
    body = await answer_to(client, n=4)
    assert (body["sql_query"], body["decoding"]) == (OTHER, "sampled")
    assert (body["agreement"], body["repaired"]) == (0.5, False)
    greedy, samples = engine.questions
    assert greedy.body["sampling"].n == 1
    assert (samples.body["sampling"].n, samples.body["sampling"].temperature) == (3, 0.7)


async def test_the_greedy_answer_wins_a_tie_if_it_is_the_likeliest(client, engine):
    engine.enqueue(OTHER, (-0.1,))
    engine.enqueue(GOOD_SQL, (-0.2,))
    body = await answer_to(client, n=2)
    assert (body["sql_query"], body["decoding"], body["agreement"]) == (OTHER, "free", 0.5)


async def test_samples_of_which_none_passes_are_repaired(client, engine):
    for text in (BAD, BAD, BAD, GOOD_SQL):
        engine.enqueue(text)
    body = await answer_to(client, n=3)
    assert (body["sql_query"], body["decoding"]) == (GOOD_SQL, "constrained")
    assert (body["agreement"], body["repaired"]) == (0.0, True)


async def test_a_sample_that_stands_in_for_an_invalid_answer_is_a_repair(client, engine):
    for text in (BAD, GOOD_SQL):
        engine.enqueue(text)
    body = await answer_to(client, n=2)
    assert (body["decoding"], body["repaired"], body["agreement"]) == ("sampled", True, 0.5)


async def test_samples_are_constrained_where_that_is_asked_for(client, engine):
    body = await answer_to(client, n=3, decoding="constrained")
    assert body["agreement"] == 1.0
    decoded = [asked for asked in engine.questions if asked.how == "complete"]
    assert len(decoded) == 2
    assert all(asked.grammar for asked in decoded)


# The other repairs.


async def test_repair_by_agreement_samples_and_votes(generator, engine):
    for text in (BAD, OTHER, GOOD_SQL, OTHER):
        engine.enqueue(text)
    options = Options(num_samples=3)
    async with make_client(replace(generator, options=options)) as client:
        body = await answer_to(client, repair="agree")
    assert (body["sql_query"], body["decoding"], body["repaired"]) == (OTHER, "sampled", True)
    assert body["agreement"] is None


async def test_repair_by_agreement_goes_to_the_grammar_where_no_sample_passes(generator, engine):
    for _ in range(4):
        engine.enqueue(BAD)
    options = Options(num_samples=3)
    async with make_client(replace(generator, options=options)) as client:
        body = await answer_to(client, repair="agree")
    assert (body["decoding"], body["valid"]) == ("constrained", True)


async def test_an_engine_that_fails_the_first_answer_is_still_an_error(client, engine):
    engine.fail(EngineFailed("down"))
    for decoding in ("free", "constrained", "auto"):
        assert_error(await ask(client, decoding=decoding), 502, "engine_error")
