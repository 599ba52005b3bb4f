"""Proof of effect: what the engine makes of an adapter, against what its trainer saw it do.

`evidence/fingerprint.json` of a bundle holds prompts on our own databases with the likeliest next
tokens of the tuned model and the log-probabilities that it and the base gave them. The engine is
asked the same before anyone else asks it. An adapter that loads and does nothing, or something
else than was trained (another base precision, a prompt that tokenises otherwise), shows here.
"""

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.adapters.refusal import Refusal
from server.engine import Engine

FILE = "evidence/fingerprint.json"
MAX_BYTES = 1 << 20
MAX_PROBES = 64
# Nats, on average over all tokens of all probes. Below NOISE an adapter is what was trained,
# however little that was.
MAX_DISTANCE = 1.0
NOISE = 0.05
AS_BASE = 0.25
MAX_MOVED = 0.25  # share of probability, on average over all probes


@dataclass(frozen=True, slots=True)
class Probe:
    """Log-probabilities (nats) of the token ids `tokens` after `prompt`."""

    prompt: str
    tokens: tuple[int, ...]
    tuned: tuple[float, ...]
    base: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """How far the engine's log-probabilities lie from the tuned and from the base model's: mean
    absolute difference in nats over all tokens of all probes. `moved` is the share of probability
    that lies elsewhere than with the tuned model: nats say little of a model that is unsure of
    everything, since its unlikely tokens are not known."""

    distance: float
    distance_to_base: float
    moved: float


def read_probes(folder: Path, digest: str) -> tuple[Probe, ...]:
    """The probes of the bundle at `folder`; none where it has no fingerprint.

    Raises:
        Refusal: the file is no fingerprint, or another bundle's.
        OSError: it can't be read.
    """
    path = folder / FILE
    if not os.path.lexists(path):
        return ()
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise _bad("it is no regular file")
    if found.st_size > MAX_BYTES:
        raise _bad(f"over {MAX_BYTES} bytes")
    try:
        record = json.loads(path.read_bytes())
        made_for, probes = record["digest"], tuple(map(_probe, record["probes"]))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _bad(f"it can't be read ({type(error).__name__}: {str(error)[:100]})") from error
    if made_for != digest:
        raise _bad("it belongs to another bundle")
    if not 0 < len(probes) <= MAX_PROBES:
        raise _bad(f"it has {len(probes)} probes, not 1 to {MAX_PROBES}")
    return probes


def _bad(reason: str) -> Refusal:
    remedy = "make it anew with python -m trainer.fingerprint BUNDLE"
    return Refusal("bad_fingerprint", f"{reason}; {remedy}", FILE)


def _probe(record: Mapping[str, Any]) -> Probe:
    if not isinstance(prompt := record["prompt"], str):
        raise TypeError("a prompt is no text")
    tokens = tuple(map(int, record["tokens"]))
    tuned, base = (tuple(map(float, record[name])) for name in ("tuned", "base"))
    if not len(tokens) == len(tuned) == len(base) > 0:
        raise ValueError("tokens and log-probabilities differ in number")
    if not all(map(math.isfinite, tuned + base)):
        raise ValueError("a log-probability is not finite")
    return Probe(prompt, tokens, tuned, base)


async def prove(engine: Engine, name: str, probes: Sequence[Probe]) -> Proof:
    """What `engine` makes of the adapter `name` is what `probes` say of it.

    Raises:
        Refusal: it is not; the code says whether it is nothing, something else, or no number.
        ServerError: the engine can't be asked.
    """
    found = await engine.next_tokens(name, [probe.prompt for probe in probes])
    proof = compared(probes, found)
    if not math.isfinite(proof.distance):
        raise Refusal("not_finite", "the engine gives log-probabilities that are no numbers")
    if proof.distance_to_base <= AS_BASE and proof.distance_to_base < proof.distance > NOISE:
        raise Refusal("no_effect", f"the engine answers as the base does ({_said(proof)})")
    if proof.distance > MAX_DISTANCE or proof.moved > MAX_MOVED:
        raise Refusal("drift", f"the engine answers otherwise than its trainer ({_said(proof)})")
    return proof


def _said(proof: Proof) -> str:
    return (
        f"{proof.distance:.2f} nats from the tuned model, {proof.distance_to_base:.2f} from the "
        f"base, at most {MAX_DISTANCE:g} from the tuned; {proof.moved:.0%} of the probability "
        f"moved, at most {MAX_MOVED:.0%}"
    )


def compared(probes: Sequence[Probe], found: Sequence[Mapping[int, float]]) -> Proof:
    """The distances of `found`, the engine's likeliest next tokens for each of `probes`."""
    pairs = list(zip(probes, found, strict=True))
    return Proof(
        _mean([d for probe, seen in pairs for d in _apart(probe.tokens, probe.tuned, seen)]),
        _mean([d for probe, seen in pairs for d in _apart(probe.tokens, probe.base, seen)]),
        _mean([_moved(probe, seen) for probe, seen in pairs]),
    )


def _moved(probe: Probe, seen: Mapping[int, float]) -> float:
    """Total variation between the tuned model's next token and the engine's, among the probe's
    tokens and all others together."""
    expected = [math.exp(logprob) for logprob in probe.tuned]
    found = [math.exp(seen.get(token, -math.inf)) for token in probe.tokens]
    others = abs(math.fsum(expected) - math.fsum(found))
    apart = math.fsum(abs(a - b) for a, b in zip(expected, found, strict=True))
    return (apart + others) / 2


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _apart(
    tokens: Sequence[int], expected: Sequence[float], seen: Mapping[int, float]
) -> list[float]:
    """Differences in nats. A token that is not among those `seen` has the least likely one's
    log-probability at most, so all are compared from there up."""
    floor = min(seen.values())
    pairs = zip(tokens, expected, strict=True)
    return [abs(seen.get(token, floor) - max(logprob, floor)) for token, logprob in pairs]
