"""`python -m server.adapters.simulate`: how often a rollout decides wrongly, and after how many
questions. Runs the test that servers run on made-up questions with rates that were measured.

Writes the figure `rollout_wrong_promotions`: the share of runs in which a candidate that is worse
by the whole margin, the least that must not be promoted, was.
"""

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from eval.task.figure import RESULTS, Figure, write_figure
from server.adapters.sequential import Pairing, Rules, SequentialTest
from server.adapters.trials import Observation, Trial

USABLE = 0.875  # of the bundled adapter's answers on Spider dev, decoded freely
# Assumed: the share of questions that only one of two versions answers validly, and of those that
# both do, the share on which they agree.
DIFFERING, AGREED = 0.15, 0.65
SHARE = 0.1
MODES = ("shadow", "canary")


@dataclass(frozen=True)
class Candidate:
    """A candidate whose share of usable answers is `difference` above the active version's, and
    that agrees with it on `agreement` of those that both have."""

    name: str
    difference: float
    agreement: float = AGREED


CANDIDATES = (
    Candidate("worse by three margins", -0.15),
    Candidate("worse by the margin", -0.05),
    Candidate("equal", 0.0),
    Candidate("better by the margin", 0.05),
    Candidate("equal, but of other answers", 0.0, agreement=0.1),
)


def shadowed(candidate: Candidate, draw: random.Random) -> Iterator[Observation]:
    """Questions that both versions are asked, for ever."""
    differing = max(DIFFERING, abs(candidate.difference))
    better = (differing + candidate.difference) / 2
    while True:
        place = draw.random()
        if place < differing:
            mine, theirs = (False, True) if place < better else (True, False)
        else:
            mine = theirs = draw.random() < (USABLE - (differing - better)) / (1 - differing)
        agreed = draw.random() < candidate.agreement if mine and theirs else None
        yield Observation(Trial(False, mine), Trial(False, theirs), agreed)


def shared(candidate: Candidate, draw: random.Random) -> Iterator[Observation]:
    """Questions of which the candidate answers `SHARE`, for ever."""
    while True:
        if draw.random() < SHARE:
            usable = draw.random() < USABLE + candidate.difference
            yield Observation(candidate=Trial(False, usable))
        else:
            yield Observation(active=Trial(False, draw.random() < USABLE))


TRAFFIC: dict[str, Callable[[Candidate, random.Random], Iterator[Observation]]] = {
    "shadow": shadowed,
    "canary": shared,
}


def run(mode: str, candidate: Candidate, rules: Rules, seed: str) -> tuple[str, int]:
    """The verdict of one rollout, and the questions that its alias was asked until then."""
    test = SequentialTest(rules)
    pairing = Pairing.of_share(SHARE) if mode == "canary" else Pairing()
    # A shadow is asked one question in ten of those that come.
    per_observation = 1 if mode == "canary" else round(1 / SHARE)
    traffic = TRAFFIC[mode](candidate, random.Random(seed))
    for number, seen in enumerate(traffic, 1):
        for difference in pairing.add(seen):
            test.add(difference, seen.agreed)
        if test.verdict != "go_on":
            return test.verdict, number * per_observation
    raise AssertionError  # traffic never ends


def row_of(mode: str, candidate: Candidate, found: list[tuple[str, int]]) -> dict[str, Any]:
    """The runs of one candidate in one mode as a row."""
    verdicts = [verdict for verdict, _ in found]
    questions = sorted(number for _, number in found)
    return {
        "mode": mode,
        "candidate": candidate.name,
        "difference": candidate.difference,
        "runs": len(found),
        "promoted": verdicts.count("promote"),
        "promoted_interval": exact_interval(verdicts.count("promote"), len(found)),
        "rolled_back": verdicts.count("roll_back"),
        "undecided": verdicts.count("undecided"),
        "questions_p50": questions[len(questions) // 2],
        "questions_p95": questions[min(len(questions) - 1, math.ceil(0.95 * len(questions)) - 1)],
    }


def exact_interval(count: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share."""
    from scipy.stats import binomtest

    found = binomtest(count, n).proportion_ci(method="exact")
    return round(float(found.low), 4), round(float(found.high), 4)


def figure_of(rows: list[dict[str, Any]], rules: Rules, per_second: float) -> Figure:
    """The worst of both modes' rates for the candidate that is worse by the margin."""
    worse = [row for row in rows if row["candidate"] == CANDIDATES[1].name]
    worst = max(worse, key=lambda row: row["promoted"] / row["runs"])
    clearly = next(
        r for r in rows if r["candidate"] == CANDIDATES[0].name and r["mode"] == "shadow"
    )
    notes = (
        f"simulated: {100 * USABLE:.1f} % of the active version's answers are usable (measured on "
        f"Spider dev); promoted if it is not worse by {100 * rules.margin:g} points, "
        f"each verdict wrong with a probability of at most {rules.error:g}; assumed: as a shadow, "
        f"{100 * DIFFERING:g} % of questions get a usable answer of one version only, and both "
        f"agree on {100 * AGREED:g} % of the others; a canary's answers are not compared, so that "
        "it can't see that they are others; questions: those put "
        f"to the alias, of which the candidate is asked {100 * SHARE:g} %; the clearly worse one "
        f"is rolled back after {clearly['questions_p50']:,} of them as a shadow (p50), "
        f"{clearly['questions_p50'] / per_second:,.0f} s at {per_second:g} questions a second"
    )
    return Figure(
        "rollout_wrong_promotions",
        value=worst["promoted"] / worst["runs"],
        unit="share of runs",
        n=worst["runs"],
        interval=exact_interval(worst["promoted"], worst["runs"]),
        notes=notes,
        rows=rows,
    )


def main(
    runs: Annotated[int, typer.Option(min=1, help="Of each candidate in each mode.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the made-up questions.")] = 1,
    margin: Annotated[float, typer.Option(help="As SQLWRIGHT_ROLLOUT_MARGIN.")] = Rules.margin,
    error: Annotated[float, typer.Option(help="As SQLWRIGHT_ROLLOUT_ERROR.")] = Rules.error,
    per_second: Annotated[float, typer.Option(help="Questions a second, to say seconds.")] = 10.0,
    results: Annotated[Path, typer.Option(help="Where the figure is written.")] = RESULTS,
) -> None:
    """Simulate rollouts of worse, equal and better candidates."""
    try:
        rules = Rules(margin, error)
    except ValueError as wrong:
        typer.echo(f"simulate: error: --{wrong}", err=True)
        raise typer.Exit(1) from wrong
    rows = []
    for mode in MODES:
        for candidate in CANDIDATES:
            found = [
                run(mode, candidate, rules, f"{seed} {mode} {candidate.name} {number}")
                for number in range(runs)
            ]
            rows.append(row_of(mode, candidate, found))
            typer.echo(f"simulate: {json.dumps(rows[-1])}", err=True)
    path = write_figure(figure_of(rows, rules, per_second), results)
    typer.echo(json.dumps({"rows": rows, "figure": str(path)}))


if __name__ == "__main__":
    typer.run(main)
