"""Collection of the versions that no alias names any more, and the space that the store takes.

A version that is named, as active, previous, canary or shadow, is never removed, and neither is a
young one: a publisher may be about to name it, and a server that has not noticed a change yet still
answers from it.
"""

import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.task.audit import append
from eval.task.bundle import CORE_FILES, EVIDENCE, SHORT, Bundle, BundleError
from eval.task.store import ALIASES, locked, read_aliases

DAY = 86_400.0
LEFTOVER_AGE = 3_600.0
# What a publisher or a collector leaves behind that was killed.
LEFTOVER = re.compile(r"\.(staging|removing)-.+")


@dataclass(frozen=True)
class Policy:
    """Which versions go: those that are named by no alias and older than `min_age` (seconds),
    oldest first, until the store is within `max_bytes`; 0: all of them."""

    max_bytes: int = 0
    min_age: float = DAY


@dataclass(frozen=True)
class Stored:
    """A version in the store: bytes on the disk, seconds since it was put there or last named, and
    the aliases that name it."""

    short: str
    size: int
    age: float
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Collected:
    """What was removed, or would be, and how many bytes the store takes after that."""

    removed: tuple[Stored, ...]
    leftovers: int
    size: int
    is_within: bool

    @property
    def freed(self) -> int:
        """Bytes of the removed versions."""
        return sum(version.size for version in self.removed)


def stored_versions(store: Path) -> list[Stored]:
    """The versions in `store`, whole or not, the oldest first.

    Raises:
        BundleError: `aliases.json` is malformed.
        OSError: the store can't be read.
    """
    now = time.time()
    named: dict[str, list[str]] = {}
    for alias, entry in sorted(read_aliases(store).items()):
        for version in entry.versions:
            named.setdefault(version, []).append(alias)
    found = [
        Stored(
            path.name, size_of(path), now - path.stat().st_mtime, tuple(named.get(path.name, ()))
        )
        for path in _folders(store)
        if SHORT.fullmatch(path.name)
    ]
    return sorted(found, key=lambda version: (-version.age, version.short))


def size_of(folder: Path) -> int:
    """Bytes of the files under `folder`; what goes away meanwhile is not counted."""
    return sum(found.st_size for found in _stats(folder) if stat.S_ISREG(found.st_mode))


def bytes_over(store: Path, bundle: Bundle, max_bytes: int) -> int:
    """By how many bytes `store` would be over `max_bytes` with `bundle`; 0 if it fits or is there
    already.

    Raises:
        OSError: one of the two can't be read.
    """
    if (store / bundle.short).exists():
        return 0
    needed = sum((bundle.folder / name).stat().st_size for name in CORE_FILES)
    needed += size_of(bundle.folder / EVIDENCE)
    return max(size_of(store) + needed - max_bytes, 0)


def collect(store: Path, policy: Policy, actor: str, *, dry_run: bool = False) -> Collected:
    """Remove what `policy` says, and what killed processes left behind over an hour ago. Each goes
    by a rename first, so that nobody sees half of it. With `dry_run` nothing is touched.

    Raises:
        BundleError: `aliases.json` is malformed, or missing beside versions: then all would look
            unused. Nothing was removed.
        OSError: something can't be removed; the audit log says what was.
    """
    with locked(store):
        found = _chosen(store, policy)
        leftovers = list(_leftovers(store))
        if not dry_run:
            leftovers += _set_aside(store, found.removed, actor)
    if not dry_run:  # without the lock: it may take long
        for folder in leftovers:
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _chosen(store: Path, policy: Policy) -> Collected:
    versions = stored_versions(store)
    if versions and not (store / ALIASES).exists():
        raise BundleError(f"{ALIASES} is missing beside versions: is the store whole and mounted?")
    leftovers = list(_leftovers(store))
    size = size_of(store) - sum(map(size_of, leftovers))
    removed = []
    for version in versions:
        if policy.max_bytes and size <= policy.max_bytes:
            break
        if not version.aliases and version.age >= policy.min_age:
            removed.append(version)
            size -= version.size
    is_within = not policy.max_bytes or size <= policy.max_bytes
    return Collected(tuple(removed), len(leftovers), size, is_within)


def _set_aside(store: Path, versions: tuple[Stored, ...], actor: str) -> list[Path]:
    """Rename `versions` to what no reader looks at; what was renamed is in the audit log."""
    gone: list[Stored] = []
    folders = []
    try:
        for version in versions:
            folder = store / f".removing-{version.short}-{os.getpid()}"
            (store / version.short).rename(folder)
            folders.append(folder)
            gone.append(version)
    finally:
        if gone:
            names = " ".join(version.short for version in gone)
            size = sum(version.size for version in gone)
            append(store, actor, "collect", "", detail=f"removed {size} bytes: {names}")
    return folders


def _leftovers(store: Path) -> Iterator[Path]:
    """Folders of killed processes in which nothing was written for an hour."""
    now = time.time()
    for path in _folders(store):
        if LEFTOVER.fullmatch(path.name):
            newest = max((found.st_mtime for found in _stats(path)), default=0.0)
            if now - max(newest, path.stat().st_mtime) >= LEFTOVER_AGE:
                yield path


def _folders(store: Path) -> list[Path]:
    """The real folders in `store`; a link is somebody else's."""
    if not store.is_dir():
        return []
    with os.scandir(store) as entries:
        return [store / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _stats(folder: Path) -> Iterator[os.stat_result]:
    for path in folder.rglob("*"):
        try:
            yield path.lstat()
        except FileNotFoundError:
            continue
