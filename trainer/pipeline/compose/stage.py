"""The stage that adds new pairs of question and SQL on the schemas of the rows that it is given.

The same rows, options and seed give the same new rows on any number of cores. Schemas of copies
(`made_by`) are left out: their names are no English.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import count
from typing import Any

from eval.task.cores import num_cores
from trainer.pipeline.compose.catalogue import Catalogue
from trainer.pipeline.compose.templates import Template, induce, shape_of
from trainer.pipeline.compose.worker import SOURCE, Job, Span, Subject, workers
from trainer.pipeline.row import Outcome, Row, Tick
from trainer.pipeline.spelling import Names

CHUNK = 250
MIN_PARALLEL_ROWS = 2000
# So many draws are made before it is looked how many gave a new row; the search ends where less
# than one in a hundred did. No multiple of the workers, so that their number changes nothing.
ROUND = 20 * CHUNK
LEAST_YIELD = 0.01


class ComposeError(ValueError):
    """A setting of the stage that can't be; the message names it."""


@dataclass(frozen=True)
class Shares:
    """What part of the new rows is of each shape. `nested` holds subqueries and set operations
    with or without joins; of the others `join` has one join, `joins` two and more."""

    flat: float = 0.35
    join: float = 0.30
    joins: float = 0.15
    nested: float = 0.20

    def __post_init__(self) -> None:
        for item in fields(self):
            _expect_share(f"shares.{item.name}", getattr(self, item.name))
        total = sum(asdict(self).values())
        if abs(total - 1) > 1e-6:
            raise ComposeError(f"shares: must add up to 1, add up to {total:g}")


@dataclass(frozen=True)
class Compose:
    """Keeps all rows and adds up to `num_rows` new ones on their schemas.

    `induced` is the part of them that comes from templates of the rows, the rest is of our own
    grammar; at least the part `answered` has an answer where there is a database. `names` is how
    the new queries are spelled. `num_workers` (0: as many as pay) is no option: it changes nothing.

    Raises:
        ComposeError: a value can't be.
    """

    num_rows: int
    seed: int = 0
    shares: Shares = field(default_factory=Shares)
    induced: float = 0.4
    answered: float = 0.9
    names: Names = "full"
    num_workers: int = 0

    def __post_init__(self) -> None:
        if self.num_rows < 0:
            raise ComposeError(f"num_rows: must be 0 or more, is {self.num_rows}")
        if self.num_workers < 0:
            raise ComposeError(f"num_workers: must be 0 or more, is {self.num_workers}")
        _expect_share("induced", self.induced)
        _expect_share("answered", self.answered)

    @property
    def name(self) -> str:
        return "compose"

    @property
    def options(self) -> Mapping[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "num_workers"}

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        outcome = Outcome(list(rows))
        job = self._job(rows)
        if job.subjects and self.num_rows:
            made = self._make(job, rows, tick)
            outcome.rows += made
            outcome.changed["composed"] = len(made)
            outcome.facts = _facts(made, job)
        return outcome

    def _job(self, rows: list[Row]) -> Job:
        """The work to do; what is slow of it is done once, here, for all workers."""
        originals = [r for r in rows if r.schema_json and not r.made_by and r.dialect == "sqlite"]
        found = dict.fromkeys(Subject(r.db_id, r.schema_json, r.database) for r in originals)
        shares = tuple(asdict(self.shares).items())
        templates = _templates(originals, tuple(found)) if self.induced else ()
        return Job(
            self.seed, shares, self.induced, self.answered, tuple(found), templates, self.names
        )

    def _num_processes(self) -> int:
        if self.num_workers:
            return self.num_workers
        return num_cores() if self.num_rows >= MIN_PARALLEL_ROWS else 1

    def _make(self, job: Job, rows: list[Row], tick: Tick) -> list[Row]:
        """`num_rows` rows that differ from `rows` and from each other; fewer where the schemas
        give no more. The progress runs over `rows`, as that of every stage."""
        kept = _Kept(rows, self.num_rows)
        start = 0
        with workers(job, self._num_processes()) as run:
            while (missing := self.num_rows - len(kept.rows)) > 0:
                number, before = min(missing + missing // 8 + 8, ROUND), len(kept.rows)
                for made in run(_spans(start, number)):
                    shown = len(rows) * len(kept.rows) // self.num_rows
                    kept.add(made)
                    tick(len(rows) * len(kept.rows) // self.num_rows - shown)
                start += number
                if len(kept.rows) - before < LEAST_YIELD * number:
                    break
        return kept.rows


class _Kept:
    """The new rows, up to `limit`: each question once on its database, each with an id of its own
    beside those of `rows`."""

    def __init__(self, rows: list[Row], limit: int) -> None:
        self.rows: list[Row] = []
        self._limit = limit
        self._seen = {_key(row) for row in rows}
        taken = {row.id for row in rows}
        numbered = (f"{SOURCE}-{number:06d}" for number in count(1))
        self._ids = (name for name in numbered if name not in taken)

    def add(self, made: list[Row]) -> None:
        for row in made:
            if len(self.rows) < self._limit and _key(row) not in self._seen:
                self._seen.add(_key(row))
                self.rows.append(row.with_(id=next(self._ids)))


def _expect_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ComposeError(f"{name}: must be from 0 to 1, is {value:g}")


def _templates(rows: list[Row], subjects: tuple[Subject, ...]) -> tuple[Template, ...]:
    catalogues: dict[tuple[str, str], Catalogue] = {}
    for subject in subjects:
        db = subject.open()
        catalogues[subject.db_id, subject.schema_json] = subject.catalogue(db)
        if db:
            db.close()
    return induce(rows, catalogues)


def _spans(start: int, number: int) -> list[Span]:
    end = start + number
    return [(first, min(first + CHUNK, end)) for first in range(start, end, CHUNK)]


def _key(row: Row) -> tuple[str, str]:
    """What may occur once: a question on a database. One question has one query."""
    return row.db_id, " ".join(row.question.lower().split()).rstrip(".?! ")


def _facts(made: list[Row], job: Job) -> dict[str, Any]:
    return {
        "schemas": len(job.subjects),
        "templates": len(job.templates),
        "origins": len({row.origin for row in made}),
        "made from": dict(Counter(row.origin.split(".")[0] for row in made).most_common()),
        "shapes": dict(Counter(shape_of(row.sql) for row in made).most_common()),
    }
