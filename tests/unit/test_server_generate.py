"""One question's life behind `POST /generate-sql`, and the bad inputs that it meets on the way."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from server.confidence import raw_confidence
from server.databases import Databases, key_id
from server.decode import candidate
from server.errors import EngineFailed, EngineTimeout, NotReady
from server.generate import Generator
from tests.conftest import (
    GOOD_SQL,
    QUESTION,
    FakeEngine,
    assert_error,
    make_client,
    make_table,
    publish_new,
)

COMMENTS = ("/*", "*/", "--", "#")


class WordTokenizer:
    """Counts words."""

    def count(self, text: str) -> int:
        return len(text.split())


async def ask(client: httpx.AsyncClient, **fields: object) -> httpx.Response:
    return await client.post("/generate-sql", json=QUESTION | fields)


async def answer_to(client: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    response = await ask(client, **fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_an_answer_has_every_field_of_the_contract(client, generator):
    response = await ask(client)
    body = response.json()
    assert response.status_code == 200
    timings = body.pop("timings_ms")
    assert set(timings) == {"prompt", "engine", "check", "suggest", "total"}
    assert all(value >= 0 for value in timings.values())
    assert body == {
        "sql_query": GOOD_SQL,
        "confidence": pytest.approx(math.exp(-0.3)),
        "calibrated": False,
        "valid": True,
        "violations": [],
        "dialect": "sqlite",
        "tables": ["users"],
        "columns": ["users.name"],
        "suggestions": [],
        "abstained": False,
        "truncated": False,
        "decoding": "free",
        "repaired": False,
        "agreement": None,
        "masked_mass": 0.0,
        "notes": [],
        "model": generator.adapters.active["spider"].name,
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
        "request_id": response.headers["x-request-id"],
    }


async def test_the_prompt_holds_the_default_schema_first_and_the_question_last(client, engine):
    await ask(client, natural_language_query="Who signed\nup   last month?")
    prompt = engine.questions[0].text
    assert "signup_date" in prompt
    assert prompt.strip().endswith("Who signed up last month?")


async def test_a_named_database_is_asked_instead_of_the_default(client, engine):
    engine.enqueue("SELECT full_name FROM patients")
    assert (await answer_to(client, database="clinic"))["tables"] == ["patients"]
    assert "patients(" in engine.questions[0].text


async def test_a_schema_in_the_request_is_asked(client, engine):
    engine.enqueue("SELECT b FROM a")
    body = await answer_to(client, ddl="CREATE TABLE a (b INT)")
    assert (body["valid"], body["columns"]) == (True, ["a.b"])


async def test_the_answer_is_written_in_the_wanted_dialect(client, engine):
    engine.enqueue("SELECT IFNULL(name, 'x') FROM users")
    body = await answer_to(client, dialect="pg")
    assert body["dialect"] == "postgres"
    assert body["sql_query"] == "SELECT COALESCE(name, 'x') FROM users"


async def test_the_dialect_of_a_schema_in_the_request_is_that_of_the_answer(client, engine):
    engine.enqueue("SELECT `b` FROM a")
    body = await answer_to(client, ddl="CREATE TABLE `a` (`b` INT) ENGINE=InnoDB", dialect="mysql")
    assert (body["valid"], body["dialect"]) == (True, "mysql")


async def test_the_base_model_is_asked_by_its_own_chat_template(client, engine):
    body = await answer_to(client, model="base")
    asked = engine.questions[0]
    assert (asked.how, asked.model, body["model"]) == ("reply", "base", "base")


async def test_a_version_can_be_asked_by_its_full_name(client, engine, generator):
    name = generator.adapters.active["spider"].name
    assert (await answer_to(client, model=name))["model"] == name
    assert engine.questions[0].model == name


async def test_the_adapters_own_stop_token_is_sent_along(store, engine, generator):
    table = make_table(store, engine, generator.metrics, token_id={"eos": 7}.get)
    await table.refresh()
    async with make_client(replace(generator, adapters=table)) as client:
        await ask(client)
    assert engine.questions[0].body["stop_token_ids"] == (7,)


async def test_a_version_that_flips_while_a_question_runs_does_not_change_its_answer(
    client, engine, generator, store
):
    old = generator.adapters.active["spider"].name
    engine.gate = asyncio.Event()
    running = asyncio.create_task(ask(client))
    while not engine.questions:
        await asyncio.sleep(0)
    gate, engine.gate = engine.gate, None
    new = publish_new(store, tag="two")
    await generator.adapters.refresh()
    gate.set()
    assert (await running).json()["model"] == old
    assert (await answer_to(client))["model"] == f"spider@{new}"


# Faults 9, 11 to 13 and 16: what a model may write that no one should run.
REFUSED = {
    "DROP TABLE users": "not_a_query",
    "SELECT name FROM users; DROP TABLE users": "not_one_statement",
    "SELECT name FROM users;COMMIT;DROP TABLE users": "not_one_statement",
    "WITH d AS (DELETE FROM users RETURNING *) SELECT * FROM d": "denied_node",
    "SELECT name INTO x FROM users": "denied_node",
    "SELECT name FROM users FOR UPDATE": "denied_node",
    "EXPLAIN ANALYZE DELETE FROM users": "not_a_query",
    "PRAGMA table_info(users)": "not_a_query",
    "ATTACH '' AS x": "not_a_query",
    "SELECT load_extension('x') FROM users": "denied_function",
    "SELECT readfile('/etc/passwd') FROM users": "denied_function",
    "SELECT nam FROM users": "unknown_column",
    "SELECT name FROM user": "unknown_table",
    "SELECT name FROM '/etc/passwd'": "unknown_table",
    "I can't answer that.": "",
    "用户": "",
    "": "empty",
    "```": "",
    "SELECT (": "unparsable",
    "SELECT " + "(" * 5000: "too_complex",
    "SELECT " + "NOT " * 20_000 + "1": "too_complex",
    "SELECT 1 WHERE " + "1 OR " * 50_000 + "1": "too_complex",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
async def test_an_answer_that_is_no_safe_query_is_marked_invalid(client, engine, text):
    engine.enqueue(text)
    body = await answer_to(client, decoding="free")
    assert (body["valid"], body["suggestions"]) == (False, [])
    codes = [violation["code"] for violation in body["violations"]]
    assert codes
    assert REFUSED[text] in ("", *codes)


@pytest.mark.parametrize(
    "text",
    [
        f"{GOOD_SQL};",
        f"{GOOD_SQL};;  ",
        f"```sql\n{GOOD_SQL};\n```",
        f"Sure:\n```\n{GOOD_SQL}\n```\nor\n```\nDROP TABLE users\n```",
        f"Here it is.\n{GOOD_SQL}",
        "SELECT name /*!50000 , email */ FROM users",
        "SELECT name /*M! , email */ FROM users -- UNION SELECT 1",
        "SELECT /* a /* nested */ name FROM users",
        "select NAME from USERS",
    ],
)
@pytest.mark.parametrize("dialect", ["sqlite", "mysql", "postgres"])
async def test_a_single_query_is_taken_out_of_its_wrapping_without_comments(
    client, engine, text, dialect
):
    engine.enqueue(text)
    body = await answer_to(client, dialect=dialect)
    assert body["valid"] is True, body
    assert str(body["sql_query"]).lower() == GOOD_SQL.lower()
    assert not any(mark in str(body["sql_query"]) for mark in COMMENTS)


async def test_a_misspelt_name_comes_back_with_what_was_meant(client, engine):
    engine.enqueue("SELECT nme FROM users")
    body = await answer_to(client, decoding="free")
    assert body["violations"][0]["suggestions"] == ["name"]


async def test_half_a_query_is_truncated_and_never_valid(client, engine):
    engine.enqueue(GOOD_SQL, finish_reason="length")
    body = await answer_to(client, decoding="free")
    assert (body["truncated"], body["valid"]) == (True, False)
    assert [violation["code"] for violation in body["violations"]] == ["truncated"]


async def test_an_answer_that_the_check_chokes_on_is_invalid_and_no_server_error(
    client, engine, monkeypatch
):
    def choke(*_: object, **__: object) -> None:
        raise TypeError("Identifier object expected")

    monkeypatch.setattr(candidate, "check_sql", choke)
    with capture_logs() as logs:
        body = await answer_to(client, decoding="free")
    assert (body["valid"], body["sql_query"]) == (False, GOOD_SQL)
    assert [entry["event"] for entry in logs] == ["check_failed"]


# Fault 10: names and comments of the schema are data, whatever they hold.
HOSTILE_DDL = """CREATE TABLE t ( -- '; DROP TABLE t; --
    a INT DEFAULT '"; DROP TABLE t', "b; DROP TABLE t" TEXT, "c""d" TEXT /* {question} */
)"""


async def test_a_hostile_name_in_the_schema_stays_a_quoted_name(client, engine):
    engine.enqueue('SELECT "b; DROP TABLE t", "c""d" FROM t')
    body = await answer_to(client, ddl=HOSTILE_DDL)
    assert body["valid"] is True
    assert body["sql_query"] == 'SELECT "b; DROP TABLE t", "c""d" FROM t'
    prompt = engine.questions[0].text
    assert '"b; DROP TABLE t"' in prompt
    assert "'; DROP" not in prompt


async def test_braces_in_question_and_schema_are_never_read_as_fields(client, engine):
    await ask(client, ddl='CREATE TABLE t ("{question}" INT)', natural_language_query="{schema}?")
    assert "{question}" in engine.questions[0].text
    assert "{schema}?" in engine.questions[0].text


# Fault 5.
@pytest.mark.parametrize("text", ["😀", "שלום، כמה?", "\ufeffHow many?", "a" * 4000, "é\u0301"])
async def test_any_readable_question_reaches_the_engine_as_it_is(client, engine, text):
    await answer_to(client, natural_language_query=text)
    assert text in engine.questions[0].text


@pytest.mark.parametrize(
    "text",
    ["", " \t\r\n", "\ufeff", "\u00a0", "\u200b\u200e", "a\0b", "x" * 4001, "x" * 1_000_000],
    ids=repr,
)
async def test_an_unreadable_question_is_refused(client, engine, text):
    error = assert_error(await ask(client, natural_language_query=text), 422, "invalid_value")
    assert error["param"] == "natural_language_query"
    assert not engine.questions


@pytest.mark.parametrize("field", ["natural_language_query", "ddl", "database", "dialect", "model"])
async def test_a_lone_surrogate_is_refused_in_every_field(client, engine, field):
    body = b'{"natural_language_query": "a", "%s": "\\ud800"}' % field.encode()
    if field == "natural_language_query":
        body = b'{"natural_language_query": "\\ud800"}'
    response = await client.post(
        "/generate-sql", content=body, headers={"Content-Type": "application/json"}
    )
    assert assert_error(response, 422, "invalid_value")["param"] == field
    assert not engine.questions


# Fault 7.
@pytest.mark.parametrize(
    ("ddl", "dialect"),
    [
        ("", "sqlite"),
        ("hello world", "sqlite"),
        ("-- nothing", "sqlite"),
        ("CREATE TABLE", "sqlite"),
        ("CREATE TABLE a (b INT); DROP TABLE a", "sqlite"),
        ("CREATE TABLE a AS SELECT 1", "sqlite"),
        ("CREATE TABLE a (b INT); CREATE TABLE A (c INT)", "sqlite"),
        ("CREATE TABLE [a] ([b] INT); CREATE TABLE `c` (`d` INT)", "postgres"),
        ("CREATE TABLE t (" + "(" * 500 + ")" * 500 + ")", "sqlite"),
        ("[" * 20_000, "sqlite"),
        (";".join(f"CREATE TABLE t{i} (a INT)" for i in range(501)), "sqlite"),
    ],
    ids=lambda value: value[:30],
)
async def test_ddl_that_gives_no_schema_is_refused_with_a_hint(client, engine, ddl, dialect):
    error = assert_error(await ask(client, ddl=ddl, dialect=dialect), 422, "invalid_ddl")
    assert error["param"] == "ddl"
    assert "CREATE TABLE" in error["hint"]
    assert not engine.questions


async def test_database_and_ddl_together_are_refused(client):
    response = await ask(client, database="shop", ddl="CREATE TABLE a (b INT)")
    message = assert_error(response, 422, "invalid_value")["message"]
    assert message == "give `database` or `ddl`, not both"


@pytest.mark.parametrize("dialect", ["", "klingon", "postgres ; x", "prql", "a" * 33])
async def test_an_unknown_dialect_is_refused_by_name(client, engine, dialect):
    response = await ask(client, dialect=dialect)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "dialect"
    assert not engine.questions


@pytest.mark.parametrize("name", ["", "nope", "SHOP", "../shop", "\0"])
async def test_an_unknown_database_is_named_with_those_there_are(client, name):
    error = assert_error(await ask(client, database=name), 404, "database_not_found")
    assert error["param"] == "database"
    assert "shop" in error["hint"]


# Fault 8.
async def test_a_prompt_over_the_context_is_refused_with_counts_before_the_engine(
    generator, engine
):
    small = replace(generator, tokenizer=WordTokenizer(), max_model_len=128 + 16)
    async with make_client(small) as client:
        words = "word " * 50
        error = assert_error(
            await ask(client, natural_language_query=words), 400, "context_length_exceeded"
        )
    assert "at most 16 fit" in error["message"]
    assert not engine.questions


async def test_a_schema_over_the_context_is_pruned_and_what_was_left_out_is_said(generator, engine):
    small = replace(generator, tokenizer=WordTokenizer(), max_model_len=128 + 30)
    others = ";".join(f"CREATE TABLE t{i} (id INT, c{i} TEXT)" for i in range(20))
    ddl = f"{others}; CREATE TABLE parrots (id INT, colour TEXT)"
    question = "Which colours do the parrots have?"
    engine.enqueue("SELECT c19 FROM t19")
    async with make_client(small) as client:
        body = await answer_to(client, ddl=ddl, natural_language_query=question)
    prompt = engine.questions[0].text
    assert "parrots(id int, colour text)" in prompt
    assert "t19" not in prompt
    (note,) = body["notes"]
    assert note.startswith("left out of the prompt to fit: t")
    assert body["valid"] is True  # the check knows the whole schema


# Grants: issue 5.
GRANTS = {"*": ("users.name",), key_id("s3cret"): ("users", "orders")}


@pytest.fixture
def granting(generator):
    """The shop with grants: everyone may read the names of users, one key more."""
    shop = replace(generator.databases.registered["shop"], grants=GRANTS)
    databases = Databases(
        {"shop": shop, "closed": replace(shop, grants={"0" * 12: ("a",)})}, "shop"
    )
    return replace(generator, databases=databases)


async def test_the_prompt_shows_only_what_the_caller_may_read(granting, engine):
    async with make_client(granting) as client:
        await ask(client)
    prompt = engine.questions[0].text
    assert "users(name" in prompt
    assert "email" not in prompt
    assert "orders" not in prompt


@pytest.mark.parametrize(("key", "valid"), [(None, False), ("s3cret", True)])
async def test_an_answer_over_what_is_not_granted_is_refused(granting, engine, key, valid):
    engine.enqueue("SELECT email FROM users")
    async with make_client(granting, api_keys=[key] if key else []) as client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {**QUESTION, "decoding": "free"}
        found = (await client.post("/generate-sql", json=body, headers=headers)).json()
    assert found["valid"] is valid
    assert [v["code"] for v in found["violations"]] == ([] if valid else ["not_granted"])


async def test_only_what_the_caller_may_read_is_listed(granting):
    async with make_client(granting) as client:
        (shop,) = (await client.get("/databases")).json()["databases"]
    assert shop["tables"] == [{"name": "users", "columns": ["name"]}]


async def test_a_caller_to_whom_nothing_is_granted_is_forbidden(granting, engine):
    async with make_client(granting) as client:
        assert_error(await ask(client, database="closed"), 403, "not_granted")
    assert not engine.questions


# Fault 25.
@pytest.mark.parametrize(
    "name",
    ["", "../x", "/etc", "a/b", ".", "a" * 300, "\u0455pider", "CON", "spider@../../etc",
     "spider\n", "spider@", "%2e%2e", "a" * 65],
)  # fmt: skip
async def test_a_name_that_no_adapter_can_have_is_refused(client, engine, name):
    assert assert_error(await ask(client, model=name), 422, "invalid_value")["param"] == "model"
    assert not engine.questions


@pytest.mark.parametrize("name", ["nope", "con", "spider@000000000000", "base@000000000000"])
async def test_an_adapter_that_is_not_served_is_404_with_those_that_are(client, engine, name):
    error = assert_error(await ask(client, model=name), 404, "adapter_not_found")
    assert error["hint"] == "served: base, spider"
    assert not engine.questions


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (NotReady("down", retry_after=2), 503, "not_ready"),
        (EngineTimeout("slow"), 504, "engine_timeout"),
        (EngineFailed("broken"), 502, "engine_error"),
    ],
)
async def test_a_failing_engine_is_a_typed_error(client, engine, failure, status, code):
    engine.fail(failure)
    response = await ask(client)
    assert_error(response, status, code)
    assert response.headers.get("retry-after") == ("2" if status == 503 else None)


@pytest.mark.parametrize(
    ("logprobs", "expected"),
    [
        ((), 0.0),
        ((-0.1, -0.2), math.exp(-0.3)),
        ((0.0, 0.0), 1.0),
        ((0.1,), 1.0),
        ((-9999.0,), 0.0),
        ((float("nan"), -0.1), 0.0),
        ((float("-inf"), -0.1), 0.0),
    ],
)
def test_raw_confidence_is_the_probability_of_the_whole_text(logprobs, expected):
    assert raw_confidence(logprobs) == pytest.approx(expected)


async def test_a_generator_without_its_adapter_says_so(tmp_path, generator, engine: FakeEngine):
    empty = make_table(tmp_path / "empty", engine, generator.metrics)
    await empty.refresh()
    bare: Generator = replace(generator, adapters=empty)
    async with make_client(bare) as client:
        assert_error(await ask(client), 404, "adapter_not_found")
        assert (await ask(client, model="base")).status_code == 200
