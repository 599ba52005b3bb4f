"""What stages made, kept on disk under keys that change with whatever decides it.

    KEY/data/         a `datasets.Dataset`, as `save_to_disk` writes it
    KEY/record.json   what belongs to it, with the sha256 of each file of `data`; written last

An entry appears by one rename when it is whole, so a run killed at any point leaves none that is
half made, and two that make the same entry don't meet. Knows nothing of rows or stages.
"""

import ast
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eval.task.bundle import sha256_file

FORMAT_VERSION = 1
LIBRARIES = ("datasets", "sqlglot")  # their versions bear on what an entry holds
MAX_BYTES = 8 << 30
STALE_SECONDS = 3600.0  # a folder being made for longer belongs to a process that was killed
DATA, RECORD = "data", "record.json"
MAKING, REMOVING = ".making-", ".removing-"

ROOT = Path(__file__).parents[2]
PACKAGES = ("trainer", "eval")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """A `datasets.Dataset`, mapped from disk, and the JSON record that was put with it."""

    dataset: Any
    record: dict[str, Any]


@dataclass(frozen=True)
class Cache:
    """Entries in `folder`; the longest unused go when all together are above `max_bytes`."""

    folder: Path
    say: Say = lambda _: None
    max_bytes: int = MAX_BYTES

    def get(self, key: str) -> Entry | None:
        """The entry under `key`, None where there is none. A damaged one is removed, with a line
        that says so."""
        folder = self.folder / key
        if not folder.is_dir():
            return None
        try:
            entry = _read(folder)
            os.utime(folder)  # used now
            return entry
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if folder.is_dir():  # else another process removed it
                self.say(f"cache: {folder} is damaged ({_reason(error)}); making it anew")
                self._remove(folder)
            return None

    def put(self, key: str, dataset: Any, record: Mapping[str, Any]) -> Entry:
        """Store both under `key`; the entry's dataset is the one on disk.

        Raises:
            OSError: the folder can't be written; says which.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=MAKING, dir=self.folder) as work:
                made = Path(work) / key
                _write(made, dataset, record)
                self._place(made, self.folder / key)
        except OSError as error:
            raise self._unwritable(error) from error
        self._trim(keep=key)
        return self.get(key) or Entry(dataset, dict(record))

    def _place(self, made: Path, target: Path) -> None:
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # Another process was first with the same entry.

    def _unwritable(self, error: OSError) -> OSError:
        reason = f"{_reason(error)}; make room, or name another folder for the cache"
        return OSError(error.errno or 0, reason, str(self.folder))

    def _remove(self, folder: Path) -> None:
        """By a rename first: nobody sees a folder that is half removed."""
        try:
            doomed = tempfile.mkdtemp(prefix=REMOVING, dir=self.folder)
            folder.rename(Path(doomed) / folder.name)
        except OSError:
            return  # another process removes it, or the folder may not be written: `put` says so
        shutil.rmtree(doomed, ignore_errors=True)

    def _trim(self, keep: str) -> None:
        """Remove what is longest unused above `max_bytes`, and what killed processes left."""
        entries = sorted(_entries(self.folder), reverse=True)
        total = 0
        for used, num_bytes, folder in entries:
            is_left_over = folder.name.startswith((MAKING, REMOVING))
            total += num_bytes
            if is_left_over and used < time.time() - STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
            elif not is_left_over and folder.name != keep and total > self.max_bytes:
                self._remove(folder)


def _entries(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each was last used, its bytes and its folder."""
    for entry in folder.iterdir():
        try:
            num_bytes = sum(path.stat().st_size for path in entry.rglob("*"))
            yield entry.stat().st_mtime, num_bytes, entry
        except OSError:
            continue  # removed meanwhile


def _read(folder: Path) -> Entry:
    from datasets import Dataset

    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    for name, digest in record.pop("files").items():
        if sha256_file(folder / DATA / name) != digest:
            raise ValueError(f"{name} has another sha256 than when it was written")
    return Entry(Dataset.load_from_disk(str(folder / DATA)), record)


def _write(folder: Path, dataset: Any, record: Mapping[str, Any]) -> None:
    with no_bars():
        dataset.save_to_disk(str(folder / DATA))
    files = {path.name: sha256_file(path) for path in sorted((folder / DATA).iterdir())}
    text = json.dumps({**record, "files": files}, ensure_ascii=False)
    (folder / RECORD).write_text(text, encoding="utf-8")


@contextmanager
def no_bars() -> Iterator[None]:
    """Without the bars of `datasets`: the pipeline has its own."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()


def _reason(error: Exception) -> str:
    said = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return said.splitlines()[0][:200]


def key_of(*parts: Any) -> str:
    """sha256 (hex) over JSON values, this format's version and those of the libraries.

    Raises:
        TypeError: a part is no JSON value.
    """
    versions = [FORMAT_VERSION, *map(version, LIBRARIES)]
    text = json.dumps([versions, parts], sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    """A path stands for the file's content: what a stage reads from it decides what it makes."""
    if isinstance(value, Path):
        return [str(value), sha256_file(value) if value.is_file() else ""]
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} is no JSON value")


def code_digest(module: str) -> str | None:
    """sha256 (hex) of the source of `module` and of all modules of this project that it imports,
    at any depth and in functions too; None where the source can't be had, as in a notebook."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return _closure_digest(Path(file)) if file and Path(file).is_file() else None


@lru_cache(maxsize=256)
def _closure_digest(file: Path) -> str:
    seen, waiting = {file}, [file]
    while waiting:
        new = set(_imports(waiting.pop())) - seen
        seen |= new
        waiting += new
    digests = sorted(sha256_file(path) for path in seen)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


@lru_cache(maxsize=1024)
def _imports(file: Path) -> tuple[Path, ...]:
    """The files of this project that `file` imports from, or takes as data of a package."""
    names = []
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    own = [name for name in names if name.partition(".")[0] in PACKAGES]
    return tuple(path for path in map(_file_of, own) if path)


def _file_of(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    found = (path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file())
    return next(found, None)
