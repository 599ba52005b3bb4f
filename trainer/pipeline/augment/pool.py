"""What all rows together offer to a copy of one: other databases' tables, and phrases for names.

A phrase from another schema is taken only where questions use it: `num_employees` is a name,
`release year` is something that people say.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from eval.task.schema import Schema
from trainer.pipeline.augment.mentions import WORD, Phrase, is_renameable
from trainer.pipeline.augment.naming import singular, split_name, stems
from trainer.pipeline.augment.words import COLUMNS, SYNONYMS, TABLES
from trainer.pipeline.row import Row

MAX_PHRASE_WORDS = 3
# Longer names belong where they are: `floor exercise points`.
MAX_TAKEN_WORDS = 2
# Classes that other schemas add nothing to: a `pilot name` is the name of a pilot alone.
OWN_ONLY = frozenset({"name", "human name", "person name"})


@dataclass(frozen=True)
class Pool:
    """Schemas by database, in the order of their names, and the phrases heard in questions."""

    schemas: tuple[tuple[str, Schema], ...]
    heard: frozenset[Phrase]

    @cached_property
    def columns(self) -> dict[str, tuple[Phrase, ...]]:
        """Column concepts by class: our own, and heard ones of the schemas."""
        return self._with_heard(COLUMNS, _column_classes(), is_table=False)

    @cached_property
    def tables(self) -> dict[str, tuple[Phrase, ...]]:
        """Table concepts by class."""
        return self._with_heard(TABLES, _table_classes(), is_table=True)

    def _with_heard(
        self, own: dict[str, tuple[str, ...]], classes: dict[Phrase, str], *, is_table: bool
    ) -> dict[str, tuple[Phrase, ...]]:
        found = {key: [tuple(p.split()) for p in phrases] for key, phrases in own.items()}
        for phrase in sorted(self._schema_phrases(is_table)):
            key = class_of(stems(phrase), classes)
            if key and key not in OWN_ONLY and stems(phrase) in self.heard:
                found[key].append(phrase)
        return {key: tuple(dict.fromkeys(phrases)) for key, phrases in found.items()}

    def _schema_phrases(self, is_table: bool) -> set[Phrase]:
        """Names of the schemas as they are written; those with another table's name in them mean
        little elsewhere (`party_phone`)."""
        found: set[Phrase] = set()
        for _, schema in self.schemas:
            tables = {name_phrase(table.name) for table in schema.tables}
            for table in schema.tables:
                for name in [table.name] if is_table else table.column_names:
                    words = split_name(name).words
                    if not any(_holds(stems(words), other) for other in tables):
                        found.add(stems(words) if is_table else words)
        return {p for p in found if is_renameable(p) and len(p) <= MAX_TAKEN_WORDS}


def make_pool(rows: Iterable[Row]) -> Pool:
    """The pool of `rows`; a database's schema is that of its first row."""
    schemas: dict[str, Schema] = {}
    heard: set[Phrase] = set()
    for row in rows:
        if row.db_id not in schemas and row.schema:
            schemas[row.db_id] = row.schema
        words = [singular(word.lower()) for word in WORD.findall(row.question)]
        for size in range(1, MAX_PHRASE_WORDS + 1):
            heard.update(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
    return Pool(tuple(sorted(schemas.items())), frozenset(heard))


def class_of(phrase: Phrase, classes: dict[Phrase, str]) -> str:
    """The class of the longest ending of `phrase` that has one; "" if none has."""
    endings = (phrase[i:] for i in range(len(phrase)))
    return next((classes[ending] for ending in endings if ending in classes), "")


def column_class(phrase: Phrase) -> str:
    return class_of(phrase, _column_classes())


def classed_part(phrase: Phrase) -> Phrase:
    """The longest ending of a column's phrase that has a class: what it is, without of what."""
    classes = _column_classes()
    return next((phrase[i:] for i in range(len(phrase)) if phrase[i:] in classes), phrase)


def table_class(phrase: Phrase) -> str:
    return class_of(phrase, _table_classes())


@lru_cache(maxsize=65536)
def name_phrase(name: str) -> Phrase:
    """The words of a name, each in singular."""
    return stems(split_name(name).words)


@lru_cache(maxsize=1)
def _column_classes() -> dict[Phrase, str]:
    return _by_phrase(COLUMNS)


@lru_cache(maxsize=1)
def _table_classes() -> dict[Phrase, str]:
    return _by_phrase(TABLES)


@lru_cache(maxsize=1)
def synonyms() -> dict[Phrase, tuple[Phrase, ...]]:
    """What may stand for a phrase in a schema, the phrase itself left out."""
    found: dict[Phrase, tuple[Phrase, ...]] = {}
    for group in SYNONYMS:
        phrases = [tuple(text.split()) for text in group]
        for phrase in phrases:
            others = tuple(p for p in phrases if p != phrase)
            found[stems(phrase)] = found.get(stems(phrase), ()) + others
    return found


@lru_cache(maxsize=1)
def vocabulary() -> frozenset[str]:
    """Every word of our own concepts."""
    phrases = [*_column_classes(), *_table_classes(), *synonyms()]
    return frozenset(word for phrase in phrases for word in phrase)


def _holds(phrase: Phrase, other: Phrase) -> bool:
    """True where `other` is a part of `phrase`, and not all of it."""
    size = len(other)
    return phrase != other and any(phrase[i : i + size] == other for i in range(len(phrase)))


def _by_phrase(table: dict[str, tuple[str, ...]]) -> dict[Phrase, str]:
    found: dict[Phrase, str] = {}
    for key, phrases in table.items():
        for phrase in phrases:
            found.setdefault(stems(phrase.split()), key)
    return found
