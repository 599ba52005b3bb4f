"""The audit log of a store: one line for each change, appended and never rewritten."""

import getpass
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

FILE = "audit.jsonl"
BLOCK = 1 << 16


def append(
    store: Path,
    actor: str,
    action: str,
    alias: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    detail: str = "",
) -> None:
    """Add a line for what `actor` did; it is on the disk when this returns. `before` and `after`
    are the alias's entries, None where there is none.

    Raises:
        OSError: the store can't be written.
    """
    record = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "actor": actor,
        "action": action,
        "alias": alias,
        "before": before,
        "after": after,
        "detail": detail,
    }
    line = json.dumps(record, ensure_ascii=False) + "\n"
    handle = os.open(store / FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # A line that a crash has torn would otherwise swallow this one.
        size = os.fstat(handle).st_size
        is_torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        os.write(handle, (b"\n" if is_torn else b"") + line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def read_last(store: Path, limit: int, alias: str = "") -> list[dict[str, Any]]:
    """The last `limit` records, the newest first; of `alias` only, if given. What is no record is
    left out.

    Raises:
        OSError: the log can't be read.
    """
    path = store / FILE
    if not path.exists():
        return []
    found = (record for line in _backwards(path) if (record := _record(line)))
    return list(islice((r for r in found if not alias or r.get("alias") == alias), limit))


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file that may be long, from its end."""
    with path.open("rb") as file:
        place = file.seek(0, os.SEEK_END)
        rest = b""
        while place > 0:
            size = min(BLOCK, place)
            place -= size
            file.seek(place)
            first, *lines = (file.read(size) + rest).split(b"\n")
            yield from reversed(lines)
            rest = first
        yield rest


def shell_actor() -> str:
    """Who works at this shell, as an actor."""
    try:
        return f"shell:{getpass.getuser()}"
    except (OSError, KeyError):  # a user without an entry, as in some containers
        return f"shell:{os.getuid()}"
