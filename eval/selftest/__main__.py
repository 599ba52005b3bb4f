"""`python -m eval.selftest`: the judge against itself on every database of a data set."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from eval.dataset import DatasetError, Question, open_dataset
from eval.selftest.check import Survivor, Tally, Work, check_all
from eval.selftest.summary import catch_figure, describe
from eval.suite.cache import SuiteError, Suites, open_suites
from eval.task.base_model import cache_folder
from eval.task.example import ExampleError
from eval.task.figure import RESULTS, write_figure
from eval.task.schema import DdlError
from eval.workers import WorkersError, run_chunks

SECONDS_PER_DATABASE = 3600.0


def works_of(questions: Iterable[Question], suites: Suites | None) -> list[Work]:
    """The distinct golds of each database, with the generated databases that may judge them."""
    found: dict[Path, dict[str, Question]] = {}
    for question in questions:
        if isinstance(question.database, Path):
            found.setdefault(question.database, {})[question.example.sql] = question
    return [
        Work(own, tuple(suites.of(q) if suites else () for q in own))
        for own in (tuple(by_gold.values()) for by_gold in found.values())
    ]


def _lost(work: Work, reason: str) -> Tally:
    return Tally(lost=[f"{work.questions[0].example.db_id}: {reason}"])


def check(data: str, *, with_suite: bool, limit: int | None, cache: Path) -> Tally:
    """The tally over all databases of `data`; generates their suites first where missing."""
    with (
        open_dataset(data, limit=limit) as dataset,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        suites = None
        if with_suite:
            bar = progress.add_task("generating databases", total=len(dataset.questions))
            suites = open_suites(
                dataset.questions, cache=cache, tick=lambda n: progress.advance(bar, n)
            )
        works = works_of(dataset.questions, suites)
        bar = progress.add_task("judging", total=len(works))
        found = run_chunks(
            check_all,
            [[work] for work in works],
            _lost,
            seconds_per_item=SECONDS_PER_DATABASE,
            tick=lambda n: progress.advance(bar, n),
        )
    tally = Tally()
    for chunk in found:
        for one in chunk:
            tally.add(one)
    return tally


def main(
    data: Annotated[str, typer.Option(help="JSONL file, or `samples`.")] = "samples",
    suite: Annotated[bool, typer.Option(help="Judge on generated databases too.")] = True,
    limit: Annotated[int | None, typer.Option(help="Only the first so many questions.")] = None,
    survivors: Annotated[
        Path | None, typer.Option(help="Write what was taken for right to this JSON file.")
    ] = None,
    figure: Annotated[
        str | None, typer.Option(help="Write a figure of this name: judge_mutation_catch_rate.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of figures.")] = RESULTS,
) -> None:
    """Judge golds against themselves, shuffled, with one mistake each, and in other words.

    Exits with 1 if a gold query, as it stands or reworded, is taken for wrong.
    """
    try:
        tally = check(data, with_suite=suite, limit=limit, cache=cache_folder())
    except (DatasetError, ExampleError, DdlError, SuiteError, WorkersError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(describe(tally))
    if survivors:
        _write(survivors, [*tally.survivors, *tally.wrongly_exposed])
    if figure:
        typer.echo(str(write_figure(catch_figure(tally, figure), results)))
    if tally.wrongly_exposed or tally.by_suite["gold"] < tally.n["gold"] or tally.lost:
        raise typer.Exit(1)


def _write(path: Path, survivors: list[Survivor]) -> None:
    rows = [asdict(survivor) for survivor in survivors]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
