"""One HTTP exchange with a server: its address, its session, and what came of a request.

Knows nothing of questions, and never asks twice.
"""

import asyncio
import json
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from ipaddress import ip_address
from math import isfinite
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

CONNECT_SECONDS = 10.0
# Far over any answer; one that goes on for ever must not fill the memory.
MAX_RESPONSE_BYTES = 16 << 20
DEFAULT_PORTS = {"http": 80, "https": 443}
# The path of a base URL as OpenAI's clients have it: the routes follow the API's version.
VERSIONED = re.compile(r"/v\d+\w*(/.*)?$")


class ServerError(RuntimeError):
    """The server can't be asked at all; the message names its address and the remedy."""


class Trouble(Enum):
    """Why a request got no answer that counts; any other reply is the server's word on it."""

    UNREACHABLE = "no connection"
    NOT_HTTP = "what answers there does not speak HTTP"
    CUT = "the connection broke"
    SLOW = "no answer in time"
    BUSY = "the server said: later"


BUSY_STATUS = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Server:
    """Where the server is and how it is asked; `sleep` and `jitter` (0..1) are for tests."""

    base_url: str
    api_key: str | None = None
    concurrency: int = 16
    timeout_seconds: float = 120.0
    retries: int = 5
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random

    def url(self, path: str) -> str:
        """The address of a route such as `/v1/models`.

        A base URL may hold the API's version, as OpenAI's clients want it: `…/v1`, or another
        as in `…/v1beta/openai`, which then stands for the `/v1` of `path`.
        """
        base = self.base_url.rstrip("/")
        version = VERSIONED.search(urlsplit(base).path)
        if not version:
            return base + path
        if path.startswith("/v1/"):
            return base + path.removeprefix("/v1")
        return base.removesuffix(version[0]) + path

    @property
    def identity(self) -> str:
        """The base URL in one spelling: equal for what is the same address."""
        parts = urlsplit(self.base_url)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
        return f"{parts.scheme}://{parts.hostname}:{port}{path}"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request; without a status, `failure` says why there was no response."""

    status: int | None = None
    text: str = ""
    retry_after: str | None = None
    location: str | None = None
    failure: str = ""
    trouble: Trouble | None = None
    latency_ms: float = 0.0


def check_base_url(url: str) -> str:
    """Return `url` if it can be asked.

    Raises:
        ServerError: no http(s) address, or it holds a password.
    """
    if "@" in url:
        raise ServerError("--base-url must hold no password; set SQLWRIGHT_API_KEY for a key")
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        is_address = parts.scheme in DEFAULT_PORTS and host and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ServerError(f"--base-url {url!r} must look like http://HOST:PORT")
    if parts.query or parts.fragment:
        raise ServerError(f"--base-url {url!r} must end before '?' and '#'")
    return url


def check_api_key(key: str | None) -> str | None:
    """Return `key` without the white space that files end with.

    Raises:
        ServerError: it holds what no HTTP header may.
    """
    key = key.strip() if key else ""
    if not (key.isascii() and key.isprintable()):
        raise ServerError("the API key must be of printable ASCII characters")
    return key or None


def open_session(server: Server) -> aiohttp.ClientSession:
    """A session for `server` alone: its key, its limits, the proxy that the environment names.

    Not aiohttp's `trust_env`, which would also send passwords out of ~/.netrc.
    """
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {server.api_key}"} if server.api_key else {},
        timeout=aiohttp.ClientTimeout(total=server.timeout_seconds, sock_connect=CONNECT_SECONDS),
        connector=aiohttp.TCPConnector(limit=server.concurrency),
        proxy=proxy_of(server.base_url),
    )


def proxy_of(url: str) -> str | None:
    """The proxy for `url` out of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; none for this
    machine itself.

    Raises:
        ServerError: it is of a kind that can't be used.
    """
    parts = urlsplit(url)
    if _is_this_machine(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found:
        return None
    found = found if "://" in found else f"http://{found}"
    if urlsplit(found).scheme not in DEFAULT_PORTS:
        raise ServerError(
            f"the proxy for {url} is no http proxy: change {parts.scheme.upper()}_PROXY, "
            "or name the host in NO_PROXY"
        )
    return found


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def exchange(
    session: aiohttp.ClientSession, server: Server, path: str, body: Mapping[str, Any] | None = None
) -> Reply:
    """Post `body` to the route `path`, or get it where there is no body.

    Redirects are not followed: the key is for this server only.
    """
    started = time.perf_counter()
    method = "GET" if body is None else "POST"
    try:
        async with session.request(
            method, server.url(path), json=body, allow_redirects=False
        ) as response:
            reply = await _read(response)
    except (TimeoutError, aiohttp.ClientError) as error:
        reply = _failed(error, server.timeout_seconds)
    return replace(reply, latency_ms=round(1000 * (time.perf_counter() - started), 1))


async def _read(response: aiohttp.ClientResponse) -> Reply:
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) > MAX_RESPONSE_BYTES:
            return Reply(failure=f"the response is over {MAX_RESPONSE_BYTES >> 20} MiB")
    return Reply(
        response.status,
        read.decode("utf-8", errors="replace"),
        retry_after=response.headers.get("Retry-After"),
        location=response.headers.get("Location"),
        trouble=Trouble.BUSY if response.status in BUSY_STATUS else None,
    )


def _failed(error: BaseException, timeout_seconds: float) -> Reply:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    said = str(cause) or type(cause).__name__
    match error:
        case aiohttp.ClientHttpProxyError():  # its text holds the proxy's password
            return Reply(failure=f"the proxy says {error.status}", trouble=Trouble.UNREACHABLE)
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return Reply(failure=said, trouble=Trouble.UNREACHABLE)
        case TimeoutError():
            failure = f"no response within {timeout_seconds:g} s"
            return Reply(failure=failure, trouble=Trouble.SLOW)
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError():
            return Reply(failure=said, trouble=Trouble.CUT)
        case _:
            return Reply(failure=said, trouble=Trouble.NOT_HTTP)


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """The pause that a `Retry-After` header asks for, given in seconds or as an HTTP date.

    None where there is no header or it can't be read.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
        return seconds if isfinite(seconds) and seconds >= 0 else None
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, OverflowError):
        return None


def error_of(text: str) -> dict[str, Any]:
    """The error object of a response in our shape, OpenAI's, vLLM's or FastAPI's; else empty."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    body = body if isinstance(body, dict) else {}
    error = body.get("error")
    return error if isinstance(error, dict) else body


def error_message(text: str) -> str:
    """The message of an error response, whatever its shape; else its first words."""
    error = error_of(text)
    parts = [error.get("message") or error.get("detail") or error.get("error"), error.get("hint")]
    said = "; ".join(str(part) for part in parts if part) or text
    return " ".join(said.split())[:300] or "no message"
