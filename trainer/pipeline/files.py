"""Records from a local file: JSON Lines, a JSON array, CSV, TSV (each also gzipped), Parquet.

Whatever is wrong with a file is said with its line or row. Knows nothing of what columns mean.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trainer.pipeline.source import DataError, Record, Source

BATCH_ROWS = 1000
# A DDL may be longer than the csv module's 128 KiB; a quote left open must not swallow a file.
MAX_FIELD_CHARS = 1024 * 1024
DELIMITERS = {".csv": ",", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson")
SUFFIXES = (*LINES, ".json", *DELIMITERS, ".parquet")
BOM = "\ufeff"


def kind_of(path: Path) -> str:
    """The suffix that says how `path` is read, "" where none does."""
    suffix = Path(_plain_name(path)).suffix.lower()
    is_readable = suffix in SUFFIXES and not (suffix == ".parquet" and _is_gzip(path))
    return suffix if is_readable else ""


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _plain_name(path: Path) -> str:
    return path.stem if _is_gzip(path) else path.name


def open_file(path: Path) -> Source:
    """The records of a file.

    Raises:
        DataError: it can't be read, is empty, or its kind is not known; also raised on reading.
    """
    if not (kind := kind_of(path)):
        raise DataError(f"{path}: unknown kind of file; known: {', '.join(SUFFIXES)}, all but the "
                        "last also with .gz")  # fmt: skip
    read = partial(_READERS[kind], path)
    if (first := next(read(None), None)) is None:
        raise DataError(f"{path}: holds no rows")
    return Source(Path(_plain_name(path)).stem, tuple(first[1]), read, path.parent, path)


def is_json_lines(path: Path) -> bool:
    return kind_of(path) in LINES


def decoded_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, from 1.

    Raises:
        DataError: it can't be read, or a line is not UTF-8.
    """
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, start=1):
                text = _decode(line, f"{path}:{number}")
                yield number, text.removeprefix(BOM) if number == 1 else text
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: can't be read: {error}") from error


def _open(path: Path) -> io.BufferedIOBase:
    return gzip.open(path) if _is_gzip(path) else path.open("rb")


def _decode(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: not UTF-8 (byte {line[error.start]:#04x} at {error.start}); save the file "
            "as UTF-8"
        ) from error


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object, found {type(value).__name__}")
    return value


def _read_lines(path: Path, _: Sequence[str] | None) -> Iterator[Record]:
    for number, line in decoded_lines(path):
        if line.strip():
            where = f"{path}:{number}"
            try:
                value = json.loads(line.rstrip())
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: {_not_json(error)}") from error
            yield where, _object(value, where)


def _read_json(path: Path, columns: Sequence[str] | None) -> Iterator[Record]:
    """An array of objects, or an object a line; the text of an array is held while it is read."""
    lines = decoded_lines(path)
    start = next((line for _, line in lines if line.strip()), "")
    if not start.lstrip().startswith("["):
        yield from _read_lines(path, columns)
        return
    text = "".join(line for _, line in decoded_lines(path))
    for number, value in enumerate(_elements(text, path), start=1):
        where = f"{path}: row {number}"
        yield where, _object(value, where)


def _elements(text: str, path: Path) -> Iterator[object]:
    """The elements of a JSON array one by one, so that they needn't be in memory together."""
    decode = json.JSONDecoder().raw_decode
    place = _after_space(text, text.index("[") + 1)
    try:
        while not text.startswith("]", place):
            value, place = decode(text, place)
            yield value
            place = _after_space(text, place)
            if text.startswith(",", place):
                place = _after_space(text, place + 1)
            elif not text.startswith("]", place):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, place)
        if (end := _after_space(text, place + 1)) < len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except (ValueError, RecursionError) as error:
        line = text.count("\n", 0, place) + 1
        raise DataError(f"{path}:{getattr(error, 'lineno', line)}: {_not_json(error)}") from error


def _not_json(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at column {error.colno}"
    return f"not JSON that can be read: {error}"


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\t", "\r", "\n"):
        place += 1
    return place


def _read_table(path: Path, _: Sequence[str] | None) -> Iterator[Record]:
    """CSV or TSV with a header; a field in double quotes may hold line breaks."""
    csv.field_size_limit(MAX_FIELD_CHARS)
    lines = (line for _, line in decoded_lines(path))
    rows = csv.reader(lines, delimiter=DELIMITERS[kind_of(path)], strict=True)
    header: list[str] = []
    while True:
        where = f"{path}:{rows.line_num + 1}"
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise DataError(f"{where}: {error}; a field with quotes or line breaks must be in "
                            "double quotes, those in it doubled") from error  # fmt: skip
        if row is None:
            return
        if row and not header:
            header = _header(row, where)
        elif row:
            if len(row) != len(header):
                raise DataError(f"{where}: {len(row)} fields, but the header has {len(header)}")
            yield where, dict(zip(header, row, strict=True))


def _header(names: list[str], where: str) -> list[str]:
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise DataError(f"{where}: column {twice[0]!r} stands twice in the header")
    return names


def _read_parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            wanted = list(columns) if columns is not None else None
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
                for record in _records(batch, f"{path}: row ", number):
                    number += 1
                    yield f"{path}: row {number}", record
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: can't be read as Parquet: {_first_line(error)}") from error


def _records(batch: Any, where: str, before: int) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(_undecodable(batch, where, before)) from error
    return found


def _undecodable(batch: Any, where: str, before: int) -> str:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for number, value in enumerate(column, start=before + 1):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                return f"{where}{number}: column {name!r} is not UTF-8: {error}"
    return f"{where}{before + 1}: not UTF-8"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


_READERS: dict[str, Callable[[Path, Sequence[str] | None], Iterator[Record]]] = {
    **dict.fromkeys(LINES, _read_lines),
    **dict.fromkeys(DELIMITERS, _read_table),
    ".json": _read_json,
    ".parquet": _read_parquet,
}
