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

# In characters; together an error stays under 4 KB whatever their width.
MAX_MESSAGE, MAX_PARAM, MAX_HINT = 600, 100, 400
# pydantic's complaints about a body that is no object.
NO_OBJECT = ("missing", "model_type", "model_attributes_type", "dict_type")
# What pydantic puts into a location besides field names: the branch of a union.
BRANCHES = ("str", "list[", "constrained-", "function-", "[key]")


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


class Forbidden(ServerError):
    status = 403
    code = "not_granted"


class NotFound(ServerError):
    status = 404
    code = "not_found"


class AdapterNotFound(NotFound):
    code = "adapter_not_found"


class DatabaseNotFound(NotFound):
    code = "database_not_found"


class MethodNotAllowed(ServerError):
    status = 405
    code = "method_not_allowed"


class Conflict(ServerError):
    status = 409
    code = "conflict"


class TooLarge(ServerError):
    status = 413
    code = "request_too_large"


class BadRange(ServerError):
    status = 416
    code = "range_not_satisfiable"


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


class StoreFailed(ServerError):
    status = 500
    code = "store_error"


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
            "param": error.param[:MAX_PARAM] if error.param else None,
            "hint": error.hint[:MAX_HINT] or None,
            "request_id": correlation_id.get(),
        }
    }


def error_response(error: ServerError) -> JSONResponse:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = "GET, POST"
    return JSONResponse(error_body(error), error.status, headers)


async def _on_server_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServerError)  # by registration below
    return error_response(error)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """404, 405 and the like of the framework itself; what it wrapped while it read a body is ours
    or, as text that is not UTF-8 or nests too deeply, no JSON."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ServerError):
        return error_response(error.__cause__)
    if isinstance(error.__cause__, ValueError | RecursionError):
        return error_response(not_json())
    phrase = HTTPStatus(error.status_code).phrase
    path = request.scope["path"][:100]
    wrapped = ServerError(
        f"{phrase}: {request.method[:16]} {path}", hint="see /docs for the routes"
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
    names = [str(part)[:MAX_PARAM] for part in first["loc"][1:]]
    names[1:] = [name for name in names[1:] if not name.startswith(BRANCHES)]
    param = ".".join(names) or None
    wrapped: ServerError
    if first["type"] == "json_invalid" or (param is None and first["type"] in NO_OBJECT):
        return not_json()
    if first["type"] == "extra_forbidden":
        wrapped = Unprocessable(f"unknown field {param!r}"[:200], param=param)
        wrapped.code = "unknown_field"
        wrapped.hint = "remove it, or see /docs for the fields of this route"
        return wrapped
    if first["type"] == "missing":
        wrapped = Unprocessable(f"field {param!r} is required", param=param, hint="add it")
        wrapped.code = "missing_field"
        return wrapped
    detail = first["msg"].removeprefix("Value error, ")
    message = f"{param}: {detail}" if param else detail
    return Unprocessable(message, param=param, hint="see /docs for this field's type and range")


def not_json() -> ServerError:
    return BadRequest("the body is not valid JSON", hint="send one JSON object")


def bug() -> ServerError:
    """What a client gets for an exception that nobody foresaw: nothing of its text."""
    hint = "this is a bug; the server's log has the details under this request_id"
    return ServerError("internal error", hint=hint)


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ServerError, _on_server_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
