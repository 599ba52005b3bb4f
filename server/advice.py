"""Suggestions on a valid query within a deadline; none where that would hold up other requests."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from eval.task.schema import Schema
from server.schemas import SuggestionOut
from server.suggest import Suggestion, suggest

log = structlog.get_logger()

# A proof runs queries on made-up rows; one more than this many requests at once go without.
MAX_WAITING = 2
GRACE_MS = 30.0


@dataclass
class Adviser:
    """Runs `suggest` in one thread, for at most about `budget_ms` a query; 0 turns it off."""

    budget_ms: float = 20.0
    _waiting: int = 0
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "suggest"))

    async def advise(self, sql: str, schema: Schema, dialect: str) -> list[SuggestionOut]:
        """What may be said of the valid query `sql`, within the deadline."""
        if not self.budget_ms or self._waiting >= MAX_WAITING:
            return []
        self._waiting += 1
        work = asyncio.get_running_loop().run_in_executor(
            self._thread, self._suggest, sql, schema, dialect
        )
        work.add_done_callback(self._finished)
        try:
            async with asyncio.timeout((MAX_WAITING * self.budget_ms + GRACE_MS) / 1000):
                return [_wire(found) for found in await asyncio.shield(work)]
        except TimeoutError:
            return []

    def _suggest(self, sql: str, schema: Schema, dialect: str) -> tuple[Suggestion, ...]:
        try:
            return suggest(sql, schema, dialect, budget_ms=self.budget_ms)
        except Exception:  # advice is worth less than the answer that it comes with
            log.exception("suggest_failed", dialect=dialect)
            return ()

    def _finished(self, work: "asyncio.Future[tuple[Suggestion, ...]]") -> None:
        self._waiting -= 1


def _wire(found: Suggestion) -> SuggestionOut:
    return SuggestionOut(
        kind=found.kind,
        message=found.message,
        clause=found.clause,
        rewrite=found.rewrite,
        proof=found.proof,
        num_databases=found.num_databases,
        assumes=list(found.assumes),
        verdict=found.verdict,
    )
