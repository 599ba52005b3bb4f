"""`sqlwright-adapters`: look into the adapter store, validate and publish from the shell."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from eval.task.base_model import BaseModelError, weights_sha256
from eval.task.bundle import BundleError, default_store, publish, read_aliases, read_version
from server.adapters.admission import Admission
from server.adapters.base_shapes import linear_shapes
from server.adapters.refusal import Refusal, code_of

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


@app.command("validate")
def validate_folder(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle or of a version.")],
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model, to compare hash and shapes.")
    ] = None,
    max_rank: Annotated[int, typer.Option(help="Largest rank that is served.")] = 512,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether a server would let the engine see a bundle; exit status 1 if not."""
    try:
        admission = Admission(max_rank=max_rank)
        if base:
            admission = Admission(weights_sha256(base), linear_shapes(base), max_rank)
        found = admission.admit(bundle)
    except (BaseModelError, ValueError, OSError) as error:
        if as_json:
            param = error.param if isinstance(error, Refusal) else ""
            record = {"admitted": False, "code": code_of(error), "param": param}
            print(json.dumps(record | {"message": str(error)}))
        raise _failure(error) from error
    manifest = found.manifest
    if as_json:
        print(json.dumps({"admitted": True, "digest": found.digest, "rank": manifest.rank}))
    else:
        print(
            f"admitted: {found.short}, rank {manifest.rank} on {', '.join(manifest.target_modules)}"
        )


def _failure(error: Exception) -> typer.Exit:
    text = f"sqlwright-adapters: error: {error}"
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(1)


def run() -> None:
    app()


if __name__ == "__main__":
    run()
