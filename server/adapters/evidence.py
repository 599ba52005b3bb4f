"""The evidence of rollouts: what every server of a store has seen, in one SQLite file of the store.

Rows say how a version fared, never what was asked or answered. All servers read the same rows in
the same order, so that all compute the same test.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.task.store import Alias
from server.adapters.report import summary
from server.adapters.sequential import Pairing, Rules, SequentialTest
from server.adapters.trials import Observation, Trial

FILE = "rollouts.sqlite"
KEPT_ROLLOUTS = 20  # that have ended, of each alias
BUSY_SECONDS = 10.0
# A rollback journal, since the store may be a shared folder: WAL needs shared memory.
SCHEMA = """
CREATE TABLE IF NOT EXISTS rollouts (
    id INTEGER PRIMARY KEY, alias TEXT NOT NULL, active TEXT NOT NULL, candidate TEXT NOT NULL,
    mode TEXT NOT NULL, share REAL NOT NULL, rules TEXT NOT NULL, began TEXT NOT NULL,
    ended TEXT, verdict TEXT, reason TEXT, actor TEXT);
CREATE TABLE IF NOT EXISTS observations (
    id INTEGER PRIMARY KEY, rollout INTEGER NOT NULL REFERENCES rollouts ON DELETE CASCADE,
    active_failed INTEGER, active_valid INTEGER, active_ran INTEGER, active_ms REAL,
    candidate_failed INTEGER, candidate_valid INTEGER, candidate_ran INTEGER, candidate_ms REAL,
    agreed INTEGER);
CREATE INDEX IF NOT EXISTS by_rollout ON observations (rollout, id);
"""
FACTS = "alias active candidate mode share began ended verdict reason actor".split()
TRIAL = 4  # columns of a trial


class EvidenceError(ValueError):
    """The evidence can't be read or written; the message says what to do."""


