"""The simulation of rollouts runs the servers' own test, and says how often it errs."""

import json
import random
from itertools import islice

import pytest
import typer
from typer.testing import CliRunner

from server.adapters import simulate
from server.adapters.sequential import Rules
from server.adapters.simulate import CANDIDATES, TRAFFIC, USABLE, run

app = typer.Typer()
app.command()(simulate.main)


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
@pytest.mark.parametrize("mode", TRAFFIC)
def test_made_up_questions_have_the_rates_that_are_said(mode, candidate):
    seen = list(islice(TRAFFIC[mode](candidate, random.Random(1)), 40_000))
    active = [o.active.score for o in seen if o.active]
    tried = [o.candidate.score for o in seen if o.candidate]
    assert sum(active) / len(active) == pytest.approx(USABLE, abs=0.01)
    assert sum(tried) / len(tried) == pytest.approx(USABLE + candidate.difference, abs=0.02)


def test_a_run_is_the_same_again():
    first = run("shadow", CANDIDATES[0], Rules(), "1")
    assert first == run("shadow", CANDIDATES[0], Rules(), "1")
    assert first[0] == "roll_back"
    assert first[1] % 10 == 0  # a shadow is asked one question in ten


def test_only_a_shadow_sees_that_answers_are_others():
    other = next(c for c in CANDIDATES if c.agreement < Rules.min_agreement)
    assert run("shadow", other, Rules(), "1")[0] == "roll_back"
    assert run("canary", other, Rules(), "1")[0] == "promote"


def test_the_figure_is_the_worse_of_both_modes(tmp_path):
    result = CliRunner().invoke(app, ["--runs", "10", "--results", str(tmp_path)])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "rollout_wrong_promotions.json").read_text())
    rows = [r for r in record["rows"] if r["candidate"] == "worse by the margin"]
    assert record["value"] == max(r["promoted"] / r["runs"] for r in rows)
    assert len(record["rows"]) == len(TRAFFIC) * len(CANDIDATES)
    assert all(r["promoted"] + r["rolled_back"] + r["undecided"] == 10 for r in record["rows"])
    assert record["interval"][0] <= record["value"] < record["interval"][1]


def test_rules_out_of_range_are_refused_in_a_line(tmp_path):
    result = CliRunner().invoke(app, ["--margin", "2", "--results", str(tmp_path)])
    assert result.exit_code == 1
    assert "--margin" in result.output
