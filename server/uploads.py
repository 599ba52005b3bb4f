"""A bundle that is uploaded as a tar archive: received and unpacked within limits.

Nothing of the archive's own decides where something is written: each member must be a regular file
under one of the names that a bundle has.
"""

import gzip
import re
import shutil
import tarfile
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from eval.task.bundle import CORE_FILES, EVIDENCE
from server.adapters.files import MAX_BYTES
from server.errors import TooLarge, Unprocessable

GZIP = b"\x1f\x8b"
BLOCK = 1 << 20
HEADER = 512  # of a tar archive, and what its members are padded to
MAX_MEMBERS = 32
MAX_EXTENDED = 8 << 10  # a header's extension is read into memory
MAX_EVIDENCE = 1 << 20
EVIDENCE_NAME = re.compile(rf"{EVIDENCE}/[A-Za-z0-9_][A-Za-z0-9._-]{{0,63}}\.(json|md)")


async def receive(chunks: AsyncIterator[bytes], target: Path, max_bytes: int) -> None:
    """Write a body to the new file `target`.

    Raises:
        TooLarge: it is over `max_bytes`.
    """
    size = 0
    with target.open("xb") as file:
        async for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(max_bytes)
            file.write(chunk)


def unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """Unpack the tar archive, plain or gzip, into the new folder `folder`.

    Raises:
        Unprocessable: it is no such archive, or holds what no bundle holds.
        TooLarge: unpacked it is over `max_bytes`.
    """
    folder.mkdir()
    plain = _inflated(archive, max_bytes)
    try:
        _check_headers(plain)
        with tarfile.open(plain, "r:") as tar:
            for member in _checked(tar):
                source = tar.extractfile(member)
                if source is None:
                    raise _bad(member.name, "must be a regular file")
                _write(source, folder / _name_of(member))
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise _bad("", f"is no tar archive: {str(error)[:100]}") from error


def _inflated(archive: Path, max_bytes: int) -> Path:
    with archive.open("rb") as file:
        if file.read(2) != GZIP:
            return archive
    plain = archive.with_suffix(".plain")
    try:
        with gzip.open(archive) as source, plain.open("xb") as out:
            while block := source.read(BLOCK):
                if out.tell() + len(block) > max_bytes:
                    raise _too_large(max_bytes)
                out.write(block)
    except (OSError, EOFError, zlib.error) as error:
        raise _bad("", "is no whole gzip file") from error
    return plain


def _check_headers(path: Path) -> None:
    """Refuse an archive of many members or of large header extensions before `tarfile` reads it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for _ in range(2 * MAX_MEMBERS + 2):
            header = file.read(HEADER)
            if len(header) < HEADER or not any(header):
                return
            length = tarfile.nti(header[124:136])  # type: ignore[attr-defined]  # of the format
            if header[156:157] in b"xgLKXNS" and length > MAX_EXTENDED:
                raise _bad("", "has a header extension that is too large")
            if not 0 <= length <= size:
                raise _bad("", "is cut off")
            file.seek(-(-length // HEADER) * HEADER, 1)
    raise _bad("", f"has over {MAX_MEMBERS} members")


def _checked(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files of the archive, each looked at."""
    seen: set[str] = set()
    for member in tar:
        name = _name_of(member)
        if member.isdir() and name in (".", "", EVIDENCE):
            continue
        if not member.isreg() or member.issparse():
            raise _bad(name, "must be a regular file")
        if name not in CORE_FILES and not EVIDENCE_NAME.fullmatch(name):
            raise _bad(name, "a bundle has no such file")
        if name in seen:
            raise _bad(name, "stands in it twice")
        if member.size > MAX_BYTES.get(name, MAX_EVIDENCE):
            raise _bad(name, f"is over {MAX_BYTES.get(name, MAX_EVIDENCE)} bytes")
        seen.add(name)
        yield member


def _name_of(member: tarfile.TarInfo) -> str:
    return member.name.removeprefix("./").rstrip("/")


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(exist_ok=True)  # of evidence
    with source, target.open("xb") as out:
        shutil.copyfileobj(source, out, BLOCK)


def _bad(name: str, reason: str) -> Unprocessable:
    where = f"{name[:80]!r} " if name else ""
    error = Unprocessable(
        f"the archive: {where}{reason}", param="body", hint="send `tar -C BUNDLE -c .`"
    )
    error.code = "bad_archive"
    return error


def _too_large(max_bytes: int) -> TooLarge:
    hint = "raise SQLWRIGHT_MAX_UPLOAD_BYTES, or publish from the shell"
    return TooLarge(f"the bundle is over {max_bytes} bytes", param="body", hint=hint)
