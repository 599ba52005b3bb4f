"""Servers on one store, and a store whose disk hangs: the benchmarks see what they must see."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import typer
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from benchmarks import blocked_disk, facades
from benchmarks.blocked_disk import Load, figure_of, hanging
from eval.task.store import ALIASES, Alias, point_alias, read_aliases, write_aliases

ONE, TWO, THREE = "1" * 12, "2" * 12, "3" * 12


@asynccontextmanager
async def server_on(store: Path, version: Callable[[], str]) -> AsyncIterator[str]:
    """A server that serves the version that `version` says as `a`, and knows no other."""

    async def complete(request: web.Request) -> web.Response:
        wanted = (await request.json())["model"]
        name = f"a@{version()}"
        if wanted not in ("a", name):
            return web.json_response({"error": {"message": "unknown"}}, status=404)
        await asyncio.sleep(0.001)
        return web.json_response({"model": name})

    async def model(_: web.Request) -> web.Response:
        return web.json_response({"id": "a", "root": f"a@{version()}"})

    app = web.Application()
    app.router.add_post("/v1/completions", complete)
    app.router.add_get("/v1/models/a", model)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_servers_that_follow_the_store_are_without_fault(tmp_path):
    def active() -> str:
        return read_aliases(tmp_path)["a"].active

    async with server_on(tmp_path, active) as one, server_on(tmp_path, active) as other:
        rows, servers = await facades.measure([one, other], tmp_path, "a", [ONE, TWO, THREE], 1)
    unknown, converge = facades.figures_of(rows, servers)
    assert (unknown.value, [row["version"] for row in rows]) == (0, [ONE, TWO, THREE])
    assert unknown.n == 6 + servers.answers > 6
    assert converge.n == 6


async def test_a_server_that_lags_behind_is_seen(tmp_path):
    seen: list[str] = []

    def late() -> str:
        """What the store said a few requests ago."""
        seen.append(read_aliases(tmp_path)["a"].active)
        return seen[max(0, len(seen) - 5)]

    def active() -> str:
        return read_aliases(tmp_path)["a"].active

    async with server_on(tmp_path, active) as one, server_on(tmp_path, late) as other:
        rows, servers = await facades.measure([one, other], tmp_path, "a", [ONE, TWO], 1)
    assert facades.figures_of(rows, servers)[0].value > 0


def test_one_server_is_too_few(tmp_path):
    app = typer.Typer()
    app.command()(facades.main)
    words = ["--base-url", "http://127.0.0.1:1", "--store", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, "--base-url" in result.output) == (1, True)


def test_who_reads_a_file_that_hangs_waits_until_it_is_back(tmp_path):
    path = tmp_path / "file"
    path.write_text("whole")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    with hanging(path):
        assert path.is_fifo()
        reader.start()
        reader.join(0.1)
        assert reader.is_alive()
    reader.join(5)
    assert not reader.is_alive()
    assert path.read_text() == "whole"


async def test_blocks_take_turns_and_the_ratio_is_theirs(tmp_path, monkeypatch):
    monkeypatch.setattr(blocked_disk, "TOUCH_SECONDS", 0.01)
    write_aliases(tmp_path, {"a": Alias(ONE)})
    seen: list[bool] = []

    def version() -> str:
        seen.append((tmp_path / ALIASES).is_fifo())
        return ONE

    async with server_on(tmp_path, version) as url, aiohttp.ClientSession() as session:
        load = Load(session, url, "a", 2, 1)
        rows = await blocked_disk.measure(load, tmp_path, 2, 0.2)
    assert {True, False} == set(seen)
    assert (len(rows), load.failures) == (2, [])
    assert sum(row["hanging"]["n"] + row["steady"]["n"] for row in rows) <= len(load.milliseconds)
    assert (tmp_path / ALIASES).is_file()
    assert not (tmp_path / ".benchmark").exists()
    rows = [{"steady": {"p99": 2.0}, "hanging": {"p99": p}} for p in (2.0, 3.0, 5.0)]
    figure = figure_of(rows, load, 1)
    assert (figure.value, figure.interval) == (1.5, (1.0, 2.5))


def test_a_store_without_aliases_can_not_hang(tmp_path):
    app = typer.Typer()
    app.command()(blocked_disk.main)
    result = CliRunner().invoke(app, ["--base-url", "http://x", "--store", str(tmp_path)])
    assert (result.exit_code, "--store" in result.output) == (1, True)


def test_the_alias_is_gone_after(tmp_path, monkeypatch):
    async def measured(*_: Any) -> Any:
        async with aiohttp.ClientSession() as session:
            servers = facades.Servers(session, ["a", "b"], tmp_path, "facades")
        return [{"version": ONE, "unknown": 0, "seconds": [0.1]}], servers

    monkeypatch.setattr(facades, "measure", measured)
    monkeypatch.setattr(facades, "make_variants", lambda *_: [ONE, TWO])
    point_alias(tmp_path, "facades", ONE)
    app = typer.Typer()
    app.command()(facades.main)
    words = ["--base-url", "http://a", "--base-url", "http://b", "--store", str(tmp_path)]
    result = CliRunner().invoke(app, [*words, "--results", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["facades_unknown"] == 0
    assert read_aliases(tmp_path) == {}
