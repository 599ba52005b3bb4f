"""Where a question speaks of a table or column by its words, and putting other words there.

Matching is by words in singular or plural. What stands in quotes, or is a literal of the query, is
never taken for a mention.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trainer.pipeline.augment.naming import inflect_like, plural, singular
from trainer.pipeline.augment.words import NEVER_RENAMED, VERB_CUES, VERBS

WORD = re.compile(r"[^\W\d_]+")
QUOTED = re.compile(
    r"""(?<!\w)"[^"]*"|(?<!\w)'[^']*'(?!\w)|`[^`]*`|\u2018[^\u2019]*\u2019|\u201c[^\u201d]*\u201d"""
)
GAP = re.compile(r"[ _-]{1,2}")
SENTENCE_END = re.compile(r"(^|[.?!:;,])\s*$")
AN_SOUNDS = re.compile(r"(?!uni|use|user|eu|one)[aeiou]|hour|honest|heir", re.IGNORECASE)

Phrase = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mention:
    """Words `start` to `end` (exclusive) of a question that say `phrase` (singular words)."""

    start: int
    end: int
    phrase: Phrase


class Question:
    """A question as words; `literals` are texts that are values and no names."""

    def __init__(self, text: str, literals: Iterable[str] = ()) -> None:
        self.text = text
        self.spans = [match.span() for match in WORD.finditer(text)]
        self.words = [text[a:b].lower() for a, b in self.spans]
        self.stems = [singular(word) for word in self.words]
        shut = list(_protected(text, literals))
        self.open = [not any(a < d and c < b for c, d in shut) for a, b in self.spans]

    def says(self, phrase: Phrase) -> list[Mention]:
        """All open places of `phrase`."""
        size = len(phrase)
        if not size or phrase[0] not in self.stems:
            return []
        starts = range(len(self.words) - size + 1)
        return [Mention(i, i + size, phrase) for i in starts if self._is_at(i, phrase)]

    def _is_at(self, start: int, phrase: Phrase) -> bool:
        end = start + len(phrase)
        inner = zip(self.spans[start:end], self.spans[start + 1 : end], strict=False)
        return (
            tuple(self.stems[start:end]) == phrase
            and all(self.open[start:end])
            and all(GAP.fullmatch(self.text[a[1] : b[0]]) for a, b in inner)
        )

    def find(self, phrases: Iterable[Phrase]) -> list[Mention]:
        """Mentions of `phrases`, the longer first where two overlap."""
        found = [m for phrase in set(phrases) for m in self.says(phrase)]
        found.sort(key=lambda m: (m.start - m.end, m.start, m.phrase))
        taken: set[int] = set()
        kept = []
        for mention in found:
            places = set(range(mention.start, mention.end))
            if not places & taken:
                kept.append(mention)
                taken |= places
        return sorted(kept, key=lambda m: m.start)

    def is_noun(self, mention: Mention) -> bool:
        """False where the words may be a verb or a command: `List the`, `who rank`."""
        word = self.words[mention.start]
        if singular(word) not in VERBS:
            return True
        before = self.text[: self.spans[mention.start][0]]
        if SENTENCE_END.search(before):
            return False
        return self.words[mention.start - 1] not in VERB_CUES

    def has_relative(self, phrase: Phrase, mentions: Iterable[Mention]) -> bool:
        """True where a word that is no mention looks like one of `phrase`: directed, director."""
        covered = {i for m in mentions for i in range(m.start, m.end)}
        others = [w for i, w in enumerate(self.words) if i not in covered and self.open[i]]
        return any(_is_related(word, other) for word in phrase for other in others)

    def replaced(self, changes: Iterable[tuple[Mention, Phrase]]) -> str:
        """The question with other words at some mentions, in their number and case."""
        text = self.text
        for mention, phrase in sorted(changes, key=lambda c: c[0].start, reverse=True):
            start, end = self.spans[mention.start][0], self.spans[mention.end - 1][1]
            model = tuple(self.words[mention.start : mention.end])
            new = " ".join(inflect_like(phrase, model))
            new = _cased(new, text[start:end])
            text = _with_article(text[:start], new) + new + text[end:]
        return text


def is_renameable(phrase: Phrase) -> bool:
    """False for words that questions use in another sense, and for letters."""
    return all(len(word) > 2 for word in phrase) and not (
        len(phrase) == 1 and phrase[0] in NEVER_RENAMED
    )


def _protected(text: str, literals: Iterable[str]) -> Iterator[tuple[int, int]]:
    for match in QUOTED.finditer(text):
        yield match.span()
    for literal in literals:
        core = literal.strip("% ")
        if len(core) > 1:
            for match in re.finditer(rf"(?<!\w){re.escape(core)}(?!\w)", text, re.IGNORECASE):
                yield match.span()


def _is_related(word: str, other: str) -> bool:
    if singular(other) == word or plural(word) == other:
        return True
    size = max(4, len(word) - 3)
    return len(word) >= 4 and len(other) >= 4 and word[:size] == other[:size]


def _cased(new: str, old: str) -> str:
    if old.isupper() and len(old) > 1:
        return new.upper()
    if old == old.title() and len(old.split()) > 1:
        return new.title()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def _with_article(before: str, new: str) -> str:
    """`before`, its closing `a` or `an` made to fit `new`."""
    match = re.search(r"\b(an?)(\s+)$", before, re.IGNORECASE)
    if not match:
        return before
    right = "an" if AN_SOUNDS.match(new) else "a"
    right = right.capitalize() if match[1][0].isupper() else right
    return before[: match.start()] + right + match[2]
