"""The life of one question: schema, prompt, decode, extract, check, confidence."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import structlog

from eval.task.prompt import BASE_FORMAT, extract_sql
from eval.task.sql import SqlCheck, Violation, check_sql
from server.adapters.table import AdapterTable, Served
from server.confidence import raw_confidence
from server.databases import Database, Databases, check_dialect
from server.engine import Completion, Engine
from server.errors import ContextLengthExceeded
from server.metrics import Metrics
from server.schemas import GenerateRequest, GenerateResponse, Usage, ViolationOut

log = structlog.get_logger()
BASE_DIALECT = "sqlite"


class Tokenizer(Protocol):
    """Counts the tokens that the engine will see."""

    def count(self, text: str) -> int: ...


class FileTokenizer:
    """The tokenizer of the base model's folder."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Fast

        self._fast: Any = Fast.from_file(str(folder / "tokenizer.json"))

    def ids(self, text: str) -> list[int]:
        found: list[int] = self._fast.encode(text).ids
        return found

    def count(self, text: str) -> int:
        return len(self.ids(text))

    def token_id(self, token: str) -> int | None:
        found: int | None = self._fast.token_to_id(token)
        return found


@dataclass
class Stages:
    """Milliseconds by stage, on a monotonic clock."""

    metrics: Metrics
    timings_ms: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)
    _began: float = field(default_factory=time.perf_counter)

    def done(self, stage: str) -> None:
        now = time.perf_counter()
        self.timings_ms[stage] = round((now - self._last) * 1000, 3)
        self.metrics.stage.labels(stage).observe(now - self._last)
        self._last = now

    def total(self) -> dict[str, float]:
        whole = round((time.perf_counter() - self._began) * 1000, 3)
        return self.timings_ms | {"total": whole}


@dataclass(frozen=True)
class Generator:
    """Answers questions; holds no state of its own between two of them."""

    engine: Engine
    adapters: AdapterTable
    databases: Databases
    metrics: Metrics
    default_adapter: str
    max_tokens: int
    max_model_len: int
    tokenizer: Tokenizer | None = None

    async def answer(self, request: GenerateRequest, request_id: str) -> GenerateResponse:
        """Answer one question.

        Raises:
            ServerError: the request is at fault (4xx) or the engine can't answer (5xx).
        """
        stages = Stages(self.metrics)
        wanted = self.default_adapter if request.model is None else request.model
        served = self.adapters.find(wanted)
        database, dialect = self._database(request)
        prompt = self._prompt(served, database, request.natural_language_query)
        stages.done("prompt")
        completion = await self._decode(served, prompt)
        stages.done("engine")
        check = self._check(completion, served, database, dialect)
        stages.done("check")
        self._count(completion, check)
        return _response(completion, check, served, dialect, request_id, stages.total())

    async def _decode(self, served: Served, prompt: str) -> Completion:
        if served.manifest is None:
            return await self.engine.reply(served.name, prompt, max_tokens=self.max_tokens)
        return await self.engine.complete(
            served.name,
            prompt,
            max_tokens=self.max_tokens,
            stop_token_ids=served.stop_token_ids,
        )

    def _database(self, request: GenerateRequest) -> tuple[Database, str]:
        """The schema to ask, and the dialect to answer in."""
        wanted = None if request.dialect is None else check_dialect(request.dialect)
        if request.ddl is not None:
            database = self.databases.from_ddl(request.ddl, wanted or "sqlite")
        else:
            database = self.databases.find(request.database)
        return database, wanted or database.dialect

    def _prompt(self, served: Served, database: Database, question: str) -> str:
        manifest = served.manifest
        prompt_format = manifest.prompt_format if manifest else BASE_FORMAT
        # The adapter writes the dialect it was trained on; the answer is transpiled from there.
        prompt = prompt_format.render(database.schema, question, _adapter_dialect(served))
        limit = self.max_model_len - self.max_tokens
        if self.tokenizer and (found := self.tokenizer.count(prompt)) > limit:
            raise ContextLengthExceeded(
                f"schema and question are {found} tokens; at most {limit} fit",
                param="ddl",
                hint="send only the tables that the question needs",
            )
        return prompt

    def _check(
        self, completion: Completion, served: Served, database: Database, dialect: str
    ) -> SqlCheck:
        text = extract_sql(completion.text)
        if completion.finish_reason == "length":
            message = f"the model had not finished after {completion.completion_tokens} tokens"
            return SqlCheck(text, (Violation("truncated", message),))
        try:
            return check_sql(text, database.schema, _adapter_dialect(served), dialect)
        except Exception:  # a text that trips the check up is no valid query, and no fault of ours
            log.exception("check_failed", dialect=dialect)
            return SqlCheck(text, (Violation("unparsable", "the check can't read this text"),))

    def _count(self, completion: Completion, check: SqlCheck) -> None:
        truncated = completion.finish_reason == "length"
        outcome = "valid" if check.valid else "truncated" if truncated else "invalid"
        self.metrics.answers.labels(outcome).inc()
        self.metrics.confidence.observe(raw_confidence(completion.logprobs))
        self.metrics.tokens.labels("prompt").inc(completion.prompt_tokens)
        self.metrics.tokens.labels("completion").inc(completion.completion_tokens)


def _adapter_dialect(served: Served) -> str:
    return served.manifest.dialect if served.manifest else BASE_DIALECT


def _response(
    completion: Completion,
    check: SqlCheck,
    served: Served,
    dialect: str,
    request_id: str,
    timings_ms: dict[str, float],
) -> GenerateResponse:
    suggestions = [f"{v.name} → {s}" for v in check.violations for s in v.suggestions]
    return GenerateResponse(
        sql_query=check.sql,
        confidence=raw_confidence(completion.logprobs),
        calibrated=False,
        valid=check.valid,
        violations=[
            ViolationOut(
                code=v.code, message=v.message, name=v.name, suggestions=list(v.suggestions)
            )
            for v in check.violations
        ],
        dialect=dialect,
        tables=list(check.tables),
        columns=list(check.columns),
        suggestions=suggestions,
        abstained=False,
        truncated=completion.finish_reason == "length",
        model=served.name,
        usage=Usage(
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            total_tokens=completion.prompt_tokens + completion.completion_tokens,
        ),
        request_id=request_id,
        timings_ms=timings_ms,
    )
