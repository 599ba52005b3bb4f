"""Our own routes: questions, databases, health, metrics, and the page."""

from pathlib import Path

from asgi_correlation_id import correlation_id
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from eval.task.schema import Schema
from server.auth import asker
from server.databases import Database
from server.errors import NotReady
from server.generate import Generator
from server.prompts import readable
from server.schemas import DatabaseOut, DatabasesOut, GenerateRequest, GenerateResponse, TableOut
from server.strict_json import StrictRoute

WEB = Path(__file__).parent / "web"


def question_routes(generator: Generator) -> APIRouter:
    router = APIRouter(tags=["questions"], route_class=StrictRoute)

    @router.post("/generate-sql", summary="English question to checked SQL")
    async def generate_sql(request: GenerateRequest, http: Request) -> GenerateResponse:
        asked_by = asker(http, request.user)
        return await generator.answer(request, correlation_id.get() or "", _key(http), asked_by)

    @router.get("/databases", summary="Registered databases, as far as the caller may read them")
    async def databases(http: Request) -> DatabasesOut:
        found = generator.databases
        key = _key(http)
        listed = [
            _listed(database, readable(database, key)) for database in found.registered.values()
        ]
        return DatabasesOut(default=found.default, databases=[d for d in listed if d.tables])

    return router


def _key(http: Request) -> str | None:
    """The API key that was checked; None where the server asks for none."""
    key: str | None = getattr(http.state, "api_key", None)
    return key


def _listed(database: Database, schema: Schema) -> DatabaseOut:
    tables = [TableOut(name=t.name, columns=list(t.column_names)) for t in schema.tables]
    return DatabaseOut(name=database.name, dialect=database.dialect, tables=tables)


def health_routes(generator: Generator) -> APIRouter:
    router = APIRouter(tags=["operation"])

    @router.get("/health/live", summary="The process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get("/health/ready", summary="The engine answers and the default adapter is served")
    async def ready() -> dict[str, str]:
        is_up = await generator.engine.is_healthy()
        generator.metrics.engine_ready.set(is_up)
        if not is_up:
            raise NotReady("the engine is not ready", hint="try again shortly", retry_after=2)
        if generator.default_adapter not in generator.adapters.active:
            message = f"adapter {generator.default_adapter!r} is not served yet"
            raise NotReady(message, hint="publish it, or try again shortly", retry_after=2)
        return {"status": "ready"}

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        text = generate_latest(generator.metrics.registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return router


def add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html")

    app.mount("/static", StaticFiles(directory=WEB), name="static")
