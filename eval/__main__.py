"""`sqlwright-eval`: ask a model the questions of a data set, judge its SQL, report, compare."""

import json
import logging
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console

from eval.ask.api import APIS, Asked, raw
from eval.ask.connection import Server, check_api_key, check_base_url
from eval.comparison.command import compare_command as compare_results
from eval.comparison.command import write_comparison_figure
from eval.comparison.compare import comparison_record
from eval.evidence import against_base, write_evidence
from eval.execution import Limits
from eval.measures.similarity import load_embedder
from eval.mistakes import mistakes
from eval.page.render import write_page
from eval.record import Record, check_whole, load_record
from eval.report import error_table, flag_notes, group_table, summary, table, write_result_figure
from eval.run import Plan, Predictions, Served, evaluate
from eval.score import MEASURES, Judging
from eval.task.bundle import read_bundle
from eval.task.prompt import PromptFormat

FIGURE_NAME = re.compile(r"[a-z0-9_]+")
# As diff and grep have it: 1 is an answer (a gate failed), 2 is trouble.
GATE_FAILED = 1
TROUBLE = 2
INTERRUPTED = 130
WIDTH = 140

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


def say(text: str) -> None:
    print(f"sqlwright-eval: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    say(f"error: {text}")
    raise typer.Exit(TROUBLE)


@contextmanager
def mistakes_said() -> Iterator[None]:
    """A mistake of the user's in one line; a stopped run says how to go on."""
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; the same command goes on from the answers so far")
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        fail(f"can't read or write {error.filename or 'a file'}: {error.strerror or error}")
    except mistakes() as error:
        fail(str(error))


@app.command("run")
def run_command(
    data: Annotated[str, typer.Option(help="JSONL file of examples, or `samples`.")],
    base_url: Annotated[str | None, typer.Option(help="Address of the server.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Judge the answers in a file instead of asking a server.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model; default: the server's.")] = None,
    api: Annotated[
        Literal["generate-sql", "completions", "chat"],
        typer.Option(help="Route to ask; the last two are those of any OpenAI-compatible server."),
    ] = "generate-sql",
    databases: Annotated[
        str | None,
        typer.Option(help="Folder of DB_ID.sqlite, or a server's URL with {db_id} in it."),
    ] = None,
    schemas: Annotated[
        Path | None, typer.Option(help="Folder of DB_ID.sql; default: schemas/, else the database.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 16,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N questions.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Completion tokens at most; completions and chat.")
    ] = None,
    logprobs: Annotated[
        bool, typer.Option(help="Ask completions and chat for the confidence, too.")
    ] = False,
    raw_text: Annotated[
        bool, typer.Option("--raw", help="Judge completions and chat without extracting SQL.")
    ] = False,
    prompt_of: Annotated[
        Path | None, typer.Option(help="Ask completions in the prompt format of this bundle.")
    ] = None,
    by_name: Annotated[
        bool, typer.Option(help="Name databases that the server knows, send no schemas.")
    ] = False,
    extra_body: Annotated[
        str, typer.Option(help="JSON object laid over every request; null removes a field.")
    ] = "{}",
    api_key: Annotated[
        str | None, typer.Option(envvar="SQLWRIGHT_API_KEY", help="Bearer key of the server.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds a request may take.")] = 120.0,
    retries: Annotated[int, typer.Option(min=0, help="Further attempts of a request.")] = 5,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of answers to earlier runs, by model version.")
    ] = None,
    suite: Annotated[
        bool, typer.Option(help="Also judge on generated databases (test-suite accuracy).")
    ] = False,
    similarity: Annotated[
        bool, typer.Option(help="Also measure how alike queries and answers read.")
    ] = False,
    embedding_model: Annotated[
        Path | None, typer.Option(help="Folder of a sentence-transformers model.")
    ] = None,
    ves: Annotated[bool, typer.Option(help="Also BIRD's valid efficiency score.")] = False,
    permute_columns: Annotated[bool, typer.Option(help="Columns may come in any order.")] = False,
    query_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds a query may take.")
    ] = Limits().timeout_seconds,
    max_rows: Annotated[
        int, typer.Option(min=1, help="Rows that a query may return.")
    ] = Limits().max_rows,
    train: Annotated[
        Path | None, typer.Option(help="Training data (JSONL) to look for the questions in.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSON result; default: runs/eval-MODEL-STAMP.json.")
    ] = None,
    page: Annotated[bool, typer.Option(help="Also write the result as an HTML page.")] = True,
    against: Annotated[
        Path | None, typer.Option(help="Result of the base: compared on page and in evidence.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Also write evidence/eval.json of this bundle.")
    ] = None,
    figure: Annotated[
        str | None, typer.Option(help="Also write benchmarks/results/NAME.json.")
    ] = None,
    measure: Annotated[
        str, typer.Option(help="The measure that the figure is of.")
    ] = "execution_accuracy",
    note: Annotated[str, typer.Option(help="Added to the figure's notes.")] = "",
) -> None:
    """Ask a model every question of DATA, run its SQL and say how often it is right.

    An evaluation that was stopped goes on where it was when called again with the same arguments.
    """
    with mistakes_said():
        check_figure(figure, measure)
        if output and output.suffix == ".html":
            fail("--output is the JSON result; its page is written beside it as .html")
        if bundle:
            read_bundle(bundle)
        if (base_url is None) == (predictions is None):
            fail("give either --base-url or --predictions")
        if predictions and (cache or model or logprobs or raw_text or extra_body != "{}"):
            fail(
                "--predictions asks no server: "
                "--cache, --model, --logprobs, --raw, --extra-body don't fit"
            )
        if raw_text and api == "generate-sql":
            fail("--raw: /generate-sql gives SQL only; add --api completions or --api chat")
        if prompt_of and api != "completions":
            fail("--prompt-of fits --api completions; the other routes make the prompt themselves")
        if by_name and api != "generate-sql":
            fail("--by-name fits --api generate-sql; the other routes know no databases")
        source: Served | Predictions
        if predictions:
            source = Predictions(predictions)
        else:
            key, address = check_api_key(api_key), check_base_url(base_url or "")
            server = Server(
                address,
                api_key=key,
                concurrency=concurrency,
                timeout_seconds=timeout,
                retries=retries,
            )
            written = read_bundle(prompt_of).manifest.prompt_format if prompt_of else PromptFormat()
            extra = read_extra_body(extra_body)
            asked = Asked(model, max_tokens, logprobs, written, by_name, extra)
            source = Served(server, raw(APIS[api]) if raw_text else APIS[api], asked, cache)
        judging = Judging(permute_columns=permute_columns, limits=Limits(query_timeout, max_rows))
        if ves:
            judging = judging.plus("ves")
        plan = Plan(
            source,
            data,
            databases=databases,
            schemas=schemas,
            limit=limit,
            output=output,
            judging=judging,
            with_suite=suite,
            embed=load_embedder(embedding_model) if similarity or embedding_model else None,
            train=train,
        )
        base = load_record(against) if against else None
        record, path = evaluate(plan, say)
        say(f"result {path}")
        if page:
            say(f"page {write_page_of(record, path, base)}")
        if bundle:
            say(f"evidence {write_evidence(record, bundle, base)}")
        if figure:
            say(f"figure {write_result_figure(record, figure, note, measure)}")
        report(record, path)


