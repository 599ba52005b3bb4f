"""The sequential test of a rollout: it may be looked at after every question, and stopped by it.

Testing by betting (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by
betting"): a gambler bets on each observation against a hypothesis. Where that holds, the expected
capital never grows, so that it ever reaches 1 / error has a probability of at most `error` (Ville's
inequality), however often one looks. Assumed: given what was seen before, the mean of the next
observation is on the hypothesis's side.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from server.adapters.trials import Observation

Verdict = Literal["go_on", "promote", "roll_back", "undecided"]
# Bets in parts of the largest that can't lose everything: the capital is the mean over them, so
# that none has to be right (a mixture, as in the paper's section on betting with a grid).
# Simulated, an equal candidate needs 6 % fewer questions than with aGRAPA at the median, and 15 %
# fewer at the 95th percentile. Without the least stake 8 of 100 rollouts with a margin of 0.02,
# of versions that differ in 30 % of questions, stay open after 20,000 questions, not 1.
STAKES = (0.05, 0.1, 0.2, 0.4, 0.8)
MAX_BLOCK = 20
# What may wait for its other half. Little, so that both halves are of the same hour: were they
# thousands of questions apart, harder questions would look like a worse version.
WAITING_BLOCKS, WAITING_CANDIDATES = 2, 8


@dataclass(frozen=True)
class Rules:
    """When a rollout ends. A candidate is promoted that is not worse by `margin`, in the share of
    questions that get an answer one can use, and of those that both answer gives more than
    `min_agreement` the same answer. It is dropped if it is worse at all, or gives fewer the same.
    Each of these findings is wrong with a probability of at most `error`.

    Raises:
        ValueError: a field is out of its range.
    """

    margin: float = 0.05
    error: float = 0.05
    min_pairs: int = 30
    max_pairs: int = 5000
    min_agreement: float = 0.2

    def __post_init__(self) -> None:
        for name in ("margin", "error"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: must be between 0 and 1")
        if not 1 <= self.min_pairs <= self.max_pairs:
            raise ValueError("min_pairs: must be at least 1, and at most max_pairs")
        if not 0 <= self.min_agreement < 1:
            raise ValueError("min_agreement: must be at least 0 and below 1")


class Capital:
    """A gambler's capital against "the mean of x in [low, high] is at most `bound`"."""

    def __init__(self, bound: float, low: float, high: float) -> None:
        self.bound = bound
        # Above this stake the least x would take more than everything.
        self._most = 1 / (bound - low) if bound > low else 1 / (high - low)
        self._logs = [0.0 for _ in STAKES]

    def add(self, x: float) -> None:
        for place, stake in enumerate(STAKES):
            self._logs[place] += math.log1p(stake * self._most * (x - self.bound))

    @property
    def log(self) -> float:
        """Natural logarithm of the mean capital over all stakes; 0 at the start."""
        top = max(self._logs)
        return top + math.log(math.fsum(math.exp(x - top) for x in self._logs) / len(self._logs))


@dataclass
class Pairing:
    """Differences, candidate minus active, of observations that come in any order.

    A pair is one at once. Of a canary, where a question has one answer, each of the candidate's is
    set against the mean of `block` of the active version's from around the same time, so that a
    small share loses little. What waits for long is left out, whatever it says.
    """

    block: int = 1
    _active: deque[float] = field(init=False)
    _candidate: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        self._active = deque(maxlen=WAITING_BLOCKS * self.block)
        self._candidate = deque(maxlen=WAITING_CANDIDATES)

    @classmethod
    def of_share(cls, share: float) -> "Pairing":
        """For a canary that answers `share` of the questions."""
        return cls(min(MAX_BLOCK, max(1, round((1 - share) / share))))

    def add(self, seen: Observation) -> list[float]:
        """The differences that are whole with it."""
        if seen.active and seen.candidate:
            return [seen.candidate.score - seen.active.score]
        if seen.active:
            self._active.append(seen.active.score)
        if seen.candidate:
            self._candidate.append(seen.candidate.score)
        found = []
        while self._candidate and len(self._active) >= self.block:
            mean = math.fsum(self._active.popleft() for _ in range(self.block)) / self.block
            found.append(self._candidate.popleft() - mean)
        return found


class SequentialTest:
    """The test of one rollout by `rules`; once it has a verdict, it keeps that."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.pairs = 0
        self.agreements = 0
        self.compared = 0
        self.verdict: Verdict = "go_on"
        self._total = 0.0
        self._not_worse = Capital(-rules.margin, -1.0, 1.0)
        self._worse = Capital(0.0, -1.0, 1.0)  # of the differences' negatives
        self._apart = Capital(1 - rules.min_agreement, 0.0, 1.0)
        self._alike = Capital(rules.min_agreement, 0.0, 1.0)

    @property
    def mean(self) -> float:
        """Of the differences so far."""
        return self._total / self.pairs if self.pairs else 0.0

    @property
    def agreement(self) -> float | None:
        """Share of the questions that both answered on which they agree."""
        return self.agreements / self.compared if self.compared else None

    def e_values(self) -> dict[str, float]:
        """The capital behind each verdict; 1 / error decides."""
        sides = {
            "promote": self._not_worse,
            "roll_back": self._worse,
            "disagree": self._apart,
            "agree": self._alike,
        }
        return {name: math.exp(min(side.log, 700.0)) for name, side in sides.items()}

    def add(self, difference: float, agreed: bool | None = None) -> None:
        """One question: the candidate's score minus the active version's, in [-1, 1]."""
        if self.verdict in ("promote", "roll_back"):
            return
        self.pairs += 1
        self._total += difference
        self._not_worse.add(difference)
        self._worse.add(-difference)
        if agreed is not None:
            self.compared += 1
            self.agreements += agreed
            self._apart.add(float(not agreed))
            self._alike.add(float(agreed))
        self.verdict = self._verdict()

    def _verdict(self) -> Verdict:
        needed = -math.log(self.rules.error)
        if self.pairs < self.rules.min_pairs:
            return "go_on"
        if max(self._worse.log, self._apart.log) >= needed:
            return "roll_back"
        is_alike = not self.compared or self._alike.log >= needed
        if is_alike and self._not_worse.log >= needed:
            return "promote"
        return "undecided" if self.pairs >= self.rules.max_pairs else "go_on"

    @property
    def reason(self) -> str:
        """The verdict in words, with what it rests on."""
        seen = f"after {self.pairs} questions the candidate is {100 * self.mean:+.1f} points"
        if self.agreement is not None:
            seen += f", agreeing on {100 * self.agreement:.0f} % of {self.compared}"
        values = ", ".join(f"{name} {value:.3g}" for name, value in self.e_values().items())
        return f"{seen}; e-values {values}, {1 / self.rules.error:g} decides"
