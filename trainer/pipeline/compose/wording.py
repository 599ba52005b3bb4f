"""The small language of the patterns' English: `[a|b]` chooses, and a sentence gets its dress."""

import re
from random import Random

CHOICE = re.compile(r"\[([^\[\]]*)\]")
ASKING = ("what", "which", "how", "who", "where", "when")


def expand_choices(text: str, rng: Random) -> str:
    """`text` with each `[a|b]`, innermost first, replaced by one of its alternatives."""
    while found := CHOICE.search(text):
        text = text[: found.start()] + rng.choice(found[1].split("|")) + text[found.end() :]
    return text


def sentence(text: str, rng: Random) -> str:
    """`text` as a sentence: single spaces, a capital, a final mark that some leave out."""
    text = re.sub(r"\s+([,.?])", r"\1", " ".join(text.split()))
    text = text[:1].upper() + text[1:]
    if text[-1:] in ".?" or rng.random() < 0.08:
        return text
    last = re.split(r"(?<=[.?]) ", text)[-1].lower()
    is_asked = last.startswith(ASKING) or ", what " in last or ", how " in last
    return text + ("?" if is_asked else ".")
