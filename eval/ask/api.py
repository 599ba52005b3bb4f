"""The three ways to ask: `/generate-sql` of our server, and `/v1/completions` and
`/v1/chat/completions` of any server that speaks OpenAI's API.

What is sent for a question and what is taken from the answer; knows nothing of HTTP.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from eval.ask.chat import final_text, messages
from eval.dataset import Question
from eval.task.dialect import resolve_dialect
from eval.task.prompt import PromptFormat, extract_sql

Body = dict[str, Any]

# An adapter of ours writes SQL only; a general model may think or explain before it does.
MAX_TOKENS_COMPLETIONS = 256
MAX_TOKENS_CHAT = 1024


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


TYPES: dict[str, tuple[type, ...]] = {
    "predicted": (str,),
    "error": (str,),
    "model": (str,),
    "confidence": (float, int),
    "server_valid": (bool,),
    "truncated": (bool,),
    "completion_tokens": (int,),
    "latency_ms": (float, int),
}


def answer_from(record: Mapping[str, Any]) -> Answer:
    """The answer that a record on disk holds; null is the same as a field that is not there.

    Raises:
        ValueError: a field is unknown, of another type or no probability; the message names it.
    """
    given = {name: value for name, value in record.items() if value is not None}
    for name, value in given.items():
        if name not in TYPES:
            raise ValueError(f"unknown field {name!r}; known: {', '.join(TYPES)}")
        if type(value) not in TYPES[name]:
            wanted = " or ".join("text" if kind is str else kind.__name__ for kind in TYPES[name])
            raise ValueError(f"field {name!r} must be {wanted}, is {type(value).__name__}")
    if not 0 <= given.get("confidence", 0) <= 1:
        raise ValueError(f"field 'confidence' must be within 0..1, is {given['confidence']}")
    return Answer(**given)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller chose for all questions.

    `model` None means the server's default, `max_tokens` None the route's. `logprobs` asks the
    OpenAI routes for token probabilities, which make a confidence. `prompt_format` is that of
    completions. `by_name` names the database to `/generate-sql`, which must know it, in place of
    its schema; in lower case, as registered names are. `extra` is laid over each body last
    (`extra_body` of OpenAI's client); a null there takes a field out.
    """

    model: str | None = None
    max_tokens: int | None = None
    logprobs: bool = False
    prompt_format: PromptFormat = field(default_factory=PromptFormat)
    by_name: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Api:
    """A route with the body of a question and the reader of its answer.

    `is_raw`: an answer's text is the prediction as it stands, prose and fences included.
    """

    name: str
    path: str
    body: Callable[[Question, Asked], Body]
    read: Callable[[Mapping[str, Any]], Answer]
    is_raw: bool = False

    @property
    def label(self) -> str:
        return f"{self.name}, raw" if self.is_raw else self.name


def raw(api: Api) -> Api:
    """`api` without the extraction of SQL from what the model wrote.

    Raises:
        ValueError: our own route always extracts.
    """
    if api.name not in RAW:
        raise ValueError(f"{api.path} gives SQL only; ask {' or '.join(RAW)}")
    return replace(api, read=RAW[api.name], is_raw=True)


def request_key(api: Api, body: Body, version: str = "") -> str:
    """sha256 (hex) of a request to a version of a model; the server's address is no part of it."""
    request = [api.path, body, version, *(["raw"] if api.is_raw else [])]
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def read_answer(api: Api, text: str) -> Answer:
    """The answer in the body `text` of a response; a body of another shape is an `error`."""
    try:
        payload = json.loads(text)
        return api.read(payload)
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        return Answer(error=f"the response is not one of {api.path}: {text[:80]!r}")


def _generate_sql_body(question: Question, asked: Asked) -> Body:
    example = question.example
    schema = {"database": example.db_id.lower()} if asked.by_name else {"ddl": question.ddl}
    body = {"natural_language_query": example.question, **schema, "dialect": example.dialect}
    return _chosen(body, asked)


