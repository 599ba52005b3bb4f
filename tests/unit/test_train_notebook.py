"""The notebook without its training: what is committed, and the cell that asks a server."""

import asyncio
import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from server.settings import FOREIGN, PREFIX, Settings
from tests.unit.serving import Script, refused, serving
from trainer.recipe import config_from

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "trainer" / "train_publish_ask.ipynb"
NAME = "mine@0123456789ab"


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return found


@pytest.fixture(scope="module")
def code(cells) -> dict[str, str]:
    """The source of each code cell by its id."""
    return {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}


def test_no_output_is_committed(cells, code):
    assert len(code) > 5
    for cell in cells:
        assert not cell.get("outputs"), cell["id"]
        assert cell.get("execution_count") is None, cell["id"]
        assert cell["metadata"] == {}, cell["id"]


@pytest.mark.parametrize("words", [("check",), ("format", "--check")])
def test_the_cells_are_ruff_clean(words):
    command = [sys.executable, "-m", "ruff", *words, "--no-cache", str(NOTEBOOK)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "No Python files" not in run.stderr


def test_it_installs_extras_that_exist_from_the_clone_not_from_an_index(code):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (named,) = re.findall(r'%pip install --quiet "\.\.\[(.+)\]"', code["install"])
    assert set(named.split(",")) <= set(project["optional-dependencies"])
    assert (NOTEBOOK.parent / ".." / "pyproject.toml").is_file()


def test_its_variables_are_known_to_the_server_which_refuses_unknown_ones(code):
    known = {name.upper() for name in Settings.model_fields} | FOREIGN
    named = set(re.findall(rf"{PREFIX}([A-Z_]+)", " ".join(code.values())))
    assert named >= {"URL", "STORE"}
    assert named <= known


def test_smoke_size_is_a_switch_and_nothing_else(code, monkeypatch):
    for value, expected in [("1", True), ("0", False)]:
        monkeypatch.setenv("SMOKE", value)
        assert run_cells(code, "parameters")["SMOKE"] is expected
    monkeypatch.setenv("SMOKE", "yes")
    with pytest.raises(ValueError, match="yes"):
        run_cells(code, "parameters")


@pytest.mark.parametrize(("size", "max_steps"), [("1", 3), ("0", 0)])
def test_each_size_is_a_recipe_that_the_trainer_takes(code, monkeypatch, size, max_steps):
    taken: dict[str, Any] = {}

    def train(**given: Any) -> SimpleNamespace:
        taken.update(given)
        return SimpleNamespace(loss=1.0, tokens_per_second=1.0)

    monkeypatch.setattr("trainer.api.train_lora_model", train)
    monkeypatch.setenv("SMOKE", size)
    run_cells(code, "parameters", "train", dataset=None)
    own = {"rank": taken.pop("lora_r"), "alpha": taken.pop("lora_alpha")}
    others = {key: value for key, value in taken.items() if key not in ("dataset", "store")}
    config = config_from(own | others)
    assert (config.rank, config.alpha, config.max_steps) == (16, 32, max_steps)


def run_cells(code: dict[str, str], *names: str, **given: Any) -> dict[str, Any]:
    """Run cells in one namespace, as a kernel does; `given` is put there before the last."""
    namespace: dict[str, Any] = {"adapter": SimpleNamespace(name=NAME)}
    for name in names:
        namespace |= given if name == names[-1] else {}
        exec(compile(code[name], name, "exec"), namespace)
    return namespace


def answer(model: str = NAME) -> web.Response:
    body = {"sql_query": "SELECT name FROM users", "confidence": 0.5, "valid": True, "model": model}
    return web.json_response(body)


async def asked(
    code: dict[str, str], monkeypatch: pytest.MonkeyPatch, script: Script, **given: Any
) -> dict[str, Any]:
    """The namespace after the asking cell has met a server that answers by `script`."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    async with serving(script) as url:
        monkeypatch.setenv("SQLWRIGHT_URL", url)
        return await asyncio.to_thread(run_cells, code, "parameters", "ask", **given)


async def test_it_asks_by_alias_until_the_very_version_that_was_trained_answers(code, monkeypatch):
    answers = [
        lambda: refused(404),
        lambda: refused(503),
        lambda: answer("mine@000000000000"),
        answer,
    ]
    script = Script(*answers)
    monkeypatch.delenv("SQLWRIGHT_API_KEY", raising=False)
    namespace = await asked(code, monkeypatch, script)
    assert namespace["answer"]["model"] == NAME
    assert len(script.bodies) == len(answers)
    assert {body["model"] for body in script.bodies} == {"mine"}
    assert "Authorization" not in script.headers[0]


async def test_it_sends_the_key_that_the_environment_holds(code, monkeypatch):
    monkeypatch.setenv("SQLWRIGHT_API_KEY", "k3y")
    script = Script(answer)
    await asked(code, monkeypatch, script)
    assert script.headers[0]["Authorization"] == "Bearer k3y"


async def test_it_shows_the_servers_own_words_for_a_refusal(code, monkeypatch):
    with pytest.raises(RuntimeError, match=r"401.*not now"):
        await asked(code, monkeypatch, Script(lambda: refused(401)))


async def test_it_gives_up_on_a_server_that_never_takes_the_version_up(code, monkeypatch):
    stale = Script(lambda: answer("mine@000000000000"))
    with pytest.raises(TimeoutError, match=rf"does not serve {NAME}: is .* its store"):
        await asked(code, monkeypatch, stale, WAIT_SECONDS=-1)


def test_without_a_server_it_says_so(code, monkeypatch, unused_tcp_port):
    monkeypatch.setenv("SQLWRIGHT_URL", f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(ConnectionError, match=r"no server at http://127\.0\.0\.1"):
        run_cells(code, "parameters", "ask")
