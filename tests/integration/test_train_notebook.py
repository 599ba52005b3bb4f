"""The notebook as a kernel runs it, unchanged, beside a running server that it asks at its end."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eval.task.base_model import BASE_MODEL
from eval.task.bundle import read_version
from tests.integration.live import Live

NOTEBOOK = Path(__file__).parents[2] / "trainer" / "train_publish_ask.ipynb"
EXECUTE = "from nbclient.cli import main; main()"
TIMEOUT_SECONDS = 600  # a bound for hangs

Shown = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def shown(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """What each cell showed as its value, by the cell's id and media type."""
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copy(NOTEBOOK, folder / "as_committed.ipynb")
    # One thread: two of them wait for each other in vain while the engine computes on both cores.
    own = {"SMOKE": "1", "SQLWRIGHT_URL": live.url, "SQLWRIGHT_STORE": str(live.store)}
    own |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    # Nothing of the user's Jupyter.
    places = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
    own |= {name: str(folder / name.lower()) for name in places}
    run = subprocess.run(
        [sys.executable, "-c", EXECUTE, "--output=executed.ipynb", "as_committed.ipynb"],
        cwd=folder,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return values((folder / "executed.ipynb").read_text(encoding="utf-8"))


def values(notebook: str) -> Shown:
    return {
        cell["id"]: {kind: "".join(text) for kind, text in output["data"].items()}
        for cell in json.loads(notebook)["cells"]
        for output in cell.get("outputs", ())
        if output["output_type"] == "execute_result"
    }


def value(shown: Shown, cell: str) -> Any:
    return ast.literal_eval(shown[cell]["text/plain"])


def test_it_shows_what_was_done_to_the_rows(shown: Shown) -> None:
    assert "tokenise " in shown["data"]["text/html"]
    assert "balance " not in shown["data"]["text/html"]
    assert "balance " in shown["balance"]["text/html"]


def test_it_publishes_what_it_trained_under_its_alias(live: Live, shown: Shown) -> None:
    published = value(shown, "publish")
    assert published["active"] == published["digest"][:12]
    assert f"{published['alias']}@{published['active']}" == live.active("mine")
    manifest = read_version(live.store, published["active"]).manifest
    assert (manifest.base_model, manifest.rank, manifest.alpha) == (BASE_MODEL, 16, 32)
    assert manifest.recipe["max_steps"] == 3


def test_the_running_server_answers_it_with_the_new_adapter(live: Live, shown: Shown) -> None:
    answer = value(shown, "ask")
    assert answer["model"] == live.active("mine")
    assert answer["sql_query"]
    assert 0 < answer["confidence"] <= 1
    assert answer["valid"] in (True, False)
