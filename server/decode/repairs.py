"""Ways to repair an answer that will not do, each measured against the others.

A repair is a function of the answer, the question's decoder and the options; it gives a candidate
that was checked, or None where it has none. What is not valid does not replace anything.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType

from server.completions import Completion, Sampling
from server.decode.agree import Vote, vote
from server.decode.candidate import Candidate, judged
from server.decode.decoder import Decoder
from server.decode.execute import can_run, finds_rows
from server.decode.options import Decoding, Options, RepairName
from server.decode.resume import resumed


async def judge(
    completions: Sequence[Completion], decoder: Decoder, decoding: Decoding
) -> list[Candidate]:
    """All completions with their checks; in a thread where they are many."""

    def judge_all() -> list[Candidate]:
        return [judged(found, decoder.asked, decoding) for found in completions]

    return judge_all() if len(completions) < 2 else await asyncio.to_thread(judge_all)


async def elect(candidates: Sequence[Candidate], decoder: Decoder, options: Options) -> Vote:
    """The vote of `candidates`, in a thread."""
    asked = decoder.asked
    return await asyncio.to_thread(vote, candidates, asked.schema, asked.dialect, options.agree_by)


async def constrained(_: Candidate, decoder: Decoder, __: Options) -> Candidate | None:
    """Decoded again from the start, under the grammar."""
    found = await judge(await decoder.constrained(), decoder, "constrained")
    return found[0] if found else None


async def continued(first: Candidate, decoder: Decoder, options: Options) -> Candidate | None:
    """Decoded again from the first wrong name on; from the start where that is no way."""
    found = await resumed(first, decoder)
    return found if found else await constrained(first, decoder, options)


async def agreed(first: Candidate, decoder: Decoder, options: Options) -> Candidate | None:
    """What most valid samples agree on; decoded under the grammar where none is valid."""
    samples = await _samples(decoder, options)
    won = (await elect(samples, decoder, options)).winner
    return won or await constrained(first, decoder, options)


async def executed(first: Candidate, decoder: Decoder, options: Options) -> Candidate | None:
    """The first valid answer that finds rows: this one, samples by likelihood, constrained.

    Where none finds any it is the first valid one.
    """
    if not can_run(decoder.asked, options.may_run):
        decoder.note("queries may not be run on this database")
        return await constrained(first, decoder, options)
    samples = await _samples(decoder, options)
    samples.sort(key=lambda candidate: candidate.completion.logprob, reverse=True)
    tried = [candidate for candidate in (first, *samples) if candidate.valid]
    for candidate in tried:
        if await finds_rows(candidate, decoder.asked):
            return candidate
    last = await constrained(first, decoder, options)
    if last and last.valid and (not tried or await finds_rows(last, decoder.asked)):
        return last
    return tried[0] if tried else None


Repair = Callable[[Candidate, Decoder, Options], Awaitable[Candidate | None]]
REPAIRS: Mapping[RepairName, Repair] = MappingProxyType(
    {
        "constrained": constrained,
        "continue": continued,
        "agree": agreed,
        "execute": executed,
    }
)


async def will_do(
    candidate: Candidate, decoder: Decoder, repair: RepairName, options: Options
) -> bool:
    """True if `candidate` needs no repair of this kind."""
    is_run = repair == "execute" and can_run(decoder.asked, options.may_run)
    return candidate.valid and (not is_run or await finds_rows(candidate, decoder.asked))


async def _samples(decoder: Decoder, options: Options) -> list[Candidate]:
    sampling = Sampling(options.num_samples, options.temperature)
    return await judge(await decoder.free(sampling), decoder, "sampled")
