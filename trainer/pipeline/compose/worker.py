"""Draws, checks and runs the new pairs; each by its number alone, so that any process may do it."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from sqlglot.errors import SqlglotError

from eval.task.schema import Schema
from eval.task.sql import check_sql
from eval.task.sqlite_judge import JudgeError, open_readonly
from trainer.pipeline.compose.catalogue import Catalogue, build_catalogue
from trainer.pipeline.compose.draw import NoFit
from trainer.pipeline.compose.grammar import Pair, derive, draw_pattern
from trainer.pipeline.compose.refill import fill
from trainer.pipeline.compose.templates import Template
from trainer.pipeline.compose.values import in_quotes
from trainer.pipeline.execution import rows_within
from trainer.pipeline.row import Row, load_schema
from trainer.pipeline.spelling import Names, canonical_sql

SOURCE = "compose"
# How many patterns are tried for a row, and on how many schemas each: without the latter the
# patterns that fit everywhere would crowd out the others.
MAX_PATTERNS = 6
MAX_SCHEMAS = 12
# Where fewer templates of a shape are found, they are used less.
ENOUGH_TEMPLATES = 60
# A query that takes more steps of SQLite's virtual machine than this is not kept.
MAX_STEPS = 3_000_000

Span = tuple[int, int]


@dataclass(frozen=True)
class Subject:
    """A schema that questions are made on, as the rows name it."""

    db_id: str
    schema_json: str
    database: str

    def open(self) -> sqlite3.Connection | None:
        """The database; None where there is none or it can't be opened."""
        try:
            return open_readonly(Path(self.database)) if self.database else None
        except (JudgeError, sqlite3.Error):
            return None

    def catalogue(self, db: sqlite3.Connection | None) -> Catalogue:
        return build_catalogue(load_schema(self.schema_json), db)


@dataclass(frozen=True)
class Job:
    """All that decides the rows: `shares` by shape, the part `induced` from `templates`, the part
    `answered` that must have an answer, and how their `names` are spelled."""

    seed: int
    shares: tuple[tuple[str, float], ...]
    induced: float
    answered: float
    subjects: tuple[Subject, ...]
    templates: tuple[Template, ...]
    names: Names = "full"


@dataclass(frozen=True)
class Opened:
    """A subject at work. Without `has_rows` the database is but its empty tables."""

    catalogue: Catalogue
    db: sqlite3.Connection
    has_rows: bool


class Composer:
    """Makes rows by number; keeps the databases that it has opened."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._open: dict[Subject, Opened] = {}
        self._by_shape: dict[str, list[Template]] = {}
        for template in job.templates:
            self._by_shape.setdefault(template.shape, []).append(template)

    def span(self, span: Span) -> list[Row]:
        """The rows of the draws `span[0]` to `span[1] - 1` that came to anything; no ids yet."""
        return [row for index in range(*span) if (row := self.compose(index))]

    def compose(self, index: int) -> Row | None:
        """The row of draw `index`; None where all that was tried is wrong or fits nowhere."""
        rng = Random(f"{self.job.seed}:{index}:compose")
        names, weights = zip(*self.job.shares, strict=True)
        shape = rng.choices(names, weights)[0]
        is_induced = rng.random() < self._share_induced(shape)
        needs_answer = rng.random() < self.job.answered
        for _ in range(MAX_PATTERNS):
            make = self._maker(rng, shape, is_induced=is_induced)
            for subject in rng.choices(self.job.subjects, k=MAX_SCHEMAS):
                if row := self._try(make, subject, needs_answer=needs_answer):
                    return row
        return None

    def close(self) -> None:
        for opened in self._open.values():
            opened.db.close()

    def _share_induced(self, shape: str) -> float:
        num_templates = len(self._by_shape.get(shape, ()))
        return self.job.induced * min(1.0, num_templates / ENOUGH_TEMPLATES)

    def _maker(self, rng: Random, shape: str, *, is_induced: bool) -> Callable[[Catalogue], Pair]:
        if is_induced:
            return partial(fill, rng, rng.choice(self._by_shape[shape]))
        return partial(derive, rng, draw_pattern(rng, shape))

    def _try(
        self, make: Callable[[Catalogue], Pair], subject: Subject, *, needs_answer: bool
    ) -> Row | None:
        if subject not in self._open:
            self._open[subject] = _opened(subject)
        opened = self._open[subject]
        try:
            pair = make(opened.catalogue)
        except NoFit:
            return None
        sql = finish(pair.sql, opened, self.job.names, needs_answer=needs_answer)
        return _row(pair, sql, subject) if sql else None


def _opened(subject: Subject) -> Opened:
    db = subject.open()
    catalogue = subject.catalogue(db)
    return Opened(catalogue, db or empty_database(catalogue.schema), has_rows=db is not None)


def empty_database(schema: Schema) -> sqlite3.Connection:
    """Tables without rows in memory: what SQLite does not take fails there too."""
    db = sqlite3.connect(":memory:")
    for table in schema.tables:
        columns = ", ".join(map(in_quotes, table.column_names))
        db.execute(f"CREATE TABLE {in_quotes(table.name)} ({columns})")
    return db


_COMPOSERS: list[Composer] = []  # of a worker process: one, set when it starts


def _start(job: Job) -> None:
    _COMPOSERS[:] = [Composer(job)]


def _span(span: Span) -> list[Row]:
    return _COMPOSERS[0].span(span)


@contextmanager
def workers(job: Job, number: int) -> Iterator[Callable[[Sequence[Span]], Iterator[list[Row]]]]:
    """A function that makes the rows of spans, in order: here, or in `number` > 1 processes."""
    if number == 1:
        with closing(Composer(job)) as composer:
            yield partial(map, composer.span)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(number, context, initializer=_start, initargs=(job,)) as pool:
        yield partial(pool.map, _span)


def finish(sql: str, opened: Opened, names: Names, *, needs_answer: bool) -> str | None:
    """`sql` in canonical spelling; None if it is refused, fails, or lacks an answer it needs."""
    schema = opened.catalogue.schema
    try:
        spelled = canonical_sql(sql, schema, "sqlite", names=names)
    except (SqlglotError, RecursionError):
        return None
    if not check_sql(spelled, schema).valid:
        return None
    row = first_row(opened.db, spelled)
    is_answered = row is not None and (has_answer(row) or not (needs_answer and opened.has_rows))
    return spelled if is_answered else None


def first_row(db: sqlite3.Connection, sql: str) -> tuple[Any, ...] | None:
    """The first row, () if there is none; None if the query fails or takes over `MAX_STEPS`."""
    rows = rows_within(db, sql, max_steps=MAX_STEPS, max_rows=1)
    return None if rows is None else next(iter(rows), ())


def has_answer(row: tuple[Any, ...]) -> bool:
    """False for no row, and for nothing but zeros and NULLs: the count or the sum of nothing."""
    return any(value not in (None, 0) for value in row)


def _row(pair: Pair, sql: str, subject: Subject) -> Row:
    return Row(
        id="",
        db_id=subject.db_id,
        question=pair.question,
        sql=sql,
        source=SOURCE,
        schema_json=subject.schema_json,
        database=subject.database,
        origin=pair.origin,
        made_by=SOURCE,
    )
