"""The facade: an allow-list of routes before the engine, built in a function."""

import time

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_fastapi_instrumentator import Instrumentator

from server.admin import admin_routes
from server.auth import key_checker
from server.doors import ID_HEADER, Cors, Doors, RequestIds
from server.errors import install_error_handlers
from server.generate import Generator
from server.openai_routes import openai_routes
from server.routes import add_page, health_routes, question_routes
from server.settings import Settings

DESCRIPTION = """English questions to SQL that one may trust.

`POST /generate-sql` answers with SQL that was checked against the schema, and a confidence.
The `/v1` routes are OpenAI's; adapters are listed as models."""

ADMIN = "What an operator does with adapters while the server runs."


def create_app(generator: Generator, settings: Settings) -> FastAPI:
    """The application around `generator`."""
    app: FastAPI = FastAPIOffline(
        title="sqlwright", description=DESCRIPTION, version="0.1.0", redirect_slashes=False
    )
    install_error_handlers(app)
    guarded = APIRouter(dependencies=[Depends(key_checker(settings.api_keys, generator.metrics))])
    guarded.include_router(question_routes(generator))
    guarded.include_router(
        openai_routes(generator.engine, generator.adapters, created=int(time.time()))
    )
    app.include_router(guarded)
    if settings.admin_keys and not settings.admin_port:
        app.include_router(admin_routes(generator.adapters, settings))
    app.include_router(health_routes(generator))
    add_page(app)
    _instrument(app, generator)
    _add_middleware(app, generator, settings)
    return app


def create_admin_app(generator: Generator, settings: Settings) -> FastAPI:
    """The application of the admin API's own listener."""
    app: FastAPI = FastAPIOffline(
        title="sqlwright admin", description=ADMIN, version="0.1.0", redirect_slashes=False
    )
    install_error_handlers(app)
    app.include_router(admin_routes(generator.adapters, settings))
    _add_middleware(app, generator, settings.model_copy(update={"cors_origins": []}))
    return app


def _instrument(app: FastAPI, generator: Generator) -> None:
    """HTTP metrics by route template; unknown paths share one label, so series stay bounded."""
    Instrumentator(
        should_group_untemplated=True,
        should_group_status_codes=False,
        excluded_handlers=["/metrics"],
        registry=generator.metrics.registry,
    ).instrument(app, metric_namespace="sqlwright")


def _add_middleware(app: FastAPI, generator: Generator, settings: Settings) -> None:
    """Outermost is added last: ids, then CORS, then the doors."""
    app.add_middleware(
        Doors,
        metrics=generator.metrics,
        max_body_bytes=settings.max_body_bytes,
        max_inflight=settings.max_inflight,
        max_upload_bytes=settings.max_upload_bytes,
    )
    if settings.cors_origins:
        app.add_middleware(
            Cors,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", ID_HEADER],
            expose_headers=[ID_HEADER],
        )
    app.add_middleware(RequestIds, header_name=ID_HEADER)
