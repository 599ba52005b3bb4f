"""The engine's own copies of adapter versions.

A store may be a folder that others write to. What was admitted is what the engine reads, whatever
happens to the store afterwards: a version is copied first, looked at in the copy, and only then put
where the engine finds it. The copies belong to one server process and go with it.
"""

import errno
import os
import re
import shutil
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

from eval.task.bundle import CORE_FILES, Bundle
from server.adapters.admission import Admission
from server.adapters.files import MAX_BYTES, check_files
from server.adapters.refusal import Refusal

NAME = re.compile(r"versions-(\d+)")
BLOCK = 1 << 20


class Copies:
    """Versions by digest in `folder`, which nobody but this process's user may enter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, store: Path, short: str, admission: Admission) -> Bundle:
        """The copy of version `short` of `store`, admitted; made first where there is none.

        Raises:
            Refusal, BundleError: as `Admission.admit_version`, or it can't be copied.
        """
        if (self.folder / short).is_dir():
            return admission.admit_version(self.folder, short)
        check_files(store / short)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(prefix=".making-", dir=self.folder) as work:
                made = _copied(store / short, Path(work) / short)
                bundle = admission.admit_version(made.parent, short)
                made.rename(self.folder / short)
        except OSError as error:
            raise _unwritable(error, self.folder) from error
        return replace(bundle, folder=self.folder / short)

    def drop(self, short: str) -> None:
        """Remove the copy of version `short`, if there is one."""
        shutil.rmtree(self.folder / short, ignore_errors=True)

    def remove(self) -> None:
        """Remove all copies, those that servers left behind that were killed too."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for other in self.folder.parent.glob("versions-*"):
            match = NAME.fullmatch(other.name)
            if match and not Path(f"/proc/{match[1]}").exists():
                shutil.rmtree(other, ignore_errors=True)


def _unwritable(error: OSError, folder: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal("no_space", f"the disk of {folder} is full; set SQLWRIGHT_CACHE elsewhere")
    return error


def _copied(source: Path, target: Path) -> Path:
    """The bundle at `source` without its evidence, copied to the new folder `target`."""
    target.mkdir()
    for name in CORE_FILES:
        _copy(source / name, target / name, MAX_BYTES[name])
    return target


def _copy(source: Path, target: Path, most: int) -> None:
    """At most `most` bytes of a regular file; links are not followed, pipes not waited for."""
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Refusal("unreadable", error.strerror or "can't be read", source.name) from error
    with os.fdopen(handle, "rb") as file, target.open("xb") as out:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Refusal("not_regular", "must be a regular file: publish a copy", source.name)
        while block := file.read(BLOCK):
            if out.tell() + len(block) > most:
                raise Refusal("too_large", f"over {most} bytes", source.name)
            out.write(block)
    target.chmod(0o400)
