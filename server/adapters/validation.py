"""What admission says of a bundle, and how long it took to say it."""

from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

from eval.task.bundle import Bundle, BundleError, bundle_digest
from server.adapters.admission import Admission
from server.adapters.files import check_files
from server.adapters.refusal import Refusal, code_of


@dataclass(frozen=True)
class Verdict:
    """On the bundle at `folder`: read as `bundle` if it was admitted, else refused by `error`.

    `hash_ms` is the processor time that hashing its files once takes, and 0 where they can't be;
    `ms` is what admission took beyond that. Where it took less than half of that it did not hash.
    A disk's time is not in either.
    """

    folder: Path
    bundle: Bundle | None = None
    error: Exception | None = None
    ms: float = 0.0
    hash_ms: float = 0.0

    def record(self) -> dict[str, Any]:
        """As JSON; `code` and `param` say why it was refused."""
        times = {"ms": round(self.ms, 2), "hash_ms": round(self.hash_ms, 2)}
        found: dict[str, Any] = {"bundle": str(self.folder), "admitted": self.error is None}
        if self.error is not None:
            param = self.error.param if isinstance(self.error, Refusal) else ""
            found |= {"code": code_of(self.error), "param": param, "message": str(self.error)}
        elif self.bundle is not None:
            found |= {"digest": self.bundle.digest, "rank": self.bundle.manifest.rank}
        return found | times

    def __str__(self) -> str:
        if self.bundle is None:
            return str(self.error)
        modules = ", ".join(self.bundle.manifest.target_modules)
        return f"admitted: {self.bundle.short}, rank {self.bundle.manifest.rank} on {modules}"


def validate(folder: Path, admission: Admission) -> Verdict:
    """What `admission` says of the bundle at `folder`; no refusal is raised."""
    bundle: Bundle | None = None
    error: Exception | None = None
    began = process_time()
    try:
        bundle = admission.admit(folder)
    except (ValueError, OSError) as caught:
        error = caught
    ms = 1000 * (process_time() - began)
    hash_ms = _hash_ms(folder)
    if 2 * ms >= hash_ms:
        ms = max(0.0, ms - hash_ms)
    return Verdict(folder, bundle, error, ms, hash_ms)


def _hash_ms(folder: Path) -> float:
    try:
        check_files(folder)  # else hashing may never end
        began = process_time()
        bundle_digest(folder)
    except (BundleError, OSError):
        return 0.0
    return 1000 * (process_time() - began)
