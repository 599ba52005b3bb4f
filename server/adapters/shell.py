"""What the commands of `sqlwright-adapters` share: options, errors in one line, and tables."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from eval.task.audit import shell_actor
from eval.task.bundle import BundleError, read_version
from eval.task.store import Alias, default_store
from server.adapters.collection import Stored
from server.adapters.operations import OperationError, Operations

GIB = 1 << 30
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))

StoreOption = Annotated[Path | None, typer.Option("--store", help="Adapter store.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QuotaOption = Annotated[
    float,
    typer.Option(
        "--max-gib", envvar="SQLWRIGHT_STORE_GIB", min=0, help="Space of the store; 0: no limit."
    ),
]


def operations(store: Path | None, max_gib: float = 0) -> Operations:
    """What the user of this shell may do to `store`, by default the usual one."""
    return Operations(store or default_store(), shell_actor(), int(max_gib * GIB))


@contextmanager
def failing() -> Iterator[None]:
    """Errors become one line on standard error and the exit status 1."""
    try:
        yield
    except OperationError as error:
        raise failure(f"{error}; {error.hint}" if error.hint else str(error)) from error
    except (ValueError, OSError) as error:
        raise failure(str(error)) from error


def failure(message: str) -> typer.Exit:
    typer.echo(f"sqlwright-adapters: error: {message}", err=True)
    return typer.Exit(1)


def show_json(record: object) -> None:
    typer.echo(json.dumps(record, indent=1))


def show_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(*heads)
    for row in rows:
        table.add_row(*row)
    Console(markup=False).print(table)


def show_changed(alias: str, entry: Alias, *, as_json: bool) -> None:
    """What `alias` means after a change."""
    if as_json:
        show_json({"alias": alias, **asdict(entry)})
    else:
        show_table(("alias", *ENTRY_HEADS), [(alias, *entry_cells(entry))])


ENTRY_HEADS = ("active", "previous", "rollout", "pinned")


def entry_cells(entry: Alias) -> tuple[str, ...]:
    pinned = "yes" if entry.pinned else ""
    return entry.active, entry.previous or "", rollout_text(entry), pinned


def rollout_text(entry: Alias) -> str:
    """The rollout in progress in words, or nothing."""
    if entry.candidate is None:
        return ""
    how = "automatic" if entry.automatic else "by hand"
    return f"{entry.mode} {entry.candidate} {entry.share:.4g}, {how}"


def state_cells(store: Path, short: str) -> tuple[str, str]:
    """Rank and state of a version."""
    try:
        return str(read_version(store, short).manifest.rank), "whole"
    except BundleError as error:
        return "", str(error)


def version_cells(version: Stored) -> tuple[str, ...]:
    names = ", ".join(version.aliases) or "nobody"
    return version.short, mib_text(version.size), age_text(version.age), names


def mib_text(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def age_text(seconds: float) -> str:
    """An age in its largest unit: "3 d"."""
    unit, name = next((each for each in UNITS if seconds >= each[0]), UNITS[-1])
    return f"{max(seconds, 0) // unit:.0f} {name}"


def audit_cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    """When, who, what, and from what to what."""
    named = (str(record.get(key, "")) for key in ("at", "actor", "action", "alias"))
    before, after = record.get("before") or {}, record.get("after") or {}
    changed = [
        f"{key}: {before.get(key)} → {after.get(key)}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]
    if detail := record.get("detail"):
        changed.append(str(detail))
    return *named, "\n".join(changed)


EVIDENCE_HEADS = ("began", "mode", "version", "n", "usable", "p50 ms", "verdict")


def evidence_cells(rollout: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row for each of the two versions of a reported rollout."""
    for arm in ("active", "candidate"):
        found = rollout["arms"][arm]
        usable = found["usable"]
        low, high = usable["interval"] if usable else (0.0, 0.0)
        yield (
            rollout["began"],
            f"{rollout['mode']} {100 * rollout['share']:g} %",
            f"{rollout[arm]} ({arm})",
            str(found["n"]),
            f"{100 * usable['value']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]" if usable else "",
            str(found["latency_ms_p50"] or ""),
            rollout["verdict"] or rollout["state"],
        )
