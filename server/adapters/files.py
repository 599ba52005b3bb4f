"""What a version's folder may hold, looked at before any of it is read.

Nothing is opened: a pipe would make a reader wait, and a device may do anything.
"""

import os
import stat
from pathlib import Path

from eval.task.bundle import CONFIG, CORE_FILES, EVIDENCE, MANIFEST, WEIGHTS
from server.adapters.refusal import Refusal

PICKLES_AND_CODE = frozenset(
    ".bin .ckpt .dill .joblib .pickle .pkl .pt .pth .py .pyc .pyd .sh .so .zip".split()
)
MAX_BYTES = {CONFIG: 1 << 20, MANIFEST: 1 << 20, WEIGHTS: 8 << 30}
MAX_ENTRIES = 64


def check_files(folder: Path) -> None:
    """Raise Refusal unless `folder` holds the three files of a bundle, regular ones that nobody
    else has a name for, within their sizes, and beside them but evidence."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise Refusal("not_a_folder", "a version is a folder", folder.name)
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(MAX_ENTRIES), strict=False)]
    except FileNotFoundError as error:
        raise Refusal("missing", "no such version in the store", folder.name) from error
    except OSError as error:
        raise Refusal("unreadable", error.strerror or "can't be read", folder.name) from error
    for name in sorted(names):
        _check_name(name)
    if EVIDENCE in names and not stat.S_ISDIR(os.lstat(folder / EVIDENCE).st_mode):
        raise Refusal("not_a_folder", "must be a folder", EVIDENCE)
    for name in CORE_FILES:
        _check_file(folder / name)


def _check_name(name: str) -> None:
    if Path(name).suffix.lower() in PICKLES_AND_CODE:
        raise Refusal("unsafe_format", "only safetensors and JSON are read; remove it", name)
    if name not in (*CORE_FILES, EVIDENCE):
        raise Refusal("unexpected_file", "a version holds its bundle only; remove it", name)


def _check_file(path: Path) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError as error:
        raise Refusal("incomplete", "is missing", path.name) from error
    except OSError as error:
        raise Refusal("unreadable", error.strerror or "can't be read", path.name) from error
    if not stat.S_ISREG(found.st_mode):
        raise Refusal("not_regular", "must be a regular file: publish a copy", path.name)
    if found.st_nlink != 1:
        raise Refusal(
            "linked", f"has {found.st_nlink} names (hard links): publish a copy", path.name
        )
    if found.st_size > (most := MAX_BYTES[path.name]):
        raise Refusal("too_large", f"{found.st_size} bytes, over {most}", path.name)
    if not os.access(path, os.R_OK):
        raise Refusal("unreadable", "the server may not read it", path.name)
