"""`python -m server.grammar FILE.sql`: the grammar of a file of CREATE TABLE statements."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from eval.task.dialect import DialectError, resolve_dialect
from eval.task.schema import DdlError, parse_ddl
from server.grammar.build import build
from server.grammar.options import GrammarError, Names, Options


def main(
    ddl: Annotated[Path, typer.Argument(help="CREATE TABLE statements.")],
    dialect: Annotated[str, typer.Option(help="Dialect of both.")] = "sqlite",
    names: Annotated[Names, typer.Option(help="How columns are written.")] = "qualified",
    repeat: Annotated[int, typer.Option(min=0, help="Print the ms of so many builds.")] = 0,
) -> None:
    """Print the grammar of a schema; with --repeat how long it took to build, as JSON."""
    try:
        schema = parse_ddl(ddl.read_text(encoding="utf-8"), dialect)
        options, found = Options(names), resolve_dialect(dialect)
        text = build(schema, found, options)
        seconds = [_seconds(lambda: build(schema, found, options)) for _ in range(repeat)]
    except (OSError, DdlError, DialectError, GrammarError) as error:
        print(f"server.grammar: error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    print(json.dumps({"ms": [round(1000 * s, 3) for s in seconds]}) if repeat else text)


def _seconds(call: Callable[[], str]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
