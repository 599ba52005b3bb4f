"""The question side of a template: which words mention what of the query, and which are left."""

import re
from collections.abc import Sequence

from trainer.pipeline.compose.catalogue import Attribute
from trainer.pipeline.compose.draw import NUMBER_WORDS
from trainer.pipeline.compose.kinds import KINDS
from trainer.pipeline.compose.phrases import is_plural, singular
from trainer.pipeline.compose.skeleton import NotGeneralError, Skeleton

TOKEN = re.compile(r"\d+(?:[.,:/-]\d+)*|\w+(?:'s)?|[^\w\s]")
PLACE = re.compile(r"zz([TCV])(\d+)zz")
MARKS = frozenset(",.?!;:'\"\u2018\u2019\u201c\u201d-()")
# Words of names that any question may hold.
PLAIN = frozenset("a and at by for from in is of on the to with".split())
# How far behind "name" the noun may stand: "the name of each of the singers".
MAX_BEHIND = 4
# A noun that stands as a verb, or beside another without a word between; values after a
# preposition that fits places only; and the like.
NOT_GENERAL = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b(?:is|are|was|were|been|be|to|not|that|which|they|it|who) zzt",
        r"zzt\d+zz(?:\.p)? zzt",
        r"\b(?:in|on|at) (?:the |a |an )?(?:[\"'\u201c] )?zzv",
        r"\bare (?:on|in|at) *[,.?]?$",
        r"\b(?:they|who|it) zzc",
        r"\bfrom there\b",
        r"\bno zzt.* that (?:are|is|have|has)\b",
    )
)
OVER_JOIN = re.compile(r"\b(?:in|on|at|from|by|into) (?:the |a |an |all |each |any )?zzt")
COUNTED = re.compile(
    r"\b(?:than|least|most|exactly|or more|only|equal to|with|have|has|by|had)\b(?: \S+){1,3} "
    r"(?:\S+ )?zzt|number of \S*zzt"
)


