"""Going on from the last good token: where the first wrong name stands, what may stand there."""

from dataclasses import replace

import pytest

from eval.task.samples import sample_schema
from server.databases import Database
from server.decode.candidate import Asked, judged
from server.decode.resume import find_hole
from tests.conftest import completion_of
from tests.unit.test_server_generate import answer_to

SHOP = sample_schema("shop")


def asked(generator, shown=SHOP) -> Asked:
    served = generator.adapters.active["spider"]
    return Asked(served, "prompt", SHOP, SHOP, shown, Database("shop", SHOP), "sqlite", None, 128)


def hole_of(generator, *tokens: str, **more):
    completion = completion_of("".join(tokens), (-0.1,) * len(tokens), tokens=tokens)
    question = asked(generator, **more)
    return find_hole(judged(completion, question, "free"), question)


def test_the_names_are_the_columns_of_the_tables_in_scope(generator):
    hole = hole_of(generator, "SELECT", " n", "me", " FROM", " users")
    assert (hole.start, hole.num_kept) == (7, 1)
    users = SHOP.find("users")
    assert users
    assert set(hole.names) == {f" {name}" for name in users.column_names}


def test_a_qualified_name_may_become_that_of_another_table_in_scope(generator):
    sql = ("SELECT", " o.", "name", " FROM", " orders AS o", " JOIN users AS u ON o.user_id = u.id")
    hole = hole_of(generator, *sql)
    assert (hole.num_kept, hole.names[0][:3]) == (1, " o.")
    assert " u.name" in hole.names
    assert not any("products" in name for name in hole.names)


def test_a_name_that_two_tables_have_is_offered_with_its_table(generator):
    hole = hole_of(generator, "SELECT", " id FROM users, orders")
    assert {" users.id", " orders.id", " email"} <= set(hole.names)
    assert " id" not in hole.names


def test_in_a_subquery_the_tables_around_it_are_in_scope_too(generator):
    sql = ("SELECT name FROM users WHERE EXISTS (SELECT 1 FROM orders WHERE", " nme = 1)")
    assert {" name", " order_date", " users.id", " orders.id"} <= set(
        hole_of(generator, *sql).names
    )


def test_for_a_table_all_tables_that_are_shown_may_stand(generator):
    part = replace(SHOP, tables=SHOP.tables[:2])
    hole = hole_of(generator, "SELECT 1 FROM", " usrs", shown=part)
    assert hole.names == tuple(f" {table.name}" for table in part.tables)


def test_a_token_that_holds_more_than_the_name_is_cut(generator):
    hole = hole_of(generator, "SELECT n", "me FROM users")
    assert hole.num_kept == 0
    assert "SELECT name" in hole.names


@pytest.mark.parametrize(
    "tokens",
    [
        ("SELECT", " ("),
        ("DROP TABLE users",),
        ("SELECT load_extension('x')", " FROM users"),
        ("SELECT", " nme"),
    ],
    ids=str,
)
def test_what_is_no_wrong_name_in_a_known_scope_is_no_hole(generator, tokens):
    assert hole_of(generator, *tokens) is None


def test_the_grammar_holds_names_as_strings_whatever_they_hold(generator):
    hole = hole_of(generator, "SELECT 1 FROM", " usrs")
    grammar = replace(hole, names=(' "a""b"', " c\\d", " e\n")).grammar
    assert r'" \"a\"\"b\"" | " c\\d" | " e\n"' in grammar


TOKENS = ("SELECT", " nme", " FROM", " users")
REST = (" email", " FROM", " users")


async def test_the_good_start_is_kept_and_the_rest_follows_in_one_request(client, engine):
    engine.enqueue("".join(TOKENS), (-0.1,) * 4, tokens=TOKENS)
    engine.enqueue("".join(REST), (-0.2,) * 3, tokens=REST)
    body = await answer_to(client, repair="continue")
    assert (body["sql_query"], body["decoding"]) == ("SELECT email FROM users", "continued")
    assert body["repaired"] is True
    follow, score = engine.questions[1:]
    assert follow.text == str([*range(10), 0])  # the prompt's tokens and the first of the answer's
    assert follow.body["max_tokens"] == 127
    assert '" email"' in follow.grammar
    assert len(score.body["token_ids"]) == 4


async def test_one_wrong_name_after_the_other_is_replaced(client, engine):
    engine.enqueue("".join(TOKENS), (-0.1,) * 4, tokens=TOKENS)
    second = (" email", " FROM", " users WHERE", " nam = 1")
    engine.enqueue("".join(second), (-0.2,) * 4, tokens=second)
    engine.enqueue(" name = 1", (-0.2,), tokens=(" name = 1",))
    body = await answer_to(client, repair="continue")
    assert body["sql_query"] == "SELECT email FROM users WHERE name = 1"
    assert body["decoding"] == "continued"


async def test_a_name_that_can_not_be_put_right_is_left_to_the_grammar(client, engine):
    engine.enqueue("".join(TOKENS), (-0.1,) * 4, tokens=TOKENS)
    engine.enqueue(" nme FROM users", (-0.2,), tokens=(" nme FROM users",))
    body = await answer_to(client, repair="continue")
    assert (body["decoding"], body["valid"]) == ("constrained", True)
    assert [asked.how for asked in engine.questions] == ["complete"] * 3 + ["score"]


async def test_where_the_engine_has_no_grammars_the_free_answer_stays(client, engine):
    engine.has_grammars = False
    engine.enqueue("".join(TOKENS), (-0.1,) * 4, tokens=TOKENS)
    body = await answer_to(client, repair="continue")
    assert (body["decoding"], body["valid"], len(body["notes"])) == ("free", False, 1)