class Evidence:
    """Rollouts of the store at `store`; remembers how far it has read each. Use one in one thread
    at a time. All methods raise EvidenceError where the file can't be used."""

    def __init__(self, store: Path) -> None:
        self.path = store / FILE
        self._tests: dict[int, tuple[SequentialTest, Pairing, int]] = {}

    def begin(self, alias: str, entry: Alias, rules: Rules) -> int:
        """The id of the rollout of `entry`'s candidate: the one in progress, which other servers
        may have begun, or a new one. Whatever else was in progress of `alias` is over."""
        assert entry.candidate
        key = (alias, entry.active, entry.candidate, entry.mode, entry.share)
        with self._open() as db:
            found = db.execute(
                "SELECT id FROM rollouts WHERE alias = ? AND active = ? AND candidate = ?"
                " AND mode = ? AND share = ? AND ended IS NULL",
                key,
            ).fetchone()
            if found:
                return int(found["id"])
            db.execute(
                "UPDATE rollouts SET ended = ?, verdict = 'stopped' WHERE alias = ?"
                " AND ended IS NULL",
                (_now(), alias),
            )
            row = (*key, json.dumps(asdict(rules)), _now())
            made = db.execute(
                "INSERT INTO rollouts (alias, active, candidate, mode, share, rules, began)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            _forget_old(db, alias)
            return int(made.lastrowid or 0)

    def add(self, rollout: int, observations: Sequence[Observation]) -> None:
        """Keep `observations`, all or none."""
        rows = [(rollout, *_cells(o.active), *_cells(o.candidate), o.agreed) for o in observations]
        places = ", ".join("?" * (2 + 2 * TRIAL))
        with self._open() as db:
            db.executemany(
                "INSERT INTO observations (rollout, active_failed, active_valid, active_ran,"
                " active_ms, candidate_failed, candidate_valid, candidate_ran, candidate_ms,"
                f" agreed) VALUES ({places})",
                rows,
            )

    def follow(self, rollout: int) -> SequentialTest:
        """The test with all that was seen so far, by any server."""
        with self._open() as db:
            if rollout not in self._tests:
                self._tests[rollout] = _new_test(db, rollout)
            test, pairing, last = self._tests[rollout]
            for number, seen in _read(db, rollout, last):
                last = number
                for difference in pairing.add(seen):
                    test.add(difference, seen.agreed)
            self._tests[rollout] = test, pairing, last
        return test

    def stop(self, alias: str, verdict: str, reason: str, actor: str) -> None:
        """Note how the rollout of `alias` in progress, if there is one, ended, and by whom."""
        if not self.path.exists():
            return
        with self._open() as db:
            db.execute(
                "UPDATE rollouts SET ended = ?, verdict = ?, reason = ?, actor = ?"
                " WHERE alias = ? AND ended IS NULL",
                (_now(), verdict, reason, actor, alias),
            )

    def report(self, alias: str, limit: int = 10) -> dict[str, Any]:
        """The last rollouts of `alias`, the newest first: for JSON."""
        if not self.path.exists():
            return {"alias": alias, "rollouts": []}
        with self._open() as db:
            found = db.execute(
                "SELECT * FROM rollouts WHERE alias = ? ORDER BY id DESC LIMIT ?", (alias, limit)
            ).fetchall()
            rollouts = [self._reported(db, row) for row in found]
        return {"alias": alias, "rollouts": rollouts}

    def _reported(self, db: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
        test, pairing, _ = _new_test(db, row["id"])
        seen = [observation for _, observation in _read(db, row["id"], 0)]
        for observation in seen:
            for difference in pairing.add(observation):
                test.add(difference, observation.agreed)
        facts = {name: row[name] for name in FACTS}
        return facts | {"rules": json.loads(row["rules"])} | summary(seen, test)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection in one transaction."""
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as db:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA foreign_keys = ON")
                db.executescript(SCHEMA)
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    yield db
        except sqlite3.Error as error:
            message = f"{FILE}: {error}; if it is damaged, move it away: only evidence is lost"
            raise EvidenceError(message) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _cells(trial: Trial | None) -> tuple[object, ...]:
    if trial is None:
        return (None,) * TRIAL
    return trial.failed, trial.valid, trial.ran, trial.latency_ms


def _trial(row: sqlite3.Row, arm: str) -> Trial | None:
    failed, valid, ran, ms = (row[f"{arm}_{name}"] for name in ("failed", "valid", "ran", "ms"))
    if failed is None:
        return None
    return Trial(bool(failed), bool(valid), None if ran is None else bool(ran), float(ms))


def _read(db: sqlite3.Connection, rollout: int, last: int) -> Iterator[tuple[int, Observation]]:
    """What was seen of a rollout after row `last`, in the order of rows."""
    rows = db.execute(
        "SELECT * FROM observations WHERE rollout = ? AND id > ? ORDER BY id", (rollout, last)
    )
    for row in rows:
        agreed = None if row["agreed"] is None else bool(row["agreed"])
        yield row["id"], Observation(_trial(row, "active"), _trial(row, "candidate"), agreed)


def _new_test(db: sqlite3.Connection, rollout: int) -> tuple[SequentialTest, Pairing, int]:
    row = db.execute("SELECT mode, share, rules FROM rollouts WHERE id = ?", (rollout,)).fetchone()
    if row is None:
        raise EvidenceError(f"{FILE}: rollout {rollout} is gone")
    is_canary = row["mode"] == "canary"
    pairing = Pairing.of_share(row["share"]) if is_canary else Pairing()
    return SequentialTest(Rules(**json.loads(row["rules"]))), pairing, 0


def _forget_old(db: sqlite3.Connection, alias: str) -> None:
    db.execute(
        "DELETE FROM rollouts WHERE alias = ? AND ended IS NOT NULL AND id NOT IN"
        " (SELECT id FROM rollouts WHERE alias = ? ORDER BY id DESC LIMIT ?)",
        (alias, alias, KEPT_ROLLOUTS),
    )
