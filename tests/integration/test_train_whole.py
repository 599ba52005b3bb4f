"""The trainer's command as users call it, on a tiny base: killed, resumed, in two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from eval.task.bundle import read_version
from tests.unit.tiny import byte_tokenizer, llama

RECIPE = {
    "alias": "tiny",
    "data": ["samples"],
    "max_examples": 40,
    "max_length": 4096,
    "device_tokens": 4096,
    "batch_tokens": 8192,
    "rank": 4,
    "alpha": 8,
    "dropout": 0.1,
    "learning_rate": 1e-2,
    "max_steps": 10,
    "save_share": 0.2,
    "dequantise": "always",
}
TIMEOUT_SECONDS = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A recipe and the base model that it names."""
    folder: Path = tmp_path_factory.mktemp("whole")
    base = folder / "base"
    llama(hidden_size=64, initializer_range=0.05, max_position_embeddings=4096).save_pretrained(
        base
    )
    byte_tokenizer().save_pretrained(base)
    recipe = {**RECIPE, "base_model": str(base)}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def command(folder: Path, name: str, *options: str) -> list[str]:
    places = ["--store", str(folder / f"store-{name}"), "--runs", str(folder / f"runs-{name}")]
    return ["-m", "trainer", str(folder / "recipe.yaml"), *places, *options]


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    variables = {
        **os.environ,
        "SQLWRIGHT_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.Popen(
        [sys.executable, *words], env=variables, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, errors[-3000:]
    return errors


def run_folder(folder: Path, name: str) -> Path:
    (found,) = (folder / f"runs-{name}").iterdir()
    return found


def losses(folder: Path, name: str) -> list[float]:
    newest = max(run_folder(folder, name).glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return [log["loss"] for log in history if "loss" in log]


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return dict(load_file(run_folder(folder, name) / "bundle" / "adapter_model.safetensors"))


@pytest.fixture(scope="module")
def undisturbed(folder) -> str:
    """Its output."""
    return finish(start(folder, *command(folder, "undisturbed")))


def test_a_run_ends_with_a_bundle_a_summary_line_and_a_file(folder, undisturbed):
    result = json.loads((run_folder(folder, "undisturbed") / "result.json").read_text())
    assert undisturbed.splitlines()[-1].startswith(
        f"sqlwright-train: published {result['model']}: 10 steps, loss "
    )
    bundle = read_version(folder / "store-undisturbed", result["digest"][:12])
    assert bundle.manifest.data[0]["examples"] == 40
    assert bundle.manifest.recipe["device_tokens"] == 4096
    assert (bundle.folder / "evidence" / "fingerprint.json").is_file()
    assert losses(folder, "undisturbed")[-1] < losses(folder, "undisturbed")[0]
    assert "\r" not in undisturbed
    assert (run_folder(folder, "undisturbed") / "data.html").is_file()


def test_after_a_kill_it_goes_on_and_ends_with_the_same_weights(folder, undisturbed):
    process = start(folder, *command(folder, "killed"))
    while not list(folder.glob("runs-killed/*/checkpoint-4/trainer_state.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (run_folder(folder, "killed") / "bundle").exists()
    half = run_folder(folder, "killed") / "checkpoint-9"
    half.mkdir(exist_ok=True)
    (half / "trainer_state.json").write_text('{"glob')
    said = finish(start(folder, *command(folder, "killed")))
    assert "going on from checkpoint-" in said
    assert "from checkpoint-9" not in said
    expected, found = weights(folder, "undisturbed"), weights(folder, "killed")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-3, rtol=1e-2)
    assert losses(folder, "killed") == pytest.approx(losses(folder, "undisturbed"), rel=1e-3)


def test_two_processes_have_the_loss_curve_of_one(folder, undisturbed):
    """Without dropout, which each process draws for itself."""
    off = ["dropout=0.0", "alias=even"]
    finish(start(folder, *command(folder, "one", *off)))
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = finish(start(folder, *together, *command(folder, "two", *off)))
    assert losses(folder, "two") == pytest.approx(losses(folder, "one"), rel=2e-3)
    assert said.count("sqlwright-train: published") == 1
