"""Answers on disk as they come, so that an evaluation that was stopped goes on.

`OUTPUT.partial.jsonl` lies beside the result and goes when that was written.
"""

import fcntl
import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TextIO

from eval.ask.api import Answer, answer_from

SUFFIX = ".partial.jsonl"


class JournalBusy(RuntimeError):
    """Another process writes the same result."""


class Journal:
    """The answers to requests by key; only those without an error are written, so that a failed
    request is sent again when the evaluation goes on."""

    def __init__(self, output: Path) -> None:
        output.parent.mkdir(parents=True, exist_ok=True)
        self.output = output
        self.path = output.with_name(output.name + SUFFIX)
        self._file = _lock(self.path)
        self.answers = dict(self._read())

    def _read(self) -> Iterator[tuple[str, Answer]]:
        self._file.seek(0)
        line = "\n"
        for line in self._file:
            try:
                record = json.loads(line)
                yield record.pop("key"), answer_from(record)
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
                continue  # cut off when the process died, or of another version: asked again
        if not line.endswith("\n"):
            self._write("\n")

    def add(self, key: str, answer: Answer) -> None:
        """Hold `answer`, and write it if it is one.

        Raises:
            OSError: it can't be written; names the file.
        """
        self.answers[key] = answer
        if answer.error is None:
            self._write(json.dumps({"key": key, **asdict(answer)}) + "\n")

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def remove(self) -> None:
        """Delete the file: the result holds all of it."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others write the file; it goes if it holds nothing."""
        if self.path.exists() and self.path.stat().st_size == 0:
            self.path.unlink()
        with suppress(OSError):  # what a full disk did not take was said when it was added
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lock(path: Path) -> TextIO:
    """Open `path`, to be written by this process alone.

    Raises:
        JournalBusy: another process has it.
    """
    while True:
        # Bytes that are no text can only cost their line.
        file = path.open("a+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise JournalBusy(f"{path}: another evaluation is writing it") from None
        if _is_open_as(path, file):
            return file
        file.close()  # who had it removed it between the two calls: what we hold has no name


def _is_open_as(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def open_journal(
    output: Path | None, *, runs: Path, model: str | None, keys: Collection[str]
) -> Journal:
    """The journal of `output`; without one, that of the newest unfinished evaluation of `model` in
    `runs` that holds an answer to one of `keys`, else of a new `runs/eval-MODEL-STAMP.json`.

    Raises:
        JournalBusy: another process writes `output`.
    """
    if output:
        return Journal(output)
    name = re.sub(r"[^A-Za-z0-9._@-]", "-", model or "default")
    stamp = "[0-9]" * 8 + "T" + "[0-9]" * 6 + "Z"
    for path in sorted(runs.glob(f"eval-{name}-{stamp}.json{SUFFIX}"), reverse=True):
        if journal := _unfinished(path, keys):
            return journal
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Journal(runs / f"eval-{name}-{now}.json")


def _unfinished(path: Path, keys: Collection[str]) -> Journal | None:
    try:
        journal = Journal(path.with_name(path.name.removesuffix(SUFFIX)))
    except JournalBusy:
        return None
    if journal.answers.keys().isdisjoint(keys):
        journal.close()
        return None
    return journal
