"""Which adapter version answers to which name: follows the store, proves a version, then flips.

A new version is read, checked, warmed and asked what its trainer asked it before any client sees
it; the alias then changes in one assignment. Whatever is wrong with it, the old version goes on
serving, and the new one is not tried again until its files change.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from watchfiles import awatch

from eval.task.bundle import ALIAS, BASE, VERSION_NAME, BundleError
from eval.task.store import ALIASES, Alias, read_aliases
from server.adapters.deadline import Deadline
from server.adapters.loading import Loader, Stamp
from server.adapters.refusal import Refusal, code_of
from server.adapters.residency import Residency
from server.adapters.served import Route, Served
from server.errors import AdapterNotFound, NotReady, ServerError, Unprocessable
from server.metrics import Metrics

log = structlog.get_logger()

GLANCE_SECONDS = 1.0  # a look at one file's time, for which a request waits


@dataclass(frozen=True)
class Refused:
    """Why something of the store is not taken: a code of `refusal.py`, and words."""

    code: str
    reason: str


class AdapterTable:
    """The served versions by public name and by full name, as the loader's store has them; `slots`
    versions stay loaded, and one that nothing names any more is served for `retire_seconds` yet."""

    def __init__(
        self,
        loader: Loader,
        metrics: Metrics,
        *,
        slots: int = 16,
        retire_seconds: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.loader = loader
        self.store = loader.store
        self.engine = loader.engine
        self.metrics = metrics
        self.residency = Residency(slots, metrics, clock)
        self.routes: dict[str, Route] = {}
        self.versions: dict[str, Served] = {BASE: Served(BASE, "", None)}
        self.refused: dict[str, Refused] = {}
        self._glance = Deadline(GLANCE_SECONDS)
        self._clock = clock
        self._retire_seconds = retire_seconds
        self._retired: dict[str, float] = {}
        self._seen: Stamp = ()
        self._turn = asyncio.Lock()

    @property
    def active(self) -> dict[str, Served]:
        """The active versions by public name."""
        return {alias: route.active for alias, route in self.routes.items()}

    def find(self, name: str, key: str = "") -> Served:
        """The version that `name` (alias, `alias@digest12` or "base") means now to whoever has
        `key`, which only matters while a canary is tried.

        Raises:
            AdapterNotFound: nothing of that name is served.
            Unprocessable: nothing can ever have that name.
        """
        if not (ALIAS.fullmatch(name) or VERSION_NAME.fullmatch(name)):
            raise Unprocessable(
                f"model: {name[:80]!r} is no name of a model", param="model", hint="see /v1/models"
            )
        route = self.routes.get(name)
        served = route.choose(key) if route else self.versions.get(name)
        if served is None:
            known = ", ".join([BASE, *sorted(self.routes)])
            hint = f"served: {known}"
            raise AdapterNotFound(f"no adapter {name[:80]!r}", param="model", hint=hint)
        return served

    async def choose(self, name: str, key: str = "") -> Served:
        """As `find`, for a request that is to be answered: what was published since the last look
        at the store is known too. Raises as `find`."""
        try:
            served = self.find(name, key)
        except AdapterNotFound:
            await self._look_for(name)
            served = self.find(name, key)
        if served.manifest is not None:
            self.residency.use(served.name)
        return served

    async def _look_for(self, name: str) -> None:
        """Serve `name` if the store has had it since the last look, or as a version that no public
        name means just now."""
        if await self._has_changed():
            await self.refresh()
        alias, _, short = name.partition("@")
        route = self.routes.get(alias)
        if route and short in route.entry.versions and name not in self.versions:
            async with self._turn:
                await self._serve(alias, short)

    async def _has_changed(self) -> bool:
        try:
            return await self._glance.run(_stamp_of, self.store / ALIASES) != self._seen
        except Refusal:
            return False  # a disk that hangs must not hold up who asks for what is not there

    async def refresh(self) -> None:
        """Bring what is served into line with the store; never raises for the store's faults."""
        async with self._turn:  # else the watch and a restart adopt the same version twice
            await self._follow()

    async def _follow(self) -> None:
        try:
            seen, aliases = await self.loader.disk.run(self._read_aliases)
        except (BundleError, OSError) as error:
            self._refuse(ALIASES, error)
            return
        self._seen = seen
        self.refused.pop(ALIASES, None)
        for alias, entry in aliases.items():
            await self._follow_alias(alias, entry)
        for alias in set(self.routes) - set(aliases):
            log.info("adapter_withdrawn", alias=alias)
            del self.routes[alias]
        self._retire(aliases)
        self._say_rollouts()
        self.metrics.adapters.set(len(self.routes))

    def _say_rollouts(self) -> None:
        self.metrics.rollout_share.clear()
        for alias, route in self.routes.items():
            if route.entry.candidate:
                share = self.metrics.rollout_share.labels(alias, route.entry.mode)
                share.set(route.entry.share)

    async def _follow_alias(self, alias: str, entry: Alias) -> None:
        old = self.routes.get(alias)
        active = await self._serve(alias, entry.active) or (old.active if old else None)
        if active is None:
            return
        candidate = await self._serve(alias, entry.candidate) if entry.candidate else None
        self.routes[alias] = Route(entry, active, candidate)
        if old is None or old.active != active:
            log.info("adapter_active", alias=alias, model=active.name)

    def _read_aliases(self) -> tuple[Stamp, dict[str, Alias]]:
        # The stamp first: what changes in between is then seen as a change.
        stamp, aliases = _stamp_of(self.store / ALIASES), read_aliases(self.store)
        if self.routes and not stamp:
            raise BundleError(f"{ALIASES} is gone: is the store still mounted?")
        return stamp, aliases

    async def _serve(self, alias: str, short: str) -> Served | None:
        """Version `short` of `alias`, loaded unless it is served already; None if it can't be
        served, which is said once."""
        name = f"{alias}@{short}"
        if served := self.versions.get(name):
            return served
        try:
            served = await self.loader.load(alias, short)
        except NotReady:
            return None  # the engine is down; its restart calls again
        except Exception as error:  # a manifest may hold anything, and must not end the watch
            self._refuse(name, error)
            return None
        self._adopt(served)
        return served

    def _adopt(self, served: Served) -> None:
        self.refused.pop(served.name, None)
        self.versions[served.name] = served
        self.residency.use(served.name)
        self.metrics.adapter_loads.labels("served").inc()
        distance = round(served.proof.distance, 4) if served.proof else None
        if distance is not None:
            self.metrics.by_version.proved(served.name, distance)
        log.info("adapter_served", model=served.name, fingerprint_distance=distance)

    def _retire(self, aliases: Mapping[str, Alias]) -> None:
        """Let go of versions that no public name has had for as long as a request may take: until
        then the engine may have to read them for one that is still running."""
        named = {f"{alias}@{v}" for alias, entry in aliases.items() for v in entry.versions}
        now = self._clock()
        for name in set(self.versions) - named - {BASE}:
            self._retired.setdefault(name, now + self._retire_seconds)
        for name, end in list(self._retired.items()):
            if name in named:
                del self._retired[name]
            elif now >= end:
                self.forget(name)
        wanted = {
            f"{a}@{v}" for a, entry in aliases.items() for v in (entry.active, entry.candidate)
        }
        for name in set(self.refused) - wanted - {ALIASES}:
            del self.refused[name]  # said again if it is pointed at again

    def forget(self, name: str) -> None:
        """Serve the version `name` no longer, and keep nothing of it."""
        self.versions.pop(name, None)
        self._retired.pop(name, None)
        self.residency.forget(name)
        self.metrics.by_version.forget(name)
        short = name.partition("@")[2]
        if not any(other.endswith(f"@{short}") for other in self.versions):
            self.loader.drop(short)
        log.info("adapter_forgotten", model=name)

    def _refuse(self, name: str, error: Exception) -> None:
        """Say, once for each reason, why the version `name`, or `aliases.json`, is not taken."""
        refused = Refused(code_of(error), str(error) or type(error).__name__)
        if self.refused.get(name) == refused:
            return
        self.refused[name] = refused
        self.metrics.adapter_loads.labels("refused").inc()
        self.metrics.adapter_refusals.labels(refused.code).inc()
        alias, _, version = name.partition("@")
        kept = self.routes.get(alias)
        log.warning(
            "adapter_refused", alias=alias, version=version or alias, code=refused.code,
            reason=refused.reason, still_serving=kept.active.name if kept else None,
        )  # fmt: skip

    async def rewarm(self) -> None:
        """After the engine's restart: have it load again what was in use, the last used first."""
        recent = [name for name in self.residency.recent() if name in self.versions]
        self.residency.clear()
        for name in recent:
            await self._touch(name)
        for name in reversed(recent):  # what was used last is to be the last that is dropped
            self.residency.use(name)
        await self.refresh()

    async def keep_pinned(self) -> None:
        """Use the versions of pinned names that the engine would drop before long."""
        pinned = [
            served.name
            for route in self.routes.values() if route.entry.pinned
            for served in (route.active, route.candidate) if served
        ]  # fmt: skip
        for name in self.residency.due(pinned):
            await self._touch(name)
            self.residency.use(name)

    async def _touch(self, name: str) -> None:
        try:
            await self.engine.complete(name, "SELECT", max_tokens=1)
        except ServerError as error:
            log.warning("adapter_rewarm_failed", model=name, reason=str(error))

    async def watch(self, rescan_seconds: float) -> None:
        """Refresh on every change of the store, and at least every `rescan_seconds`, for
        file systems that don't tell of changes; runs until cancelled."""
        self.store.mkdir(parents=True, exist_ok=True)
        changes = awatch(
            self.store,
            rust_timeout=int(rescan_seconds * 1000),
            yield_on_timeout=True,
            recursive=True,
            debounce=200,
        )
        async for _ in changes:
            await self.refresh()
            await self.keep_pinned()


def _stamp_of(path: Path) -> Stamp:
    """Changes with the file at `path`; empty where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return ()
    return ((f"{path}:{stat.st_ino}", stat.st_size, stat.st_mtime_ns),)
