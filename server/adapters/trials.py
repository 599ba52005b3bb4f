"""What a rollout compares: how a version fared with one question. No text of either is kept."""

from dataclasses import dataclass
from typing import Literal

# Both versions were asked (shadow), or one of them was (canary).
Kind = Literal["pair", "active", "candidate"]


@dataclass(frozen=True, slots=True)
class Trial:
    """`failed`: the engine gave no answer; `valid`: it passed the check without a repair; `ran`: it
    runs on its database, None where that was not tried. Latency in milliseconds."""

    failed: bool
    valid: bool
    ran: bool | None = None
    latency_ms: float = 0.0

    @property
    def score(self) -> float:
        """1 for an answer that one can use, else 0."""
        return float(not self.failed and self.valid and self.ran is not False)


@dataclass(frozen=True, slots=True)
class Observation:
    """One question: the trial of the active version, of the candidate, or of both; `agreed` is None
    unless both gave a valid answer."""

    active: Trial | None = None
    candidate: Trial | None = None
    agreed: bool | None = None

    @property
    def kind(self) -> Kind:
        if self.active and self.candidate:
            return "pair"
        return "active" if self.active else "candidate"
