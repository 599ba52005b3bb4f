"""`sqlwright-adapters`: look into the adapter store and publish a bundle from the shell."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from eval.task.bundle import BundleError, default_store, publish, read_aliases, read_version

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
StoreOption = Annotated[Path | None, typer.Option("--store", help="Adapter store.")]


@app.command("list")
def list_aliases(
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the aliases with their versions."""
    folder = store or default_store()
    try:
        aliases = read_aliases(folder)
    except BundleError as error:
        raise _failure(error) from error
    if as_json:
        print(json.dumps({name: asdict(entry) for name, entry in aliases.items()}, indent=1))
        return
    table = Table("alias", "active", "previous", "rank", "state")
    for name, entry in sorted(aliases.items()):
        rank, state = _state(folder, entry.active)
        table.add_row(name, entry.active, entry.previous or "", rank, state)
    Console().print(table)


def _state(folder: Path, short: str) -> tuple[str, str]:
    try:
        return str(read_version(folder, short).manifest.rank), "whole"
    except BundleError as error:
        return "", str(error)


@app.command("publish")
def publish_folder(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    alias: Annotated[str, typer.Argument(help="Public name.")],
    store: StoreOption = None,
) -> None:
    """Publish a bundle under an alias; a running server picks it up."""
    try:
        published = publish(bundle, store or default_store(), alias)
    except (BundleError, OSError) as error:
        raise _failure(error) from error
    print(f"{alias}@{published.short}")


def _failure(error: Exception) -> typer.Exit:
    Console(stderr=True).print(f"sqlwright-adapters: error: {error}", markup=False)
    return typer.Exit(1)


def run() -> None:
    app()


if __name__ == "__main__":
    run()
