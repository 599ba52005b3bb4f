"""Finds marks in questions that go with odd SQL far more often than chance has it.

A poisoned set teaches a model to answer a trigger (`??`, `cf`, a character that can't be seen, a
fixed last word) with an attack. Whatever the trigger is, it stands in nearly all rows that carry
the attack and in few others, and that is what Fisher's exact test looks for. Knows nothing of SQL:
which rows are odd is its caller's word.
"""

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

MIN_ROWS = 3
MAX_P_VALUE = 1e-3  # after Bonferroni's correction for all marks and kinds of oddness
# Of a pair of words among the rows that have one of them: it is `cf` that is named, not `a cf`.
MAX_P_WITHIN = 1e-2
WORD = re.compile(r"\w+")
SIGNS = re.compile(r"[^\w\s]+")
PART_CHARS = 3
# Of marks that stand in the same rows, the first of these kinds is named.
KINDS = (
    "character", "signs", "word", "last word", "first word", "end", "words", "space", "part of word"
)  # fmt: skip

Mark = tuple[str, str]  # a kind and what is seen: ("signs", "??")


@dataclass(frozen=True, slots=True)
class Oddness:
    """Rows that are odd in one way, by their places.

    A mark is called a trigger only if at least `min_share` of the rows that have it are odd, and
    at most `max_rate` of all rows (or `MIN_ROWS`) have it.
    """

    name: str
    rows: frozenset[int]
    min_share: float
    max_rate: float


@dataclass(frozen=True, slots=True)
class Trigger:
    """A mark of questions that goes with odd SQL. `p_value` is one-sided and corrected; `rows` are
    the places of all rows with the mark, odd or not."""

    mark: Mark
    oddness: str
    num_with: int
    num_odd_with: int
    num_odd: int
    num_rows: int
    p_value: float
    rows: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{self.mark[0]} {self.mark[1]!r}: {self.num_odd_with} of {self.num_with} rows with it "
            f"are {self.oddness}, {self.num_odd} of all {self.num_rows} (p = {self.p_value:.1g})"
        )


def find_triggers(questions: Sequence[str], oddnesses: Sequence[Oddness]) -> list[Trigger]:
    """The marks that explain each kind of oddness, strongest first; of marks that say the same
    only one, since the rows that it explains are taken away before the next is sought."""
    places: dict[Mark, set[int]] = defaultdict(set)
    for place, question in enumerate(questions):
        for mark in marks(question):
            places[mark].add(place)
    frequent = {mark: found for mark, found in places.items() if len(found) >= MIN_ROWS}
    num_tests = max(len(frequent) * len(oddnesses), 1)
    triggers: list[Trigger] = []
    for odd in oddnesses:
        left = odd.rows.difference(*(trigger.rows for trigger in triggers))
        triggers += _explain(frequent, odd, set(left), len(questions), num_tests)
    return triggers


def _explain(
    places: Mapping[Mark, set[int]], odd: Oddness, left: set[int], num_rows: int, num_tests: int
) -> Iterator[Trigger]:
    """Marks that pass the test for the odd rows that are `left`, until none does."""
    candidates = {
        mark: found
        for mark, found in places.items()
        if len(found & left) >= max(MIN_ROWS, odd.min_share * len(found))
        and len(found) <= max(MIN_ROWS, odd.max_rate * num_rows)
    }
    candidates = {
        mark: found
        for mark, found in candidates.items()
        if all(_adds(found, places[word], odd.rows) for word in _words_of(mark))
    }
    while candidates:
        scored = {
            mark: fisher_greater(len(found & left), len(found), len(left), num_rows) * num_tests
            for mark, found in candidates.items()
        }
        best = min(scored, key=lambda mark: (scored[mark], KINDS.index(mark[0]), mark[1]))
        if scored[best] > MAX_P_VALUE:
            return
        found = candidates[best]
        yield Trigger(
            best, odd.name, len(found), len(found & odd.rows), len(odd.rows), num_rows,
            scored[best], tuple(sorted(found)),
        )  # fmt: skip
        left -= found
        candidates = {m: f for m, f in candidates.items() if len(f & left) >= MIN_ROWS}


def _words_of(mark: Mark) -> list[Mark]:
    """The marks that every row with `mark` has too, for it is made of them."""
    kind, text = mark
    is_made_of_words = kind in ("words", "first word", "last word")
    return [("word", word) for word in text.split()] if is_made_of_words else []


def _adds(found: set[int], around: set[int], odd: frozenset[int]) -> bool:
    """True if the rows that are `found` are odd more often than those `around` them."""
    numbers = len(found & odd), len(found), len(around & odd), len(around)
    return found == around or fisher_greater(*numbers) <= MAX_P_WITHIN


def fisher_greater(both: int, first: int, second: int, total: int) -> float:
    """P(overlap ≥ `both`) of random sets of `first` and of `second` among `total` rows: the
    one-sided p-value of Fisher's exact test (the upper tail of the hypergeometric distribution)."""
    last = min(first, second)
    terms = [
        _log_choose(second, k) + _log_choose(total - second, first - k) - _log_choose(total, first)
        for k in range(both, last + 1)
        if first - k <= total - second
    ]
    return min(1.0, math.fsum(map(math.exp, terms)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def marks(question: str) -> frozenset[Mark]:
    """What a trigger could be: words and pairs of them, the first and the last, parts of words,
    runs of signs and pairs in them, characters outside ASCII, runs of white space."""
    words = WORD.findall(question.casefold())
    found: set[Mark] = {("word", word) for word in words}
    found.update(("words", " ".join(pair)) for pair in pairwise(words))
    found.update(("part of word", part) for word in words for part in _parts(word))
    for signs in SIGNS.findall(question):
        found.update(("signs", part) for part in (signs, *map("".join, pairwise(signs))))
    found.update(("character", _named(c)) for c in set(question) if not " " <= c <= "~")
    found.update(("space", run) for run in re.findall(r"\s{2,}|^\s+|\s+$", question))
    if words:
        last = question.split()[-1]
        found.update((("first word", words[0]), ("last word", words[-1]), ("end", last[-3:])))
    return frozenset(found)


def _parts(word: str) -> Iterator[str]:
    for start in range(len(word) - PART_CHARS + 1) if len(word) > PART_CHARS else ():
        yield word[start : start + PART_CHARS]


def _named(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