class Mentions:
    """The tokens of a question, and the place that each stands for: None until it is claimed, ""
    for all but the first of a mention."""

    def __init__(self, question: str, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self.tokens = TOKEN.findall(question)
        self.words = [token.lower() for token in self.tokens]
        self.stems = [singular(word) for word in self.words]
        self.places: list[str | None] = [None] * len(self.tokens)
        self.twins: frozenset[str] = frozenset()

    def parts(self) -> tuple[str, ...]:
        """Tokens and places, in order."""
        both = zip(self.places, self.tokens, strict=True)
        return tuple(place or token for place, token in both if place != "")

    def match(self) -> None:
        """Claim the words for every value, column and table that a reader must be told of.

        Raises:
            NotGeneralError: one is not mentioned.
        """
        self._match_constants()
        self._match_values()
        self._match_columns()
        self._match_tables()

    def expect_general(self, common: frozenset[str]) -> None:
        """Raise NotGeneralError if what is left holds a word that is not of `common`, or of the
        schema, or is built so that other nouns would not fit."""
        own = self._words_of_schema()
        for place, word in zip(self.places, self.words, strict=True):
            if place is None and not self._is_general(word, common, own):
                raise NotGeneralError
        text = " ".join(self.parts()).lower()
        if any(pattern.search(text) for pattern in NOT_GENERAL):
            raise NotGeneralError
        if len(self.skeleton.tables) > 1 and OVER_JOIN.search(text):
            raise NotGeneralError
        is_counted = re.search(r"COUNT\(\*\) [<>=]", self.skeleton.tree.sql("sqlite"))
        if is_counted and not COUNTED.search(text):
            raise NotGeneralError

    def _is_general(self, word: str, common: frozenset[str], own: frozenset[str]) -> bool:
        if not word[0].isalnum():
            return word in MARKS
        is_constant = word.isdigit() and word in self.skeleton.constants
        return is_constant or (word in common and singular(word) not in own)

    def _words_of_schema(self) -> frozenset[str]:
        entities = self.skeleton.catalogue.entities.values()
        phrases = [p for e in entities for p in (e.one, *(a.full for a in e.attributes))]
        return frozenset(singular(w) for phrase in phrases for w in phrase.split()) - PLAIN

    def _match_constants(self) -> None:
        """LIMIT 1 needs no word: "the oldest"; other numbers do."""
        for number in self.skeleton.constants:
            said = {number, NUMBER_WORDS.get(int(number), number)} if number.isdigit() else set()
            if number != "1" and not said & set(self.words):
                raise NotGeneralError

    def _match_values(self) -> None:
        for number, (_, text) in enumerate(self.skeleton.values):
            wanted = [token.lower() for token in TOKEN.findall(text)]
            start = self._find(self.words, wanted)
            if not wanted or start is None:
                raise NotGeneralError
            self._put(start, len(wanted), f"zzV{number}zz")

    def _match_columns(self) -> None:
        attributes = {i: self.skeleton.attribute(i) for i in sorted(self.skeleton.mentioned)}
        phrases = [a.phrase for a in attributes.values()]
        self.twins = frozenset(p for p in phrases if phrases.count(p) > 1)
        longest_first = sorted(attributes.items(), key=lambda item: -len(item[1].full))
        for index, attribute in longest_first:
            if attribute.kind not in KINDS or attribute.kind == "flag":
                raise NotGeneralError
            if not self._claim_column(attribute, f"zzC{index}zz"):
                self._expect_implied(index, attribute)

    def _claim_column(self, attribute: Attribute, place: str) -> bool:
        noun = self.skeleton.catalogue.entities[attribute.table].one
        said = (f"{noun} {attribute.phrase}", attribute.full, attribute.phrase)
        if attribute.phrase in self.twins:
            return self._claim(said[0], place) or self._claim_before(attribute, noun, place)
        return any(self._claim(words, place) for words in said)

    def _claim_before(self, attribute: Attribute, noun: str, place: str) -> bool:
        """Claim "name" of "the name of the singer" for the singer's."""
        wanted = [singular(word) for word in attribute.phrase.split()]
        for start in range(len(self.stems) - len(wanted)):
            end = start + len(wanted)
            behind = self.stems[end : end + MAX_BEHIND]
            is_owned = behind[0] in ("of", "for") and noun.split()[-1] in behind
            is_found = self._is_at(self.stems, wanted, start) and is_owned
            if is_found and "and" not in behind[: behind.index(noun.split()[-1])]:
                self._put_noun(start, len(wanted), place)
                return True
        return False

    def _expect_implied(self, index: int, attribute: Attribute) -> None:
        """A name may go unsaid where its value, or a "which", stands beside the noun."""
        nodes = self.skeleton.nodes(index)
        noun = self.skeleton.catalogue.entities[attribute.table].one.split()
        stems = [singular(word) for word in noun]
        is_name = attribute.kind == "name" and attribute.phrase not in self.twins
        if not is_name or len(nodes) != 1:
            raise NotGeneralError
        is_asked = nodes[0].parent is nodes[0].parent_select and self.stems[0] == "which"
        if is_asked and self.stems[1 : 1 + len(stems)] == stems:
            return
        if self._before_value(index)[-len(stems) :] != stems:
            raise NotGeneralError

    def _before_value(self, index: int) -> list[str]:
        """The words before the one value that column slot `index` is compared with."""
        slots = [slot.column for slot, _ in self.skeleton.values]
        if slots.count(index) != 1:
            return []
        at = self.places.index(f"zzV{slots.index(index)}zz")
        return [w for w in self.stems[:at] if w[0].isalnum() and w not in ("named", "called")]

    def _match_tables(self) -> None:
        """Every table must be named, but for those that only stand between others."""
        skeleton = self.skeleton
        needed = {skeleton.columns[i][0] for i in skeleton.mentioned}
        linked = [skeleton.columns[i][0] for pair in skeleton.links for i in pair]
        nouns = {table: skeleton.catalogue.entities[table].one for table in skeleton.tables}
        for table in sorted(skeleton.tables, key=lambda name: -len(nouns[name])):
            place = f"zzT{skeleton.tables.index(table)}zz"
            is_between = linked.count(table) > 1 and table not in needed
            if not self._claim(nouns[table], place, every=True) and not is_between:
                raise NotGeneralError

    def _claim(self, phrase: str, place: str, *, every: bool = False) -> bool:
        """Put `place` where `phrase` stands, in either number: first or everywhere."""
        wanted = [singular(word) for word in phrase.split()]
        start = self._find(self.stems, wanted)
        is_found = start is not None
        while start is not None:
            self._put_noun(start, len(wanted), place)
            start = self._find(self.stems, wanted) if every else None
        return is_found

    def _find(self, said: Sequence[str], wanted: Sequence[str]) -> int | None:
        starts = range(len(said) - len(wanted) + 1)
        return next((s for s in starts if self._is_at(said, wanted, s)), None)

    def _is_at(self, said: Sequence[str], wanted: Sequence[str], start: int) -> bool:
        end = start + len(wanted)
        is_free = all(place is None for place in self.places[start:end])
        return is_free and list(said[start:end]) == list(wanted)

    def _put_noun(self, start: int, length: int, place: str) -> None:
        is_many = is_plural(self.words[start + length - 1])
        self._put(start, length, place + (".p" if is_many else ""))

    def _put(self, start: int, length: int, place: str) -> None:
        self.places[start : start + length] = [place, *[""] * (length - 1)]
