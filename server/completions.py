"""What the engine is asked to decode and what it wrote, as records; reads vLLM's answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode: `n` completions at `temperature`, each a text of `grammar` where one is given.

    Greedy at temperature 0, where `n` must be 1. The same request samples the same completions.
    `grammar` is llguidance's Lark; an engine that has another backend refuses it (`BadRequest`).
    """

    n: int = 1
    temperature: float = 0.0
    grammar: str = ""

    def body(self) -> dict[str, Any]:
        """The fields of vLLM's body."""
        fields: dict[str, Any] = {"temperature": self.temperature}
        if self.temperature:
            fields |= {"n": self.n, "seed": 0}
        if self.grammar:
            fields["structured_outputs"] = {"grammar": self.grammar}
        return fields


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Completion:
    """One whole completion; `logprobs` has the natural logarithm for each token.

    The tokens are those that the engine wrote, the one that ended the completion included.
    `prompt_ids` are those that it read. Log-probabilities are the model's own, of temperature 1
    and before any grammar, except where `is_masked` says that a grammar's mask inflates them.
    """

    text: str
    logprobs: tuple[float, ...]
    finish_reason: str
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    is_masked: bool = False

    @property
    def logprob(self) -> float:
        """Natural logarithm of the whole completion's probability; -inf without tokens."""
        return math.fsum(self.logprobs) if self.logprobs else -math.inf

    @property
    def is_cut(self) -> bool:
        """True if it ended for want of tokens."""
        return self.finish_reason == "length"


def read_completions(record: Any, sampling: Sampling) -> list[Completion]:
    """The choices of a body of /v1/completions.

    Raises:
        LookupError, TypeError, ValueError: it is none, or has not `sampling.n` choices.
    """
    if len(choices := record["choices"]) != sampling.n:
        raise ValueError(f"{len(choices)} choices, not {sampling.n}")
    return [_completion(choice, sampling) for choice in choices]


def read_replies(record: Any, sampling: Sampling) -> list[Completion]:
    """The choices of a body of /v1/chat/completions; raises as `read_completions`."""
    choices = [_as_completion(choice, record["prompt_token_ids"]) for choice in record["choices"]]
    return read_completions({"choices": choices}, sampling)


def read_scores(record: Any, token_ids: Sequence[int]) -> tuple[float, ...]:
    """The log-probabilities of `token_ids`, with which the scored prompt ends; raises as above."""
    found = record["choices"][0]["prompt_logprobs"][-len(token_ids) :]
    pairs = zip(token_ids, found, strict=True)
    return tuple(float(entry[str(token)]["logprob"]) for token, entry in pairs)


def read_next_tokens(record: Any, num_prompts: int) -> list[dict[int, float]]:
    """For each prompt of a body of /v1/completions the log-probabilities of the likeliest next
    tokens, by id; NaN where the engine gives no number. Raises as above."""
    choices = sorted(record["choices"], key=lambda choice: int(choice["index"]))
    if len(choices) != num_prompts:
        raise ValueError(f"{len(choices)} choices, not {num_prompts}")
    return [_next_tokens(choice["logprobs"]["top_logprobs"][0]) for choice in choices]


def _next_tokens(found: Any) -> dict[int, float]:
    numbers = {
        int(name.removeprefix("token_id:")): math.nan if value is None else float(value)
        for name, value in found.items()
    }
    if not numbers:
        raise ValueError("no log-probabilities")
    return numbers


def _completion(choice: Any, sampling: Sampling) -> Completion:
    """One of /v1/completions' choices."""
    if not isinstance(text := choice["text"], str):
        raise TypeError("the completion is no text")
    return Completion(
        text,
        tuple(map(float, choice["logprobs"]["token_logprobs"])),
        choice["finish_reason"] or "stop",
        tuple(map(int, choice["prompt_token_ids"])),
        tuple(map(int, choice["token_ids"])),
        tuple(choice["logprobs"]["tokens"]),
        is_masked=bool(sampling.grammar),
    )


def _as_completion(choice: Any, prompt_ids: Any) -> Any:
    """One of /v1/chat/completions' choices in the shape of /v1/completions'."""
    tokens = choice["logprobs"]["content"]
    logprobs = {
        "token_logprobs": [token["logprob"] for token in tokens],
        "tokens": [token["token"] for token in tokens],
    }
    text = choice["message"]["content"] or ""
    return choice | {"text": text, "logprobs": logprobs, "prompt_token_ids": prompt_ids}
