"""The life of one question: schema, prompt, decode, check, repair, confidence."""

import asyncio
import time
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from eval.task.schema import Schema
from eval.task.sql import Violation
from server.adapters.served import Served
from server.adapters.table import AdapterTable
from server.advice import Adviser
from server.confidence import raw_confidence
from server.databases import Database, Databases, check_dialect
from server.decode.candidate import Asked
from server.decode.decoder import Decoder
from server.decode.grammars import Grammars
from server.decode.options import Options, Plan
from server.decode.policy import Outcome, decide
from server.engine import Engine
from server.errors import Forbidden, ServerError
from server.metrics import Metrics
from server.prompts import Prompt, compose, readable
from server.rollout import Rollouts, Tried, is_fault_of_version
from server.schemas import GenerateRequest, GenerateResponse, SuggestionOut, Usage, ViolationOut

# Schemas of more tables are pruned in a thread.
MANY_TABLES = 100


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

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self._began) * 1000

    def total(self) -> dict[str, float]:
        return self.timings_ms | {"total": round(self.elapsed_ms, 3)}


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
    plan: Plan = field(default_factory=Plan)
    options: Options = field(default_factory=Options)
    adviser: Adviser = field(default_factory=Adviser)
    rollouts: Rollouts | None = None
    # Of answers that nobody waits for.
    shadow_metrics: Metrics = field(default_factory=Metrics)

    @cached_property
    def grammars(self) -> Grammars:
        return Grammars(self.metrics)

    async def answer(
        self,
        request: GenerateRequest,
        request_id: str,
        key: str | None = None,
        asker: str = "",
    ) -> GenerateResponse:
        """Answer one question of the caller with the API key `key`, which was checked; a canary
        answers the same `asker` alike.

        Raises:
            ServerError: the request is at fault (4xx) or the engine can't answer (5xx).
        """
        stages = Stages(self.metrics)
        wanted = self.default_adapter if request.model is None else request.model
        served = await self.adapters.choose(wanted, asker)
        try:
            decoder, outcome = await self._decided(served, request, key, stages)
        except ServerError as error:
            if is_fault_of_version(error):
                self.metrics.by_version.counted(served.name, "failed")
                self._compare(wanted, served, Tried(stages.elapsed_ms), request, key)
            raise
        check, asked = outcome.candidate.check, decoder.asked
        self._compare(wanted, served, _tried(stages, decoder, outcome), request, key)
        suggestions: list[SuggestionOut] = []
        if check.valid:
            suggestions = await self.adviser.advise(check.sql, asked.readable, asked.dialect)
            stages.done("suggest")
        self._count(decoder, outcome, self._plan(request), stages.elapsed_ms / 1000)
        return _response(decoder, outcome, suggestions, request_id, stages.total())

    def _plan(self, request: GenerateRequest) -> Plan:
        return Plan(
            request.decoding or self.plan.wanted, request.repair or self.plan.repair, request.n
        )

    async def _decided(
        self, served: Served, request: GenerateRequest, key: str | None, stages: Stages
    ) -> tuple[Decoder, Outcome]:
        """What `served` makes of the question."""
        decoder = await self._decoder(served, request, key)
        stages.done("prompt")
        outcome = await decide(decoder, self._plan(request), self.options, stages)
        return decoder, outcome

    def _compare(
        self,
        alias: str,
        served: Served,
        result: Tried,
        request: GenerateRequest,
        key: str | None,
    ) -> None:
        """Let a rollout of `alias`, if there is one, know what came of a question."""

        async def again(version: Served) -> Tried:
            stages = Stages(self.shadow_metrics)
            try:
                decoder, outcome = await self._decided(version, request, key, stages)
            except ServerError as error:
                if not is_fault_of_version(error):
                    raise
                return Tried(stages.elapsed_ms)
            return _tried(stages, decoder, outcome)

        if self.rollouts:
            self.rollouts.observe(alias, served, result, again)

    async def _decoder(self, served: Served, request: GenerateRequest, key: str | None) -> Decoder:
        """Everything that is known of the question before the engine is asked."""
        database, dialect = await self._database(request)
        schema = readable(database, key)
        if not schema.tables:
            raise Forbidden(
                f"nothing of database {database.name!r} is granted to this caller",
                param="database",
                hint="ask its operator for a grant",
            )
        prompt = await self._prompt(served, schema, request.natural_language_query)
        asked = Asked(
            served=served,
            prompt=prompt.text,
            schema=database.schema,
            readable=schema,
            shown=prompt.schema,
            database=database,
            dialect=dialect,
            grants=database.grants_for(key),
            max_tokens=self.max_tokens,
        )
        decoder = Decoder(self.engine, self.grammars, asked)
        if prompt.left_out:
            decoder.note(prompt.note)
        return decoder

    async def _database(self, request: GenerateRequest) -> tuple[Database, str]:
        """The schema to ask, and the dialect to answer in."""
        wanted = None if request.dialect is None else check_dialect(request.dialect)
        if request.ddl is not None:
            database = await self.databases.read_ddl(request.ddl, wanted or "sqlite")
        else:
            database = self.databases.find(request.database)
        return database, wanted or database.dialect

    async def _prompt(self, served: Served, schema: Schema, question: str) -> Prompt:
        make = partial(
            compose,
            served,
            schema,
            question,
            count=self.tokenizer.count if self.tokenizer else None,
            limit=self.max_model_len - self.max_tokens,
        )
        return await asyncio.to_thread(make) if len(schema.tables) > MANY_TABLES else make()

    def _count(self, decoder: Decoder, outcome: Outcome, plan: Plan, seconds: float) -> None:
        found = outcome.candidate
        is_cut = found.completion.is_cut
        verdict = "valid" if found.valid else "truncated" if is_cut else "invalid"
        self.metrics.answers.labels(verdict).inc()
        self.metrics.decodings.labels(found.decoding).inc()
        if outcome.was_tried:
            result = "repaired" if outcome.is_repaired else "failed"
            self.metrics.repairs.labels(plan.repair, result).inc()
        confidence = raw_confidence(found.completion.logprobs)
        self.metrics.confidence.observe(confidence)
        self.metrics.tokens.labels("prompt").inc(decoder.prompt_tokens)
        self.metrics.tokens.labels("completion").inc(decoder.completion_tokens)
        tokens = decoder.prompt_tokens, decoder.completion_tokens
        self.metrics.by_version.answered(
            decoder.asked.served.name, verdict, tokens=tokens, seconds=seconds,
            confidence=confidence,
        )  # fmt: skip


