"""What every request passes before a route sees it: its id, host, method, body size, media type,
admission. An exception that nobody foresaw ends here as an error of the one shape.

Plain ASGI, so that a body is refused before it is buffered and streams are not wrapped.
"""

import re

import structlog
from asgi_correlation_id import CorrelationIdMiddleware
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import (
    BadRange,
    BadRequest,
    MethodNotAllowed,
    Overloaded,
    ServerError,
    TooLarge,
    WrongMediaType,
    bug,
    error_response,
)
from server.metrics import Metrics

log = structlog.get_logger()
# A method becomes a metric's label, so only those of a closed set get that far.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
HOST = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")
REQUEST_ID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
ID_HEADER = "X-Request-ID"
JSON = frozenset({"application/json"})
UPLOADS = frozenset({"application/x-tar", "application/gzip", "application/x-gzip"})

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)


class Doors:
    """Refuses what is too large, of the wrong type or too much; counts what is in progress."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        max_body_bytes: int,
        max_inflight: int,
        max_upload_bytes: int = 0,
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.max_body_bytes = max_body_bytes
        self.max_inflight = max_inflight
        self.max_upload_bytes = max_upload_bytes
        self.inflight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sending = _Sending(send, scope["path"])
        is_work = scope["method"] == "POST" and not is_admin(scope)
        if error := _malformed(scope) or self._refusal(scope, is_work=is_work):
            await error_response(error)(scope, receive, sending)
            return
        _drop(scope, "range")  # the files are small, and ranges have a syntax of their own to abuse
        self.inflight += is_work
        self.metrics.inflight.set(self.inflight)
        try:
            await self.app(scope, self._limited(receive, self._most(scope)), sending)
        except Exception:
            if sending.has_started:
                raise
            log.exception("internal_error", method=scope["method"], path=scope["path"][:100])
            await error_response(bug())(scope, receive, sending)
        finally:
            self.inflight -= is_work
            self.metrics.inflight.set(self.inflight)

    def _most(self, scope: Scope) -> int:
        """Bytes that the body may have."""
        return self.max_upload_bytes if is_upload(scope) else self.max_body_bytes

    def _refusal(self, scope: Scope, *, is_work: bool) -> ServerError | None:
        """Why a request with a body is refused; an operator's is not for want of room, since that
        is when one must be able to roll back."""
        if scope["method"] != "POST":
            return None
        headers = Headers(scope=scope)
        length, most = headers.get("content-length", "0"), self._most(scope)
        if length.isdecimal() and (len(length) > 18 or int(length) > most):
            return self._too_large(most)
        has_body = "transfer-encoding" in headers or length != "0"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        kinds = UPLOADS if is_upload(scope) else JSON
        if kind not in kinds and (has_body or is_work):
            return WrongMediaType(
                f"content type {kind[:60]!r} is not read", hint=f"send {sorted(kinds)[-1]}"
            )
        if is_work and self.inflight >= self.max_inflight:
            self.metrics.rejected.labels("overloaded").inc()
            return Overloaded("too many requests in progress", hint="try again", retry_after=1)
        return None

    def _too_large(self, most: int) -> TooLarge:
        self.metrics.rejected.labels("too_large").inc()
        return TooLarge(f"the body is over {most} bytes", hint="send less")

    def _limited(self, receive: Receive, most: int) -> Receive:
        """`receive` that stops reading a body without Content-Length at the limit."""
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise self._too_large(most)
            return message

        return limited


def is_admin(scope: Scope) -> bool:
    return bool(scope["path"].startswith("/admin/"))


def is_upload(scope: Scope) -> bool:
    """True for the one route that takes an archive."""
    return is_admin(scope) and bool(scope["path"].endswith("/publish"))


def _malformed(scope: Scope) -> ServerError | None:
    """Why a request is no proper HTTP, whatever it asks for."""
    headers = Headers(scope=scope)
    hosts = headers.getlist("host")
    if len(hosts) > 1 or not all(map(HOST.fullmatch, hosts)):
        return BadRequest("the Host header is not a host name", hint="send HOST or HOST:PORT")
    if scope["method"] not in METHODS:
        return MethodNotAllowed("unknown method", hint="see /docs for the routes")
    if "," in headers.get("range", ""):
        return BadRange("several ranges are not served", hint="leave the Range header out")
    return None


def _drop(scope: Scope, name: str) -> None:
    """Take a header out of the request."""
    raw = name.lower().encode()
    scope["headers"] = [(key, value) for key, value in scope["headers"] if key.lower() != raw]


class _Sending:
    """`send` with our headers; knows whether an answer has begun."""

    def __init__(self, send: Send, path: str) -> None:
        self.send = send
        # The interactive docs start with an inline script of FastAPI's own.
        is_docs = path in ("/docs", "/redoc")
        policy = () if is_docs else ((b"content-security-policy", PAGE_POLICY),)
        self.headers = (*SECURITY_HEADERS, *policy)
        self.has_started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            message["headers"] = [*message.get("headers", ()), *self.headers]
        await self.send(message)


class Cors(CORSMiddleware):
    """CORS whose refused preflight has the one shape of errors too."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        refusal = BadRequest("origin, method or header is not allowed", hint="see CORS settings")
        answer = error_response(refusal)
        for name in ("vary", "access-control-allow-origin"):
            if name in response.headers:
                answer.headers[name] = response.headers[name]
        return answer


class RequestIds(CorrelationIdMiddleware):
    """Gives each request an id; a client's own is kept only if it is one, and a UUID."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = Headers(scope=scope).getlist(ID_HEADER)
            if len(given) != 1 or not REQUEST_ID.fullmatch(given[0]):
                _drop(scope, ID_HEADER)
        await super().__call__(scope, receive, send)
