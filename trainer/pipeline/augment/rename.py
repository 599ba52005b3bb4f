"""Gives tables and columns the names of other concepts, in schema, query and question alike:
"How many singers are there?" becomes "How many pilots are there?", on a table of pilots.

A concept that the query uses moves only where the question says its name, everywhere that it
does, and says nothing else of it ("oldest" speaks of an age). What neither speaks of moves freely.
"""

import random
from collections.abc import Iterable

from sqlglot import exp

from trainer.pipeline.augment.bind import Key, UnboundError, bound_keys, parse
from trainer.pipeline.augment.concepts import Concepts
from trainer.pipeline.augment.mentions import Mention, Phrase, Question, is_renameable
from trainer.pipeline.augment.names import rename_row
from trainer.pipeline.augment.pool import Pool, classed_part, column_class, table_class
from trainer.pipeline.augment.words import TELLING
from trainer.pipeline.row import Row

TABLE_SHARE = 0.8
COLUMN_SHARE = 0.6
# What these classes are in a table of people.
HUMAN = {"name": "human name", "measure": "human measure"}


def rename(row: Row, rng: random.Random, pool: Pool) -> Row | None:
    """`row` with other concepts; None where none can move."""
    if row.schema is None:
        return None
    try:
        used = bound_keys(row.sql, row.dialect, row.schema)
        question = Question(row.question, literals_of(row))
    except UnboundError:
        return None
    renaming = _Renaming(Concepts(row.schema, set(question.stems)), used, question, rng)
    renaming.move_tables(pool)
    renaming.move_columns(pool)
    copy = rename_row(row, renaming.concepts.texts)
    return copy and copy.with_(question=question.replaced(renaming.changes))


def literals_of(row: Row) -> list[str]:
    """The texts of the string literals of the query."""
    tree = parse(row.sql, row.dialect)
    return [literal.name for literal in tree.find_all(exp.Literal) if literal.is_string]


class _Renaming:
    """Moves concepts, and collects what that changes in the question."""

    def __init__(
        self, concepts: Concepts, used: frozenset[Key], question: Question, rng: random.Random
    ) -> None:
        self.concepts, self.used, self.question, self.rng = concepts, used, question, rng
        self.mentions = question.find(concepts.phrases())
        tables = [table.name for table in concepts.schema.tables]
        self.tables = {concepts.phrase((name, ""))[-1]: name for name in tables}
        self.changes: list[tuple[Mention, Phrase]] = []

    def move_tables(self, pool: Pool) -> None:
        tables = [table.name for table in self.concepts.schema.tables]
        for table in self.rng.sample(tables, len(tables)):
            phrase = self.concepts.phrase((table, ""))
            kind = table_class(phrase)
            if not kind or self.rng.random() > TABLE_SHARE or not self._may_move_words(phrase):
                continue
            if new := self.concepts.pick(phrase, pool.tables[kind], self.rng):
                self.concepts.move_words(phrase, new)
                self._say(self.question.says(phrase), new)

    def _may_move_words(self, phrase: Phrase) -> bool:
        question = self.question
        said = question.says(phrase)
        return (
            is_renameable(phrase)
            and (bool(said) or self.concepts.with_words(phrase).isdisjoint(self.used))
            and all(map(question.is_noun, said))
            and self._words_outside(phrase, said) == set()
            and not question.has_relative(phrase, said)
        )

    def move_columns(self, pool: Pool) -> None:
        for phrase, keys in self.concepts.groups().items():
            kind = self._kind(phrase, keys)
            if kind and is_renameable(phrase) and self.rng.random() < COLUMN_SHARE:
                self._move_columns(phrase, keys, kind, pool)

    def _kind(self, phrase: Phrase, keys: list[Key]) -> str:
        """The class of a column; people have other names and measures than things."""
        kind = column_class(phrase)
        owners = {table_class(self.concepts.phrase((table, ""))) for table, _ in keys}
        return HUMAN.get(kind, kind) if owners == {"person"} else kind

    def _move_columns(self, phrase: Phrase, keys: list[Key], kind: str, pool: Pool) -> None:
        said = [mention for mention in self.mentions if mention.phrase == phrase]
        if self.used.isdisjoint(keys):
            may_move = not self._words_outside(phrase, [])
        else:
            may_move = self._may_move_said(phrase, said, kind)
            may_move = may_move and not any(self._is_of_another(m, keys) for m in said)
        head = classed_part(phrase)
        if may_move and (new := self.concepts.pick(head, pool.columns[kind], self.rng)):
            new = phrase[: -len(head)] + new
            self.concepts.move_group(phrase, keys, new)
            self._say(said, new)

    def _may_move_said(self, phrase: Phrase, said: list[Mention], kind: str) -> bool:
        question = self.question
        telling = frozenset(TELLING.get(kind, ()))
        return (
            bool(said)
            and telling.isdisjoint(question.words)
            and all(map(question.is_noun, said))
            and self._words_outside(phrase, self.mentions) == set()
            and not question.has_relative(phrase, self.mentions)
            and not any(m.start in self._changed for m in said)
        )

    def _is_of_another(self, mention: Mention, keys: list[Key]) -> bool:
        """True for the name in `movie name` where only other tables have a name."""
        before = self.question.stems[mention.start - 1] if mention.start else ""
        table = self.tables.get(before)
        return table is not None and all(owner != table for owner, _ in keys)

    def _words_outside(self, phrase: Phrase, mentions: Iterable[Mention]) -> set[int]:
        """Where the question has a word of `phrase` that is in none of `mentions`."""
        covered = {i for mention in mentions for i in range(mention.start, mention.end)}
        stems, is_open = self.question.stems, self.question.open
        return {i for i, stem in enumerate(stems) if stem in phrase and is_open[i]} - covered

    @property
    def _changed(self) -> set[int]:
        return {i for mention, _ in self.changes for i in range(mention.start, mention.end)}

    def _say(self, said: Iterable[Mention], new: Phrase) -> None:
        changed = self._changed
        self.changes += [(m, new) for m in said if changed.isdisjoint(range(m.start, m.end))]
