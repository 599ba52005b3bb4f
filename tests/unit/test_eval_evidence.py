"""The scores that travel with a bundle: which digest they belong to, and what was fixed."""

import json
import sys
from pathlib import Path

import pytest

from eval import score
from eval.comparison.pairing import CompareError
from eval.evidence import write_evidence
from eval.record import Record, load_record
from eval.task.bundle import BundleError, read_bundle
from tests.conftest import make_bundle
from tests.unit.evaluating import (
    ROWS,
    at_once,
    fails,
    make_world,
    sqlwright_eval,
    strict_json,
    write_predictions,
)

RECORD = Path(__file__).parents[1] / "fixtures" / "eval_record.json"


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def world(tmp_path, monkeypatch):
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sqlwright-eval"])
    monkeypatch.setattr(score, "run_chunks", at_once)


def run(*words: object) -> tuple[int, str]:
    done = sqlwright_eval("run", "--data", "dev.jsonl", "--no-page", *words)
    return done.exit_code, done.stderr


def test_the_scores_of_a_bundle_name_its_digest_and_what_it_fixed(world, bundle):
    base = write_predictions(Path("base.jsonl"), b_easy="SELECT 1", b_hard="SELECT 1")
    tuned = write_predictions(Path("tuned.jsonl"), z_easy="SELECT nope FROM animal")
    assert run("--predictions", base, "--output", "base.json")[0] == 0
    digest = read_bundle(bundle).digest
    code, stderr = run("--predictions", tuned, "--bundle", bundle, "--against", "base.json")
    assert code == 0, stderr
    path = bundle / "evidence" / "eval.json"
    assert f"evidence {path}" in stderr
    found = strict_json(path)
    assert found["digest"] == digest == read_bundle(bundle).digest
    assert found["model"] == "tuned"
    assert found["measures"]["execution_accuracy"]["n"] == len(ROWS)
    assert found["error_classes"] == {"unknown_column": 1}
    assert found["against_base"]["fixed"] == ["b-hard", "b-easy"]
    assert found["against_base"]["broke"] == ["z-easy"]
    text = path.read_text()
    assert not any(row["question"] in text or row["sql"] in text for row in ROWS)


def test_without_a_base_there_is_nothing_to_compare_with(bundle):
    path = write_evidence(load_record(RECORD), bundle, None)
    assert "against_base" not in json.loads(path.read_text())


def without_the_last_item(record: Record) -> Record:
    return {**record, "items": record["items"][:-1]}


def test_a_base_of_other_questions_leaves_earlier_evidence_as_it_was(bundle):
    record = load_record(RECORD)
    path = write_evidence(record, bundle, None)
    before = path.read_bytes()
    with pytest.raises(CompareError, match="the base and this result hold different items"):
        write_evidence(record, bundle, without_the_last_item(record))
    assert path.read_bytes() == before


def test_a_folder_that_is_no_bundle_is_refused_before_any_question_is_judged(world, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError):
        write_evidence(load_record(RECORD), tmp_path / "empty", None)
    answers = write_predictions(Path("p.jsonl"))
    line = fails("run", "--data", "dev.jsonl", "--predictions", answers, "--bundle", "empty")
    assert "adapter_config.json" in line
    assert not Path("p.judged.json").exists()


@pytest.mark.parametrize("words", [[], ["--base-url", "http://x", "--predictions", "y"]])
def test_just_one_source_of_answers_is_asked_for(world, words):
    assert "either --base-url or --predictions" in fails("run", "--data", "dev.jsonl", *words)
