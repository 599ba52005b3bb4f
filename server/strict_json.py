"""Request bodies as JSON read strictly: one object, each name once, finite numbers.

`json` lets the last of two equal names win and takes NaN; what another parser in front of the
server made of such a body may differ.
"""

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from server.errors import BadRequest, not_json

MAX_NAMES = 1000


def loads(body: bytes) -> dict[str, Any]:
    """The one object in `body`.

    Raises:
        BadRequest: it is something else, repeats a name, or holds a number that is not finite.
        ValueError, RecursionError: it is not JSON.
    """
    found = json.loads(body, object_pairs_hook=_object, parse_constant=_number, parse_float=_number)
    if not isinstance(found, dict):
        raise not_json()
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadRequest("a name stands twice in an object", hint="send each field once")
    if len(found) > MAX_NAMES:
        raise BadRequest(f"an object of over {MAX_NAMES} names", hint="send fewer fields")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadRequest("a number is not finite", hint="send finite numbers")
    return value


class StrictRequest(Request):
    async def json(self) -> Any:
        return loads(await self.body())


class StrictRoute(APIRoute):
    """A route that reads its body with `loads`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict
