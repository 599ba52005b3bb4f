"""What of a data set a model may have seen before: public sets, training data, repeated golds.

Knows nothing of models: it compares texts.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from eval.task.example import Example
from eval.task.statement import normalize_sql

# By the `source` of an example: the set's name, the year it became public, what of it is older.
PUBLIC_SETS = {
    "bird": ("BIRD", 2023, ""),
    "cosql": ("CoSQL", 2019, "its databases are Spider's, of 2018"),
    "dr-spider": ("Dr.Spider", 2023, "its SQL and databases build on Spider's, of 2018"),
    "kaggledbqa": ("KaggleDBQA", 2021, ""),
    "sparc": ("SParC", 2019, "its databases are Spider's, of 2018"),
    "spider": ("Spider", 2018, ""),
    "spider-dk": ("Spider-DK", 2021, "its databases are Spider's, of 2018"),
    "spider-realistic": ("Spider-Realistic", 2021, "its SQL and databases are Spider's, of 2018"),
    "spider-syn": ("Spider-Syn", 2021, "its SQL and databases are Spider's, of 2018"),
    "spider2": ("Spider 2.0", 2024, ""),
    "wikisql": ("WikiSQL", 2017, ""),
}


@dataclass(frozen=True, slots=True)
class Overlap:
    """Ids of the items found in the training data, by what of them is there."""

    question: tuple[str, ...] = ()
    sql: tuple[str, ...] = ()
    database: tuple[str, ...] = ()

    @property
    def leaked(self) -> frozenset[str]:
        """Items whose question or gold query was trained on: score them apart from the others."""
        return frozenset(self.question) | frozenset(self.sql)


@dataclass(frozen=True, slots=True)
class Contamination:
    """`notes` are sentences for the report; `overlap` is None without training data."""

    notes: tuple[str, ...]
    counts: dict[str, int] = field(default_factory=dict)
    overlap: Overlap | None = None


def find_contamination(
    examples: Sequence[Example], train: Sequence[Example] | None = None
) -> Contamination:
    """What the reader of a score on `examples` must know of earlier exposure.

    Questions are compared by their words, queries by `normalize_sql` (of several golds, one that
    was seen is enough), databases by `db_id`: a paraphrase or a rewritten query is not found, so
    that the counts are lower bounds. Counts: `items`, `distinct_golds`, `repeated_questions`, and
    with `train` `in_train_question`, `in_train_sql`, `in_train_database`.
    """
    golds = {(example.db_id, normalize_sql(example.sql, example.dialect)) for example in examples}
    asked = {(example.db_id, normalize_question(example.question)) for example in examples}
    counts = {
        "items": len(examples),
        "distinct_golds": len(golds),
        "repeated_questions": len(examples) - len(asked),
    }
    notes = [*_public_notes(examples), *_repeat_notes(counts)]
    if train is None:
        return Contamination(tuple(notes), counts)
    overlap = find_overlap(examples, train)
    counts |= {
        "in_train_question": len(overlap.question),
        "in_train_sql": len(overlap.sql),
        "in_train_database": len(overlap.database),
    }
    notes.append(_train_note(counts))
    return Contamination(tuple(notes), counts, overlap)


def find_overlap(examples: Sequence[Example], train: Sequence[Example]) -> Overlap:
    """The items of `examples` of which `train` holds the question, a gold or the database."""
    questions = {normalize_question(example.question) for example in train}
    queries = {normalize_sql(sql, example.dialect) for example in train for sql in example.golds}
    databases = {example.db_id for example in train}
    return Overlap(
        question=tuple(e.id for e in examples if normalize_question(e.question) in questions),
        sql=tuple(
            e.id for e in examples if any(normalize_sql(g, e.dialect) in queries for g in e.golds)
        ),
        database=tuple(e.id for e in examples if e.db_id in databases),
    )


def normalize_question(question: str) -> str:
    """Its words in lower case, one space between them; the text itself where it has no word."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", question).casefold())
    return " ".join(words) or question.strip()


def _public_notes(examples: Sequence[Example]) -> list[str]:
    sources = Counter(example.source.strip().lower().replace("_", "-") for example in examples)
    notes = []
    for source in sorted(sources.keys() & PUBLIC_SETS.keys()):
        name, year, older = PUBLIC_SETS[source]
        notes.append(
            f"{name} has been public since {year}{f' ({older})' if older else ''}: a pretrained "
            "model may have seen its questions, SQL and databases"
        )
    if unnamed := sources[""]:
        notes.append(
            f"{unnamed:,} of {len(examples):,} items name no source: whether they are public, and "
            "could have been seen in pretraining, is not known"
        )
    return notes


def _repeat_notes(counts: dict[str, int]) -> list[str]:
    items, golds, repeated = counts.values()
    notes = []
    if golds < items:
        notes.append(
            f"the {items:,} questions have {golds:,} distinct gold queries: fewer independent "
            "trials than questions"
        )
    if repeated:
        notes.append(f"questions that repeat another one on the same database: {repeated:,}")
    return notes


def _train_note(counts: dict[str, int]) -> str:
    question, sql, database, items = (
        f"{counts[name]:,}"
        for name in ("in_train_question", "in_train_sql", "in_train_database", "items")
    )
    return (
        f"of the {items} items, the training data holds the question of {question}, a gold query "
        f"of {sql} and the database of {database}"
    )
