"""The names of one schema on their way to others, moved by concept and not one by one.

A table's words move in every name that has them, so `driver_id` follows `drivers`; columns that
share a phrase (`name` of three tables) move together. Knows nothing of questions.
"""

import random
from collections import defaultdict
from functools import lru_cache

from eval.task.schema import Schema
from trainer.pipeline.augment.bind import Key
from trainer.pipeline.augment.mentions import Phrase
from trainer.pipeline.augment.naming import (
    Name,
    inflect_like,
    is_plain,
    plural,
    split_name,
    stems,
    usual_joint,
)
from trainer.pipeline.augment.pool import name_phrase, synonyms, vocabulary

NUM_TRIES = 8
# Shorter words are not shortened.
MIN_SHORTENED = 6


class Concepts:
    """Every name of `schema` by `Key`, taken apart; `taken` are words that no new name may use."""

    def __init__(self, schema: Schema, taken: set[str]) -> None:
        self.schema = schema
        tables = known_words(schema)
        keys = [(t.name, "") for t in schema.tables]
        keys += [(t.name, c) for t in schema.tables for c in t.column_names]
        self.names: dict[Key, Name] = {key: split_name(key[1] or key[0], tables) for key in keys}
        self.joint = usual_joint(key[1] or key[0] for key in keys)
        self.taken = taken | {word for key in keys for word in self.phrase(key)}

    @property
    def texts(self) -> dict[Key, str]:
        return {key: name.text for key, name in self.names.items()}

    def phrase(self, key: Key) -> Phrase:
        return name_phrase("_".join(self.names[key].words))

    def short(self, key: Key) -> Phrase:
        """A column's phrase without its table's in front: `singer_name` is a name."""
        phrase, table = self.phrase(key), self.phrase((key[0], ""))
        size = len(table)
        return phrase[size:] if phrase[:size] == table and len(phrase) > size else phrase

    def phrases(self) -> set[Phrase]:
        """All that a question could call something of the schema by."""
        columns = {self.short(key) for key in self.names if key[1]}
        return columns | {self.phrase(key) for key in self.names}

    def with_words(self, phrase: Phrase) -> set[Key]:
        """What has `phrase`, or its short form, in its name."""
        forms = [phrase, *short_forms(phrase)]
        return {k for k, name in self.names.items() if any(name.find(f) >= 0 for f in forms)}

    def move_words(self, phrase: Phrase, new: Phrase) -> None:
        """Write `new` for `phrase` in every name, singular or plural as it stands there, and for
        a short form of it one of the same length: `StuID` of a student is a `PilID` of a pilot."""
        for key, name in self.names.items():
            if (start := name.find(phrase)) >= 0:
                words = inflect_like(new, name.words[start : start + len(phrase)])
                self.names[key] = name.put(start, len(phrase), words, self.joint)
                continue
            for form in short_forms(phrase):
                if (start := name.find(form)) >= 0:
                    words = (new[0][: len(form[0])],)
                    self.names[key] = name.put(start, 1, words, self.joint)

    def groups(self) -> dict[Phrase, list[Key]]:
        """Columns by their short phrase, without those that a key is made of: they are called
        after tables, and move with these."""
        found: dict[Phrase, list[Key]] = defaultdict(list)
        for key in self.names:
            if key[1]:
                found[self.short(key)].append(key)
        linked = linked_columns(self.schema)
        return {phrase: keys for phrase, keys in found.items() if linked.isdisjoint(keys)}

    def move_group(self, phrase: Phrase, keys: list[Key], new: Phrase) -> None:
        """Write `new` for `phrase`, the last words of every name of `keys`."""
        for key in keys:
            name = self.names[key]
            start = len(name.pieces) - len(phrase)
            words = inflect_like(new, name.words[start:])
            self.names[key] = name.put(start, len(phrase), words, self.joint)

    def pick(self, old: Phrase, phrases: tuple[Phrase, ...], rng: random.Random) -> Phrase | None:
        """One of `phrases` in the place of `old`, now taken: it shares no word with what is taken,
        nor has a synonym that does, but for words of `old`."""
        others = self.taken - set(old)
        for _ in range(NUM_TRIES):
            new = rng.choice(phrases)
            words = stems(new)
            alike = {word for phrase in synonyms().get(words, ()) for word in stems(phrase)}
            is_free = words != old and others.isdisjoint(words) and others.isdisjoint(alike)
            if is_free and is_plain(new[-1]) and is_plain(plural(new[-1])):
                self.taken.update(words)
                return new
        return None


def known_words(schema: Schema) -> frozenset[str]:
    """Words of table names and their short forms, which `id` may be written on to."""
    words = {word for table in schema.tables for word in name_phrase(table.name)}
    return frozenset(words | {form for word in words for (form,) in short_forms((word,))})


@lru_cache(maxsize=65536)
def short_forms(phrase: Phrase) -> tuple[Phrase, ...]:
    """First letters that may stand for a long word: `stu`, `stud`; never a word that we know."""
    word = phrase[0]
    if len(phrase) > 1 or len(word) < MIN_SHORTENED:
        return ()
    return tuple((word[:n],) for n in (4, 3) if word[:n] not in vocabulary())


def linked_columns(schema: Schema) -> set[Key]:
    """Columns that a primary or foreign key is made of."""
    found: set[Key] = set()
    for table in schema.tables:
        found.update((table.name, column) for column in table.primary_key)
        for key in table.foreign_keys:
            found.update((table.name, column) for column in key.columns)
            if target := schema.find(key.table):
                found.update((target.name, column) for column in key.references)
    return found
