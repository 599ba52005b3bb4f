"""What a server serves: versions, and what each public name means just now."""

import hashlib
from dataclasses import dataclass

from eval.task.bundle import Manifest
from eval.task.store import Alias
from server.adapters.proof import Proof


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


@dataclass(frozen=True)
class Route:
    """The versions behind a public name; `candidate` is None where none is tried, or served yet.

    `entry` is what the store says: `active` may be an older version, where that one is refused.
    """

    entry: Alias
    active: Served
    candidate: Served | None = None

    @property
    def is_rollout(self) -> bool:
        """True if both versions that are to be compared are served."""
        return self.candidate is not None and self.active.digest[:12] == self.entry.active

    def choose(self, key: str) -> Served:
        """The version that answers whoever has `key`: the same for as long as a canary goes on."""
        if self.entry.canary and self.candidate:
            named = f"{self.candidate.name}\0{key}".encode("utf-8", "surrogatepass")
            place = int.from_bytes(hashlib.sha256(named).digest()[:8]) / 2**64
            if place < self.entry.share:
                return self.candidate
        return self.active
