"""The pipeline's runner: sources in, a corpus out, each stage's outcome kept in the cache.

A run goes on after the last stage whose outcome the cache holds: after a kill, or where only later
stages have other options. Knows stages by their interface only.
"""

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

from trainer.pipeline.cache import Cache, code_digest, key_of
from trainer.pipeline.corpus import (
    COLUMNS,
    Corpus,
    StageReport,
    dataset_of,
    in_brackets,
    recount,
    report_from,
    report_of,
    rows_of,
    with_own_ids,
)
from trainer.pipeline.load import Loaded, load_source
from trainer.pipeline.row import Outcome, Row, Stage, Tick
from trainer.pipeline.source import DataError

Say = Callable[[str], None]


class Loadable(Protocol):
    """What rows can be loaded from."""

    def load(self) -> Loaded: ...


@dataclass(frozen=True)
class DataSet:
    """A data set on disk or on the hub: the arguments of `load_source`."""

    source: str
    columns: Mapping[str, str] | None = None
    split: str = "train"
    schemas: Path | None = None
    databases: Path | None = None
    limit: int = 0
    dialect: str = "sqlite"

    def load(self) -> Loaded:
        return load_source(**vars(self))


def run_pipeline(
    sources: Sequence[Loadable],
    stages: Sequence[Stage],
    *,
    cache: Path | None = None,
    say: Say = lambda _: None,
    progress: bool = False,
) -> Corpus:
    """Load `sources` and put their rows through `stages`; a line is said of each.

    Without `cache` nothing is kept. `progress` shows a bar, for a terminal.

    Raises:
        DataError: a source can't be read, or no row is left.
        OSError: the cache can't be written.
    """
    loaded = [_load(source, say) for source in sources]
    rows, owners = _merged([one for one, _ in loaded])
    run = _Run(Cache(cache, say) if cache else None, say, progress)
    dataset, reports = run.through(stages, rows, [one.sha256 for one, _ in loaded])
    named = [{"name": one.name, "sha256": one.sha256} for one, _ in loaded]
    loads = [report for _, report in loaded]
    return Corpus(dataset, recount(named, owners, dataset), (*loads, *reports), owners)


def _load(source: Loadable, say: Say) -> tuple[Loaded, StageReport]:
    started = time.perf_counter()
    one = source.load()
    outcome = Outcome(one.rows, one.dropped, facts=one.facts)
    num_read = len(one.rows) + len(one.dropped)
    seconds = time.perf_counter() - started
    report = report_of(f"load {one.name}", [], outcome, rows_in=num_read, seconds=seconds)
    say(f"{report.line()}; {seconds:.1f} s")
    return one, report


def _merged(loaded: Sequence[Loaded]) -> tuple[list[Row], dict[str, int]]:
    """All rows, each with an id that no other has, and the place of its source by that id."""
    rows = list(with_own_ids(row for one in loaded for row in one.rows))
    if not rows:
        reasons = Counter(drop.reason for one in loaded for drop in one.dropped)
        raise DataError(f"data: no row can be used{in_brackets(reasons)}")
    places = (place for place, one in enumerate(loaded) for _ in one.rows)
    return rows, {row.id: place for row, place in zip(rows, places, strict=True)}


@dataclass(frozen=True)
class _Run:
    cache: Cache | None
    say: Say
    progress: bool

    def through(
        self, stages: Sequence[Stage], rows: list[Row], digests: Sequence[str]
    ) -> tuple[Any, list[StageReport]]:
        """The dataset that the last stage leaves, and the report of each."""
        keys = list(_keys(stages, rows, digests)) if self.cache else [""] * len(stages)
        dataset, reports = self._resume(keys)
        if dataset is None:
            dataset = dataset_of(rows)
        elif len(reports) < len(stages):
            rows = list(rows_of(dataset))
        for stage, key in zip(stages[len(reports) :], keys[len(reports) :], strict=True):
            rows, report = run_stage(stage, rows, say=self.say, progress=self.progress)
            reports.append(report)
            dataset = dataset_of(rows)
            if self.cache and key:
                record = {"stages": [one.record() for one in reports]}
                dataset = self.cache.put(key, dataset, record).dataset
        return dataset, reports

    def _resume(self, keys: Sequence[str]) -> tuple[Any, list[StageReport]]:
        """What the last stage that the cache knows of made, with the reports up to there."""
        for key in reversed(keys):
            if entry := self.cache.get(key) if self.cache and key else None:
                reports = [report_from(one, cached=True) for one in entry.record["stages"]]
                names = ", ".join(report.name for report in reports)
                self.say(f"{names}: {len(entry.dataset):,} rows from the cache")
                return entry.dataset, reports
        return None, []


def run_stage(
    stage: Stage, rows: list[Row], *, say: Say, progress: bool
) -> tuple[list[Row], StageReport]:
    """The rows that `stage` leaves, at least one, and its report.

    Raises:
        DataError: no row is left.
    """
    started = time.perf_counter()
    with ticking(stage.name, len(rows), progress) as tick:
        outcome = stage(rows, tick)
    seconds = time.perf_counter() - started
    report = report_of(stage.name, rows, outcome, seconds=seconds)
    say(f"{report.line()}; {seconds:.1f} s")
    if not outcome.rows:
        raise DataError(
            f"{stage.name}: no row is left of {len(rows):,}{in_brackets(report.dropped)}"
        )
    return outcome.rows, report


def _keys(stages: Sequence[Stage], rows: Sequence[Row], digests: Sequence[str]) -> Iterator[str]:
    """A key for each stage, another one with whatever came before it; "" from a stage on whose
    code can't be read: what it makes is not kept."""
    key = _root_key(rows, digests)
    for stage in stages:
        code = code_digest(type(stage).__module__)
        key = key_of(key, stage.name, stage.options, code) if key and code else ""
        yield key


def _root_key(rows: Sequence[Row], digests: Sequence[str]) -> str:
    """Over all that was loaded, and the form in which it is kept. A database's size and time stand
    for what it holds."""
    content = hashlib.sha256()
    for texts in map(attrgetter(*COLUMNS), rows):
        content.update(repr(texts).encode())
    databases = [_stamp(name) for name in sorted({row.database for row in rows} - {""})]
    return key_of(digests, content.hexdigest(), databases, code_digest(Corpus.__module__))


def _stamp(name: str) -> list[Any]:
    try:
        found = Path(name).stat()
    except OSError:
        return [name]
    return [name, found.st_size, found.st_mtime_ns]


@contextmanager
def ticking(what: str, total: int, progress: bool) -> Iterator[Tick]:
    """A bar on stderr, gone at the end; without `progress` nothing."""
    if not progress:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)
