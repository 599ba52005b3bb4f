"""A real HTTP server on this machine that answers what a test told it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def good(sql: str = "SELECT 1") -> web.Response:
    return web.json_response({"sql_query": sql, "confidence": 0.5, "valid": True, "model": "m@1"})


def refused(status: int, *, param: str | None = None, **headers: str) -> web.Response:
    body = {"error": {"message": "not now", "hint": "later", "param": param}}
    return web.json_response(body, status=status, headers=headers)


class Script:
    """Answers in turn what it was given, the last one for ever, and remembers what it was asked."""

    def __init__(self, *answers: Callable[[], web.Response]) -> None:
        self.answers = list(answers)
        self.bodies: list[Any] = []
        self.headers: list[Mapping[str, str]] = []

    async def __call__(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer()


@asynccontextmanager
async def serving(handler: Handler, models: Handler | None = None) -> AsyncIterator[str]:
    """`handler` at POST /generate-sql, `models` at GET /v1/models; the server's address."""

    async def route(request):
        return await handler(request)

    app = web.Application()
    app.router.add_post("/generate-sql", route)
    if models:
        app.router.add_get("/v1/models", models)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


def listing(*models: dict[str, Any]) -> Handler:
    """What GET /v1/models says of `models`."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": list(models)})

    return answer
