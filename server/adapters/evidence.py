"""The evidence of rollouts: what every server of a store has seen, in one SQLite file of the store.

Rows say how a version fared, never what was asked or answered. All servers read the same rows in
the same order, so that all compute the same test.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.task.store import ALIASES, Alias, read_aliases
from server.adapters.report import summary
from server.adapters.sequential import Pairing, Rules, SequentialTest
from server.adapters.trials import Observation, Trial

FILE = "rollouts.sqlite"
KEPT_ROLLOUTS = 20  # that have ended, of each alias
MAX_OBSERVATIONS = 1_000_000  # of a rollout, about 40 MB; twice what a share of 0.01 needs
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
BEGAN = "active candidate mode share began rules".split()
TRIAL = 4  # columns of a trial


class EvidenceError(ValueError):
    """The evidence can't be read or written; the message says what to do."""


class Followed:
    """The test of the rollout that `row` began, and how far its rows were read.

    Raises:
        ValueError, TypeError: the row is damaged, or of another version of sqlwright.
    """

    def __init__(self, row: sqlite3.Row) -> None:
        self.began = tuple(row[name] for name in BEGAN)
        is_canary = row["mode"] == "canary"
        self.last = 0
        self.test = SequentialTest(Rules(**json.loads(row["rules"])))
        self._pairing = Pairing.of_share(row["share"]) if is_canary else Pairing()

    def add(self, seen: Iterable[tuple[int, Observation]]) -> None:
        """Observations with their numbers, in order; those that it has had are left out."""
        for number, observation in seen:
            if number <= self.last:
                continue
            self.last = number
            for difference in self._pairing.add(observation):
                self.test.add(difference, observation.agreed)


class Evidence:
    """Rollouts of the store at `store`; remembers how far it has read each. A thread that a disk
    held up may end late: it does no harm to those that came after it. All methods raise
    EvidenceError where the file can't be used."""

    def __init__(self, store: Path) -> None:
        self.path = store / FILE
        self._followed: dict[int, Followed] = {}
        self._lock = threading.Lock()

    def begin(self, alias: str, entry: Alias, rules: Rules) -> int:
        """The id of the rollout of `entry`'s candidate: the one in progress, which other servers
        may have begun, or a new one. Whatever else was in progress of `alias` is over.

        Raises:
            EvidenceError: `aliases.json` says otherwise by now; nothing is begun.
            BundleError: it is damaged.
        """
        key = _key(alias, entry)
        current = read_aliases(self.path.parent).get(alias)
        if current is None or _key(alias, current) != key:
            raise EvidenceError(f"{alias}: its rollout has ended: {ALIASES} has changed")
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
        """Keep `observations`, all or none: none of a rollout that has `MAX_OBSERVATIONS`, since
        one that waits for its operator must not fill the disk."""
        rows = [(rollout, *_cells(o.active), *_cells(o.candidate), o.agreed) for o in observations]
        places = ", ".join("?" * (2 + 2 * TRIAL))
        with self._open() as db:
            query = "SELECT count(*) FROM observations WHERE rollout = ?"
            if db.execute(query, (rollout,)).fetchone()[0] >= MAX_OBSERVATIONS:
                return
            db.executemany(
                "INSERT INTO observations (rollout, active_failed, active_valid, active_ran,"
                " active_ms, candidate_failed, candidate_valid, candidate_ran, candidate_ms,"
                f" agreed) VALUES ({places})",
                rows,
            )

    def follow(self, rollout: int) -> SequentialTest:
        """The test with all that was seen so far, by any server."""
        with _readable():
            with self._open() as db:
                row = db.execute("SELECT * FROM rollouts WHERE id = ?", (rollout,)).fetchone()
                if row is None:
                    raise EvidenceError(f"{FILE}: rollout {rollout} is gone")
                known, new = self._followed.get(rollout), Followed(row)
                # A file in place of one that was moved away gives the same numbers again.
                followed = known if known and known.began == new.began else new
                seen = _rows(db, rollout, followed.last)
            # All are read before one counts: after a fault halfway they would count twice.
            observations = [_observation(row) for row in seen]
        with self._lock:
            followed.add(observations)
            self._followed[rollout] = followed
        return followed.test

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
        with _readable():
            with self._open() as db:
                found = db.execute(
                    "SELECT * FROM rollouts WHERE alias = ? ORDER BY id DESC LIMIT ?",
                    (alias, limit),
                ).fetchall()
                seen = [_rows(db, row["id"], 0) for row in found]
            # The servers may write again while this computes.
            rollouts = [_reported(row, rows) for row, rows in zip(found, seen, strict=True)]
        return {"alias": alias, "rollouts": rollouts}

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection in one transaction."""
        with _readable(), closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA foreign_keys = ON")
            db.executescript(SCHEMA)
            with db:
                db.execute("BEGIN IMMEDIATE")
                yield db


@contextmanager
def _readable() -> Iterator[None]:
    """Raise EvidenceError for whatever a damaged file, or one of another version, leads to."""
    try:
        yield
    except EvidenceError:
        raise
    except (sqlite3.Error, ValueError, TypeError, LookupError, ArithmeticError) as error:
        message = f"{FILE}: {error}; if it is damaged, move it away: only evidence is lost"
        raise EvidenceError(message) from error


def _key(alias: str, entry: Alias) -> tuple[object, ...]:
    """What makes two rollouts the same one."""
    return alias, entry.active, entry.candidate, entry.mode, entry.share


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


def _rows(db: sqlite3.Connection, rollout: int, last: int) -> list[sqlite3.Row]:
    """What was seen of a rollout after row `last`, in the order of rows."""
    return db.execute(
        "SELECT * FROM observations WHERE rollout = ? AND id > ? ORDER BY id", (rollout, last)
    ).fetchall()


def _observation(row: sqlite3.Row) -> tuple[int, Observation]:
    agreed = None if row["agreed"] is None else bool(row["agreed"])
    return row["id"], Observation(_trial(row, "active"), _trial(row, "candidate"), agreed)


def _reported(row: sqlite3.Row, rows: Iterable[sqlite3.Row]) -> dict[str, Any]:
    followed = Followed(row)
    seen = [_observation(found) for found in rows]
    followed.add(seen)
    facts = {name: row[name] for name in FACTS} | {"rules": json.loads(row["rules"])}
    return facts | summary([observation for _, observation in seen], followed.test)


def _forget_old(db: sqlite3.Connection, alias: str) -> None:
    db.execute(
        "DELETE FROM rollouts WHERE alias = ? AND ended IS NOT NULL AND id NOT IN"
        " (SELECT id FROM rollouts WHERE alias = ? ORDER BY id DESC LIMIT ?)",
        (alias, alias, KEPT_ROLLOUTS),
    )
