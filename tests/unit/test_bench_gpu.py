"""A GPU session: what its steps run, what it does when one fails, what it leaves behind."""

import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import adapters, swaps
from benchmarks.gpu import __main__ as command
from benchmarks.gpu.server import KEPT_BYTES, Server
from benchmarks.gpu.steps import STEPS, Session, Step, StepError
from eval.task.store import Alias, write_aliases
from trainer.recipe import load_recipe
from trainer.sweep import load_sweep

app = typer.Typer()
app.command()(command.main)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store in which `spider` and `again` were published."""
    monkeypatch.setenv("SQLWRIGHT_STORE", str(tmp_path / "store"))
    folder = tmp_path / "store" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "weights").write_text("w")
    write_aliases(tmp_path / "store", {n: Alias(folder.name) for n in ("spider", "again")})
    return tmp_path / "store"


def session_in(folder: Path, *overrides: str) -> Session:
    return Session(folder, folder, "trainer/recipes/smollm2_135m.yaml", overrides)


def words_of(name: str, session: Session) -> list[list[str]]:
    return [command[2:] for command in STEPS[name].commands(session)]


def _chosen(words: list[str]) -> list[str]:
    """What stands after each `--policy`."""
    return [after for word, after in pairwise(words) if word == "--policy"]


def test_training_steps_differ_in_alias_and_seed_alone(tmp_path: Path) -> None:
    session = session_in(tmp_path, "epochs=1")
    first, again = (words_of(name, session)[0] for name in ("train", "again"))
    assert [w for w in first if w not in again] == ["alias=spider"]
    found = [
        load_recipe(Path(w[1]), [x for x in w if "=" in x]) for w in words_of("seeds", session)
    ]
    assert [(c.alias, c.seed, c.epochs) for c in found] == [("seed-2", 2, 1.0), ("seed-3", 3, 1.0)]


def test_base_and_adapter_are_asked_alike_and_compared(store: Path, tmp_path: Path) -> None:
    asked = words_of("scores", session_in(tmp_path))
    runs = [words for words in asked if words[1] == "run"]
    assert len(runs) == 4
    models = [words[words.index("--model") + 1] for words in runs]
    assert models == ["spider", "base", "spider", "base"]
    assert ["--raw" in words for words in runs] == [False, False, True, True]
    assert str(store / "0123456789ab") in runs[2]  # in its own prompt
    outputs = {words[words.index("--output") + 1] for words in runs}
    compared = [words[2:4] for words in asked if words[1] == "compare"]
    assert {path for pair in compared for path in pair} == outputs


def test_every_other_adapter_has_a_score_of_its_own(store: Path, tmp_path: Path) -> None:
    (words,) = words_of("others", session_in(tmp_path))
    assert words[words.index("--model") + 1] == "again"
    assert words[words.index("--figure") + 1] == "spider_dev_ex_again"


def test_each_database_of_the_questions_is_registered_before_they_are_run(tmp_path: Path) -> None:
    data = tmp_path / "dev.jsonl"
    data.write_text("".join(json.dumps({"db_id": name}) + "\n" for name in ("b", "A", "b")))
    session = Session(tmp_path, tmp_path, "", data=str(data))
    files = [f"sqlite:///{tmp_path}/databases/{name}.sqlite" for name in ("A", "b")]
    registered = words_of("databases", session)
    assert [(words[2], words[4]) for words in registered] == list(zip(files, "ab", strict=True))
    (words,) = words_of("execute", session)
    assert "auto, execute" in words
    assert "auto, execute" not in words_of("policies", session)[0]
    chosen = Session(tmp_path, tmp_path, "", policies=("auto",), data=str(data))
    asked = {step: _chosen(words_of(step, chosen)[0]) for step in ("policies", "execute")}
    assert asked == {"policies": ["auto"], "execute": ["auto", "auto, execute"]}


def test_the_variants_of_a_session_are_those_of_the_sweep(tmp_path: Path) -> None:
    session = Session(tmp_path, tmp_path, "", variants=("all", "hints"))
    (words,) = words_of("sweep", session)
    known = load_sweep(Path(words[1])).variants
    assert [known[w] for before, w in pairwise(words) if before == "--only"]


def test_the_starting_point_is_rolled_out_against_the_adapter(store: Path, tmp_path: Path) -> None:
    session = session_in(tmp_path)
    with pytest.raises(StepError, match="seed_recipe"):
        words_of("rollout", session)
    made = {"spider": Alias("0123456789ab"), "seed_recipe": Alias("1" * 12)}
    write_aliases(store, made)
    (words,) = words_of("rollout", session)
    after = dict(pairwise(words))
    assert (after["--active"], after["--candidate"]) == (
        str(store / "0123456789ab"), str(store / ("1" * 12)),
    )  # fmt: skip
    assert after["--base-url"] == words_of("blocked", session)[0][2] == session.url


def test_swaps_ask_the_sessions_server_and_adapters_start_their_own(tmp_path: Path) -> None:
    session = Session(tmp_path, tmp_path, "", port=8123)
    (words,) = words_of("swaps", session)
    assert words[words.index("--base-url") + 1] == "http://127.0.0.1:8123"
    assert [STEPS[name].is_served for name in ("swaps", "adapters")] == [True, False]
    for name, main in (("swaps", swaps.main), ("adapters", adapters.main)):
        ((module, *words),) = words_of(name, session)
        assert module == f"benchmarks.{name}"
        asked = typer.Typer()
        asked.command()(main)
        known = CliRunner().invoke(asked, ["--help"]).stdout
        assert [word for word in words if word.startswith("--") and word not in known] == []
        assert str(tmp_path / name) in words


def test_without_an_adapter_a_step_says_which_one_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLWRIGHT_STORE", str(tmp_path / "none"))
    with pytest.raises(StepError, match="run the step train"):
        words_of("precision", session_in(tmp_path))


def printing(text: str, code: int = 0) -> list[str]:
    return [sys.executable, "-c", f"import sys; print({text!r}); sys.exit({code})"]


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Steps that print; a folder to run them in."""

    def good(session: Session) -> Iterator[list[str]]:
        (session.work / "result.json").write_text("{}")
        yield printing("fine")

    def bad(_: Session) -> Iterator[list[str]]:
        yield printing("too bad", 3)
        yield printing("never")

    def both(_: Session) -> Iterator[list[str]]:
        yield printing("one", 1)
        yield printing("two")

    steps = {"good": Step("", good), "bad": Step("", bad), "both": Step("", both, at_once=True)}
    monkeypatch.setattr(command, "STEPS", steps)
    monkeypatch.setenv("SQLWRIGHT_STORE", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Any:
    return CliRunner().invoke(app, [*words, "--out", "out", "--work", "work"])


def packed(folder: Path, name: str = "results") -> dict[str, str]:
    with tarfile.open(folder / f"out/{name}.tar.xz") as archive:
        return {
            member.name: file.read().decode()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }


def test_a_step_that_fails_is_said_and_the_next_goes_on(toys: Path) -> None:
    done = run("bad", "good")
    assert done.exit_code == 1
    results = json.loads(done.stdout)["steps"]
    assert results["good"] == "done"
    assert results["bad"].startswith("failed: ") and results["bad"].endswith(": too bad")
    assert packed(toys) == {
        "work/bad.log": "too bad\n",
        "work/good.log": "fine\n",
        "work/result.json": "{}",
    }


def test_commands_at_once_all_end_before_one_is_said_to_have_failed(toys: Path) -> None:
    done = run("both")
    assert done.exit_code == 1
    assert sorted(packed(toys)["work/both.log"].split()) == ["one", "two"]


def test_only_what_the_session_made_is_packed(toys: Path) -> None:
    (toys / "work").mkdir()
    (toys / "work/old.json").write_text("{}")
    os.utime(toys / "work/old.json", (1, 1))
    assert run("good").exit_code == 0
    assert "work/old.json" not in packed(toys)
    assert not (toys / "out/adapter.tar.xz").exists()


def test_the_adapter_is_packed_when_it_is_new(toys: Path, store: Path) -> None:
    assert run("good").exit_code == 0
    assert not (toys / "out/adapter.tar.xz").exists()  # published before
    session = Session(toys / "out", toys / "work", "", began=0.0)
    command.pack(session)
    assert packed(toys, "adapter") == {"0123456789ab/weights": "w"}


def test_an_unknown_step_is_refused_before_any_runs(toys: Path) -> None:
    done = run("good", "magic")
    assert done.exit_code == 2
    assert not (toys / "work").exists()


def test_a_server_that_dies_says_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu.server.python", lambda _: printing("no room", 1))
    server = Server(session_in(tmp_path))
    with pytest.raises(StepError, match="no room"):
        server.start()
    assert server.process is None


def test_the_end_of_the_engines_own_log_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLWRIGHT_CACHE", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/engine-7.log").write_bytes(b"x" * KEPT_BYTES + b"last words")
    Server(session_in(tmp_path)).keep_log()
    kept = (tmp_path / "engine-7.log").read_bytes()
    assert len(kept) == KEPT_BYTES
    assert kept.endswith(b"xlast words")


SLEEPING = """
import sys
from benchmarks.gpu import __main__ as command
from benchmarks.gpu.steps import Step
child = "import os, time; open('draft', 'w').write(str(os.getpid())); os.rename('draft', 'pid')"
sleep = [sys.executable, "-c", child + "; time.sleep(600)"]
command.STEPS = {"sleep": Step("", lambda _: iter([sleep]), at_once=AT_ONCE)}
sys.argv[1:] = ["sleep", "--out", "out", "--work", "work"]
command.typer.run(command.main)
"""


@pytest.mark.parametrize("at_once", [False, True])
def test_a_term_ends_the_children(at_once: bool, tmp_path: Path) -> None:
    code = SLEEPING.replace("AT_ONCE", str(at_once))
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    ) as session:
        while not (tmp_path / "pid").exists():
            assert session.poll() is None
            time.sleep(0.05)
        session.terminate()
        assert session.wait() != 0
    command_line = Path("/proc") / (tmp_path / "pid").read_text() / "cmdline"
    # A process that nobody waited for has no command line any more.
    assert not command_line.exists() or not command_line.read_bytes()
