"""The partial file: what survives a stop, whose it is, and when it goes."""

from pathlib import Path

import pytest

from eval.api import Answer
from eval.journal import Journal, JournalBusy, open_journal

ANSWER = Answer("SELECT 1", model="m@1", confidence=0.5, server_valid=True, latency_ms=1.5)


def stopped(output: Path, **answers: Answer) -> None:
    with Journal(output) as journal:
        for key, answer in answers.items():
            journal.add(key, answer)


def test_answers_survive_a_stop(tmp_path):
    odd = Answer("SELECT '\ud800\n\u2028 é'")
    stopped(tmp_path / "out/r.json", a=ANSWER, b=odd)
    with Journal(tmp_path / "out/r.json") as journal:
        assert journal.answers == {"a": ANSWER, "b": odd}
    assert (tmp_path / "out/r.json.partial.jsonl").is_file()


def test_an_error_is_known_now_but_asked_again_next_time(tmp_path):
    with Journal(tmp_path / "r.json") as journal:
        journal.add("a", ANSWER)
        journal.add("b", Answer(error="503: busy"))
        assert set(journal.answers) == {"a", "b"}
    with Journal(tmp_path / "r.json") as journal:
        assert set(journal.answers) == {"a"}


@pytest.mark.parametrize(
    "broken", ['{"key": "b", "pred', "nope\n", "[1]\n", '{"key": "b", "colour": 1}\n', "{}\n"]
)
def test_a_line_that_can_not_be_read_costs_that_line_only(tmp_path, broken):
    stopped(tmp_path / "r.json", a=ANSWER)
    with (tmp_path / "r.json.partial.jsonl").open("a") as file:
        file.write(broken)
    stopped(tmp_path / "r.json", c=ANSWER)
    with Journal(tmp_path / "r.json") as journal:
        assert set(journal.answers) == {"a", "c"}


def test_it_goes_when_it_is_done_with_or_empty(tmp_path):
    stopped(tmp_path / "empty.json")
    with Journal(tmp_path / "r.json") as journal:
        journal.add("a", ANSWER)
        journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_two_evaluations_can_not_write_one_result(tmp_path):
    with Journal(tmp_path / "r.json"), pytest.raises(JournalBusy, match="another evaluation"):
        Journal(tmp_path / "r.json")


def opened(runs: Path, model: str | None = "m", output: Path | None = None) -> Journal:
    with open_journal(output, runs=runs, model=model, keys={"a", "b"}) as journal:
        return journal


def test_without_an_output_the_name_says_model_and_time(tmp_path):
    name = opened(tmp_path, model="org/name:7b@0a").output.name
    assert name.startswith("eval-org-name-7b@0a-2")
    assert name.endswith("Z.json")
    assert opened(tmp_path, model=None).output.name.startswith("eval-default-2")


def test_an_output_that_was_named_is_taken(tmp_path):
    assert opened(tmp_path / "runs", output=tmp_path / "mine.json").output.name == "mine.json"


def test_the_newest_unfinished_evaluation_of_these_questions_goes_on(tmp_path):
    for day in ("01", "02"):
        stopped(tmp_path / f"eval-m-202601{day}T000000Z.json", a=ANSWER)
    stopped(tmp_path / "eval-m-20260103T000000Z.json", other=ANSWER)
    stopped(tmp_path / "eval-m-x-20260104T000000Z.json", a=ANSWER)
    journal = opened(tmp_path)
    assert journal.output.name == "eval-m-20260102T000000Z.json"
    assert set(journal.answers) == {"a"}


def test_an_evaluation_that_still_runs_is_not_joined(tmp_path):
    running = tmp_path / "eval-m-20260101T000000Z.json"
    with Journal(running) as journal:
        journal.add("a", ANSWER)
        assert opened(tmp_path).output != running
    assert opened(tmp_path).output == running
