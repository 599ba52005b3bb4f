"""Decides how a question is decoded: freely, under the grammar, or freely and then repaired."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

import structlog

from server.completions import Completion, Sampling
from server.decode.candidate import Candidate
from server.decode.decoder import Decoder
from server.decode.options import Decoding, Options, Plan
from server.decode.repairs import REPAIRS, elect, judge, will_do
from server.errors import ServerError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What won. `is_repaired`: it took the place of a first answer that would not do; `was_tried`:
    a repair was. `agreement`: the share of samples that agree with it, None without a vote."""

    candidate: Candidate
    is_repaired: bool
    was_tried: bool
    agreement: float | None


class Watch(Protocol):
    """Takes the time of each stage."""

    def done(self, stage: str) -> None: ...


async def decide(decoder: Decoder, plan: Plan, options: Options, watch: Watch) -> Outcome:
    """Decode, check, vote where samples are wanted, repair what will not do, score what won.

    Raises:
        ServerError: the engine can't decode at all. What fails in a repair is only noted.
    """
    first, *samples = await _candidates(decoder, plan, options, watch)
    chosen, agreement = first, None
    if plan.num_samples > 1:
        vote = await elect([first, *samples], decoder, options)
        chosen, agreement = vote.winner or first, vote.num_votes / plan.num_samples
        watch.done("vote")
    best = chosen
    is_tried = await _is_wanted(chosen, decoder, plan, options)
    if is_tried:
        best = await _repaired(chosen, decoder, plan, options)
        watch.done("repair")
    is_repaired = best is not chosen or (best is not first and not first.valid)
    if best.completion.is_masked:
        best = await decoder.unmasked(best)
        watch.done("score")
    return Outcome(best, is_repaired, is_tried, agreement)


async def _is_wanted(chosen: Candidate, decoder: Decoder, plan: Plan, options: Options) -> bool:
    """True if the plan is to repair, and there is something to repair."""
    if plan.wanted != "auto" or plan.repair == "none":
        return False
    return not await will_do(chosen, decoder, plan.repair, options)


async def _candidates(
    decoder: Decoder, plan: Plan, options: Options, watch: Watch
) -> list[Candidate]:
    """The greedy answer, then the other samples."""
    more = Sampling(plan.num_samples - 1, options.temperature)
    decoding: Decoding = "constrained" if plan.wanted == "constrained" else "free"
    greedy, samples = await _decoded(decoder, decoding, more)
    if not greedy:
        decoding = "free"
        greedy, samples = await _decoded(decoder, decoding, more)
    watch.done("engine")
    first = await judge(greedy, decoder, decoding)
    candidates = first + await judge(samples, decoder, "sampled")
    watch.done("check")
    return candidates


async def _decoded(
    decoder: Decoder, decoding: Decoding, more: Sampling
) -> tuple[list[Completion], list[Completion]]:
    """One greedy completion and `more`, at once; none where the engine refuses the grammar."""
    decode = decoder.constrained if decoding == "constrained" else decoder.free
    if not more.n:
        return await decode(), []
    return await asyncio.gather(decode(), decode(more))


async def _repaired(chosen: Candidate, decoder: Decoder, plan: Plan, options: Options) -> Candidate:
    """What the repair found, if that is valid; else `chosen` with its violations."""
    try:
        found = await REPAIRS[plan.repair](chosen, decoder, options)
    except ServerError as error:
        log.warning("repair_failed", repair=plan.repair, reason=error.message)
        decoder.note("the repair failed: the engine did not answer it")
        return chosen
    return found if found and found.valid else chosen
