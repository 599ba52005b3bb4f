"""What the tests of grammars share: which texts one takes, and texts drawn from it at random.

A token is a byte here, so that no model is needed.
"""

import random
from functools import cache
from typing import Any

import llguidance
import llguidance.numpy
import numpy as np

MOST = 3000  # bytes, which no text comes near


@cache
def tokenizer() -> llguidance.LLTokenizer:
    return llguidance.LLTokenizer("byte")


def matcher_of(grammar: str) -> llguidance.LLMatcher:
    matcher = llguidance.LLMatcher(tokenizer(), grammar)
    assert not matcher.is_error(), matcher.get_error()[:500]
    return matcher


def taken(matcher: llguidance.LLMatcher, text: str) -> str:
    """The part of `text` that the grammar takes; with a mark behind it if all, but no end there."""
    matcher.reset()
    found = text.encode()[: matcher.try_consume_tokens(list(text.encode()))]
    assert "satisfy" in matcher.get_error() or not matcher.is_error(), matcher.get_error()[:500]
    is_whole = found == text.encode() and not matcher.is_accepting()
    return found.decode(errors="replace") + (" …" if is_whole else "")


def takes(grammar: str, text: str) -> bool:
    return taken(matcher_of(grammar), text) == text


def walk(matcher: llguidance.LLMatcher, rng: random.Random) -> str:
    """A text each byte of which is any allowed one, to its end."""
    matcher.reset()
    mask: Any = llguidance.numpy.allocate_token_bitmask(1, tokenizer().vocab_size)
    found: list[int] = []
    while not matcher.is_stopped():
        llguidance.numpy.fill_next_token_bitmask(matcher, mask, 0)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        assert allowed.size, f"a dead end: {bytes(found).decode(errors='replace')}"
        token = int(rng.choice(allowed))
        assert matcher.consume_token(token), matcher.get_error()[:500]
        if token != tokenizer().eos_token:
            found.append(token)
        assert len(found) < MOST, bytes(found).decode(errors="replace")
    assert matcher.stop_reason() in ("NoExtension", "EndOfSentence"), matcher.get_error()[:500]
    return bytes(found).decode()
