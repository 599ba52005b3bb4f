"""The partial file: what survives a stop, whose it is, and when it goes."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from eval.ask.api import Answer
from eval.ask.journal import Journal, JournalBusy, open_journal

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
    "broken",
    [
        b'{"key": "b", "pred',
        b"nope\n",
        b"[1]\n",
        b'{"key": "b", "colour": 1}\n',
        b'{"key": "b", "predicted": 5}\n',
        b'{"key": "b", "confidence": NaN}\n',
        b"{}\n",
        b"\n\n",
        b"\0" * 4096 + b"\n",
        b"\xff\xfe\x80\n",
        b'{"key": "b", "predicted": "\xff',
        b"[" * 100_000,
    ],
)
def test_a_line_that_can_not_be_read_costs_that_line_only(tmp_path, broken):
    stopped(tmp_path / "r.json", a=ANSWER)
    with (tmp_path / "r.json.partial.jsonl").open("ab") as file:
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


def test_a_full_disk_is_said_with_the_name_of_the_file_and_costs_the_last_answer_only(tmp_path):
    answer = Answer("SELECT 1 --" + "x" * 3000)
    code = (
        "import resource, signal, sys; from pathlib import Path; from eval.ask.api import Answer\n"
        "from eval.ask.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))\n"
        "with Journal(Path(sys.argv[1])) as journal:\n"
        f"    for i in range(9): journal.add(str(i), {answer!r})\n"
    )
    output = tmp_path / "r.json"
    done = subprocess.run([sys.executable, "-c", code, output], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"File too large: '{output}.partial.jsonl'" in done.stderr
    with Journal(output) as journal:
        assert journal.answers == {"0": answer, "1": answer}


def test_a_journal_that_was_removed_while_it_was_opened_is_opened_anew(tmp_path, monkeypatch):
    first = Journal(tmp_path / "r.json")
    lock = fcntl.flock

    def finish_first(file, operation):
        monkeypatch.setattr(fcntl, "flock", lock)
        first.add("a", ANSWER)
        first.remove()
        first.close()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", finish_first)
    stopped(tmp_path / "r.json", b=ANSWER)
    with Journal(tmp_path / "r.json") as journal:
        assert set(journal.answers) == {"b"}


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
