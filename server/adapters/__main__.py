"""`sqlwright-adapters`: look into the adapter store, and change what it serves, from the shell.

A running server follows each change; all of them are in the store's audit log.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from eval.task.audit import read_last
from eval.task.base_model import BaseModelError, weights_sha256
from eval.task.store import default_store, read_aliases
from server.adapters.admission import Admission
from server.adapters.base_shapes import linear_shapes
from server.adapters.collection import Policy, stored_versions
from server.adapters.evidence import Evidence
from server.adapters.operations import Mode
from server.adapters.shell import (
    ENTRY_HEADS,
    EVIDENCE_HEADS,
    GIB,
    JsonOption,
    QuotaOption,
    StoreOption,
    audit_cells,
    entry_cells,
    evidence_cells,
    failing,
    failure,
    mib_text,
    operations,
    show_changed,
    show_json,
    show_table,
    state_cells,
    version_cells,
)
from server.adapters.validation import Verdict, validate

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
AliasArgument = Annotated[str, typer.Argument(help="Public name.")]
VersionArgument = Annotated[str, typer.Argument(help="Version: 12 hexadecimal digits.")]
ShareOption = Annotated[float, typer.Option(help="Share of the questions, above 0 and up to 1.")]
ManualOption = Annotated[
    bool, typer.Option("--manual", help="Evidence is gathered, but doesn't decide.")
]
VERSION_HEADS = ("version", "size", "age", "named by")


@app.command("list")
def list_aliases(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the aliases: their versions, rollouts and pins."""
    folder = store or default_store()
    with failing():
        aliases = read_aliases(folder)
    if as_json:
        show_json({name: asdict(entry) for name, entry in aliases.items()})
        return
    rows = [
        (name, *entry_cells(entry), *state_cells(folder, entry.active))
        for name, entry in sorted(aliases.items())
    ]
    show_table(("alias", *ENTRY_HEADS, "rank", "state"), rows)


@app.command()
def versions(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the versions in the store, the oldest first, and which aliases name them."""
    with failing():
        found = stored_versions(store or default_store())
    if as_json:
        show_json([asdict(version) for version in found])
    else:
        show_table(VERSION_HEADS, map(version_cells, found))


@app.command()
def publish(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    alias: AliasArgument,
    shadow: Annotated[
        float | None, typer.Option(help="Ask it this share of the questions too; don't answer.")
    ] = None,
    canary: Annotated[
        float | None, typer.Option(help="Let it answer this share of the questions.")
    ] = None,
    manual: ManualOption = False,
    only_store: Annotated[
        bool, typer.Option("--only-store", help="Put it into the store; serve nothing of it yet.")
    ] = False,
    max_gib: QuotaOption = 0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a bundle under an alias: active at once, or as the candidate of a rollout."""
    ways = [shadow is not None, canary is not None, only_store]
    if sum(ways) > 1:
        raise failure("choose one of --shadow, --canary and --only-store")
    if manual and not any(ways[:2]):
        raise failure("--manual: is for a rollout; add --shadow or --canary")
    work = operations(store, max_gib)
    share = canary if shadow is None else shadow
    with failing():
        short = work.add(bundle).short if any(ways) else work.publish(bundle, alias).active
        if share is not None:
            mode: Mode = "canary" if shadow is None else "shadow"
            work.try_out(mode, alias, short, share, automatic=not manual)
    name = short if only_store else f"{alias}@{short}"
    if as_json:
        show_json({"model": name})
    else:
        print(name)


@app.command("validate")
def validate_folders(
    bundles: Annotated[list[Path], typer.Argument(help="Folders of bundles or of versions.")],
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model, to compare hash and shapes.")
    ] = None,
    max_rank: Annotated[int, typer.Option(help="Largest rank that is served.")] = 512,
    as_json: JsonOption = False,
) -> None:
    """Say whether a server would let the engine see bundles; exit status 1 if not all of them.

    As JSON: one line for each, with the milliseconds of processor time beyond hashing."""
    try:
        admission = Admission(max_rank=max_rank)
        if base:
            admission = Admission(weights_sha256(base), linear_shapes(base), max_rank)
        verdicts = [validate(bundle, admission) for bundle in bundles]
    except (BaseModelError, OSError) as error:
        verdicts = [Verdict(bundle, error=error) for bundle in bundles]
    for verdict in verdicts:
        if as_json:
            print(json.dumps(verdict.record()))
        elif verdict.bundle:
            print(verdict)
    if refused := [failure(str(verdict)) for verdict in verdicts if verdict.error]:
        raise refused[0]


