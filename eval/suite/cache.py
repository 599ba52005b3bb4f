"""Keeps the generated databases of each original database in the user's cache, made once.

A folder `suites/DIGEST` holds those of one original: `00.sqlite`, … and `manifest.json`, which says
for each gold query (by sha256) the databases that may judge it. Folders appear whole, by one
rename, so that a build that was stopped continues with the next database.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.dataset import Question
from eval.suite.distil import Tick, distil
from eval.suite.generate import VERSION, Source
from eval.task.bundle import sha256_file
from eval.task.schema import Schema
from eval.workers import run_chunks

SEED = 0
MANIFEST = "manifest.json"
# Old suites go, least recently used first, once all together are larger.
MAX_BYTES = 1 << 30
STALE_SECONDS = 24 * 3600
# The largest schemas take a minute; what takes so long is lost in a query that can't be stopped.
BUILD_SECONDS = 1800.0

Count = Callable[[int], None]


class SuiteError(RuntimeError):
    """Databases that can't be generated; the message names the original and the reason."""


@dataclass(frozen=True)
class Job:
    """The suite of one original database, to be made in `folder`."""

    schema: Schema
    database: Path
    golds: tuple[str, ...]
    folder: Path

    @property
    def is_done(self) -> bool:
        return (self.folder / MANIFEST).is_file()


@dataclass(frozen=True)
class Suites:
    """Generated databases by original; `digest` changes whenever any of them may."""

    digest: str
    _paths: dict[tuple[Path, str], tuple[Path, ...]]

    def of(self, question: Question) -> tuple[Path, ...]:
        """The databases that may judge `question`: on them none of its golds hangs on the order
        of rows. Empty where there is none, or where the question's database is no SQLite file."""
        if not isinstance(question.database, Path):
            return ()
        first, *rest = (
            self._paths.get((question.database, gold), ()) for gold in question.example.golds
        )
        return tuple(path for path in first if all(path in others for others in rest))

    @property
    def databases(self) -> tuple[Path, ...]:
        """Every generated database that judges any gold query."""
        return tuple(sorted({path for paths in self._paths.values() for path in paths}))


def open_suites(
    questions: Sequence[Question], *, cache: Path, tick: Count = lambda _: None
) -> Suites:
    """The suites of all SQLite databases of `questions`, made first where they are missing.

    One process a core; `tick` hears of questions whose suite is there.

    Raises:
        SuiteError: the cache can't be written, or a database can't be generated.
    """
    root = cache / "suites"
    jobs = _jobs(questions, root)
    counter = _Counter(questions, jobs, tick)
    try:
        root.mkdir(parents=True, exist_ok=True)
        counter(0)
        missing = [[job] for job in jobs.values() if not job.is_done]
        lost = run_chunks(build_all, missing, _lost, seconds_per_item=BUILD_SECONDS, tick=counter)
        if reasons := [reason for chunk in lost for reason in chunk if reason]:
            raise SuiteError("; ".join(reasons))
        suites = _read(jobs.values())
        prune(root, keep={job.folder.name for job in jobs.values()}, max_bytes=MAX_BYTES)
    except OSError as error:
        raise SuiteError(f"can't write generated databases to {root}: {error}") from error
    return suites


class _Counter:
    """Turns databases that are done into questions that are."""

    def __init__(self, questions: Sequence[Question], jobs: dict[Path, Job], tick: Count) -> None:
        self._waiting = {database: 0 for database in jobs}
        for question in questions:
            if isinstance(question.database, Path):
                self._waiting[question.database] += 1
        self._jobs, self._tick = jobs, tick
        tick(sum(not isinstance(question.database, Path) for question in questions))

    def __call__(self, _: int) -> None:
        done = [database for database in self._waiting if self._jobs[database].is_done]
        self._tick(sum(self._waiting.pop(database) for database in done))


def _jobs(questions: Iterable[Question], root: Path) -> dict[Path, Job]:
    golds: dict[Path, set[str]] = {}
    schemas: dict[Path, Schema] = {}
    for question in questions:
        if isinstance(question.database, Path):
            golds.setdefault(question.database, set()).update(question.example.golds)
            schemas[question.database] = question.schema
    jobs = {}
    for database, schema in schemas.items():
        texts = tuple(sorted(golds[database]))
        jobs[database] = Job(schema, database, texts, root / suite_digest(database, schema, texts))
    return jobs


def suite_digest(database: Path, schema: Schema, golds: Sequence[str]) -> str:
    """Names a suite by all that it is made from (hex, 24 digits)."""
    parts = [VERSION, SEED, schema.digest, sha256_file(database), *golds]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def build_all(jobs: Sequence[Job]) -> list[str]:
    """Make the suites of `jobs`; "" for each that is done."""
    for job in jobs:
        build_suite(job)
    return ["" for _ in jobs]


def _lost(job: Job, reason: str) -> str:
    return f"{job.database.name}: no databases could be generated: {reason}"


def build_suite(job: Job, tick: Tick = lambda: None) -> None:
    """Generate and choose the databases of `job`, and publish their folder by one rename.

    Raises:
        SuiteError: the original holds what can't be copied, such as a virtual table.
    """
    source = Source(job.schema, job.database, job.golds)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=job.folder.parent) as work:
        made = Path(work) / "suite"
        made.mkdir()
        try:
            found = distil(source, made, seed=SEED, tick=tick)
        except sqlite3.Error as error:
            raise SuiteError(f"{job.database.name}: {error}") from error
        manifest = {
            "version": VERSION,
            "usable": {gold_digest(gold): numbers for gold, numbers in found.usable.items()},
            "num_mutants": found.num_mutants,
            "num_told": found.num_told,
        }
        (made / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        if not job.is_done:
            shutil.rmtree(job.folder, ignore_errors=True)
            with suppress(FileExistsError):  # another process was faster: the same databases
                made.rename(job.folder)


def gold_digest(gold: str) -> str:
    """How a manifest names a gold query: it holds no text of a data set."""
    return hashlib.sha256(gold.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _read(jobs: Iterable[Job]) -> Suites:
    paths: dict[tuple[Path, str], tuple[Path, ...]] = {}
    for job in jobs:
        usable = _manifest(job)["usable"]
        os.utime(job.folder)
        for gold in job.golds:
            numbers = usable.get(gold_digest(gold), ())
            found = tuple(job.folder / f"{number:02}.sqlite" for number in numbers)
            paths[job.database, gold] = found
    names = "".join(sorted(f"{job.folder.name}\n" for job in jobs))
    return Suites(hashlib.sha256(names.encode()).hexdigest()[:24], paths)


def _manifest(job: Job) -> dict[str, Any]:
    try:
        found = json.loads((job.folder / MANIFEST).read_text(encoding="utf-8"))
        if isinstance(found["usable"], dict):
            return dict(found)
    except (ValueError, KeyError, TypeError):
        pass
    raise SuiteError(f"{job.folder / MANIFEST} is broken: remove {job.folder} and run again")


def prune(root: Path, *, keep: set[str], max_bytes: int) -> None:
    """Remove what stopped builds left behind, and the suites not used for longest while all take
    over `max_bytes`; never those named in `keep`."""
    for left in root.glob(".building-*"):
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    folders = [path for path in root.iterdir() if (path / MANIFEST).is_file()]
    sizes = {path: sum(f.stat().st_size for f in path.iterdir()) for path in folders}
    total = sum(sizes.values())
    for path in sorted(folders, key=lambda p: p.stat().st_mtime):
        if total > max_bytes and path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)
            total -= sizes[path]
