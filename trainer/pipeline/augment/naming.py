"""Names as words: `Song_release_year` is song, release, year, whatever the style that it is in.

Knows English plurals well enough for schemas, nothing of what a word means.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from eval.task.prompt import PLAIN, RESERVED

PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
# Endings that are written on to a word without a mark: `driverid`, `countrycode`.
GLUED = ("id", "name", "code", "date", "number", "type")

IRREGULAR = {
    "person": "people",
    "child": "children",
    "man": "men",
    "woman": "women",
    "salesman": "salesmen",
    "fireman": "firemen",
    "fisherman": "fishermen",
    "chairman": "chairmen",
    "policeman": "policemen",
    "foot": "feet",
    "mouse": "mice",
    "hero": "heroes",
    "potato": "potatoes",
    "datum": "data",
    "medium": "media",
    "criterion": "criteria",
    "analysis": "analyses",
    "diagnosis": "diagnoses",
    "thesis": "theses",
    "crisis": "crises",
    "basis": "bases",
    "shelf": "shelves",
    "leaf": "leaves",
    "life": "lives",
    "knife": "knives",
    "wife": "wives",
    "movie": "movies",
    "cookie": "cookies",
    "calorie": "calories",
    "quiz": "quizzes",
    "bus": "buses",
    "virus": "viruses",
    "status": "statuses",
    "campus": "campuses",
    "census": "censuses",
    "bonus": "bonuses",
    "lens": "lenses",
    "gas": "gases",
    "alias": "aliases",
    "atlas": "atlases",
    "circus": "circuses",
    "cache": "caches",
    "shoe": "shoes",
}
SINGULAR = {plural: singular for singular, plural in IRREGULAR.items()}
# No plural, or one that looks like the singular: never inflected.
INVARIANT = frozenset(
    """
    aircraft series species sheep fish staff equipment furniture news information sales details
    goods headquarters sports mathematics physics economics statistics chess is has was its this
    his thus us plus yes less as always across address business process class pass access loss
    boss glass dress press mass gross congress tennis fitness illness witness
    """.split()
)
LINKS = frozenset({"of", "in", "per", "by", "at", "to", "from"})
ES_ENDINGS = ("s", "x", "z", "ch", "sh")
SINGULAR_S = frozenset(
    "address business process class pass access loss boss glass dress press mass congress illness "
    "witness".split()
)


@lru_cache(maxsize=65536)
def plural(word: str) -> str:
    """The plural of a lower-case singular noun; a plural comes back as it is."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word in SINGULAR_S:
        return word + "es"
    if word in INVARIANT or word in SINGULAR or singular(word) != word:
        return word
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(ES_ENDINGS) else "s")


@lru_cache(maxsize=65536)
def singular(word: str) -> str:
    """The singular of a lower-case noun; a singular comes back as it is."""
    if word in SINGULAR:
        return SINGULAR[word]
    if word in IRREGULAR or word in INVARIANT or len(word) < 4 or not word.endswith("s"):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("es") and word[:-2].endswith(("ss", "x", "zz", "ch", "sh")):
        return word[:-2]
    return word if word.endswith(("ss", "us", "is")) else word[:-1]


def is_plural(word: str) -> bool:
    return singular(word) != word


def head(words: tuple[str, ...]) -> int:
    """Where the noun of a phrase is that takes its plural: date in `date of birth`."""
    return next((i - 1 for i, word in enumerate(words) if i and word in LINKS), len(words) - 1)


def inflect_like(words: tuple[str, ...], model: tuple[str, ...]) -> tuple[str, ...]:
    """`words` in plural where the phrase `model` is, else as they are."""
    if not is_plural(model[head(model)]):
        return words
    at = head(words)
    return (*words[:at], plural(words[at]), *words[at + 1 :])


def stems(words: Iterable[str]) -> tuple[str, ...]:
    """Each word in singular: how phrases are compared."""
    return tuple(map(singular, words))