def _read_generate_sql(payload: Mapping[str, Any]) -> Answer:
    return Answer(
        predicted=_text(payload["sql_query"]),
        model=_maybe(payload, "model", str),
        confidence=_probability(payload),
        server_valid=_maybe(payload, "valid", bool),
        truncated=_maybe(payload, "truncated", bool),
        completion_tokens=_completion_tokens(payload),
    )


def _completions_body(question: Question, asked: Asked) -> Body:
    example = question.example
    dialect = resolve_dialect(example.dialect)
    body = {
        "prompt": asked.prompt_format.render(question.schema, example.question, dialect),
        "temperature": 0,
        "max_tokens": asked.max_tokens or MAX_TOKENS_COMPLETIONS,
    }
    # 1, not 0: llama.cpp's server takes 0 for none.
    return _chosen(body | ({"logprobs": 1} if asked.logprobs else {}), asked)


def _read_completions(
    payload: Mapping[str, Any], extract: Callable[[str], str] = extract_sql
) -> Answer:
    return _read_choice(payload, extract(_text(payload["choices"][0]["text"])))


def _chat_body(question: Question, asked: Asked) -> Body:
    example = question.example
    body = {
        "messages": messages(question.ddl, example.question, resolve_dialect(example.dialect)),
        "temperature": 0,
        "max_tokens": asked.max_tokens or MAX_TOKENS_CHAT,
    }
    return _chosen(body | ({"logprobs": True} if asked.logprobs else {}), asked)


def _read_chat(payload: Mapping[str, Any], extract: Callable[[str], str] = extract_sql) -> Answer:
    return _read_choice(payload, extract(final_text(payload["choices"][0]["message"])))


def _read_choice(payload: Mapping[str, Any], predicted: str) -> Answer:
    choice = payload["choices"][0]
    return Answer(
        predicted=predicted,
        model=_maybe(payload, "model", str),
        confidence=_confidence(choice.get("logprobs")),
        truncated=choice.get("finish_reason") == "length",
        completion_tokens=_completion_tokens(payload),
    )


def _chosen(body: Body, asked: Asked) -> Body:
    named = {"model": asked.model} if asked.model else {}
    whole = body | named | dict(asked.extra)
    return {name: value for name, value in whole.items() if value is not None}


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value or ""


def _maybe(payload: Mapping[str, Any], name: str, *kinds: type) -> Any:
    value = payload.get(name)
    return value if type(value) in kinds else None


def _probability(payload: Mapping[str, Any]) -> float | None:
    value: float | None = _maybe(payload, "confidence", float, int)
    return value if value is not None and 0 <= value <= 1 else None


def _completion_tokens(payload: Mapping[str, Any]) -> int | None:
    usage = payload.get("usage")
    count: int | None = _maybe(usage, "completion_tokens", int) if isinstance(usage, dict) else None
    return count


def _confidence(logprobs: Any) -> float | None:
    """exp(Σ log p) over the completion's tokens, as our server's raw confidence; None without."""
    if not isinstance(logprobs, dict):
        return None
    found = logprobs.get("token_logprobs")  # completions; chat has them in `content`
    if found is None:
        tokens = logprobs.get("content") or []
        found = [token.get("logprob") if isinstance(token, dict) else None for token in tokens]
    if not (found and isinstance(found, list) and all(type(p) in (float, int) for p in found)):
        return None
    total = sum(found)
    return None if math.isnan(total) else math.exp(min(total, 0.0))


APIS = {
    api.name: api
    for api in (
        Api("generate-sql", "/generate-sql", _generate_sql_body, _read_generate_sql),
        Api("completions", "/v1/completions", _completions_body, _read_completions),
        Api("chat", "/v1/chat/completions", _chat_body, _read_chat),
    )
}
RAW: Mapping[str, Callable[[Mapping[str, Any]], Answer]] = {
    "completions": partial(_read_completions, extract=str),
    "chat": partial(_read_chat, extract=str),
}