def _tried(stages: Stages, decoder: Decoder, outcome: Outcome) -> Tried:
    return Tried(stages.elapsed_ms, decoder.asked, outcome.candidate, outcome.is_repaired)


def _response(
    decoder: Decoder,
    outcome: Outcome,
    suggestions: list[SuggestionOut],
    request_id: str,
    timings_ms: dict[str, float],
) -> GenerateResponse:
    found, asked = outcome.candidate, decoder.asked
    return GenerateResponse(
        sql_query=found.check.sql,
        confidence=raw_confidence(found.completion.logprobs),
        calibrated=False,
        valid=found.valid,
        violations=[_violation(violation) for violation in found.check.violations],
        dialect=asked.dialect,
        tables=list(found.check.tables),
        columns=list(found.check.columns),
        suggestions=suggestions,
        abstained=False,
        truncated=found.completion.is_cut,
        decoding=found.decoding,
        repaired=outcome.is_repaired,
        agreement=outcome.agreement,
        masked_mass=found.masked_mass,
        notes=decoder.notes,
        model=asked.served.name,
        usage=Usage(
            prompt_tokens=decoder.prompt_tokens,
            completion_tokens=decoder.completion_tokens,
            total_tokens=decoder.prompt_tokens + decoder.completion_tokens,
        ),
        request_id=request_id,
        timings_ms=timings_ms,
    )


def _violation(found: Violation) -> ViolationOut:
    return ViolationOut(
        code=found.code,
        message=found.message,
        name=found.name,
        suggestions=list(found.suggestions),
    )
