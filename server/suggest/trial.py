"""Tries rewrites: query and rewrite must give the same rows on every generated database.

SQLite runs them, so that a query of another dialect is translated first; where that can't be, or
time runs out, nothing is known.
"""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from sqlglot import exp

from eval.task.rows import same_blocks, same_rows
from eval.task.schema import Schema
from eval.task.sqlite_judge import Answer, restrict, run_query
from eval.task.synthesis.database import recipe
from eval.task.synthesis.profile import quoted
from eval.task.synthesis.translate import in_sqlite
from eval.task.ties import tied_blocks
from server.suggest.suggestion import Known

NUM_DATABASES = 6
# So many must speak for a rewrite: one on which the query's own answer hangs on the order of rows
# says nothing, and time may run out before the last.
MIN_DATABASES = 4
ROWS = 10
MAX_LETTERS = 1500
SECONDS_PER_NODE = 1e-4
MIN_SECONDS = 0.001
MAX_ROWS = 1000
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """`num_databases` gave the same rows, 0 for a query that finds nothing on any; `differs` where
    one gave others."""

    num_databases: int = 0
    differs: bool = False

    @property
    def is_proved(self) -> bool:
        return self.num_databases >= MIN_DATABASES and not self.differs


def try_rewrites(
    tree: exp.Query,
    rewrites: Sequence[exp.Expr],
    known: Known,
    *,
    deadline: float,
) -> list[Verdict]:
    """What the databases say of each of `rewrites`; `deadline` is a time of `time.monotonic`."""
    if not rewrites or _is_late(tree, deadline):
        return [Verdict() for _ in rewrites]
    original = in_sqlite(tree, known.dialect)
    texts = [in_sqlite(rewrite, known.dialect) for rewrite in rewrites]
    wanted = list(dict.fromkeys(text for text in texts if text is not None))
    if original is None or not wanted:
        return [Verdict() for _ in texts]
    is_ordered = tree.args.get("order") is not None
    found = _try_all(original, wanted, known.schema, is_ordered=is_ordered, deadline=deadline)
    return [found[text] if text is not None else Verdict() for text in texts]


def _is_late(tree: exp.Query, deadline: float) -> bool:
    """True if so large a query could not be read for its values in the time that is left."""
    return time.monotonic() + sum(1 for _ in tree.walk()) * SECONDS_PER_NODE > deadline


def _try_all(
    original: str, texts: Sequence[str], schema: Schema, *, is_ordered: bool, deadline: float
) -> dict[str, Verdict]:
    # What the rewrites compare with has edges of its own, but to read them takes time too.
    is_short = sum(map(len, texts)) <= MAX_LETTERS
    made = recipe(schema, [original, *(texts if is_short else ())], hostile=True)
    counts, differing, shows = dict.fromkeys(texts, 0), set[str](), False
    began, took = time.monotonic(), 0.0
    for seed in range(NUM_DATABASES):
        if began + took > deadline:  # the next one would come too late
            break
        with closing(made.database(seed=seed, rows=ROWS)) as db:
            bench = _Bench(db, original, is_ordered=is_ordered, deadline=deadline)
            shows = shows or any(cell not in (None, 0) for row in bench.rows for cell in row)
            for text in texts if bench.is_sound else ():
                told = bench.tell(text)
                counts[text] += told is True
                differing |= {text} if told is False else set()
        took, began = time.monotonic() - began, time.monotonic()
    return {t: Verdict(counts[t] if shows else 0, t in differing) for t in texts}


class _Bench:
    """One database, and what the original query answers on it."""

    def __init__(
        self, db: sqlite3.Connection, original: str, *, is_ordered: bool, deadline: float
    ) -> None:
        self._db, self._original = db, original
        self._is_ordered, self._deadline = is_ordered, deadline
        found = self._run(original)
        self.is_sound = found.error is None
        self.rows = found.rows

    def tell(self, text: str) -> bool | None:
        """Whether `text` gives the same rows; None where those of the original aren't certain, or
        for want of time."""
        found = self._run(text)
        if found.error is not None:
            return None if time.monotonic() > self._deadline else False
        if same_rows(self.rows, found.rows, ordered=self._is_ordered):
            return True
        if self._is_ordered and same_rows(self.rows, found.rows, ordered=False):
            blocks = tied_blocks(self._original, Answer(self.rows), self._run)
            return same_blocks(self.rows, found.rows, blocks)
        return None if self._hangs_on_order() else False

    def _hangs_on_order(self) -> bool:
        """True if the original has another answer once rows are stored the other way round: a
        LIMIT parts ties, or a column stands beside an aggregate."""
        self._turn()
        found = self._run(self._original)
        self._turn()
        return found.error is not None or not same_rows(self.rows, found.rows, ordered=False)

    def _turn(self) -> None:
        self._db.set_authorizer(None)
        tables = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for name in [quoted(name) for (name,) in tables]:
            self._db.execute(f'CREATE TEMP TABLE t AS SELECT * FROM main."{name}"')
            self._db.execute(f'DELETE FROM main."{name}"')
            self._db.execute(f'INSERT INTO main."{name}" SELECT * FROM t ORDER BY rowid DESC')
            self._db.execute("DROP TABLE temp.t")
        restrict(self._db)

    def _run(self, sql: str) -> Answer:
        left = max(MIN_SECONDS, self._deadline - time.monotonic())
        return run_query(self._db, sql, timeout=left, max_rows=MAX_ROWS, max_bytes=MAX_BYTES)