@dataclass(frozen=True, slots=True)
class Name:
    """A name taken apart: `pieces` in their own case, `joints[i]` written before piece i + 1."""

    pieces: tuple[str, ...]
    joints: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(piece.lower() for piece in self.pieces)

    @property
    def text(self) -> str:
        return "".join(
            joint + piece for joint, piece in zip(("", *self.joints), self.pieces, strict=True)
        )

    def find(self, phrase: tuple[str, ...]) -> int:
        """Where `phrase` (singular words) stands in this name in singular or plural; else -1."""
        words = [singular(word) for word in self.words]
        size = len(phrase)
        starts = range(len(words) - size + 1)
        return next((i for i in starts if tuple(words[i : i + size]) == phrase), -1)

    def put(self, start: int, size: int, words: tuple[str, ...], joint: str) -> "Name":
        """`size` pieces from `start` on replaced by `words` in their case; `joint` joins them."""
        model = self.pieces[start]
        inner = next(iter(self.joints), joint)
        if inner == "" and len(self.pieces) == 1:
            inner = joint
        new = tuple(cased_piece(w, model, is_first=not i, joint=inner) for i, w in enumerate(words))
        pieces = self.pieces[:start] + new + self.pieces[start + size :]
        before = self.joints[: max(start - 1, 0)] + ((self.joints[start - 1],) if start else ())
        after = self.joints[start + size - 1 :] if start + size < len(self.pieces) else ()
        return Name(pieces, before + (inner,) * (len(words) - 1) + after)


def cased_piece(word: str, model: str, *, is_first: bool, joint: str) -> str:
    """`word` as the piece of a name whose piece `model` it replaces."""
    if model.isupper() and len(model) > 1:
        return word.upper()
    if model[:1].isupper() or (joint == "" and not is_first):
        return word.capitalize()
    return word


@lru_cache(maxsize=65536)
def split_name(name: str, known: frozenset[str] = frozenset()) -> Name:
    """Take `name` apart at marks, at changes of case, and after a word of `known` that an ending
    of `GLUED` is written on to."""
    pieces: list[str] = []
    joints: list[str] = []
    end = 0
    for match in PIECE.finditer(name):
        for part in _unglued(match[0], known):
            start = name.index(part, end)
            joints.append(name[end:start])
            pieces.append(part)
            end = start + len(part)
    if not pieces or joints[0] or end != len(name) or not name.isascii():
        return Name((name,), ())
    return Name(tuple(pieces), tuple(joints[1:]))


def _unglued(piece: str, known: frozenset[str]) -> tuple[str, ...]:
    lower = piece.lower()
    for ending in GLUED:
        stem = lower.removesuffix(ending)
        if stem != lower and singular(stem) in known:
            return piece[: len(stem)], piece[len(stem) :]
    return (piece,)


def usual_joint(names: Iterable[str]) -> str:
    """What most names of several words are joined by: `_`, or nothing for camel case."""
    joints = Counter(split_name(name).joints[0] for name in names if split_name(name).joints)
    return "_" if joints["_"] >= joints[""] else ""


def is_plain(name: str) -> bool:
    """True where `name` needs no quotes."""
    return bool(PLAIN.fullmatch(name)) and name.lower() not in RESERVED


def snake(words: Iterable[str]) -> Name:
    pieces = tuple(words)
    return Name(pieces, ("_",) * (len(pieces) - 1))


def restyled(name: Name, style: str) -> Name:
    """`name` in a style of `STYLES`."""
    joint, case = STYLES[style]
    pieces = tuple(_case(word, case, is_first=not i) for i, word in enumerate(name.words))
    return replace(name, pieces=pieces, joints=(joint,) * (len(pieces) - 1))


def _case(word: str, case: str, *, is_first: bool) -> str:
    if case == "upper":
        return word.upper()
    if case == "title" or (case == "camel" and not is_first):
        return word.capitalize()
    return word


STYLES = {
    "snake": ("_", "lower"),
    "camel": ("", "camel"),
    "pascal": ("", "title"),
    "joined": ("", "lower"),
    "upper": ("_", "upper"),
    "title": ("_", "title"),
}
