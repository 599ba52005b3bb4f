"""The OpenAI-compatible routes: an allow-list of fields and routes in front of the engine."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from eval.task.bundle import BASE
from server.adapters.served import Served
from server.adapters.table import AdapterTable
from server.auth import asker
from server.engine import Engine
from server.errors import ServerError, error_body
from server.schemas import ChatRequest, CompletionRequest, ModelOut, ModelsOut, SamplingFields
from server.strict_json import StrictRoute

STREAM = "text/event-stream"


def openai_routes(engine: Engine, adapters: AdapterTable, *, created: int) -> APIRouter:
    """Routes under `/v1`; `created` is the server's start, seconds since the epoch."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=StrictRoute)

    async def chosen(request: SamplingFields, http: Request) -> Served:
        served = await adapters.choose(request.model, asker(http, request.user))
        adapters.metrics.by_version.counted(served.name, "passed_on")
        return served

    @router.post("/completions", summary="Completion of a prompt", response_model=None)
    async def completions(request: CompletionRequest, http: Request) -> Response:
        served = await chosen(request, http)
        return await _pass_on(engine, "/v1/completions", _body(request, served))

    @router.post("/chat/completions", summary="Next message of a chat", response_model=None)
    async def chat(request: ChatRequest, http: Request) -> Response:
        served = await chosen(request, http)
        return await _pass_on(engine, "/v1/chat/completions", _body(request, served))

    @router.get("/models", summary="Base model, adapters and their versions")
    async def models() -> ModelsOut:
        return ModelsOut(data=_listed(adapters, created))

    @router.get("/models/{model}", summary="One model")
    async def model(model: str) -> ModelOut:
        adapters.find(model)
        return next(m for m in _listed(adapters, created) if m.id == model)

    return router


def _body(request: SamplingFields, served: Served) -> dict[str, Any]:
    """The engine's body: the version in the alias's place, and where the adapter stops."""
    stops = {"stop_token_ids": list(served.stop_token_ids)} if served.stop_token_ids else {}
    return request.engine_body(served.name) | stops


def _listed(adapters: AdapterTable, created: int) -> list[ModelOut]:
    def entry(name: str, served: Served) -> ModelOut:
        parent = None if served.manifest is None else BASE
        return ModelOut(id=name, created=created, root=served.name, parent=parent)

    by_alias = [entry(alias, served) for alias, served in sorted(adapters.active.items())]
    return [*(entry(n, s) for n, s in adapters.versions.items() if s.manifest is None), *by_alias,
            *(entry(n, s) for n, s in adapters.versions.items() if s.manifest)]  # fmt: skip


async def _pass_on(engine: Engine, path: str, body: dict[str, Any]) -> Response:
    """The engine's answer as it is; a stream's first bytes are awaited, so that a refusal still
    becomes an error response."""
    if not body.get("stream"):
        async with engine.forward(path, body) as reply:
            content = b"".join([chunk async for chunk in reply.chunks])
        return Response(content, media_type=reply.content_type)
    stack = AsyncExitStack()
    reply = await stack.enter_async_context(engine.forward(path, body))
    return _Stream(stack, reply.chunks)


class _Stream(StreamingResponse):
    """Passes chunks on; frees the engine whenever it ends, also where the client has left."""

    def __init__(self, stack: AsyncExitStack, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(_stream(stack, chunks), media_type=STREAM)
        self.stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.stack:
            await super().__call__(scope, receive, send)


async def _stream(stack: AsyncExitStack, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The engine's events; where it breaks off, an event that says so comes last."""
    try:
        async with stack:
            async for chunk in chunks:
                yield chunk
    except ServerError as error:
        # Two line breaks first: the engine may have stopped within an event.
        yield f"\n\ndata: {json.dumps(error_body(error))}\n\n".encode()
