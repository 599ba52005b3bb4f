"""Databases that `sqlwright-serve add-database` registered: one JSON file each in a folder.

The folder is the truth: running servers follow it, as they follow the adapter store. A file holds
the schema and never a password; a broken one is named in one log line, and what was served of it
before goes on being served.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import Field, StringConstraints, ValidationError

from eval.task.bundle import ALIAS
from eval.task.dialect import resolve_dialect
from eval.task.schema import Table
from eval.task.tables import checked_schema
from server.databases import Database, expect_grants, sample_databases
from server.schemas import Wire

log = structlog.get_logger()
MAX_FILE_BYTES = 32 << 20
GRANTEE = re.compile(r"\*|[0-9a-f]{12}")  # everyone, or an API key's id
Grantee = Annotated[str, StringConstraints(pattern=rf"^({GRANTEE.pattern})$")]


class RegistryError(ValueError):
    """A database that can't be registered, read or removed; the message says what to do."""


class DatabaseRecord(Wire):
    """What a file holds."""

    format_version: Literal[1]
    name: str = Field(pattern=f"^{ALIAS.pattern}$")
    dialect: str
    source: str
    tables: tuple[Table, ...]
    grants: dict[Grantee, tuple[str, ...]] = Field(default_factory=dict)

    def database(self) -> Database:
        """The database, its schema and grants checked as if they came from outside.

        Raises:
            DdlError, DialectError, GrantsError: what it holds is no usable schema, or no grant.
        """
        database = Database(
            self.name,
            checked_schema(self.tables),
            resolve_dialect(self.dialect),
            self.source,
            self.grants,
        )
        expect_grants(database)
        return database


class Registry:
    """The files at `folder`, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._samples = sample_databases()
        self._served: dict[str, Database] = {}
        self._stamps: dict[Path, tuple[int, int, int]] = {}
        self._refused: dict[str, str] = {}

    def add(self, database: Database, *, replace: bool = False) -> Path:
        """Write the file of `database` in one step; return its path.

        Raises:
            RegistryError: its name is taken, or its schema, dialect or grants can't be used.
            OSError: the folder can't be written.
        """
        path = self._path(database.name)
        if path.exists() and not replace:
            raise RegistryError(f"database {database.name!r} is registered; give --replace")
        try:
            record = DatabaseRecord(
                format_version=1,
                name=database.name,
                dialect=database.dialect,
                source=database.source,
                tables=database.schema.tables,
                grants=dict(database.grants),
            )
            record.database()
        except ValueError as error:
            raise RegistryError(reason(error)) from error
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(path, record.model_dump_json(indent=1, exclude_defaults=True) + "\n")
        return path

    def remove(self, name: str) -> None:
        """Delete the file of database `name`.

        Raises:
            RegistryError: there is none.
            OSError: the folder can't be written.
        """
        path = self._path(name)
        try:
            path.unlink()
        except FileNotFoundError:
            raise RegistryError(f"database {name!r} is not registered") from None

    def read(self, path: Path) -> Database:
        """The database in the file at `path`.

        Raises:
            RegistryError: it is broken, or its name is not the file's or a sample's.
        """
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise RegistryError(f"over {MAX_FILE_BYTES >> 20} MiB")
            self._path(path.stem)
            database = DatabaseRecord.model_validate_json(path.read_bytes()).database()
        except (OSError, ValueError, RecursionError) as error:
            raise RegistryError(f"{path.name}: {reason(error)}") from error
        if database.name != path.stem:
            raise RegistryError(f"{path.name}: holds a database of another name")
        return database

    def paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.json") if path.is_file())

    def databases(self) -> dict[str, Database]:
        """The samples and all that is registered; only files that changed are read again.

        Never raises for the folder's faults: what was served before goes on being served.
        """
        try:
            self._follow()
        except OSError as error:
            self._refuse(str(self.folder), f"can't be read: {error.strerror}")
        return self._samples | self._served

    def _follow(self) -> None:
        if self._stamps and not self.folder.is_dir():
            self._refuse(str(self.folder), "is gone: is it still mounted?")
            return
        stamps = {path: _stamp(path) for path in self.paths()}
        for name in sorted(set(self._served) - {path.stem for path in stamps}):
            log.info("database_withdrawn", database=name)
            del self._served[name]
        changed = [path for path, stamp in stamps.items() if stamp != self._stamps.get(path)]
        self._stamps = stamps
        self._refused = {f: r for f, r in self._refused.items() if self.folder / f in stamps}
        for path in changed:
            self._adopt(path)

    def _adopt(self, path: Path) -> None:
        try:
            database = self.read(path)
        except RegistryError as error:
            self._refuse(path.name, str(error))
            return
        self._refused.pop(path.name, None)
        self._served[database.name] = database
        log.info("database_served", database=database.name, tables=len(database.schema.tables))

    def _refuse(self, file: str, reason: str) -> None:
        if self._refused.get(file) != reason:
            self._refused[file] = reason
            kept = Path(file).stem in self._served
            log.warning("database_refused", file=file, reason=reason, still_served=kept)

    def _path(self, name: str) -> Path:
        if not ALIAS.fullmatch(name):
            raise RegistryError(f"name: {name[:80]!r} must match {ALIAS.pattern}; give --name")
        if name in self._samples:
            raise RegistryError(f"name: {name!r} is a sample's; give another by --name")
        return self.folder / f"{name}.json"


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes with a file; zeros where it is gone by now."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


def reason(error: Exception) -> str:
    """One line of `error`; pydantic's first complaint without what it complains of."""
    if not isinstance(error, ValidationError):
        return str(error)[:300]
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"[:300]


def _write(path: Path, text: str) -> None:
    """Write in one step: a reader sees the old file or the new one. Only the owner may read it."""
    handle, draft = tempfile.mkstemp(prefix=".draft-", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, no path
            file.write(text)
            file.flush()
            os.fsync(handle)
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)
