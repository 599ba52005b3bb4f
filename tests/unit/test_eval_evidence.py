"""Earlier answers are judged again without a server, and scores travel with a bundle."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from eval.__main__ import main
from eval.task.bundle import read_bundle
from eval.task.samples import sample_examples
from tests.conftest import make_bundle

app = typer.Typer()
app.command()(main)
EXAMPLES = sample_examples("test")


def write_answers(path: Path, wrong: int = 0, **changes: Any) -> Path:
    """A result file in which all but the first `wrong` answers are the gold queries."""
    items = [
        {
            "id": example.id,
            "predicted": "SELECT 1 WHERE 0" if number < wrong else example.sql,
            "correct": number >= wrong,
            "model": "spider@0123456789ab",
        }
        for number, example in enumerate(EXAMPLES)
    ]
    path.write_text(json.dumps({"items": items} | changes))
    return path


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["--data", "samples", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_earlier_answers_are_judged_again(tmp_path: Path) -> None:
    answers = write_answers(tmp_path / "old.json", wrong=7)
    code, stdout, _ = run("--predictions", answers, "--output", tmp_path / "new.json")
    assert code == 0
    assert f"execution_accuracy {70 / 77:.3f}" in stdout
    again = json.loads((tmp_path / "new.json").read_text())
    assert sum(item["correct"] for item in again["items"]) == 70
    assert again["versions_used"] == ["spider@0123456789ab"]


def test_the_scores_of_a_bundle_name_its_digest_and_what_it_fixed(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    answers = write_answers(tmp_path / "tuned.json", wrong=2)
    base = write_answers(tmp_path / "base.json", wrong=70)
    digest = read_bundle(bundle).digest
    code, _, stderr = run("--predictions", answers, "--bundle", bundle, "--against", base)
    assert code == 0, stderr
    record = json.loads((bundle / "evidence" / "eval.json").read_text())
    assert record["digest"] == digest == read_bundle(bundle).digest
    assert record["measures"]["execution_accuracy"]["n"] == 77
    paired = record["against_base"]
    assert (paired["fixed"], paired["broke"], paired["n"]) == (68, 0, 77)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not json", "no result of sqlwright-eval"),
        ("[]", "no result of sqlwright-eval"),
        ('{"items": []}', "no answer to 77 questions"),
        (None, "no result of sqlwright-eval"),
    ],
)
def test_a_file_that_is_no_result_is_one_line(tmp_path: Path, content, said) -> None:
    path = tmp_path / "old.json"
    if content is not None:
        path.write_text(content)
    code, _, stderr = run("--predictions", path)
    assert (code, said in stderr, stderr.count("\n")) == (1, True, 1)


def test_a_base_of_other_questions_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    answers = write_answers(tmp_path / "tuned.json")
    base = write_answers(tmp_path / "base.json", items=[{"id": "other", "correct": True}])
    code, _, stderr = run("--predictions", answers, "--bundle", bundle, "--against", base)
    assert (code, "holds other questions" in stderr) == (1, True)


@pytest.mark.parametrize("words", [[], ["--base-url", "http://x", "--predictions", "y"]])
def test_just_one_source_of_answers_is_asked_for(words: list[str]) -> None:
    code, _, stderr = run(*words)
    assert (code, "either --base-url or --predictions" in stderr) == (1, True)
