"""The schema and the database of a row: from its own DDL, a `.sql` file, or a SQLite file.

Each DDL, file and database is read once. Knows nothing of where the row comes from.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eval.task.schema import DdlError, Schema, parse_ddl, schema_from_sqlite
from trainer.pipeline.row import Drop, dump_schema
from trainer.pipeline.source import DataError

# Where databases lie beside a file: as here, as in Spider, as in BIRD.
DATABASES = ("databases", "database", "train_databases", "dev_databases")
MAX_NAME_BYTES = 200
DIGEST_BYTES = 16
STATEMENT = re.compile(
    r"""(?:[^;'"`/-]++|'(?:[^']|'')*+'|"(?:[^"]|"")*+"|`[^`]*+`|--[^\n]*+|/\*.*?\*/|[/-])*+;?""",
    re.DOTALL,
)
INSERT = re.compile(r"\s*INSERT\b", re.IGNORECASE)
# What makes text that STATEMENT does not split as each dialect does.
UNCOMMON = ("\\", "$$", "#", "[")


def is_plain_name(db_id: str) -> bool:
    """True if `db_id` can be a file's name: no path out of a folder of databases."""
    is_name = Path(db_id).name == db_id and db_id not in ("", "..")
    return is_name and len(db_id.encode()) <= MAX_NAME_BYTES


def without_inserts(ddl: str) -> str:
    """`ddl` without its INSERT statements, which hold most of the text and nothing of a schema;
    as it is where its statements can't be told apart for sure."""
    if any(mark in ddl for mark in UNCOMMON):
        return ddl
    statements = STATEMENT.findall(ddl)
    if "".join(statements) != ddl:
        return ddl
    return "".join(s for s in statements if not INSERT.match(s))


@dataclass(frozen=True)
class Places:
    """Where schemas and databases lie; None for a folder: beside the data, if that is a file."""

    beside: Path | None = None
    schemas: Path | None = None
    databases: Path | None = None

    def __post_init__(self) -> None:
        for name, folder in (("schemas", self.schemas), ("databases", self.databases)):
            if folder is not None and not folder.is_dir():
                raise DataError(f"{name}: {folder} is no folder")

    def schema_files(self, db_id: str) -> Iterator[Path]:
        if self.schemas:
            yield self.schemas / f"{db_id}.sql"
        elif self.beside:
            yield self.beside / "schemas" / f"{db_id}.sql"
            yield self.beside / f"{db_id}.sql"

    def database_files(self, db_id: str) -> Iterator[Path]:
        for folder in self._database_folders():
            yield folder / f"{db_id}.sqlite"
            yield folder / db_id / f"{db_id}.sqlite"

    def _database_folders(self) -> Sequence[Path]:
        if self.databases:
            return [self.databases]
        return [self.beside / name for name in DATABASES] if self.beside else []


@dataclass
class Schemas:
    """Schemas as `dump_schema` writes them; equal ones are one text in memory."""

    places: Places
    _of_ddl: dict[tuple[bytes, str], str | Drop] = field(default_factory=dict)
    _of_database: dict[tuple[str, str], str] = field(default_factory=dict)
    _databases: dict[str, str] = field(default_factory=dict)

    def of_ddl(self, ddl: str, dialect: str) -> str | Drop:
        """The schema that `ddl` creates, or `bad_ddl`."""
        written = without_inserts(ddl)
        digest = hashlib.blake2b(written.encode(), digest_size=DIGEST_BYTES).digest()
        key = (digest, dialect)
        if key not in self._of_ddl:
            self._of_ddl[key] = _parse(written, dialect)
        return self._of_ddl[key]

    def of_database(self, db_id: str, dialect: str, *, where: str) -> str:
        """The schema of the database `db_id`, from its `.sql` file or else its SQLite file.

        Raises:
            DataError: there is none, which says where it was looked for; or it can't be read.
        """
        key = (db_id, dialect)
        if key not in self._of_database:
            self._of_database[key] = dump_schema(self._read(db_id, dialect, where))
        return self._of_database[key]

    def database(self, db_id: str) -> str:
        """The path of the SQLite file of `db_id`, "" where there is none."""
        if db_id not in self._databases:
            found = next((p for p in self.places.database_files(db_id) if p.is_file()), "")
            self._databases[db_id] = str(found)
        return self._databases[db_id]

    def _read(self, db_id: str, dialect: str, where: str) -> Schema:
        files = list(self.places.schema_files(db_id))
        file = next((path for path in files if path.is_file()), None)
        database = self.database(db_id)
        if not (file or database):
            raise DataError(self._missing(db_id, files, where))
        try:
            if file:
                return parse_ddl(file.read_text(encoding="utf-8"), dialect)
            return schema_from_sqlite(Path(database))
        except (DdlError, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file or database}: {error}") from error

    def _missing(self, db_id: str, files: Sequence[Path], where: str) -> str:
        places = [str(path) for path in (*files, *self.places.database_files(db_id))]
        looked = f"looked for {', '.join(places)}" if places else "the set holds none"
        return (
            f"{where}: no schema of {db_id!r}; {looked}; name the folder of DB_ID.sql files as "
            "`schemas`, or that of DB_ID.sqlite files as `databases`"
        )


def _parse(ddl: str, dialect: str) -> str | Drop:
    try:
        return dump_schema(parse_ddl(ddl, dialect))
    except DdlError as error:
        return Drop("bad_ddl", (str(error).splitlines() or [""])[0])
