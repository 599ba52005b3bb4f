"""API keys: checked on the route, not on a path's text, in time that tells nothing."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence

from asgi_correlation_id import correlation_id
from fastapi import Request
from pydantic import SecretStr

from server.errors import Unauthorized
from server.metrics import Metrics


def key_checker(
    keys: Sequence[SecretStr], metrics: Metrics
) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets a request pass with one of `keys`, or any where there are none.

    The key that passed is `request.state.api_key` from then on.
    """
    hashes = [_hash(key.get_secret_value()) for key in keys]

    async def check_key(request: Request) -> None:
        if not hashes:
            return
        given = request.headers.getlist("authorization")
        scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        found = _hash(key)
        # Every key is compared, so that the time does not say which one was near.
        matches = [hmac.compare_digest(found, known) for known in hashes]
        if scheme != "Bearer" or not any(matches):
            metrics.rejected.labels("unauthorized").inc()
            raise Unauthorized("missing or wrong API key", hint="send Authorization: Bearer KEY")
        request.state.api_key = key

    return check_key


def asker(request: Request, user: str | None) -> str:
    """Whoever asks, as far as a canary is to answer the same asker alike: the `user` that the body
    names, else the API key, else nobody but this request."""
    key: str | None = getattr(request.state, "api_key", None)
    return user or key or correlation_id.get() or ""


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
