"""One HTTP exchange: addresses, keys, proxies, and what is made of a reply."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from eval.ask.connection import (
    MAX_RESPONSE_BYTES,
    Reply,
    Server,
    ServerError,
    Trouble,
    check_api_key,
    check_base_url,
    error_message,
    exchange,
    open_session,
    proxy_of,
    retry_after_seconds,
)
from tests.unit.serving import Script, good, serving

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Fri, 02 Jan 2026 12:01:30 GMT", 90.0),
        ("Fri, 02 Jan 2026 12:01:30 -0000", 90.0),
        ("Fri, 02 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("1.5", 1.5),
        ("-5", None),
        ("inf", None),
        ("nan", None),
        ("9" * 400, None),
        ("Fri, 32 Jan 2026 12:01:30 GMT", None),
        ("Fri, 02 Jan 99999999999999999999 12:01:30 GMT", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(header, seconds):
    assert retry_after_seconds(header, NOON) == seconds


@pytest.mark.parametrize("base", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_a_base_url_may_end_as_openai_clients_have_it(base):
    assert Server(base).url("/v1/completions") == "http://h:1/v1/completions"


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("http://h:1", "/generate-sql", "http://h:1/generate-sql"),
        ("http://h:1/v1/", "/generate-sql", "http://h:1/generate-sql"),
        ("https://h/api/v1", "/v1/models", "https://h/api/v1/models"),
        ("https://h/v1beta/openai/", "/v1/models", "https://h/v1beta/openai/models"),
        ("https://h/api/paas/v4", "/v1/models", "https://h/api/paas/v4/models"),
        ("https://h/sql", "/v1/models", "https://h/sql/v1/models"),
        ("https://v1.h/vllm", "/v1/models", "https://v1.h/vllm/v1/models"),
        ("https://h/v1-old", "/v1/models", "https://h/v1-old/v1/models"),
    ],
)
def test_the_version_in_a_base_url_stands_for_that_of_the_route(base, path, url):
    assert Server(base).url(path) == url


def test_one_address_has_one_identity():
    same = ["http://h", "http://h/", "HTTP://H:80/v1", "http://h:80/v1/"]
    assert {Server(url).identity for url in same} == {"http://h:80"}
    others = ["https://h", "http://h:81", "http://h/v1beta/openai", "http://h/sql/v1", "http://i"]
    assert len({Server(url).identity for url in [*others, "http://h"]}) == len(others) + 1


@pytest.mark.parametrize("url", ["http://h/v1?key=s3cret", "http://h/#v1"])
def test_an_address_with_a_query_is_refused(url):
    with pytest.raises(ServerError, match="must end before"):
        check_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://h",
        "http://",
        "h",
        "",
        "http://[::1",
        "http://h:x",
        "http://h:0",
        "http://a..b",
    ],
)
def test_what_is_no_http_address_is_refused(url):
    with pytest.raises(ServerError, match="must look like http://HOST:PORT"):
        check_base_url(url)


def test_a_password_in_the_address_is_refused_and_not_shown():
    with pytest.raises(ServerError) as caught:
        check_base_url("http://me:hunter2@h:1")
    assert "hunter2" not in str(caught.value)


def test_a_key_is_taken_without_the_line_break_of_its_file():
    assert check_api_key("s3cret\n") == "s3cret"
    assert check_api_key(" ") is None
    assert check_api_key(None) is None


@pytest.mark.parametrize("key", ["a\nb", "a\x00b", "kéy"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key):
    with pytest.raises(ServerError, match="printable ASCII") as caught:
        check_api_key(key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "a", "hint": "b"}}, "a; b"),
        ({"error": {"message": "a", "hint": None}}, "a"),
        ({"object": "error", "message": "the model does not exist"}, "the model does not exist"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"error": "model not found"}, "model not found"),
        ({"other": 1}, '{"other": 1}'),
        ([1], "[1]"),
    ],
)
def test_the_message_of_an_error_is_found_in_every_shape(body, said):
    assert error_message(json.dumps(body)) == said


def test_an_error_without_json_shows_its_first_words():
    assert error_message("<h1>Bad\n Gateway</h1>") == "<h1>Bad Gateway</h1>"
    assert error_message("") == "no message"
    assert len(error_message("x" * 9999)) == 300


@pytest.fixture
def no_proxies(monkeypatch):
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://h:1", "http://p:1"),
        ("https://h", "http://p:2"),
        ("https://off.example", None),
        ("http://localhost:8000", None),
        ("http://127.0.0.1:8000", None),
        ("http://[::1]:8000", None),
    ],
)
def test_the_proxy_of_the_environment_is_used_but_not_for_this_machine(no_proxies, url, proxy):
    no_proxies.setenv("HTTP_PROXY", "http://p:1")
    no_proxies.setenv("https_proxy", "p:2")
    no_proxies.setenv("NO_PROXY", "off.example")
    assert proxy_of(url) == proxy


def test_a_proxy_of_another_kind_is_refused_without_its_password(no_proxies):
    no_proxies.setenv("ALL_PROXY", "socks5://me:hunter2@p:1")
    with pytest.raises(ServerError, match="HTTPS_PROXY, or name the host in NO_PROXY") as caught:
        proxy_of("https://h")
    assert "hunter2" not in str(caught.value)


async def post(server: Server) -> Reply:
    async with open_session(server) as session:
        return await exchange(session, server, "/generate-sql", {})


async def test_a_request_goes_through_the_proxy_and_its_refusal_shows_no_password(no_proxies):
    seen = []

    async def refuse(reader, writer):
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    proxy = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with proxy:
        port = proxy.sockets[0].getsockname()[1]
        no_proxies.setenv("HTTPS_PROXY", f"http://me:hunter2@127.0.0.1:{port}")
        reply = await post(Server("https://far.example"))
    assert seen[0].startswith("CONNECT far.example:443 ")
    assert reply == Reply(
        failure="the proxy says 407", trouble=Trouble.UNREACHABLE, latency_ms=reply.latency_ms
    )


async def test_no_password_of_a_netrc_file_is_sent(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    script = Script(good)
    async with serving(script) as url:
        await post(Server(url))
    assert "Authorization" not in script.headers[0]


async def test_a_redirect_is_not_followed():
    script = Script(lambda: web.Response(status=307, headers={"Location": "http://evil.example"}))
    async with serving(script) as url:
        reply = await post(Server(url, api_key="s3cret"))
    assert (reply.status, reply.location, len(script.bodies)) == (307, "http://evil.example", 1)


@pytest.mark.parametrize(("extra", "failure"), [(0, ""), (1, "the response is over 16 MiB")])
async def test_no_more_than_so_much_is_read(extra, failure):
    async def flood(request):
        response = web.StreamResponse()
        await response.prepare(request)
        chunk = b"x" * (MAX_RESPONSE_BYTES // 16)
        for _ in range(16):
            await response.write(chunk)
        await response.write(b"y" * extra)
        return response

    async with serving(flood) as url:
        reply = await post(Server(url))
    assert (reply.failure, reply.trouble) == (failure, None)
    assert len(reply.text) == (0 if extra else MAX_RESPONSE_BYTES)


@pytest.mark.parametrize(
    ("sent", "trouble"),
    [
        (b"220 mail.example ESMTP\r\n", Trouble.NOT_HTTP),
        (b"", Trouble.CUT),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", Trouble.CUT),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
            Trouble.CUT,
        ),
    ],
)
async def test_a_broken_response_is_told_from_none(sent, trouble):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reply = await post(Server(f"http://127.0.0.1:{port}"))
    assert (reply.status, reply.trouble) == (None, trouble)
    assert reply.failure


@pytest.mark.parametrize(
    ("url", "trouble"),
    [
        ("http://no-such-host.invalid", Trouble.UNREACHABLE),
        pytest.param(f"http://127.0.0.1:{unused_port()}", Trouble.UNREACHABLE, id="closed port"),
    ],
)
async def test_what_can_not_be_reached_says_why(no_proxies, url, trouble):
    reply = await post(Server(url))
    assert (reply.status, reply.trouble) == (None, trouble)
    assert reply.failure
