"""`python -m tests.fuzz.fuzz_grammar`: random queries and spliced statements against the guard.

Hypothesis chooses the seeds from which `grammar` and the corpus's mutations write (to play every
single random number takes it longer than the guard takes to answer); what it finds is made smaller
word by word. Ends with one line of JSON; exit code 1 where the guard is at fault.
"""

import json
import logging
import sys
import time
from random import Random
from typing import Annotated, Any

import typer
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from eval.task.dialect import DIALECTS
from tests.fuzz.grammar import mutate, write_query
from tests.fuzz.judgement import Judge
from tests.fuzz.seeds import seeds

# Examples of one run of Hypothesis: between two of them the clock is looked at.
BATCH = 500
USUAL = ("sqlite", "postgres", "mysql", "tsql", "duckdb", "bigquery", "snowflake", "oracle")


class GuardAtFault(AssertionError):
    """The guard answered wrongly; the message is what Hypothesis shows."""


@st.composite
def statements(draw: st.DrawFn, corpus: tuple[str, ...]) -> tuple[str, str]:
    """A text and the dialect that it is read in."""
    rng: Random = draw(st.randoms(use_true_random=True))
    dialect = rng.choice(USUAL if rng.random() < 0.7 else sorted(DIALECTS))
    if rng.random() < 0.5:
        return write_query(rng, dialect), dialect
    return mutate(rng, corpus), dialect


def shrunk(judge: Judge, text: str, dialect: str, *, kind: str) -> str:
    """`text` without each word that a complaint of the same kind does not need."""
    words = text.split(" ")
    for place in reversed(range(len(words))):
        fewer = [*words[:place], *words[place + 1 :]]
        if judge.complaint(" ".join(fewer), dialect).partition(":")[0] == kind:
            words = fewer
    return " ".join(words)


def run_batch(judge: Judge, corpus: tuple[str, ...], number: int) -> None:
    """Raises GuardAtFault with the smallest text found."""

    @seed(number)
    @settings(
        max_examples=BATCH,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=statements(corpus))
    def check(case: tuple[str, str]) -> None:
        text, dialect = case
        if complaint := judge.complaint(text, dialect):
            smaller = shrunk(judge, text, dialect, kind=complaint.partition(":")[0])
            raise GuardAtFault(f"{complaint}\n{dialect}: {smaller!r}")

    check()


def main(
    seconds: Annotated[float, typer.Option(help="How long to go on.")] = 300.0,
    start: Annotated[int, typer.Option(help="The first seed; each batch takes the next.")] = 0,
    keep_going: Annotated[bool, typer.Option(help="Go on after a fault.")] = False,
) -> None:
    """Ask the guard until SECONDS have passed; print each fault."""
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    judge, corpus, faults, number = Judge(), seeds(), 0, start
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (keep_going or not faults):
        try:
            run_batch(judge, corpus, number)
        except* GuardAtFault as found:
            faults += len(found.exceptions)
            for error in found.exceptions:
                print(error, file=sys.stderr)
        number += 1
    record: dict[str, Any] = {"seeds": [start, number - 1], "faults": faults}
    print(json.dumps(record | judge.report()))
    raise typer.Exit(int(faults > 0))


if __name__ == "__main__":
    typer.run(main)