def console() -> Console:
    """Of the terminal's width; wide enough for every table where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def read_extra_body(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        fail(f"--extra-body is not JSON: {error}")
    if not isinstance(found, dict):
        fail(f"--extra-body must be a JSON object, is {type(found).__name__}")
    return found


def check_figure(figure: str | None, measure: str = "execution_accuracy") -> None:
    """Refuse a figure that could not be written after hours of work."""
    if figure is not None and not FIGURE_NAME.fullmatch(figure):
        fail(f"--figure {figure!r} must match {FIGURE_NAME.pattern}")
    if measure not in MEASURES:
        fail(f"--measure {measure!r} is unknown; known: {', '.join(MEASURES)}")


def write_page_of(record: Record, path: Path, base: Record | None) -> Path:
    comparison = against_base(record, base) if base else None
    target = path.with_suffix(".html")
    write_page(record, target, comparison)
    return target


def report(record: Record, path: Path) -> None:
    """Print tables and summary; say on stderr what the reader of a score must know."""
    for note in (*record["notes"], *flag_notes(record)):
        say(note)
    tables = [table(record), group_table(record, "hardness")]
    if record["error_classes"]:
        tables.append(error_table(record))
    console().print(*tables)
    print(summary(record, path))


@app.command("compare")
def compare_command(
    a: Annotated[Path, typer.Argument(help="Result of the reference.")],
    b: Annotated[Path, typer.Argument(help="Result of the candidate.")],
    gate: Annotated[
        list[str] | None,
        typer.Option(
            help="MEASURE>=POINTS of change, MEASURE.low>=…, MEASURE.value>=…; repeatable."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file of the comparison.")] = None,
    page: Annotated[Path | None, typer.Option(help="HTML page of B with the comparison.")] = None,
    figure: Annotated[
        str | None, typer.Option(help="Write the error reduction to benchmarks/results/NAME.json.")
    ] = None,
) -> None:
    """Say what B fixed and broke of A.

    Exits with 1 if a gate fails, with 2 if the input is at fault.
    """
    with mistakes_said():
        check_figure(figure)
        verdict = compare_results(a, b, gate or [])
        comparison = verdict.record()
        if output:
            output.write_text(json.dumps(comparison, indent=1) + "\n", encoding="utf-8")
        if page:
            record = load_record(b)
            check_whole(record, b)
            write_page(record, page, comparison_record(verdict.comparison))
        if figure:
            say(f"figure {write_comparison_figure(verdict.comparison, figure)}")
        console().print(verdict.render())
        print(verdict.summary())
        if not verdict.passed:
            raise typer.Exit(GATE_FAILED)


@app.command("page")
def page_command(
    result: Annotated[Path, typer.Argument(help="Result of an evaluation.")],
    against: Annotated[Path | None, typer.Option(help="Result to compare with.")] = None,
) -> None:
    """Write an earlier result as an HTML page beside it."""
    with mistakes_said():
        record, base = load_record(result), load_record(against) if against else None
        check_whole(record, result)
        print(write_page_of(record, result, base))


def run() -> None:
    """`sqlwright-eval --data …` is short for `sqlwright-eval run --data …`."""
    if sys.argv[1:2] and sys.argv[1].startswith("--") and sys.argv[1] != "--help":
        sys.argv.insert(1, "run")
    # As Ctrl-C: else worker processes would go on with a query that hangs.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()


if __name__ == "__main__":
    run()
