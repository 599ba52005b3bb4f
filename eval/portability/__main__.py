"""`python -m eval.portability --data FILE`: the same verdicts on three engines?

Copies the data set's SQLite databases to a PostgreSQL and a MariaDB server, judges gold queries,
near misses and others on all three, says where the verdicts part, and drops the copies.
"""

import sys
from contextlib import ExitStack
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eval.dataset import DatasetError, open_dataset
from eval.live.url import LiveDatabaseError, parse_url
from eval.portability.copies import CopyError, copied
from eval.portability.reasons import REASONS
from eval.portability.tally import ENGINES, Tally, figure_of, measure, sqlite_files
from eval.task.example import ExampleError
from eval.task.figure import write_figure
from eval.task.schema import DdlError

POSTGRES = "postgresql:///postgres"
MARIADB = "mysql:///mysql?unix_socket=/run/mysqld/mysqld.sock"
MISTAKES = (CopyError, DatasetError, DdlError, ExampleError, LiveDatabaseError)


def fail(text: str) -> NoReturn:
    print(f"eval.portability: error: {text}", file=sys.stderr)
    raise typer.Exit(1)


def main(
    data: Annotated[str, typer.Option(help="JSONL file of examples, or `samples`.")] = "samples",
    postgres: Annotated[
        str, typer.Option(envvar="SQLWRIGHT_POSTGRES", help="URL of an administrator.")
    ] = POSTGRES,
    mariadb: Annotated[
        str, typer.Option(envvar="SQLWRIGHT_MARIADB", help="URL of an administrator.")
    ] = MARIADB,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N questions.")] = None,
    num_mutants: Annotated[int, typer.Option(min=0, help="Near misses of each query.")] = 4,
    figure: Annotated[str | None, typer.Option(help="Also write a figure of this name.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the copies on the servers.")] = False,
) -> None:
    """Judge the same predictions on SQLite, PostgreSQL and MariaDB."""
    try:
        _expect_no_secret(sys.argv if figure else [], postgres, mariadb)
        tally = _run(data, postgres, mariadb, limit=limit, num_mutants=num_mutants, keep=keep)
    except MISTAKES as error:
        fail(str(error))
    _show(tally)
    if figure:
        print(write_figure(figure_of(figure, tally)))
    if left_out := tally.left_out.total():
        print(f"left out, since no engine runs them or they can't be translated: {left_out}")
    print(
        f"same verdict on {', '.join(ENGINES)}: {tally.share:.2%} of {tally.n} predictions "
        f"for {tally.num_golds} portable gold queries"
    )


def _expect_no_secret(words: list[str], *urls: str) -> None:
    """A figure holds its command, and so what a URL on the command line says."""
    for url in urls:
        if parse_url(url)[1].password and any(url in word for word in words):
            fail(
                "a figure holds its command: give a URL with a password in the environment, as "
                "SQLWRIGHT_POSTGRES or SQLWRIGHT_MARIADB"
            )


def _run(
    data: str, postgres: str, mariadb: str, *, limit: int | None, num_mutants: int, keep: bool
) -> Tally:
    console = Console(stderr=True)
    tally = Tally()
    with ExitStack() as stack:
        questions = stack.enter_context(open_dataset(data, limit=limit))
        files = sqlite_files(questions)
        console.print(f"copying {len(files)} databases to both servers")
        made = copied(files, postgres=postgres, mariadb=mariadb, keep=keep)
        copies = stack.enter_context(made)
        counted = measure(questions, copies, num_mutants=num_mutants)
        hidden = not console.is_terminal
        steps = track(counted, "judging", len(files), console=console, disable=hidden)
        for so_far in steps:
            tally = so_far
        if keep:
            for urls in copies.urls.values():
                print(*urls.values(), sep="\n")
    return tally


def _show(tally: Tally) -> None:
    table = Table("gold queries", "n", title="Which gold queries run on all three engines")
    table.add_row("portable", str(tally.num_golds))
    for reason, n in tally.not_portable.most_common():
        table.add_row(f"{reason}: {REASONS[reason]}", str(n))
    console = Console()
    console.print(table)
    table = Table("reason", "n", "first ids", title="Where verdicts part")
    for reason, found in sorted(tally.differences.items(), key=lambda item: -len(item[1])):
        ids = " ".join(dict.fromkeys(case.id for case in found[:2]))
        table.add_row(f"{reason}: {REASONS[reason]}", str(len(found)), ids)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
