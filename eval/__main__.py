"""`sqlwright-eval --base-url URL --data FILE`: ask a running server, judge its SQL, report."""

import logging
import re
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

from eval.api import APIS, Asked
from eval.client import Server, ServerError, check_api_key, check_base_url
from eval.dataset import DatasetError
from eval.evaluate import Plan, evaluate
from eval.evidence import EvidenceError, write_evidence
from eval.journal import JournalBusy
from eval.report import Result, summary, table, write_result_figure
from eval.score import ScoreError
from eval.task.bundle import BundleError
from eval.task.dialect import DialectError
from eval.task.example import ExampleError
from eval.task.figure import command_line
from eval.task.schema import DdlError

MISTAKES = (
    DatasetError,
    DdlError,
    BundleError,
    DialectError,
    EvidenceError,
    ExampleError,
    JournalBusy,
    ScoreError,
    ServerError,
)
FIGURE_NAME = re.compile(r"[a-z0-9_]+")
INTERRUPTED = 130


def say(text: str) -> None:
    print(f"sqlwright-eval: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    say(f"error: {text}")
    raise typer.Exit(1)


def main(
    data: Annotated[str, typer.Option(help="JSONL file of examples, or `samples`.")],
    base_url: Annotated[str | None, typer.Option(help="Address of the server.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Judge the answers of an earlier result; asks no server.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model; default: the server's.")] = None,
    api: Annotated[
        Literal["generate-sql", "completions"],
        typer.Option(help="Route to ask; completions works against plain vLLM too."),
    ] = "generate-sql",
    databases: Annotated[
        Path | None, typer.Option(help="Folder of DB_ID.sqlite; default: databases/ beside data.")
    ] = None,
    schemas: Annotated[
        Path | None, typer.Option(help="Folder of DB_ID.sql; default: schemas/, else the database.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 16,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N questions.")] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Completion tokens at most; completions only.")
    ] = 256,
    api_key: Annotated[
        str | None, typer.Option(envvar="SQLWRIGHT_API_KEY", help="Bearer key of the server.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSON result; default: runs/eval-MODEL-STAMP.json.")
    ] = None,
    figure: Annotated[
        str | None, typer.Option(help="Also write benchmarks/results/NAME.json.")
    ] = None,
    note: Annotated[str, typer.Option(help="Added to the figure's notes.")] = "",
    bundle: Annotated[
        Path | None, typer.Option(help="Also write evidence/eval.json of this bundle.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Result of the base, for fixed and broke in eval.json.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds a request may take.")] = 120.0,
    retries: Annotated[int, typer.Option(min=0, help="Further attempts of a request.")] = 5,
) -> None:
    """Ask the server at BASE_URL every question of DATA, run its SQL and say how often it is right.

    An evaluation that was stopped goes on where it was when called again with the same arguments.
    """
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    try:
        check_figure(figure, api_key)
        if (base_url is None) == (predictions is None):
            fail("give either --base-url or --predictions")
        server = predictions or Server(
            check_base_url(base_url or ""),
            api_key=check_api_key(api_key),
            concurrency=concurrency,
            timeout_seconds=timeout,
            retries=retries,
        )
        plan = Plan(
            server,
            APIS[api],
            Asked(model, max_tokens),
            data,
            databases=databases,
            schemas=schemas,
            limit=limit,
            output=output,
        )
        result, path = evaluate(plan, say)
        report(result, path, figure=figure, note=note)
        if bundle:
            say(f"evidence {write_evidence(result, bundle, against)}")
    except MISTAKES as error:
        fail(str(error))
    except OSError as error:
        fail(f"can't read or write {error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        say("stopped; the same command goes on from the answers so far")
        raise typer.Exit(INTERRUPTED) from None


def check_figure(figure: str | None, api_key: str | None) -> None:
    """Refuse what a figure must not hold: it records the command, and is committed."""
    if figure is None:
        return
    if not FIGURE_NAME.fullmatch(figure):
        fail(f"--figure {figure!r} must match {FIGURE_NAME.pattern}")
    if api_key and api_key in command_line():
        fail("--figure records the command: give the key as SQLWRIGHT_API_KEY, not --api-key")


def report(result: Result, path: Path, *, figure: str | None, note: str) -> None:
    """Print table and summary; say on stderr what the reader of a score must know."""
    if result.num_errors:
        errors = (answer.error for answer in result.answers if answer.error)
        say(f"{result.num_errors} requests failed and count as wrong; the first: {next(errors)}")
    if len(result.versions_used) > 1:
        say(f"more than one version answered: {', '.join(result.versions_used)}")
    if figure:
        say(f"figure {write_result_figure(result, figure, note)}")
    Console().print(table(result))
    print(summary(result, path))


def run() -> None:
    typer.run(main)


if __name__ == "__main__":
    run()
