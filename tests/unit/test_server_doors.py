"""What no request gets past: sizes, hosts, ids, methods, origins, paths out of the page's folder.

The last tests speak raw HTTP to uvicorn, where its parser decides before the application does.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator

import pytest
import uvicorn
from structlog.testing import capture_logs

from server.doors import PAGE_POLICY
from server.routes import WEB
from tests.conftest import QUESTION, assert_error, make_client

JSON = {"Content-Type": "application/json"}
LIMIT = 1 << 20
HOSTILE = 'a\r\nX-Forged: 1 \x1b[31m %s ${jndi:ldap://x} "}\n'

UUID = uuid.UUID("3f2a9c60-5d1e-4b7a-8c3d-2e6f90a1b4c5")


async def zeros(mebibytes: int, read: list[int]) -> AsyncIterator[bytes]:
    for _ in range(mebibytes * 1024):
        read.append(1024)
        yield bytes(1024)


# Fault 2.
@pytest.mark.parametrize("path", ["/generate-sql", "/v1/completions", "/nope"])
async def test_a_large_body_is_refused_before_it_is_read(client, path):
    read: list[int] = []
    headers = JSON | {"Content-Length": str(10 << 20)}
    response = await client.post(path, content=zeros(10, read), headers=headers)
    assert_error(response, 413, "request_too_large")
    assert sum(read) == 0


@pytest.mark.parametrize("path", ["/generate-sql", "/v1/completions", "/v1/chat/completions"])
async def test_a_large_body_without_its_length_is_read_no_further_than_the_limit(client, path):
    read: list[int] = []
    response = await client.post(path, content=zeros(10, read), headers=JSON)
    assert_error(response, 413, "request_too_large")
    assert sum(read) <= LIMIT + 1024


async def test_a_body_of_just_the_limit_is_read(generator):
    async with make_client(generator, max_body_bytes=1024) as client:
        body = json.dumps(QUESTION).encode()
        for size, status in ((1024, 200), (1025, 413)):
            content = body + b" " * (size - len(body))
            response = await client.post("/generate-sql", content=content, headers=JSON)
            assert response.status_code == status


@pytest.mark.parametrize("length", ["9" * 5000, "1" + "0" * 18, "99999999999999999999"])
async def test_an_absurd_length_is_too_large(client, length):
    headers = JSON | {"Content-Length": length}
    response = await client.post("/generate-sql", content=b"{}", headers=headers)
    assert_error(response, 413, "request_too_large")


async def test_work_over_the_limit_is_turned_away_and_the_rest_goes_on(generator, engine):
    engine.gate = asyncio.Event()
    async with make_client(generator, max_inflight=2) as client:
        running = [asyncio.create_task(client.post("/generate-sql", json=QUESTION)) for _ in "ab"]
        while len(engine.questions) < 2:
            await asyncio.sleep(0)
        refused = await client.post("/generate-sql", json=QUESTION)
        assert_error(refused, 503, "overloaded")
        assert int(refused.headers["retry-after"]) > 0
        assert len(engine.questions) == 2
        assert (await client.get("/health/live")).status_code == 200
        engine.gate.set()
        assert [(await task).status_code for task in running] == [200, 200]
        assert (await client.post("/generate-sql", json=QUESTION)).status_code == 200
    assert generator.metrics.inflight._value.get() == 0


@pytest.mark.parametrize("content", [b"{", b"{}", json.dumps(QUESTION).encode()])
async def test_what_is_in_progress_is_counted_down_however_it_ends(generator, engine, content):
    engine.failures[""] = RuntimeError("a bug")
    async with make_client(generator, max_inflight=1) as client:
        with capture_logs():
            for _ in range(3):
                response = await client.post("/generate-sql", content=content, headers=JSON)
                assert response.status_code != 503


# Faults 18 and 19.
@pytest.mark.parametrize("given", [UUID.hex, str(UUID), UUID.hex.upper()])
async def test_a_uuid_of_the_client_is_kept_as_request_id(client, given):
    response = await client.get("/health/live", headers={"X-Request-ID": given})
    assert response.headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given",
    [
        [b"mine"],
        [b""],
        [HOSTILE.encode()],
        ["é".encode()],
        [b"a" * 100_000],
        [b"-" * 100_000 + b"b" * 32],
        [b"{" + b"b" * 32 + b"}"],
        [b"urn:uuid:" + b"b" * 32],
        [b"b" * 31 + b"\n"],
        [b"a" * 32, b"b" * 32],
        [b"a" * 32, b"a" * 32],
    ],
    ids=lambda given: str(given)[:30],
)
async def test_any_other_request_id_is_dropped_for_a_new_one(client, given, caplog):
    headers = [(b"x-request-id", value) for value in given]
    with capture_logs() as logs:
        response = await client.get("/nope", headers=headers)
    (found,) = response.headers.get_list("x-request-id")
    assert assert_error(response, 404, "not_found")["request_id"] == found
    assert found.encode() not in given
    assert uuid.UUID(found).hex == found
    assert not logs
    assert not caplog.records


async def test_a_hostile_text_is_in_no_header_and_no_log(client, caplog):
    body = {"natural_language_query": HOSTILE, "model": HOSTILE, "database": HOSTILE}
    headers = {"X-Anything": HOSTILE.encode(), "User-Agent": HOSTILE.encode()}
    with capture_logs() as logs:
        response = await client.post("/generate-sql", json=body, headers=headers)
    assert response.status_code == 422
    assert "x-forged" not in response.headers
    assert all(len(v) <= 64 for k, v in response.headers.items() if "policy" not in k)
    assert not logs
    assert not caplog.records


# Fault 22.
@pytest.mark.parametrize(
    "host",
    [b"a@b", b"/v1", b"", b" ", b"a b", b"x\r\ny", b"a/../b", b"[::1", b"::1", b"a:b", b"a:",
     b"a,b", b"h:99999999", "é".encode(), b"a?b", b"a#b", b"a" * 300],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/databases", "/health/live", "/static/app.js"])
async def test_a_host_that_is_none_is_refused(client, host, path):
    assert_error(await client.get(path, headers=[(b"host", host)]), 400, "bad_request")


@pytest.mark.parametrize("host", [b"localhost", b"a.b-c.example:8000", b"[::1]:8000", b"10.0.0.1"])
async def test_a_host_that_is_one_passes(client, host):
    assert (await client.get("/health/live", headers=[(b"host", host)])).status_code == 200


async def test_two_hosts_are_refused(client):
    headers = [(b"host", b"a"), (b"host", b"b")]
    assert_error(await client.get("/health/live", headers=headers), 400, "bad_request")


async def test_a_hostile_host_does_not_get_around_the_key(generator):
    async with make_client(generator, api_keys="k") as client:
        for host in (b"a@b", b"/health/live", b"server/health/live?"):
            response = await client.get("/databases", headers=[(b"host", host)])
            assert response.status_code in (400, 401)


# Fault 23.
PREFLIGHT = {"Access-Control-Request-Method": "POST"}
GOOD, BAD = "https://good.example", "https://evil.example"


@pytest.mark.parametrize("origin", [GOOD, BAD, "null"])
async def test_without_the_setting_no_origin_is_let_in(client, origin):
    answers = [
        await client.get("/databases", headers={"Origin": origin}),
        await client.options("/generate-sql", headers=PREFLIGHT | {"Origin": origin}),
    ]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", [BAD, "null", GOOD + ".evil.example", "http://good.example", ""])
async def test_only_the_named_origins_are_let_in(generator, origin):
    async with make_client(generator, cors_origins=GOOD) as client:
        plain = await client.get("/databases", headers={"Origin": origin})
        assert "access-control-allow-origin" not in plain.headers
        refused = await client.options("/generate-sql", headers=PREFLIGHT | {"Origin": origin})
        assert refused.headers.get("access-control-allow-origin") is None
        assert refused.status_code in (400, 405)
        assert refused.json()["error"]["request_id"] == refused.headers["x-request-id"]


async def test_a_named_origin_is_let_in_without_credentials(generator):
    async with make_client(generator, cors_origins=f"{GOOD}, https://other.example") as client:
        wish = {"Access-Control-Request-Headers": "authorization,content-type"}
        ahead = await client.options("/generate-sql", headers=PREFLIGHT | wish | {"Origin": GOOD})
        after = await client.get("/databases", headers={"Origin": GOOD})
    assert ahead.status_code == after.status_code == 200
    for response in (ahead, after):
        assert response.headers["access-control-allow-origin"] == GOOD
        assert "access-control-allow-credentials" not in response.headers
        assert "origin" in response.headers["vary"].lower()


# Fault 24.
@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/..%5capp.py",
        "/static//etc/passwd", "/static/%00", "/static/app.js%00.css", "/static/" + "a" * 5000,
        "/static/", "/static",
        "/static/" + "a/" * 2000, "/static/....//app.py", "/static/~root", "/static/link",
    ],
    ids=lambda path: path[:24],
)  # fmt: skip
async def test_no_path_leads_out_of_the_pages_folder(client, path):
    assert_error(await client.get(path), 404, "not_found")


async def test_a_link_out_of_the_pages_folder_is_not_followed(client, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link = WEB / f"link-{uuid.uuid4().hex}"
    link.symlink_to(secret)
    try:
        assert_error(await client.get(f"/static/{link.name}"), 404, "not_found")
    finally:
        link.unlink()


@pytest.mark.parametrize("wanted", ["bytes=" + ",".join(["0-"] * 10_000), "bytes=0-1,3-4"])
async def test_many_ranges_are_refused(client, wanted):
    response = await client.get("/static/app.js", headers={"Range": wanted})
    assert_error(response, 416, "range_not_satisfiable")


@pytest.mark.parametrize("wanted", ["bytes=0-1", "bytes=99999999-", "bytes=5-2", "garbage", ""])
async def test_one_range_is_answered_with_the_whole_file(client, wanted):
    response = await client.get("/static/app.js", headers={"Range": wanted})
    assert (response.status_code, response.content) == (200, (WEB / "app.js").read_bytes())


async def test_the_page_and_its_files_are_there(client):
    page = await client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"] == PAGE_POLICY.decode()
    for path in WEB.iterdir():
        assert (await client.get(f"/static/{path.name}")).content == path.read_bytes()


@pytest.mark.parametrize("path", ["/", "/databases", "/nope", "/health/live", "/docs", "/metrics"])
async def test_every_answer_has_the_security_headers_once(client, path):
    headers = (await client.get(path)).headers
    for name, value in (("x-content-type-options", "nosniff"), ("x-frame-options", "DENY")):
        assert headers.get_list(name) == [value]
    assert len(headers.get_list("content-security-policy")) == (path != "/docs")


async def test_the_docs_need_no_other_host(client):
    text = (await client.get("/docs")).text
    assert "swagger" in text.lower()
    assert "https://" not in text.replace("https://fastapi.tiangolo.com", "")


@contextlib.asynccontextmanager
async def listening(app) -> AsyncIterator[int]:
    """uvicorn as in service, on a port of its own."""
    config = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def exchange(port: int, request: bytes) -> bytes:
    """The head of what comes back for raw bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


