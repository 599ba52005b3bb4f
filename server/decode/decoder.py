"""Decodes for one question through the engine, and keeps account of what it took."""

from collections.abc import Sequence
from dataclasses import replace
from math import fsum

import structlog

from server.completions import GREEDY, Completion, Sampling
from server.decode.candidate import Asked, Candidate
from server.decode.grammars import Grammars
from server.engine import Engine
from server.errors import BadRequest, ServerError
from server.grammar import GrammarError

log = structlog.get_logger()
REFUSED = "constrained decoding is not available: the engine refused the grammar"


class Decoder:
    """One question's decoding: `notes` say what its asker should know, the counts what it cost."""

    def __init__(self, engine: Engine, grammars: Grammars, asked: Asked) -> None:
        self.engine = engine
        self.grammars = grammars
        self.asked = asked
        self.notes: list[str] = []
        self.prompt_tokens = 0
        self.completion_tokens = 0

    async def free(self, sampling: Sampling = GREEDY) -> list[Completion]:
        """Completions of the prompt; the base model is asked in its own chat template."""
        served, most = self.asked.served, self.asked.max_tokens
        if served.manifest is None:
            found = await self.engine.reply(
                served.name, self.asked.prompt, max_tokens=most, sampling=sampling
            )
        else:
            found = await self._complete(self.asked.prompt, most, sampling)
        return self._counted(found)

    async def constrained(self, sampling: Sampling = GREEDY) -> list[Completion]:
        """Completions under the grammar of the schema; none where there is no grammar for it."""
        try:
            grammar = await self.grammars.of(self.asked)
            return await self.free(replace(sampling, grammar=grammar))
        except GrammarError as error:
            self.note(f"there is no grammar for this schema: {error}")
        except BadRequest as error:
            self._refused(error)
        return []

    async def follow(self, begun: Completion, num_kept: int, grammar: str) -> Completion | None:
        """`begun`, from its token `num_kept` on decoded again under `grammar`; None if refused."""
        kept = begun.token_ids[:num_kept]
        left = self.asked.max_tokens - num_kept
        grammar = self.grammars.ended(grammar, self.asked)
        try:
            found = await self._complete(
                [*begun.prompt_ids, *kept], left, Sampling(grammar=grammar)
            )
        except BadRequest as error:
            self._refused(error)
            return None
        (rest,) = self._counted(found)
        return replace(
            rest,
            text="".join(begun.tokens[:num_kept]) + rest.text,
            logprobs=begun.logprobs[:num_kept] + rest.logprobs,
            prompt_ids=begun.prompt_ids,
            token_ids=kept + rest.token_ids,
            tokens=begun.tokens[:num_kept] + rest.tokens,
        )

    async def unmasked(self, candidate: Candidate) -> Candidate:
        """The candidate with the model's own log-probabilities, as if it had been decoded freely.

        Where the engine can't score it, without any: its confidence is then 0.
        """
        found = candidate.completion
        if not found.is_masked:
            return candidate
        try:
            served = self.asked.served.name
            own = await self.engine.score(served, found.prompt_ids, found.token_ids)
        except ServerError as error:
            log.warning("score_failed", reason=error.message)
            self.note("the answer could not be scored: its confidence is not known")
            own = ()
        nats = max(0.0, fsum(found.logprobs) - fsum(own)) if own else 0.0
        return replace(
            candidate,
            completion=replace(found, logprobs=own, is_masked=False),
            masked_nats=nats,
        )

    async def _complete(
        self, prompt: str | Sequence[int], max_tokens: int, sampling: Sampling
    ) -> list[Completion]:
        served = self.asked.served
        stops = served.stop_token_ids
        return await self.engine.complete(
            served.name, prompt, max_tokens=max_tokens, stop_token_ids=stops, sampling=sampling
        )

    def _counted(self, found: list[Completion]) -> list[Completion]:
        self.prompt_tokens = self.prompt_tokens or len(found[0].prompt_ids)
        self.completion_tokens += sum(len(completion.token_ids) for completion in found)
        return found

    def _refused(self, error: ServerError) -> None:
        self.grammars.say_refused(error)
        self.note(REFUSED)

    def note(self, text: str) -> None:
        """Keep `text` for the asker, once."""
        if text not in self.notes:
            self.notes.append(text)
