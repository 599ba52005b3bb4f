"""The two ways to ask: `/generate-sql` of our server and `/v1/completions` of any vLLM.

What is sent for a question and what is taken from the answer; knows nothing of HTTP.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eval.dataset import Question
from eval.task.prompt import PromptFormat, extract_sql

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said to one question; `error` says why there is no prediction."""

    predicted: str = ""
    error: str | None = None
    model: str | None = None
    confidence: float | None = None
    server_valid: bool | None = None
    truncated: bool | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller chose for all questions; `model` None means the server's default."""

    model: str | None = None
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Api:
    """A route with the body of a question and the reader of its answer."""

    name: str
    path: str
    body: Callable[[Question, Asked], Body]
    read: Callable[[Mapping[str, Any]], Answer]


def request_key(api: Api, body: Body) -> str:
    """sha256 (hex) of a request; the server's address is no part of it."""
    return hashlib.sha256(json.dumps([api.path, body], sort_keys=True).encode()).hexdigest()


def read_answer(api: Api, text: str) -> Answer:
    """The answer in the body `text` of a response; a body of another shape is an `error`."""
    try:
        payload = json.loads(text)
        return api.read(payload)
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        return Answer(error=f"the response is not one of {api.path}: {text[:80]!r}")


def _generate_sql_body(question: Question, asked: Asked) -> Body:
    body = {
        "natural_language_query": question.example.question,
        "ddl": question.ddl,
        "dialect": question.example.dialect,
    }
    return body | _model(asked)


def _read_generate_sql(payload: Mapping[str, Any]) -> Answer:
    return Answer(
        predicted=_text(payload["sql_query"]),
        model=_maybe(payload, "model", str),
        confidence=_maybe(payload, "confidence", float, int),
        server_valid=_maybe(payload, "valid", bool),
        truncated=_maybe(payload, "truncated", bool),
        completion_tokens=_completion_tokens(payload),
    )


def _completions_body(question: Question, asked: Asked) -> Body:
    prompt = PromptFormat().render(question.schema, question.example.question)
    body = {"prompt": prompt, "temperature": 0, "max_tokens": asked.max_tokens}
    return body | _model(asked)


def _read_completions(payload: Mapping[str, Any]) -> Answer:
    choice = payload["choices"][0]
    return Answer(
        predicted=extract_sql(_text(choice["text"])),
        model=_maybe(payload, "model", str),
        truncated=choice.get("finish_reason") == "length",
        completion_tokens=_completion_tokens(payload),
    )


def _model(asked: Asked) -> Body:
    return {"model": asked.model} if asked.model else {}


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value or ""


def _maybe(payload: Mapping[str, Any], name: str, *kinds: type) -> Any:
    value = payload.get(name)
    return value if type(value) in kinds else None


def _completion_tokens(payload: Mapping[str, Any]) -> int | None:
    count: int | None = _maybe(payload.get("usage") or {}, "completion_tokens", int)
    return count


APIS = {
    api.name: api
    for api in (
        Api("generate-sql", "/generate-sql", _generate_sql_body, _read_generate_sql),
        Api("completions", "/v1/completions", _completions_body, _read_completions),
    )
}