POST = b"POST /generate-sql HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"
KEY = b"Authorization: Bearer k\r\n"
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
RAW = {
    b"GET /health/live HTTP/1.1\r\nHost: s\r\n\r\n": b"200",
    b"GET http://evil/health/live HTTP/1.1\r\nHost: s\r\n\r\n": b"200",
    b"GET http://evil/databases HTTP/1.1\r\nHost: s\r\n\r\n": b"401",
    b"GET /databases HTTP/1.1\r\nHost: a@b\r\n\r\n": b"400",
    b"GET /databases HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": b"400",
    b"GET / HTTP/1.1\r\nHost: s\r\nX-A: \0\r\n\r\n": b"400",
    b"hello\r\n\r\n": b"400",
    POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n{}": b"400",
    POST + KEY + b"Content-Length: 10485760\r\n\r\n" + b"x" * 65536: b"413",
    POST + KEY + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 160 + b"0\r\n\r\n": b"413",
    POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n": b"400",
}


async def test_raw_requests_are_answered_and_the_server_goes_on(generator, caplog):
    async with make_client(generator, api_keys="k") as client:
        app = client._transport.app  # type: ignore[attr-defined]
    async with listening(app) as port:
        for request, status in RAW.items():
            answer = await exchange(port, request)
            assert answer[9:12] == status, (request[:200], answer[:200])
    assert "Traceback" not in caplog.text
