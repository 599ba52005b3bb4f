"""Faults in a real training process: a full disk, Ctrl-C, a hub that can't be reached.

The tiny base has no chat template: prompts are plain text, so that none is asked for.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from eval.task.store import read_aliases
from tests.integration.test_train_whole import RECIPE, TIMEOUT_SECONDS, command, finish, start
from tests.unit.tiny import byte_tokenizer, llama

ERROR = "sqlwright-train: error: "
LIMIT_BYTES = 64 * 1024  # below an optimiser's state, above what is written before it
SIZES = {"hidden_size": 64, "initializer_range": 0.05, "max_position_embeddings": 4096}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe and its base model, which has no chat template."""
    folder = tmp_path_factory.mktemp("faults")
    llama(**SIZES).save_pretrained(folder / "base")
    tokenizer = byte_tokenizer()
    assert tokenizer.chat_template is None
    tokenizer.save_pretrained(folder / "base")
    recipe = {**RECIPE, "base_model": str(folder / "base")}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def error_of(process: subprocess.Popen[str], status: int) -> str:
    """The one line of a fault, the last on stderr; lines on how far it came may stand before."""
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    *before, last = errors.splitlines()
    assert process.returncode == status, errors[-3000:]
    assert last.startswith(ERROR), errors[-3000:]
    assert all(line.startswith("sqlwright-train: ") for line in before), errors[-3000:]
    assert not any(line.startswith(ERROR) for line in before)
    return last.removeprefix(ERROR)


def expect_unpublished(store: Path) -> None:
    assert read_aliases(store) == {}
    assert not store.is_dir() or list(store.iterdir()) == []


def start_limited(folder: Path, *words: str) -> subprocess.Popen[str]:
    """As `start`, in a process whose files can't grow over `LIMIT_BYTES`."""
    limited = (
        "import resource, runpy, sys; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT_BYTES}, {resource.RLIM_INFINITY})); "
        "sys.argv = ['trainer', *sys.argv[1:]]; "
        "runpy.run_module('trainer', run_name='__main__', alter_sys=True)"
    )
    return start(folder, "-c", limited, *words[2:])


def test_a_full_disk_is_told_and_the_same_command_goes_on(folder: Path) -> None:
    words = command(folder, "full")
    finish(start(folder, *words, "--dry-run"))  # the pipeline's own files are in the cache
    told = error_of(start_limited(folder, *words), status=1)
    assert told.startswith(f"can't write to {folder / 'runs-full'}")
    assert told.endswith("the same command goes on from the last checkpoint")
    expect_unpublished(folder / "store-full")
    finish(start(folder, *words))
    assert list(read_aliases(folder / "store-full")) == ["tiny"]


def test_ctrl_c_in_mid_training_leaves_a_checkpoint_that_the_same_command_takes_up(
    folder: Path,
) -> None:
    words = command(folder, "stopped", "max_steps=60", "save_share=0.05")
    process = start(folder, *words)
    while not list(folder.glob("runs-stopped/*/checkpoint-*/trainer_state.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert error_of(process, status=130).startswith("stopped; the same command goes on")
    expect_unpublished(folder / "store-stopped")
    assert "going on from checkpoint-" in finish(start(folder, *words))
    assert list(read_aliases(folder / "store-stopped")) == ["tiny"]


def test_a_hub_out_of_reach_is_told(folder: Path) -> None:
    """For data: a base model takes over a minute, since transformers asks for file after file."""
    words = [sys.executable, *command(folder, "hub", "data=org/name")]
    variables = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    variables |= {"SQLWRIGHT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    variables["HF_ENDPOINT"] = "http://127.0.0.1:9"
    process = subprocess.Popen(
        words, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    told = error_of(process, status=1)
    assert "org/name" in told and "HF_ENDPOINT" in told
    expect_unpublished(folder / "store-hub")
