"""Loads one version: reads it, checks it, copies it, and has the engine prove it."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

from eval.task.bundle import BASE
from server.adapters.admission import Admission
from server.adapters.copies import Copies
from server.adapters.deadline import Deadline
from server.adapters.proof import prove, read_probes
from server.adapters.refusal import Refusal, code_of
from server.adapters.served import Served
from server.engine import Engine
from server.errors import NotReady, ServerError
from server.metrics import Metrics

# Name, size and time of each file of a version.
Stamp = tuple[tuple[str, int, int], ...]
MAX_FILES = 100
MAX_QUARANTINE = 1000


class Loader:
    """Versions of `store` for `engine`; `admission` decides what the engine may see: in `copies`,
    where the engine is ours. What was refused is not tried again until its files change."""

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
        self.disk = Deadline(seconds)
        self._quarantine: dict[str, tuple[Stamp, Exception]] = {}

    async def load(self, alias: str, short: str) -> Served:
        """Version `short` as `alias`, ready to be asked.

        Raises:
            Refusal, BundleError: it must not be served.
            NotReady: the engine is down, which says nothing of the version.
        """
        name = f"{alias}@{short}"
        stamp = await self.disk.run(_stamp, self.store / short)
        held, reason = self._quarantine.get(name, ((), None))
        if reason and held == stamp:
            raise reason
        try:
            with self.metrics.adapter_load_seconds.time():
                served = await self._proved(await self.disk.run(self._read, name, alias, short))
        except NotReady:
            raise
        except ServerError as error:
            raise Refusal("engine", str(error)) from error
        except Exception as error:
            if stamp and code_of(error) != "timeout":  # that says nothing of the files
                self._hold(name, stamp, error)
            raise
        self._quarantine.pop(name, None)
        return served

    def _hold(self, name: str, stamp: Stamp, error: Exception) -> None:
        if len(self._quarantine) >= MAX_QUARANTINE:
            self._quarantine.pop(next(iter(self._quarantine)))
        self._quarantine[name] = stamp, error

    def drop(self, short: str) -> None:
        """Keep no copy of version `short`."""
        if self.copies:
            self.copies.drop(short)

    async def _proved(self, served: Served) -> Served:
        """`served` with its proof; where it has no fingerprint it is only warmed.

        Raises:
            Refusal: the engine makes of it something else than its trainer did.
            ServerError: the engine can't be asked.
        """
        folder = self.store / served.digest[:12]
        probes = await self.disk.run(read_probes, folder, served.digest)
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


def _stamp(folder: Path) -> Stamp:
    """Changes with the files of `folder`; empty where it can't be read, or holds far too many."""
    try:
        paths = list(islice(folder.rglob("*"), MAX_FILES))
        found = [(path, path.lstat()) for path in sorted(paths)]
    except OSError:
        return ()
    stamps = tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found)
    return stamps if len(stamps) < MAX_FILES else ()
