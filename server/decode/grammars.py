"""The grammar that a question's answer may be decoded under, timed; says once if it is refused."""

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor

import structlog

from server.decode.candidate import Asked
from server.errors import ServerError
from server.grammar import grammar_of
from server.grammar.build import _kept
from server.grammar.options import Names
from server.metrics import Metrics

log = structlog.get_logger()
START = re.compile(r"^start(?=\s*:)", re.MULTILINE)
INNER = "whole_answer"


class Grammars:
    """Makes grammars; one for the whole server."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        # One thread, so that requests for one new schema make its grammar once.
        self._thread = ThreadPoolExecutor(1, "grammar")
        self._has_said = False

    async def of(self, asked: Asked) -> str:
        """The grammar of the schema that is shown, in the spelling that the model writes.

        Raises:
            GrammarError: there is none for this schema or dialect.
        """
        made = await asyncio.get_running_loop().run_in_executor(self._thread, self._make, asked)
        return self.ended(made, asked)

    def _make(self, asked: Asked) -> str:
        began, missed = time.perf_counter(), _kept.cache_info().misses
        made = grammar_of(
            asked.shown, asked.written, names=_names(asked), max_tokens=asked.max_tokens
        )
        is_hit = _kept.cache_info().misses == missed
        self.metrics.grammar_cache.labels("hit" if is_hit else "miss").inc()
        if not is_hit:
            self.metrics.grammar_build.observe(time.perf_counter() - began)
        return made

    def ended(self, grammar: str, asked: Asked) -> str:
        """`grammar`, whose texts end in the token that the adapter was trained to end with.

        By itself a grammar ends only in what the engine's tokenizer calls the end of a sequence.
        A model that ends in another token would see its end masked, and go on.
        """
        stops = asked.served.stop_token_ids
        if not stops:
            return grammar
        end = ",".join(map(str, stops))
        return f"{START.sub(INNER, grammar)}\nstart: {INNER} <[{end}]>\n"

    def say_refused(self, error: ServerError) -> None:
        """One line in the log for all refusals: each request would repeat it."""
        if not self._has_said:
            self._has_said = True
            log.warning("grammar_refused", reason=error.message[:300])


def _names(asked: Asked) -> Names:
    """How the adapter was taught to write columns."""
    manifest = asked.served.manifest
    is_qualified = manifest is not None and manifest.recipe.get("names") == "qualified"
    return "qualified" if is_qualified else "full"
