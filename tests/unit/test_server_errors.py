"""The one wire shape of errors on every path, bodies that are no request, and the log's lines."""

import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from server import errors
from server.errors import BadRequest, ServerError, error_body
from server.logs import configure_logs
from tests.conftest import QUESTION, assert_error, error_of, make_client

JSON = {"Content-Type": "application/json"}
POSTS = ["/generate-sql", "/v1/completions", "/v1/chat/completions"]
DEEP = 100_000


def tree(kind: type[ServerError] = ServerError) -> Iterator[type[ServerError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def test_every_error_has_a_code_of_its_own():
    codes = [kind.code for kind in tree()]
    assert len(codes) > 15
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_an_error_stays_under_4_kib_whatever_its_texts(kind):
    error = kind("\U0001f600" * 9999, param="\U0001f600" * 9999, hint="h" * 9999)
    body = json.dumps(error_body(error), ensure_ascii=False).encode()
    assert len(body) <= 4096
    assert error_body(error)["error"]["type"] == (
        "server_error" if kind.status >= 500 else "invalid_request_error"
    )


def test_an_empty_hint_is_null_on_the_wire():
    assert error_body(BadRequest("no"))["error"]["hint"] is None


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/generate-sql/", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/" + "a" * 9000, 404, "not_found"),
        ("GET", "/\u202e%0d%0aX: y", 404, "not_found"),
        ("GET", "/generate-sql", 405, "method_not_allowed"),
        ("PUT", "/databases", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("OPTIONS", "/databases", 405, "method_not_allowed"),
        ("BREW", "/databases", 405, "method_not_allowed"),
        ("GET", "/v1/models/nope", 404, "adapter_not_found"),
        ("GET", "/v1/models/NOPE", 422, "invalid_value"),
    ],
)
async def test_errors_of_the_framework_have_our_shape(client, method, path, status, code):
    response = await client.request(method, path)
    assert_error(response, status, code)
    assert ("allow" in response.headers) == (status == 405)


# Fault 1.
@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b'{"a":',
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b'{"a": 1} {}',
        b"\xff\xfe",
        b"{'a': 1}",
    ],
)
async def test_a_body_that_is_no_json_object_is_400(client, engine, path, body):
    assert_error(await client.post(path, content=body, headers=JSON), 400, "bad_request")
    assert not engine.questions


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "é", "json"],
)
async def test_a_body_of_another_type_is_415(client, path, kind):
    response = await client.post(path, content=b"{}", headers={"Content-Type": kind.encode()})
    assert_error(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_may_come_with_a_charset_and_in_any_case(client, kind):
    content = json.dumps(QUESTION).encode()
    response = await client.post("/generate-sql", content=content, headers={"Content-Type": kind})
    assert response.status_code == 200


# Fault 3.
@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP,
        b'{"prompt": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'{"model": "spider", "model": "base"}',
        b'{"messages": [{"role": "user", "role": "system"}]}',
        b'{"temperature": NaN}',
        b'{"temperature": -Infinity}',
        b'{"temperature": 1e400}',
        b'{"n": 1e400}',
        b'{"n": ' + b"9" * 5000 + b"}",
        json.dumps({f"f{i}": 1 for i in range(50_000)}).encode(),
    ],
    ids=lambda body: body[:30].decode(),
)
async def test_json_that_parsers_disagree_on_is_400(client, engine, path, body):
    assert_error(await client.post(path, content=body, headers=JSON), 400, "bad_request")
    assert not engine.questions


# Fault 4.
@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "field",
    ["chat_template", "prompt_embeds", "guided_regex", "lora_path", "temprature", "body", "top_k",
     "stop_token_ids", "structured_outputs", "model_config", "__class__", "é" * 400_000],
    ids=lambda field: field[:20],
)  # fmt: skip
async def test_an_unknown_field_is_named_and_never_reaches_the_engine(client, engine, path, field):
    bodies: dict[str, dict[str, Any]] = {
        "/generate-sql": QUESTION,
        "/v1/completions": {"model": "spider", "prompt": "x"},
        "/v1/chat/completions": {"model": "spider", "messages": [{"role": "user", "content": "x"}]},
    }
    error = assert_error(
        await client.post(path, json=bodies[path] | {field: 1}), 422, "unknown_field"
    )
    assert error["param"] == field[:100]
    assert not engine.questions


@pytest.mark.parametrize(
    ("path", "field"),
    [("/generate-sql", "natural_language_query"), ("/v1/completions", "model")],
)
async def test_a_missing_field_is_named(client, path, field):
    error = assert_error(await client.post(path, json={}), 422, "missing_field")
    assert error["param"] == field


@pytest.mark.parametrize("value", [1, 1.5, True, ["a"], {"a": 1}, None])
async def test_a_question_of_another_type_is_named_and_not_echoed(client, value):
    response = await client.post("/generate-sql", json={"natural_language_query": value})
    assert assert_error(response, 422, "invalid_value")["param"] == "natural_language_query"


async def test_a_bug_is_one_log_entry_and_a_500_that_tells_nothing(client, engine):
    engine.failures[""] = RuntimeError("secret of /root/server.py")
    with capture_logs() as logs:
        response = await client.post("/generate-sql", json=QUESTION)
    error = assert_error(response, 500, "internal_error")
    assert "secret" not in response.text
    assert "request_id" in error["hint"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert [entry["event"] for entry in logs] == ["internal_error"]


async def test_a_bug_is_a_500_for_the_page_of_another_origin_too(generator, engine):
    engine.failures[""] = RuntimeError("no")
    origin = {"Origin": "https://good.example"}
    with capture_logs():
        async with make_client(generator, cors_origins=[origin["Origin"]]) as client:
            response = await client.post("/generate-sql", json=QUESTION, headers=origin)
    assert_error(response, 500, "internal_error")
    assert response.headers["access-control-allow-origin"] == "https://good.example"


async def test_a_body_that_breaks_off_is_no_server_error(client):
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"natural_language_query": "a'

    response = await client.post("/generate-sql", content=chunks(), headers=JSON)
    assert error_of(response)["code"] == "bad_request"


@pytest.fixture
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


HOSTILE = 'a\r\n{"event": "forged"}\x1b[31m %s ${jndi:x} \u2028' + "x" * 1000


@pytest.mark.usefixtures("_root_logger")
def test_every_log_is_one_json_object_a_line_whoever_writes_it(capsys):
    configure_logs("info")
    structlog.get_logger().warning("ours", text=HOSTILE)
    logging.getLogger("uvicorn.error").warning("theirs %s", HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        structlog.get_logger().exception("our bug")
        logging.getLogger("aiohttp").exception("their bug")
    lines = [json.loads(line) for line in capsys.readouterr().err.split("\n")[:-1]]
    assert [line["event"][:7] for line in lines] == ["ours", "theirs ", "our bug", "their b"]
    assert [line["level"] for line in lines] == ["warning", "warning", "error", "error"]
    assert all("Traceback" in line["exception"] for line in lines[2:])
    assert all("timestamp" in line for line in lines)


@pytest.mark.usefixtures("_root_logger")
def test_the_log_level_holds_for_our_lines(capsys):
    configure_logs("error")
    structlog.get_logger().warning("quiet")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("_root_logger")
async def test_a_line_of_a_request_carries_its_id(client, engine, capsys):
    configure_logs("info")
    engine.failures[""] = RuntimeError("no")
    response = await client.post("/generate-sql", json=QUESTION)
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert line["request_id"] == response.headers["x-request-id"]


def test_only_errors_of_ours_are_in_the_tree():
    assert all(kind.__module__ == errors.__name__ for kind in tree())
