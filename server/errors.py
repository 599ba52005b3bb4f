"""The errors that clients see: one tree, one wire shape on every route.

`{"error": {"type", "code", "message", "param", "hint", "request_id"}}`: the same keys that the
OpenAI SDK reads. A user's mistake is never a 5xx.
"""

from http import HTTPStatus
from typing import Any

from asgi_correlation_id import correlation_id
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MAX_MESSAGE = 1000


class ServerError(Exception):
    """Base of all; subclasses set `status` and `code`."""

    status = 500
    code = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, hint: str = "", retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.hint = hint
        self.retry_after = retry_after


class BadRequest(ServerError):
    status = 400
    code = "bad_request"


class ContextLengthExceeded(BadRequest):
    code = "context_length_exceeded"


class Unauthorized(ServerError):
    status = 401
    code = "invalid_api_key"


class NotFound(ServerError):
    status = 404
    code = "not_found"


class AdapterNotFound(NotFound):
    code = "adapter_not_found"


class DatabaseNotFound(NotFound):
    code = "database_not_found"


class TooLarge(ServerError):
    status = 413
    code = "request_too_large"


class WrongMediaType(ServerError):
    status = 415
    code = "unsupported_media_type"


class Unprocessable(ServerError):
    status = 422
    code = "invalid_value"


class InvalidDdl(Unprocessable):
    code = "invalid_ddl"


class UnknownDialect(Unprocessable):
    code = "unknown_dialect"


class EngineFailed(ServerError):
    status = 502
    code = "engine_error"


class NotReady(ServerError):
    status = 503
    code = "not_ready"


class Overloaded(ServerError):
    status = 503
    code = "overloaded"


class EngineTimeout(ServerError):
    status = 504
    code = "engine_timeout"


def error_body(error: ServerError) -> dict[str, Any]:
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return {
        "error": {
            "type": kind,
            "code": error.code,
            "message": error.message[:MAX_MESSAGE],
            "param": error.param,
            "hint": error.hint or None,
            "request_id": correlation_id.get(),
        }
    }


def error_response(error: ServerError) -> JSONResponse:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error), error.status, headers)


async def _on_server_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServerError)  # by registration below
    return error_response(error)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """404, 405 and the like of the framework itself."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    wrapped = ServerError(
        f"{phrase}: {request.method[:16]} {request.url.path[:100]}", hint="see /docs for the routes"
    )
    wrapped.status = error.status_code
    wrapped.code = phrase.lower().replace(" ", "_")
    response = error_response(wrapped)
    response.headers.update(error.headers or {})
    return response


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(validation_error(error.errors()))


def validation_error(errors: Any) -> ServerError:
    """The first of pydantic's complaints as our error; its input is never echoed."""
    first = errors[0]
    names = [str(part) for part in first["loc"] if part != "body"]
    param = ".".join(names) or None
    wrapped: ServerError
    if first["type"] == "json_invalid":
        return BadRequest("the body is not valid JSON", hint="send one JSON object")
    if first["type"] == "extra_forbidden":
        wrapped = Unprocessable(f"unknown field {param!r}"[:200], param=param)
        wrapped.code = "unknown_field"
        wrapped.hint = "remove it, or see /docs for the fields of this route"
        return wrapped
    if first["type"] == "missing":
        wrapped = Unprocessable(f"field {param!r} is required", param=param, hint="add it")
        wrapped.code = "missing_field"
        return wrapped
    message = f"{param}: {first['msg']}" if param else first["msg"]
    return Unprocessable(message, param=param, hint="see /docs for this field's type and range")


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    hint = "this is a bug; the server's log has the details under this request_id"
    return error_response(ServerError("internal error", hint=hint))


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ServerError, _on_server_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_bug)