@app.command()
def promote(
    alias: AliasArgument,
    version: Annotated[
        str | None, typer.Argument(help="12 hexadecimal digits; default: the candidate.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the candidate, or another version, active; the one before becomes previous."""
    with failing():
        show_changed(alias, operations(store).promote(alias, version), as_json=as_json)


@app.command()
def rollback(alias: AliasArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Drop the candidate; without one make the previous version active again."""
    with failing():
        show_changed(alias, operations(store).rollback(alias), as_json=as_json)


def _begin(mode: Mode) -> Callable[..., None]:
    """The command that begins a rollout of that mode."""

    def begin(
        alias: AliasArgument,
        version: VersionArgument,
        share: ShareOption = 0.1,
        manual: ManualOption = False,
        store: StoreOption = None,
        as_json: JsonOption = False,
    ) -> None:
        with failing():
            work = operations(store)
            entry = work.try_out(mode, alias, version, share, automatic=not manual)
            show_changed(alias, entry, as_json=as_json)

    return begin


BEGINNINGS: dict[Mode, str] = {
    "shadow": "Ask a version a share of the questions too, and compare; the active one answers.",
    "canary": "Let a version answer a share of the questions.",
}
for _mode, _help in BEGINNINGS.items():
    app.command(_mode, help=_help)(_begin(_mode))


@app.command()
def pin(alias: AliasArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Keep the versions of an alias loaded."""
    with failing():
        show_changed(alias, operations(store).pin(alias), as_json=as_json)


@app.command()
def unpin(alias: AliasArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Let the versions of an alias leave the engine's memory when others need the room."""
    with failing():
        show_changed(alias, operations(store).pin(alias, pinned=False), as_json=as_json)


@app.command()
def withdraw(alias: AliasArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Serve nothing under an alias any more; its versions stay in the store."""
    with failing():
        operations(store).withdraw(alias)
    if as_json:
        show_json({"alias": alias, "withdrawn": True})
    else:
        print(f"{alias}: withdrawn")


@app.command()
def evidence(alias: AliasArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show the last rollouts of an alias: both versions side by side, and what the test says."""
    with failing():
        report = Evidence(store or default_store()).report(alias)
    if as_json:
        show_json(report)
        return
    rows = [row for rollout in report["rollouts"] for row in evidence_cells(rollout)]
    show_table(EVIDENCE_HEADS, rows)
    for rollout in report["rollouts"][:1]:
        typer.echo(rollout["says"])


@app.command()
def audit(
    alias: Annotated[str, typer.Option(help="Changes of this alias only.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="So many changes.")] = 20,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who changed what, the newest first."""
    with failing():
        records = read_last(store or default_store(), limit, alias)
    if as_json:
        show_json(records)
    else:
        show_table(("at", "actor", "action", "alias", "change"), map(audit_cells, records))


@app.command()
def collect(
    max_gib: QuotaOption = 0,
    min_age_hours: Annotated[
        float, typer.Option(min=0, help="Younger versions stay: they may be about to be named.")
    ] = 24,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove versions that no alias names: the oldest first, until the store is within --max-gib,
    or all of them if that is 0."""
    policy = Policy(int(max_gib * GIB), min_age_hours * 3600)
    with failing():
        found = operations(store).collect(policy, dry_run=dry_run)
    if as_json:
        show_json(asdict(found))
        return
    show_table(VERSION_HEADS, map(version_cells, found.removed))
    verb = "would go" if dry_run else "gone"
    kept = f"{mib_text(found.size)} kept"
    print(f"{verb}: {len(found.removed)} versions, {mib_text(found.freed)}; {kept}")
    if not found.is_within:
        print("still over --max-gib: the rest is named by an alias, or young")


def run() -> None:
    app()


if __name__ == "__main__":
    run()
