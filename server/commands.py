"""`sqlwright-serve add-database`, `list-databases`, `remove-database`: what may be asked about.

A running server notices a change within SQLWRIGHT_RESCAN_SECONDS.
"""

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from server.databases import Database
from server.registry import GRANTEE, Registry, RegistryError, reason
from server.settings import Settings

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
Folder = Annotated[
    Path | None, typer.Option("--databases", help="Folder of the files (SQLWRIGHT_DATABASES).")
]
PARTS = re.compile(r'(?:"(?:[^"]|"")*"|[^,"])+')  # between commas, but for those in quotes


@app.command("add-database")
def add_database(
    url: Annotated[
        str,
        typer.Argument(
            help="postgresql://, mysql://, mariadb:// or sqlite:///FILE; - reads it from standard "
            "input, which keeps the password out of the list of processes."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Public name; default: the database's.")] = None,
    schema: Annotated[str | None, typer.Option(help="Schema; default: the role's own.")] = None,
    sample_values: Annotated[
        int, typer.Option(min=0, max=50, help="Values to keep of each text column.")
    ] = 0,
    include: Annotated[
        list[str] | None, typer.Option(metavar="TABLE", help="Read these tables only; a glob.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="TABLE", help="Leave these tables out; a glob.")
    ] = None,
    grant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHO=TABLE,TABLE.COLUMN,...",
            help="What a caller may read. WHO is * or the first 12 hex digits of the sha256 of "
            "an API key. With any grant, whoever has none may read nothing.",
        ),
    ] = None,
    replace: Annotated[bool, typer.Option(help="Replace the database of that name.")] = False,
    folder: Folder = None,
) -> None:
    """Register a live database: its schema is read now, and read again by --replace."""
    try:
        # Imported here: the drivers are needed for this command only.
        from server.introspect import Selection, introspect

        selection = Selection(schema, tuple(include or ()), tuple(exclude or ()), sample_values)
        found = introspect(sys.stdin.readline().strip() if url == "-" else url, selection)
        database = Database(
            found.name if name is None else name,
            found.schema,
            found.dialect,
            found.source,
            _grants(grant or []),
        )
        _registry(folder).add(database, replace=replace)
    except ModuleNotFoundError as error:
        raise _failure(f"{error.name} is not installed: pip install 'sqlwright[server]'") from error
    except (ValueError, OSError) as error:
        raise _failure(reason(error)) from error
    for note in found.notes:
        typer.echo(note, err=True)
    columns = sum(len(table.columns) for table in found.schema.tables)
    typer.echo(f"{database.name}: {len(found.schema.tables)} tables, {columns} columns")


def _grants(options: list[str]) -> dict[str, tuple[str, ...]]:
    """Grants by who has them, of options `WHO=TABLE,TABLE.COLUMN,...`."""
    found: dict[str, tuple[str, ...]] = {}
    for option in options:
        who, equals, texts = option.partition("=")
        if not equals or not GRANTEE.fullmatch(who):
            raise RegistryError(
                f"--grant {option[:80]!r}: write WHO=TABLE,TABLE.COLUMN,... where WHO is * or the "
                "first 12 hex digits of the sha256 of an API key"
            )
        found[who] = found.get(who, ()) + tuple(part.strip() for part in PARTS.findall(texts))
    return found


@app.command("list-databases")
def list_databases(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    folder: Folder = None,
) -> None:
    """List what is registered, also what is broken; the samples are not listed."""
    registry = _registry(folder)
    rows = [_row(registry, path) for path in registry.paths()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    sheet = Table("name", "dialect", "tables", "source", "grants", "state")
    for row in rows:
        sheet.add_row(*map(str, row.values()))
    Console(markup=False).print(sheet)


def _row(registry: Registry, path: Path) -> dict[str, str | int]:
    row: dict[str, str | int] = dict.fromkeys(("name", "dialect", "tables", "source", "grants"), "")
    try:
        found = registry.read(path)
    except RegistryError as error:
        return row | {"name": path.stem, "state": str(error)}
    return row | {
        "name": found.name,
        "dialect": found.dialect,
        "tables": len(found.schema.tables),
        "source": found.source,
        "grants": ", ".join(sorted(found.grants)),
        "state": "whole",
    }


@app.command("remove-database")
def remove_database(
    name: Annotated[str, typer.Argument(help="Its name.")], folder: Folder = None
) -> None:
    """Remove a registered database; the database itself is not touched."""
    try:
        _registry(folder).remove(name)
    except (RegistryError, OSError) as error:
        raise _failure(reason(error)) from error
    typer.echo(f"{name}: removed")


def _registry(folder: Path | None) -> Registry:
    try:
        return Registry(folder or Settings().databases)  # type: ignore[call-arg]  # environment
    except ValidationError as error:
        raise _failure(reason(error)) from error


def _failure(message: str) -> typer.Exit:
    typer.echo(f"sqlwright-serve: error: {message}", err=True)
    return typer.Exit(1)


def is_command(name: str) -> bool:
    return name in {command.name for command in app.registered_commands}


def main(arguments: list[str]) -> int:
    """Run one of the commands; return the exit status."""
    try:
        app(arguments, prog_name="sqlwright-serve")
    except SystemExit as end:
        return int(end.code or 0)
    return 0
