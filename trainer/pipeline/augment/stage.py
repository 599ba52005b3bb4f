"""The stage: for every row some copies, each changed by a few kinds in a fixed order.

What a copy becomes depends on the seed and the row's id alone, not on the number of processes.
"""

import multiprocessing
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from eval.task.cores import num_cores
from eval.task.dialect import DialectError, resolve_dialect
from eval.task.sql import check_sql
from trainer.pipeline.augment.distract import distract
from trainer.pipeline.augment.literals import literals
from trainer.pipeline.augment.pool import Pool, make_pool
from trainer.pipeline.augment.prune import prune
from trainer.pipeline.augment.rename import rename
from trainer.pipeline.augment.restyle import restyle
from trainer.pipeline.augment.shuffle import shuffle
from trainer.pipeline.augment.synonym import synonym
from trainer.pipeline.augment.transpile import transpile
from trainer.pipeline.row import Outcome, Row, Tick

Change = Callable[[Row, random.Random, Pool], Row | None]

# In the order in which they are applied, with how often each is drawn. Values change first, while
# the names are still the database's; strangers come before the style, and take it on.
KINDS: dict[str, tuple[Change, float]] = {
    "literals": (literals, 0.4),
    "prune": (prune, 0.4),
    "rename": (rename, 0.75),
    "synonym": (synonym, 0.35),
    "distract": (distract, 0.45),
    "restyle": (restyle, 0.55),
    "shuffle": (shuffle, 0.8),
}
TRANSPILE = "transpile"
TRANSPILE_SHARE = 0.3
NUM_TRIES = 3
COMPOSED = "compose"
CHUNK = 64
MIN_PARALLEL_ROWS = 512
MAX_WORKERS = 16


class AugmentError(ValueError):
    """An option of the stage that means nothing; the message says which, and what would."""


@dataclass(frozen=True)
class Augment:
    """Keeps every row and adds up to `copies` of it, `composed_copies` of one that was composed.
    `kinds` are names of `KINDS`, or
    `transpile:DIALECT`, of which a copy gets one at most. `workers` 0 is one process for each
    core; they are spawned, so a script that runs this needs its `if __name__ == "__main__"`.

    Raises:
        AugmentError: a kind or dialect is unknown, or a count negative.
    """

    kinds: tuple[str, ...]
    copies: int
    seed: int
    composed_copies: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        if min(self.copies, self.composed_copies, self.workers) < 0:
            raise AugmentError("augment: copies and workers can't be negative")
        for kind in self.kinds:
            _expect_kind(kind)

    @property
    def name(self) -> str:
        return "augment"

    @property
    def options(self) -> Mapping[str, Any]:
        options = {k: v for k, v in asdict(self).items() if k != "workers"}
        return {**options, "kinds": list(self.kinds)}

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        outcome = Outcome([])
        refused: Counter[str] = Counter()
        copies_of = _Copies(self, make_pool(rows))
        for row, (copies, reasons) in zip(rows, self._made(copies_of, rows), strict=True):
            outcome.rows += [row, *copies]
            refused.update(reasons)
            outcome.changed.update(kind for copy in copies for kind in copy.made_by.split(","))
            tick(1)
        outcome.facts = {
            "num_copies": len(outcome.rows) - len(rows),
            "refused": dict(sorted(refused.items())),
        }
        return outcome

    def _made(self, copies_of: "_Copies", rows: list[Row]) -> Iterator["Made"]:
        workers = self.workers or min(num_cores(), MAX_WORKERS)
        num_copies = max(self.copies, self.composed_copies)
        if workers == 1 or len(rows) < MIN_PARALLEL_ROWS or not num_copies or not self.kinds:
            yield from map(copies_of, rows)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, _start, (copies_of,)) as pool:
            yield from pool.map(_work, rows, chunksize=CHUNK)


Made = tuple[list[Row], list[str]]


def _expect_kind(kind: str) -> None:
    head, _, dialect = kind.partition(":")
    if kind in KINDS:
        return
    if head != TRANSPILE:
        known = ", ".join([*KINDS, f"{TRANSPILE}:DIALECT"])
        raise AugmentError(f"augment: unknown kind {kind!r}; known: {known}")
    try:
        resolve_dialect(dialect)
    except DialectError as error:
        raise AugmentError(f"augment: kind {kind!r}: {error}") from error


@dataclass(frozen=True)
class _Copies:
    """Makes the copies of one row; travels to each process once."""

    stage: Augment
    pool: Pool

    def __call__(self, row: Row) -> Made:
        """The copies, and why others were refused."""
        copies: list[Row] = []
        refused: list[str] = []
        seen = {_content(row)}
        for number in range(1, self._num_copies(row) + 1):
            for attempt in range(NUM_TRIES):
                rng = random.Random(f"{self.stage.seed}:{row.id}:augment:{number}:{attempt}")
                copy = self._copy(row, rng)
                reason = _fault(copy, seen) if copy else "nothing_applies"
                if copy and not reason:
                    copies.append(copy.with_(id=f"{row.id}~{number}", origin=row.id))
                    seen.add(_content(copy))
                    break
                refused.append(reason)
        return copies, refused

    def _num_copies(self, row: Row) -> int:
        if not row.schema_json:
            return 0
        return self.stage.composed_copies if row.made_by == COMPOSED else self.stage.copies

    def _copy(self, row: Row, rng: random.Random) -> Row | None:
        made_by = []
        copy = row
        for kind, change in self._drawn(rng):
            changed = change(copy, random.Random(rng.random()), self.pool)
            if changed is not None:
                copy = changed
                made_by.append(kind)
        return copy.with_(made_by=",".join(made_by)) if made_by else None

    def _drawn(self, rng: random.Random) -> list[tuple[str, Change]]:
        """A subset of the kinds that is not empty, in their order."""
        drawn: list[tuple[str, Change]] = []
        kinds = [kind for kind in KINDS if kind in self.stage.kinds]
        dialects = [kind for kind in self.stage.kinds if kind not in KINDS]
        while not drawn and (kinds or dialects):
            drawn = [(kind, KINDS[kind][0]) for kind in kinds if rng.random() < KINDS[kind][1]]
            if dialects and rng.random() < TRANSPILE_SHARE:
                kind = rng.choice(dialects)
                drawn.append((kind, partial(transpile, dialect=kind.partition(":")[2])))
        return drawn


def _content(row: Row) -> tuple[str, str, str, str]:
    return row.question, row.sql, row.schema_json, row.dialect


def _fault(copy: Row, seen: set[tuple[str, str, str, str]]) -> str:
    """Why a copy can't be kept; "" where it can."""
    if _content(copy) in seen:
        return "same_as_another"
    schema = copy.schema
    check = check_sql(copy.sql, schema, copy.dialect) if schema else None
    return check.violations[0].code if check and check.violations else ""


_copies_of: _Copies | None = None


def _start(copies_of: _Copies) -> None:
    global _copies_of
    _copies_of = copies_of


def _work(row: Row) -> Made:
    assert _copies_of is not None
    return _copies_of(row)
