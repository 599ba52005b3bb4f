"""Chooses few generated databases that tell the gold queries of a schema from their near misses.

Greedy, as in Zhong et al. (EMNLP 2020, section 4): of several random databases the one that tells
most of what is still untold is kept, until nothing more is told. Only half of the near misses,
chosen by hash, take part, so that the other half can say how good the choice is (`eval.selftest`).
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from eval.suite.generate import Source, generate
from eval.suite.mutate import Mutant
from eval.suite.stable import Bench, ordered_by
from eval.task.rows import same_rows
from eval.task.sqlite_judge import Answer

# A generated database is small: what takes longer is a near miss that joins everything.
TIMEOUT_SECONDS = 0.5
MAX_ROWS = 20_000

MAX_DATABASES = 12
CANDIDATES = 6
# Even where fewer tell all near misses here: those that nobody thought of may need others.
MIN_DATABASES = 8
# So many rounds in a row may tell nothing new before the search ends.
IDLE_ROUNDS = 3
# Each near miss should be told by so many databases, for its unseen siblings' sake.
WANTED = 3

Tick = Callable[[], None]


@dataclass(frozen=True)
class Distilled:
    """The chosen databases, and for each gold the numbers of those that may judge it."""

    databases: tuple[Path, ...]
    usable: dict[str, tuple[int, ...]]
    num_mutants: int
    num_told: int


@dataclass
class _Search:
    """Near misses by gold, and how often each was told by the databases chosen so far."""

    live: dict[str, list[Mutant]]
    told: dict[tuple[str, str], int] = field(default_factory=dict)

    def droptold_by(self) -> None:
        for gold, left in list(self.live.items()):
            kept = [m for m in left if self.told.get((gold, m.sql), 0) < WANTED]
            self.live[gold] = kept
            if not kept:
                del self.live[gold]


def is_for_distilling(gold: str, mutant: str) -> bool:
    """Which half a near miss is in; the same on every machine."""
    return hashlib.sha256(f"{gold}\0{mutant}".encode("utf-8", "replace")).digest()[0] % 2 == 0


def distil(source: Source, folder: Path, *, seed: int, tick: Tick = lambda: None) -> Distilled:
    """Write the chosen databases to `folder` as `00.sqlite`, `01.sqlite`, …; `tick` each round."""
    live = {
        gold: [m for m in source.mutants(gold) if is_for_distilling(gold, m.sql)]
        for gold in source.golds
    }
    search = _Search({gold: own for gold, own in live.items() if own})
    num_mutants = sum(map(len, live.values()))
    chosen: list[Path] = []
    idle = 0
    with tempfile.TemporaryDirectory(prefix=".candidates-", dir=folder) as work:
        for number in range(MAX_DATABASES + IDLE_ROUNDS):
            is_idle = idle >= IDLE_ROUNDS and len(chosen) >= MIN_DATABASES
            if len(chosen) == MAX_DATABASES or is_idle:
                break
            tick()
            best, told = _best_candidate(source, search, Path(work), f"{seed}/{number}")
            if told or len(chosen) < MIN_DATABASES:
                chosen.append(best.rename(folder / f"{len(chosen):02}.sqlite"))
                for pair in told:
                    search.told[pair] = search.told.get(pair, 0) + 1
                search.droptold_by()
            idle = 0 if told else idle + 1
    return Distilled(tuple(chosen), _usable(source, chosen), num_mutants, len(search.told))


def _best_candidate(
    source: Source, search: _Search, work: Path, seed: str
) -> tuple[Path, set[tuple[str, str]]]:
    """Of several new databases the one that tells most; with what it tells."""
    found: list[tuple[float, Path, set[tuple[str, str]]]] = []
    for number in range(CANDIDATES):
        path = work / f"{number}.sqlite"
        path.unlink(missing_ok=True)
        focus = sorted(search.live) if search.live else list(source.golds)
        generate(source, path, focus=focus, seed=f"{seed}/{number}")
        told = told_by(path, search.live)
        # What nobody has told yet counts most.
        gain = sum(1.0 if pair not in search.told else 0.3 for pair in told)
        found.append((gain, path, told))
    _, path, told = max(found, key=lambda item: item[0])
    return path, told


def told_by(path: Path, live: Mapping[str, Sequence[Mutant]]) -> set[tuple[str, str]]:
    """Of the near misses `live`, by gold, those that the database at `path` tells from their
    gold, as (gold, near miss)."""
    told = set()
    with closing(Bench(path, timeout=TIMEOUT_SECONDS, max_rows=MAX_ROWS)) as bench:
        for gold, left in live.items():
            answer = bench.stable_answer(gold)
            if answer is not None:
                told |= {(gold, m.sql) for m in left if differs(gold, answer, bench.run(m.sql))}
    return told


def differs(gold: str, expected: Answer, found: Answer) -> bool:
    """Whether `found` is not the gold's answer `expected`; an error never is."""
    return found.error is not None or not same_rows(
        expected.rows, found.rows, ordered=ordered_by(gold)
    )


def _usable(source: Source, chosen: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    usable: dict[str, list[int]] = {gold: [] for gold in source.golds}
    for number, path in enumerate(chosen):
        with closing(Bench(path, timeout=TIMEOUT_SECONDS, max_rows=MAX_ROWS)) as bench:
            for gold, numbers in usable.items():
                if bench.stable_answer(gold) is not None:
                    numbers.append(number)
    return {gold: tuple(numbers) for gold, numbers in usable.items()}
