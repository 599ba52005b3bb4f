"""The first step of the data pipeline: rows from a file, the hub or the project's own questions.

Rows keep the words of their source: what is wrong with a question or a query is for later stages
to find. Only what can't be a row at all is dropped here.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.task import samples
from eval.task.bundle import sha256_file
from eval.task.dialect import DialectError, resolve_dialect
from eval.task.example import REQUIRED, ExampleError, parse_example
from trainer.config import SAMPLES
from trainer.pipeline.columns import Texts, choose_map, read_texts
from trainer.pipeline.files import decoded_lines, is_json_lines, kind_of, open_file
from trainer.pipeline.hub import open_folder, open_hub, parse_hub_id
from trainer.pipeline.row import Drop, Dropped, Row
from trainer.pipeline.schemas import Places, Schemas, is_plain_name
from trainer.pipeline.source import DataError as DataError
from trainer.pipeline.source import Source

TRAIN = "train"
OWN = "example, checked strictly"
DB_ID_DIGITS = 12
OWN_ROLES = {role: role for role in ("id", "db_id", "question", "sql", "dialect", "source")}

# Where a record stands, and its texts or why it has none that can be used.
Read = tuple[str, Texts | Drop]


@dataclass(frozen=True)
class Loaded:
    """The rows of one source. `sha256` is that of the file, or for a set of several files that of
    the texts that were read; `facts` are JSON values under words, for the report."""

    rows: list[Row]
    name: str
    sha256: str
    dropped: list[Dropped]
    facts: dict[str, Any] = field(default_factory=dict)


def load_source(
    source: str,
    *,
    columns: Mapping[str, str] | None = None,
    split: str = TRAIN,
    schemas: Path | None = None,
    databases: Path | None = None,
    limit: int = 0,
    dialect: str = "sqlite",
) -> Loaded:
    """Load the rows of `source`: `samples` (the project's own questions), a file or folder of
    JSON Lines, JSON, CSV, TSV or Parquet, or a hub id `ORG/NAME`, `hub:ORG/NAME:CONFIG`.

    `columns` says which column plays which role (`columns.ROLES`); without it, the hub id or the
    columns themselves say of which known set they are, and JSON Lines of the project's own form
    are checked strictly. A row without DDL has the schema of its database: `DB_ID.sql` in
    `schemas`, or `DB_ID.sqlite` in `databases`, by default beside the file. At most `limit` rows
    are kept (0: all); `dialect` is that of rows that name none.

    Raises:
        DataError: the source, a line of it, a column or a schema can't be read or found.
    """
    if limit < 0:
        raise DataError(f"limit: must not be negative, is {limit}")
    opened = _open(source, split)
    form, roles = _form(opened, columns)
    maker = _Maker(opened.name, Schemas(Places(opened.beside, schemas, databases)), dialect)
    records = _own_records(opened) if form == OWN else _records(opened, roles)
    loaded = _make(records, maker, limit)
    sha256 = sha256_file(opened.file) if opened.file else loaded.sha256
    facts = {"form": form, "columns": roles, **opened.facts, **loaded.facts}
    return replace(loaded, sha256=sha256, facts=facts)


def _open(source: str, split: str) -> Source:
    if source == SAMPLES:
        return _open_samples(split)
    path, hub_id = Path(source), parse_hub_id(source)
    if hub_id and hub_id.has_prefix:
        return open_hub(hub_id, split)
    if source and path.is_dir():
        return open_folder(path, split)
    if source and path.exists():
        if split != TRAIN:
            raise DataError(f"{source}: split {split!r} is asked for, but a file has no splits")
        return open_file(path)
    if hub_id and not kind_of(path):
        return open_hub(hub_id, split)
    raise DataError(f"{source}: no such file; a source is a path, a hub id ORG/NAME, or {SAMPLES}")


def _open_samples(split: str) -> Source:
    path = samples.FOLDER / f"{split}.jsonl"
    if not (path.name == f"{split}.jsonl" and path.is_file()):
        raise DataError(f"{SAMPLES}: no split {split!r}; there are train and test")
    return open_file(path)


def _form(source: Source, given: Mapping[str, str] | None) -> tuple[str, dict[str, str]]:
    """How the records are read: the name of the form, and the column of each role."""
    found = source.columns
    is_own = set(REQUIRED) <= set(found) and "ddl" not in found
    if given is None and source.file and is_json_lines(source.file) and is_own:
        return OWN, OWN_ROLES
    where = str(source.file or source.name)
    chosen = choose_map(found, given=given, hub_id=source.hub_id, where=where)
    return chosen.name, chosen.roles(found)


def _records(source: Source, roles: Mapping[str, str]) -> Iterator[Read]:
    for where, record in source.read(list(dict.fromkeys(roles.values()))):
        yield where, read_texts(record, roles, where=where)


def _own_records(source: Source) -> Iterator[Read]:
    """The project's own form, in which an unknown field is an error."""
    assert source.file is not None
    for number, line in decoded_lines(source.file):
        if line.strip():
            where = f"{source.file}:{number}"
            try:
                example = parse_example(line, where=where)
            except ExampleError as error:
                raise DataError(str(error)) from error
            record = {name: getattr(example, name) for name in OWN_ROLES}
            yield where, read_texts(record, OWN_ROLES, where=where)


@dataclass
class _Maker:
    """Makes rows of texts; `name` is that of the source."""

    name: str
    schemas: Schemas
    dialect: str

    def __post_init__(self) -> None:
        try:
            resolve_dialect(self.dialect)
        except DialectError as error:
            raise DataError(f"dialect: {error}") from error

    def row_id(self, texts: Texts | Drop, ordinal: int) -> str:
        """The row's own id, or one that no row of another set has."""
        given, number = ("", "") if isinstance(texts, Drop) else (texts.id, texts.number)
        return given or f"{self.name.rpartition('/')[2]}-{number or f'{ordinal:05d}'}"

    def row(self, texts: Texts, row_id: str, where: str) -> Row | Drop:
        try:
            dialect = sys.intern(resolve_dialect(texts.dialect or self.dialect))
        except DialectError:
            return Drop("unknown_dialect", texts.dialect[:64])
        schema = self._schema(texts, dialect, where)
        if isinstance(schema, Drop):
            return schema
        db_id = sys.intern(texts.db_id or _name_of(schema))
        # Only a query in SQLite's own dialect can be run on a SQLite file.
        is_runnable = dialect == "sqlite" and is_plain_name(texts.db_id)
        database = self.schemas.database(db_id) if is_runnable else ""
        source = sys.intern(texts.source or self.name)
        return Row(row_id, db_id, texts.question, texts.sql, dialect, source, schema, database)

    def _schema(self, texts: Texts, dialect: str, where: str) -> str | Drop:
        if texts.ddl.strip():
            return self.schemas.of_ddl(texts.ddl, dialect)
        if not texts.db_id:
            return Drop("no_schema", "neither DDL nor db_id")
        if not is_plain_name(texts.db_id):
            return Drop("bad_db_id", f"{texts.db_id[:64]!r} can't be the name of a file")
        return self.schemas.of_database(texts.db_id, dialect, where=where)


def _name_of(schema: str) -> str:
    return "ddl_" + hashlib.sha256(schema.encode()).hexdigest()[:DB_ID_DIGITS]


def _make(records: Iterator[Read], maker: _Maker, limit: int) -> Loaded:
    rows: list[Row] = []
    dropped: list[Dropped] = []
    digest = hashlib.sha256()
    ordinal = 0
    for ordinal, (where, texts) in enumerate(records, start=1):
        digest.update(repr(texts).encode())
        row_id = maker.row_id(texts, ordinal)
        made = texts if isinstance(texts, Drop) else maker.row(texts, row_id, where)
        if isinstance(made, Drop):
            dropped.append(Dropped(row_id, made.reason, made.detail))
        else:
            rows.append(made)
        if limit and len(rows) == limit:
            break
    name = rows[0].source if rows else maker.name
    return Loaded(rows, name, digest.hexdigest(), dropped, _facts(rows, ordinal))


def _facts(rows: list[Row], num_read: int) -> dict[str, Any]:
    return {
        "rows read": num_read,
        "databases": len({row.db_id for row in rows}),
        "rows with a database file": sum(bool(row.database) for row in rows),
        "dialects": dict(Counter(row.dialect for row in rows)),
    }
