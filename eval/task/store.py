"""The adapter store: a folder with each version in `DIGEST12/`, never rewritten, and its aliases.

The folder is the truth for whoever shares it. A version appears by one rename when it is whole;
`aliases.json` is replaced in one step, by one writer at a time, and says what each public name
means.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from eval.task.audit import append, shell_actor
from eval.task.bundle import (
    ALIAS,
    BASE,
    CONFIG,
    EVIDENCE,
    MANIFEST,
    SHORT,
    WEIGHTS,
    Bundle,
    BundleError,
    bundle_digest,
    fsync,
    read_bundle,
    read_json,
    read_version,
    write_json,
)

ALIASES = "aliases.json"


@dataclass(frozen=True)
class Alias:
    """What a public name means: versions by 12 digits, and the rollout that is in progress.

    A *candidate* is either `canary`, which answers `share` of the name's questions, or `shadow`,
    which is asked `share` of them beside the active version. Where `automatic` is true, evidence
    decides when it is promoted or dropped. A `pinned` name's versions stay loaded.

    Raises:
        BundleError: the fields contradict each other; names the one at fault.
    """

    active: str
    previous: str | None = None
    canary: str | None = None
    shadow: str | None = None
    share: float = 0.0
    automatic: bool = True
    pinned: bool = False

    def __post_init__(self) -> None:
        for name in ("active", "previous", "canary", "shadow"):
            value = getattr(self, name)
            if not (_is_version(value) or (value is None and name != "active")):
                raise BundleError(f"{name}: must be the 12 hexadecimal digits of a version")
        if self.canary and self.shadow:
            raise BundleError("canary, shadow: only one of them may be set")
        if self.candidate == self.active:
            raise BundleError(f"{self.mode}: {self.active} is the active version already")
        if not all(isinstance(value, bool) for value in (self.automatic, self.pinned)):
            raise BundleError("automatic, pinned: must be true or false")
        if not _is_share(self.share, is_used=self.candidate is not None):
            raise BundleError("share: must be above 0 and at most 1 with a candidate, else 0")

    @property
    def candidate(self) -> str | None:
        """The version that is being tried."""
        return self.canary or self.shadow

    @property
    def mode(self) -> Literal["", "canary", "shadow"]:
        """How it is tried."""
        return "canary" if self.canary else "shadow" if self.shadow else ""

    @property
    def versions(self) -> tuple[str, ...]:
        """All versions that the name refers to, the active one first."""
        named = (self.active, self.canary, self.shadow, self.previous)
        return tuple(dict.fromkeys(version for version in named if version is not None))

    def pointed_at(self, version: str) -> "Alias":
        """The same name with `version` active; a rollout is over, whatever it compared."""
        kept = self.previous if version == self.active else self.active
        return Alias(version, kept, pinned=self.pinned)


AliasOrNone = TypeVar("AliasOrNone", bound=Alias | None)


def _is_share(value: object, *, is_used: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value <= 1 if is_used else value == 0


def default_store() -> Path:
    """`$SQLWRIGHT_STORE`, else `$XDG_DATA_HOME/sqlwright/store`, else under `~/.local/share`."""
    if own := os.environ.get("SQLWRIGHT_STORE"):
        return Path(own)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "sqlwright" / "store"


def publish(staging: Path, store: Path, alias: str, *, actor: str = "") -> Bundle:
    """Put the whole bundle at `staging` into `store` and point `alias` at it; the audit log says
    that `actor` did, by default the user of this process. Raises as `add_version`, and BundleError
    where `alias` is no legal name."""
    expect_alias(alias)
    bundle = add_version(staging, store)
    point_alias(store, alias, bundle.short, actor=actor)
    return bundle


def expect_alias(alias: str) -> None:
    """Raise BundleError if nothing can be published as `alias`."""
    if not ALIAS.fullmatch(alias) or alias == BASE:
        raise BundleError(f"alias {alias[:80]!r} must match {ALIAS.pattern} and not be {BASE!r}")


def add_version(staging: Path, store: Path) -> Bundle:
    """Put the whole bundle at `staging` into `store`, where no name refers to it yet.

    Files are flushed, then one rename makes the version appear; `staging` may be reused after. One
    that is there already counts as new again, so that collection leaves it alone.

    Raises:
        BundleError: `staging` is no whole bundle, or the version that is there is damaged.
        OSError: the store can't be written.
    """
    bundle = read_bundle(staging)
    store.mkdir(parents=True, exist_ok=True)
    target = store / bundle.short
    with locked(store):  # else it may be collected between the look and the touch
        if is_there := target.exists():
            _touch(target)
    if not is_there:
        _copy_version(staging, target, bundle.digest)
    read_version(store, bundle.short)  # one that was there may have been damaged
    return Bundle(target, bundle.digest, bundle.manifest)


def _copy_version(staging: Path, target: Path, digest: str) -> None:
    work = Path(tempfile.mkdtemp(prefix=".staging-", dir=target.parent))
    try:
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(staging / name, work / name)
        if (staging / EVIDENCE).is_dir():
            shutil.copytree(staging / EVIDENCE, work / EVIDENCE)
        shutil.copyfile(staging / MANIFEST, work / MANIFEST)  # last: its presence means complete
        if bundle_digest(work) != digest:
            raise BundleError("incomplete: the bundle changed while it was copied")
        for path in (*work.rglob("*"), work):
            fsync(path)
        work.chmod(0o755)
        work.rename(target)
        fsync(target.parent)
    except OSError as error:
        # Otherwise another publisher was first with the same content.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read_aliases(store: Path) -> dict[str, Alias]:
    """The store's aliases; empty where nothing was published yet.

    Raises:
        BundleError: `aliases.json` is malformed.
    """
    path = store / ALIASES
    if not path.exists():
        return {}
    return {name: _alias(name, entry) for name, entry in read_json(path).items()}


def _alias(name: str, entry: Any) -> Alias:
    if not ALIAS.fullmatch(name):
        raise BundleError(f"{ALIASES}: entry {name[:80]!r} is no legal name")
    try:
        return Alias(**entry)
    except (TypeError, BundleError) as error:
        raise BundleError(f"{ALIASES}: entry {name!r}: {error}") from error


def _is_version(value: object) -> bool:
    return isinstance(value, str) and SHORT.fullmatch(value) is not None


def point_alias(store: Path, alias: str, short: str, *, actor: str = "") -> Alias:
    """Make `short` the active version of `alias`; the one before becomes `previous`, and a rollout
    in progress is over."""

    def change(old: Alias | None) -> Alias:
        return old.pointed_at(short) if old else Alias(short)

    return change_alias(store, alias, change, action="publish", actor=actor)


def change_alias(
    store: Path,
    alias: str,
    change: Callable[[Alias | None], AliasOrNone],
    *,
    action: str,
    actor: str = "",
    detail: str = "",
) -> AliasOrNone:
    """Replace the entry of `alias` by what `change` makes of it (None: there is none) and write
    that to the audit log: after the fact, so that a crash may lose a line but never invent one.

    Raises:
        BundleError: `aliases.json` is malformed.
        OSError: the store can't be written. What `change` raises passes, and nothing has changed.
    """
    with locked(store):
        aliases = read_aliases(store)
        old = aliases.pop(alias, None)
        new = change(old)
        if new is not None:
            aliases[alias] = new
        if new != old:
            write_aliases(store, aliases)
        for version in set(_versions(old)) - set(_versions(new)):
            _touch(store / version)  # servers that have not noticed yet still answer from it
        before, after = _record(old), _record(new)
        append(
            store, actor or shell_actor(), action, alias, before=before, after=after, detail=detail
        )
    return new


def _record(entry: Alias | None) -> dict[str, Any] | None:
    return asdict(entry) if entry else None


def _versions(entry: Alias | None) -> tuple[str, ...]:
    return entry.versions if entry else ()


def _touch(folder: Path) -> None:
    """Make a version count as new again for the collection of those that no alias names."""
    with suppress(OSError):  # gone by hand, or another user's
        os.utime(folder)


def write_aliases(store: Path, aliases: Mapping[str, Alias]) -> None:
    write_json(store / ALIASES, {name: asdict(entry) for name, entry in sorted(aliases.items())})
    fsync(store)  # the rename too must be on the disk before the audit log says so


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold the store's lock, so that two publishers don't lose each other's alias."""
    with (store / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
