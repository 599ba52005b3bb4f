"""Which adapter version answers to which name: follows the store, proves a version, then flips.

A new version is read, checked, warmed and asked what its trainer asked it before any client sees
it; the alias then changes in one assignment. Whatever is wrong with it, the old version goes on
serving, and the new one is not tried again until its files change.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import structlog
from watchfiles import awatch

from eval.task.bundle import (
    ALIAS,
    ALIASES,
    BASE,
    VERSION_NAME,
    Alias,
    BundleError,
    Manifest,
    read_aliases,
)
from server.adapters.admission import Admission
from server.adapters.copies import Copies
from server.adapters.deadline import Deadline
from server.adapters.proof import Proof, prove, read_probes
from server.adapters.refusal import Refusal, code_of
from server.engine import Engine
from server.errors import AdapterNotFound, NotReady, ServerError, Unprocessable
from server.metrics import Metrics

log = structlog.get_logger()

# Name, size and time of each file of a version.
Stamp = tuple[tuple[str, int, int], ...]
MAX_FILES = 100


@dataclass(frozen=True)
class Served:
    """A version that the engine has answered for; `manifest` is None for the base model.

    `stop_token_ids` are those that the adapter was trained to end with: its manifest says which,
    since the served tokenizer may call another one the end of a sequence. `proof` is None where the
    bundle has no fingerprint.
    """

    name: str
    digest: str
    manifest: Manifest | None
    stop_token_ids: tuple[int, ...] = ()
    proof: Proof | None = None


class AdapterTable:
    """The served versions by alias and by full name; the store at `store` is the truth, and
    `admission` decides what of it the engine may see: in `copies`, where the engine is ours."""

    def __init__(
        self,
        store: Path,
        engine: Engine,
        metrics: Metrics,
        *,
        admission: Admission | None = None,
        token_id: Callable[[str], int | None] = lambda _: None,
        seconds: float = 60.0,
        copies: Copies | None = None,
    ) -> None:
        self.store = store
        self.engine = engine
        self.metrics = metrics
        self.admission = admission or Admission()
        self.token_id = token_id
        self.copies = copies
        self._disk = Deadline(seconds)
        self.active: dict[str, Served] = {}
        self.versions: dict[str, Served] = {BASE: Served(BASE, "", None)}
        self._refused: dict[str, str] = {}
        self._quarantine: dict[str, tuple[Stamp, Exception]] = {}
        self._turn = asyncio.Lock()

    def find(self, name: str) -> Served:
        """The version that `name` (alias, `alias@digest12` or "base") means now.

        Raises:
            AdapterNotFound: nothing of that name is served.
            Unprocessable: nothing can ever have that name.
        """
        if not (ALIAS.fullmatch(name) or VERSION_NAME.fullmatch(name)):
            raise Unprocessable(
                f"model: {name[:80]!r} is no name of a model", param="model", hint="see /v1/models"
            )
        served = self.active.get(name) or self.versions.get(name)
        if served is None:
            known = ", ".join([BASE, *sorted(self.active)])
            hint = f"served: {known}"
            raise AdapterNotFound(f"no adapter {name[:80]!r}", param="model", hint=hint)
        return served

    async def refresh(self) -> None:
        """Bring what is served into line with the store; never raises for the store's faults."""
        async with self._turn:  # else the watch and a restart adopt the same version twice
            await self._follow()

    async def _follow(self) -> None:
        try:
            aliases = await self._disk.run(self._read_aliases)
        except (BundleError, OSError) as error:
            self._refuse(ALIASES, ALIASES, error)
            return
        self._refused.pop(ALIASES, None)
        for alias, entry in aliases.items():
            current = self.active.get(alias)
            if current is None or current.name != f"{alias}@{entry.active}":
                await self._adopt(alias, entry.active)
        for alias in set(self.active) - set(aliases):
            log.info("adapter_withdrawn", alias=alias)
            del self.active[alias]
        self.metrics.adapters.set(len(self.active))

    def _read_aliases(self) -> dict[str, Alias]:
        aliases = read_aliases(self.store)
        if self.active and not (self.store / ALIASES).exists():
            raise BundleError(f"{ALIASES} is gone: is the store still mounted?")
        return aliases

    async def _adopt(self, alias: str, short: str) -> None:
        """Serve version `short` as `alias`, or say once why not."""
        name = f"{alias}@{short}"
        stamp: Stamp = ()
        try:
            stamp = await self._disk.run(_stamp, self.store / short)
            held, reason = self._quarantine.get(name, ((), None))
            if reason and held == stamp:
                self._refuse(alias, short, reason)
                return
            served = await self._prove(await self._disk.run(self._read, name, alias, short))
        except NotReady:
            return  # the engine is down; its restart calls again
        except ServerError as error:
            self._refuse(alias, short, Refusal("engine", str(error)))
            return
        except Exception as error:  # a manifest may hold anything, and must not end the watch
            self._refuse(alias, short, error)
            if stamp and code_of(error) != "timeout":  # that says nothing of the files
                self._quarantine[name] = stamp, error
            return
        self._refused.pop(alias, None)
        self._quarantine.pop(name, None)
        self.versions[name] = served
        self.active[alias] = served
        self.metrics.adapter_loads.labels("served").inc()
        distance = round(served.proof.distance, 4) if served.proof else None
        log.info("adapter_served", alias=alias, model=name, fingerprint_distance=distance)

    async def _prove(self, served: Served) -> Served:
        """`served` with its proof; where it has no fingerprint it is only warmed.

        Raises:
            Refusal: the engine makes of it something else than its trainer did.
            ServerError: the engine can't be asked.
        """
        folder = self.store / served.digest[:12]
        probes = await self._disk.run(read_probes, folder, served.digest)
        if not probes:
            await self.engine.complete(served.name, "SELECT", max_tokens=1)
            return served
        return replace(served, proof=await prove(self.engine, served.name, probes))

    def _read(self, name: str, alias: str, short: str) -> Served:
        """The version as it is to be served, read and checked."""
        if alias == BASE:
            raise Refusal("illegal_name", "this name is the base model's", alias)
        if self.copies:
            bundle = self.copies.take(self.store, short, self.admission)
        else:
            bundle = self.admission.admit_version(self.store, short)
        stop = self.token_id(bundle.manifest.stop)
        return Served(name, bundle.digest, bundle.manifest, () if stop is None else (stop,))

    def _refuse(self, alias: str, version: str, error: Exception) -> None:
        reason, code = str(error) or type(error).__name__, code_of(error)
        if self._refused.get(alias) != f"{version} {reason}":
            self._refused[alias] = f"{version} {reason}"
            self.metrics.adapter_loads.labels("refused").inc()
            self.metrics.adapter_refusals.labels(code).inc()
            kept = self.active.get(alias)
            log.warning(
                "adapter_refused", alias=alias, version=version, code=code, reason=reason,
                still_serving=kept.name if kept else None,
            )  # fmt: skip

    async def rewarm(self) -> None:
        """After the engine's restart: have it load again what was served."""
        for served in list(self.active.values()):
            try:
                await self.engine.complete(served.name, "SELECT", max_tokens=1)
            except ServerError as error:
                log.warning("adapter_rewarm_failed", model=served.name, reason=str(error))
        await self.refresh()

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


def _stamp(folder: Path) -> Stamp:
    """Changes with the files of `folder`; empty where it can't be read, or holds far too many."""
    try:
        paths = list(islice(folder.rglob("*"), MAX_FILES))
        found = [(path, path.lstat()) for path in sorted(paths)]
    except OSError:
        return ()
    stamps = tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found)
    return stamps if len(stamps) < MAX_FILES else ()
