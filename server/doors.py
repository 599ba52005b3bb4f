"""What every request passes before a route sees it: body size, media type, admission.

Plain ASGI, so that a body is refused before it is buffered and streams are not wrapped.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import Overloaded, ServerError, TooLarge, WrongMediaType, error_response
from server.metrics import Metrics

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
PAGE_POLICY = b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


class Doors:
    """Refuses what is too large, of the wrong type or too much; counts what is in progress."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, max_body_bytes: int, max_inflight: int
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.max_body_bytes = max_body_bytes
        self.max_inflight = max_inflight
        self.inflight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_headers(send, scope["path"])
        is_work = scope["method"] == "POST"
        if error := self._refusal(scope) if is_work else None:
            await error_response(error)(scope, receive, send)
            return
        self.inflight += is_work
        self.metrics.inflight.set(self.inflight)
        try:
            await self.app(scope, self._limited(receive), send)
        finally:
            self.inflight -= is_work
            self.metrics.inflight.set(self.inflight)

    def _refusal(self, scope: Scope) -> ServerError | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.max_body_bytes:
            return self._too_large()
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return WrongMediaType(
                f"content type {kind[:60]!r} is not read", hint="send application/json"
            )
        if self.inflight >= self.max_inflight:
            self.metrics.rejected.labels("overloaded").inc()
            return Overloaded("too many requests in progress", hint="try again", retry_after=1)
        return None

    def _too_large(self) -> TooLarge:
        self.metrics.rejected.labels("too_large").inc()
        return TooLarge(f"the body is over {self.max_body_bytes} bytes", hint="send less")

    def _limited(self, receive: Receive) -> Receive:
        """`receive` that stops reading a body without Content-Length at the limit."""
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_body_bytes:
                raise self._too_large()
            return message

        return limited


def _with_headers(send: Send, path: str) -> Send:
    # The interactive docs start with an inline script of FastAPI's own.
    policy = () if path in ("/docs", "/redoc") else ((b"content-security-policy", PAGE_POLICY),)

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS, *policy]
        await send(message)

    return with_headers
