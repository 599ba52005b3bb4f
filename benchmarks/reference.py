"""Which adapter an answer comes from, judged by its log-probabilities.

Texts don't tell: two variants may write the same, and one variant writes something else when it is
batched otherwise. Compared are the likeliest tokens of each position, as long as the two answers
have gone the same way.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from benchmarks.client import ReplyError
from benchmarks.plan import BenchError

TOP = 5
# Nats; noise below this is taken for this much, so that a tolerance is never absurdly tight.
MIN_NOISE = 0.002
# In multiples of the noise. The tolerance is near the noise, not half-way to the next variant: an
# answer computed half by one adapter and half by another (one's cached prefix, read by the other)
# is still nearest to the one that it names. Such, made on purpose on a CPU with factors 0.6 to 1,
# lay 0.08 to 0.51 nats away, at a separation of 0.36 and a noise below 0.001.
TOLERANCE = 3.0
MIN_SEPARATION = 4.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of an answer, and for each position the likeliest tokens' log-probabilities."""

    chosen: tuple[str, ...]
    likely: tuple[Mapping[str, float], ...]


def read_tokens(record: Mapping[str, Any]) -> Tokens:
    """The tokens in a body of `/v1/completions` that was asked for `TOP` log-probabilities.

    Raises:
        ReplyError: there are none.
    """
    try:
        found = record["choices"][0]["logprobs"]
        chosen = tuple(map(str, found["tokens"]))
        likely = tuple(_numbers(position) for position in found["top_logprobs"])
    except (LookupError, TypeError, AttributeError) as error:
        raise ReplyError("malformed", f"the answer has no log-probabilities: {error!r}") from error
    if not chosen or len(chosen) != len(likely) or not all(likely):
        raise ReplyError("malformed", "the answer has no log-probability for some token")
    return Tokens(chosen, likely)


def _numbers(position: Mapping[str, float | None]) -> dict[str, float]:
    return {token: math.nan if value is None else value for token, value in position.items()}


def distance(seen: Tokens, expected: Tokens) -> float:
    """Mean absolute difference in nats over the likeliest tokens of `expected`, at the positions
    up to the first at which the two chose differently, that one included."""
    apart: list[float] = []
    for position in range(min(len(seen.chosen), len(expected.chosen))):
        apart += _apart(seen.likely[position], expected.likely[position])
        if seen.chosen[position] != expected.chosen[position]:
            break
    return statistics.fmean(apart)


def _apart(seen: Mapping[str, float], expected: Mapping[str, float]) -> list[float]:
    """A token that is not among those `seen` has the least likely one's log-probability at most,
    so all are compared from there up."""
    floor = min(seen.values())
    return [abs(seen.get(token, floor) - max(value, floor)) for token, value in expected.items()]


@dataclass(frozen=True)
class References:
    """What each version answers to each prompt: `of[prompt][version]`."""

    of: Mapping[str, Mapping[str, Tokens]]

    def separation(self, prompt: str) -> float:
        """Nats between the two versions that answer `prompt` most alike."""
        answers = self.of[prompt].values()
        return min(min(distance(a, b), distance(b, a)) for a, b in combinations(answers, 2))

    def best(self, count: int) -> "References":
        """Those of the `count` prompts to which the versions answer most unlike each other."""
        ordered = sorted(self.of, key=self.separation, reverse=True)
        return References({prompt: self.of[prompt] for prompt in ordered[:count]})

    def away(self, tokens: Tokens, prompt: str, version: str) -> float:
        """Nats between an answer and what `version` answers; infinite for an unknown version."""
        expected = self.of[prompt].get(version)
        return distance(tokens, expected) if expected else math.inf

    def nearest(self, tokens: Tokens, prompt: str) -> str:
        """The version whose answer is most like this one."""
        return min(self.of[prompt], key=lambda version: self.away(tokens, prompt, version))


@dataclass(frozen=True, slots=True)
class Scale:
    """How far answers of one version lie from its reference (`noise`, the largest seen), and how
    far the versions lie apart (`separation`, the smallest); nats."""

    noise: float
    separation: float

    @property
    def tolerance(self) -> float:
        """An answer that is farther away than this is not the version's."""
        return TOLERANCE * self.noise


def scale_of(references: References, distances: Iterable[float]) -> Scale:
    """The scale, from `distances` of answers whose version is known.

    Raises:
        BenchError: the versions can't be told apart.
    """
    seen: Sequence[float] = [*distances, MIN_NOISE]
    noise = math.nan if any(map(math.isnan, seen)) else max(seen)
    separation = min(references.separation(prompt) for prompt in references.of)
    if not separation >= MIN_SEPARATION * noise:
        raise BenchError(
            f"variants can't be told apart: they differ by {separation:.4f} nats, one version's "
            f"answers by up to {noise:.4f}; lower --lowest, or does the server mix adapters?"
        )
    return Scale(noise, separation)
