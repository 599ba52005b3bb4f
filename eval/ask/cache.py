"""Answers kept across evaluations, so that what was once asked of a version is not asked again.

One SQLite file in a folder, which several processes may use at a time. An answer is found again by
the server's address, the version of the model and the digest of the request. Our server names
versions (`alias@digest12`), so that a new one under the same alias is asked anew. Of other servers
only the model's name is known: delete the folder when they change what it stands for.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Self

from eval.ask.api import Answer, answer_from
from eval.ask.connection import Server
from eval.ask.models import resolve_model
from eval.task.bundle import VERSION_NAME

FILE = "answers.sqlite"
LOCK_SECONDS = 30.0
CREATE = """
CREATE TABLE IF NOT EXISTS answers (
    server TEXT NOT NULL,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (server, model, request)
) WITHOUT ROWID
"""


class CacheError(RuntimeError):
    """The cache can't be used; the message names its file and the remedy."""


class AnswerCache:
    """The answers of one version of a model at one server, by `eval.ask.api.request_key`.

    `server` is `Server.identity`; `model` is what `eval.ask.models.resolve_model` says.

    Raises (each method too):
        CacheError: the file can't be opened, read or written.
    """

    def __init__(self, folder: Path, *, server: str, model: str) -> None:
        self.path = folder / FILE
        self.server = server
        self.model = model
        with self._reported():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            with self._reported():
                self._db.execute(CREATE)
        except CacheError:
            self.close()
            raise

    def get(self, key: str) -> Answer | None:
        """The answer to the request `key`; None if it was not asked, or by another version of
        this program."""
        with self._reported():
            found = self._db.execute(
                "SELECT answer FROM answers WHERE (server, model, request) = (?, ?, ?)",
                (self.server, self.model, key),
            ).fetchone()
        try:
            return answer_from(json.loads(found[0])) if found else None
        except (ValueError, RecursionError, TypeError, AttributeError):
            return None

    def put(self, key: str, answer: Answer) -> None:
        """Keep `answer`, unless asking again may give another one: it failed, it was cut off (the
        limit may be the server's), or the server has moved on to another version."""
        moved_on = VERSION_NAME.fullmatch(self.model) and answer.model != self.model
        if answer.error is not None or answer.truncated or moved_on:
            return
        with self._reported():
            self._db.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)",
                (self.server, self.model, key, json.dumps(asdict(answer))),
            )

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            remedy = "remove it or go on without --cache; no answer of this evaluation is lost"
            raise CacheError(f"{self.path}: {error}; {remedy}") from error

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_cache(folder: Path, server: Server, model: str | None) -> AnswerCache:
    """The cache of what `model` (None: the only one) means at `server` now; close it at the end.

    Raises:
        CacheError: the file can't be used.
        ServerError: the server can't be asked for its models, or offers several and none is named.
    """
    version = resolve_model(server, model)
    return AnswerCache(folder, server=server.identity, model=version)
