"""Rollouts: what live questions say of a candidate, and what comes of it.

A shadow is asked some questions beside the active version, after their askers have their answers; a
canary answers some itself. How each fared goes to the store's evidence, in which all servers of the
store share; where that is enough, the candidate is promoted or dropped.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

import structlog

from eval.task.bundle import BundleError
from eval.task.store import Alias
from server.adapters.deadline import Deadline
from server.adapters.evidence import Evidence, EvidenceError
from server.adapters.operations import Operations, Verdict
from server.adapters.refusal import Refusal
from server.adapters.sequential import Rules, SequentialTest
from server.adapters.served import Route, Served
from server.adapters.table import AdapterTable
from server.adapters.trials import Observation, Trial
from server.decode.candidate import Asked, Candidate
from server.decode.compare import runs, same_answer
from server.errors import NotReady, ServerError

log = structlog.get_logger()
MAX_TASKS = 8  # at a time: live questions come first
ACTOR = "rollout"
MAX_WAITING = 10_000
FLUSH_SECONDS = 1.0
# What says nothing of a candidate's files.
PASSING = frozenset({"engine", "timeout", "no_space"})
STORE_ERRORS = (EvidenceError, BundleError, OSError, Refusal)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a version made of a question; `found` and `asked` are None where it gave no answer. A
    repaired answer is the decoder's merit, and says that the version's own would not do."""

    latency_ms: float
    asked: Asked | None = None
    found: Candidate | None = None
    is_repaired: bool = False


Again = Callable[[Served], Awaitable[Tried]]


def is_fault_of_version(error: ServerError) -> bool:
    """True if a version may be to blame for `error`: not its asker, nor an engine that is down."""
    return error.status >= 500 and not isinstance(error, NotReady)


class Rollouts:
    """The rollouts of the aliases of `table`, by `rules`. `may_run`: checked queries may run on the
    SQLite file of a registered database."""

    def __init__(self, table: AdapterTable, rules: Rules, *, may_run: bool = False) -> None:
        self.table = table
        self.rules = rules
        self.may_run = may_run
        self.evidence = Evidence(table.store)
        self._disk = Deadline(table.loader.disk.seconds)
        self._waiting: deque[tuple[str, Alias, Observation]] = deque(maxlen=MAX_WAITING)
        self._tasks: set[asyncio.Task[None]] = set()
        self._undecided: set[tuple[str, Alias]] = set()

    def observe(self, alias: str, served: Served, result: Tried, again: Again) -> None:
        """`served` has answered a question that was put to `alias`; `again` asks another version
        the same. Returns at once."""
        route = self.table.routes.get(alias)
        if route is None or not route.is_rollout or route.candidate is None:
            return
        if served not in (route.active, route.candidate):
            return  # the alias has flipped meanwhile
        if route.entry.canary:
            self._start(self._keep(alias, route, served, result))
        elif random.random() < route.entry.share:
            self._start(self._shadow(alias, route, result, again))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        if len(self._tasks) >= MAX_TASKS:
            work.close()
            self.table.metrics.trials.labels("dropped").inc()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, alias: str, route: Route, served: Served, result: Tried) -> None:
        """Note how one arm of a canary fared."""
        trial = await self._trial(result)
        is_candidate = served is route.candidate
        seen = Observation(candidate=trial) if is_candidate else Observation(active=trial)
        self._put(alias, route.entry, seen)

    async def _shadow(self, alias: str, route: Route, result: Tried, other: Again) -> None:
        """Ask the candidate the same, and note how both fared."""
        assert route.candidate is not None
        try:
            shadow = await other(route.candidate)
        except ServerError as error:
            log.info("shadow_not_asked", model=route.candidate.name, reason=error.message)
            self.table.metrics.trials.labels("failed").inc()
            return
        active, candidate = await self._trial(result), await self._trial(shadow)
        agreed = await self._agreed(result, shadow)
        self._put(alias, route.entry, Observation(active, candidate, agreed))

    async def _trial(self, result: Tried) -> Trial:
        if result.found is None or result.asked is None:
            return Trial(failed=True, valid=False, latency_ms=result.latency_ms)
        ran = await runs(result.found, result.asked, self.may_run)
        is_good = result.found.valid and not result.is_repaired
        return Trial(False, is_good, ran, result.latency_ms)

    async def _agreed(self, one: Tried, other: Tried) -> bool | None:
        if not (one.asked and one.found and one.found.valid and other.found and other.found.valid):
            return None
        return await same_answer(one.found, other.found, one.asked, self.may_run)

    def _put(self, alias: str, entry: Alias, seen: Observation) -> None:
        self.table.metrics.trials.labels(seen.kind).inc()
        self._waiting.append((alias, entry, seen))

    async def run(self) -> None:
        """Bring what was seen into the store, and decide; runs until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """One round of `run`; never raises for the store's faults."""
        waiting: dict[tuple[str, Alias], list[Observation]] = {}
        while self._waiting:
            alias, entry, seen = self._waiting.popleft()
            waiting.setdefault((alias, entry), []).append(seen)
        for alias, route in list(self.table.routes.items()):
            if route.entry.candidate:
                seen_now = waiting.pop((alias, route.entry), [])
                try:
                    await self._follow(alias, route.entry, seen_now)
                except STORE_ERRORS as error:
                    log.warning("rollout_not_followed", alias=alias, reason=str(error))

    async def _follow(self, alias: str, entry: Alias, seen: list[Observation]) -> None:
        refused = self.table.refused.get(f"{alias}@{entry.candidate}")
        if refused and refused.code not in PASSING:
            await self._decide(alias, entry, "roll_back", f"{refused.code}: {refused.reason}")
            return
        test = await self._disk.run(self._tested, alias, entry, seen)
        if test.verdict in ("promote", "roll_back"):
            await self._decide(alias, entry, test.verdict, test.reason)
        elif test.verdict == "undecided" and (alias, entry) not in self._undecided:
            self._undecided.add((alias, entry))
            log.warning("rollout_undecided", alias=alias, reason=test.reason)

    def _tested(self, alias: str, entry: Alias, seen: list[Observation]) -> SequentialTest:
        """The test of a rollout with what every server has seen, `seen` now included."""
        rollout = self.evidence.begin(alias, entry, self.rules)
        if seen:
            self.evidence.add(rollout, seen)
        return self.evidence.follow(rollout)

    async def _decide(self, alias: str, entry: Alias, verdict: Verdict, reason: str) -> None:
        """Do what the evidence says, unless an operator or another server was first."""
        if not entry.automatic:
            return
        decide = Operations(self.table.store, ACTOR).decide
        if await self._disk.run(decide, alias, entry, verdict, reason):
            self.table.metrics.rollouts.labels(verdict).inc()
            log.warning("rollout_decided", alias=alias, verdict=verdict, reason=reason)
        await self.table.refresh()
