"""One request over HTTP and its outcome; when requests are sent is `load.py`'s matter."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp

from benchmarks.measures import Outcome
from benchmarks.plan import Api, BenchError, Target
from benchmarks.workload import Question

MODELS_TIMEOUT_SECONDS = 30.0

Now = Callable[[], float]


class ReplyError(Exception):
    """A 200 answer that is none; `kind` is `malformed`, `truncated` or `stream`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Reply:
    """A whole answer; `text_times` are the arrivals of the streamed chunks that carry text."""

    ended: float
    record: dict[str, Any]
    text_times: list[float]


def request_body(target: Target, question: Question) -> dict[str, Any]:
    """The body that asks `question` through the target's API; greedy where that can be said."""
    if target.api is Api.GENERATE_SQL:
        return _generate_sql_body(target, question)
    body: dict[str, Any] = {
        "model": target.model,
        "max_tokens": target.max_tokens,
        "temperature": 0,
    }
    if target.api is Api.COMPLETIONS:
        body["prompt"] = question.prompt
    else:
        body["messages"] = [{"role": "user", "content": question.prompt}]
    if target.logprobs:
        body["logprobs"] = 0  # the logprob of each chosen token, no alternatives
    if target.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _generate_sql_body(target: Target, question: Question) -> dict[str, Any]:
    body = {"natural_language_query": question.text}
    if question.ddl is None:
        body["database"] = question.db_id
    else:
        body |= {"ddl": question.ddl, "dialect": question.dialect}
    return body | ({"model": target.model} if target.model else {})


async def send(
    session: aiohttp.ClientSession, target: Target, question: Question, *, intended: float, now: Now
) -> Outcome:
    """Ask `question` and time the answer from `intended`; a failure is an outcome, not retried."""
    lag_ms = max(0.0, now() - intended) * 1000
    try:
        async with session.post(target.url, json=request_body(target, question)) as response:
            if response.status != 200:
                text = error_text(await response.read())
                return Outcome(error=str(response.status), message=text)
            read = read_stream if target.stream else read_body
            reply = await read(response.content.iter_any(), now)
        return _outcome(reply, target.api, intended, lag_ms)
    except ReplyError as error:
        return Outcome(error=error.kind, message=str(error))
    except TimeoutError:
        return Outcome(error="timeout", message=f"no whole answer in {target.timeout_seconds:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Outcome(error="connection", message=str(error) or type(error).__name__)


def error_text(raw: bytes) -> str:
    """The message of an error answer: of our shape and OpenAI's, or the first bytes of another."""
    try:
        text = str(json.loads(raw)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = raw.decode("utf-8", "replace")
    return " ".join(text.split())[:300]


async def read_body(chunks: AsyncIterator[bytes], now: Now) -> Reply:
    """Read an answer that is not streamed; it ends with its last byte."""
    body = b"".join([chunk async for chunk in chunks])
    return Reply(now(), _object(body), [])


async def read_stream(chunks: AsyncIterator[bytes], now: Now) -> Reply:
    """Read server-sent events up to `[DONE]`; the answer ends with the last event with a choice.

    An event's time is the arrival of the bytes that completed it: events that arrive together
    have gaps of zero between them.
    """
    times: list[float] = []
    merged: dict[str, Any] = {}
    ended, finished = None, False
    async with aclosing(_events(chunks, now)) as events:
        async for data, arrived in events:
            if data == b"[DONE]":
                finished = True
                continue  # not break: a connection is reused only when it was read to its end
            record = _object(data)
            if "error" in record:
                raise ReplyError("stream", error_text(data))
            merged |= {name: value for name, value in record.items() if value}
            if choices := record.get("choices"):
                ended = arrived
                if _text(choices[0]):
                    times.append(arrived)
    if not finished or ended is None:
        raise ReplyError("truncated", "the stream ended before [DONE] or without a choice")
    return Reply(ended, merged, times)


async def _events(
    chunks: AsyncIterator[bytes], now: Now
) -> AsyncGenerator[tuple[bytes, float], None]:
    """The data of each server-sent event with its arrival; OpenAI's events are one line each."""
    rest = b""
    async for chunk in chunks:
        arrived = now()
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line.removeprefix(b"data:").strip(), arrived


def _text(choice: dict[str, Any]) -> str:
    return str(choice.get("text") or (choice.get("delta") or {}).get("content") or "")


def _object(raw: bytes) -> dict[str, Any]:
    try:
        record = json.loads(raw)
    except ValueError as error:
        raise ReplyError("malformed", f"the answer is not JSON: {raw[:80]!r}") from error
    if not isinstance(record, dict):
        raise ReplyError("malformed", f"the answer is no JSON object: {raw[:80]!r}")
    return record


def _outcome(reply: Reply, api: Api, intended: float, lag_ms: float) -> Outcome:
    needed = "sql_query" if api is Api.GENERATE_SQL else "choices"
    if needed not in reply.record:
        raise ReplyError("malformed", f"the answer has no {needed!r}")
    times = [(moment - intended) * 1000 for moment in reply.text_times]
    usage = reply.record.get("usage") or {}
    parts = reply.record.get("timings_ms") or {}
    return Outcome(
        e2el_ms=(reply.ended - intended) * 1000,
        ttft_ms=times[0] if times else None,
        gaps_ms=tuple(after - before for before, after in pairwise(times)),
        send_lag_ms=lag_ms,
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        model=str(reply.record.get("model") or ""),
        server_ms={name: value for name, value in parts.items() if value is not None},
    )


async def check_model(session: aiohttp.ClientSession, target: Target) -> str | None:
    """The model to ask for: the given one if the server has it, or its only one.

    None lets the server choose, which only `/generate-sql` can.

    Raises:
        BenchError: the server can't be reached, refuses the key, or has no such model.
    """
    known = await _models(session, target)
    if target.model is None:
        if target.api is Api.GENERATE_SQL:
            return None
        if known is None or len(known) != 1:
            raise BenchError(
                f"--model: name one of the server's: {', '.join(known or ['unknown'])}"
            )
        return known[0]
    if known is not None and target.model not in known:
        raise BenchError(f"--model: unknown model {target.model!r}; known: {', '.join(known)}")
    return target.model


async def _models(session: aiohttp.ClientSession, target: Target) -> list[str] | None:
    """The ids that `/v1/models` lists; None where the server has no such route."""
    try:
        timeout = aiohttp.ClientTimeout(total=MODELS_TIMEOUT_SECONDS)
        async with session.get(f"{target.root}/v1/models", timeout=timeout) as response:
            status, raw = response.status, await response.read()
    except (aiohttp.ClientError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise BenchError(f"can't reach {target.root}: {reason}; is the server running?") from error
    if status == 404:
        return None
    if status in (401, 403):
        raise BenchError(f"the server refuses the API key ({status}); set SQLWRIGHT_API_KEY")
    try:
        return [str(model["id"]) for model in json.loads(raw)["data"]]
    except (ValueError, KeyError, TypeError) as error:
        text = f"{target.root}/v1/models lists no models ({status}): {error_text(raw)}"
        raise BenchError(text) from error
