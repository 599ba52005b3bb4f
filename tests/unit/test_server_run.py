"""The way up and down: port, machine, bundled adapters, the command's exit codes, and one whole
life of the server around a stand-in for the engine."""

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from eval.task.base_model import BASE_MODEL, WEIGHTS_SHA256, BaseModelError
from eval.task.bundle import BundleError, read_bundle
from eval.task.schema import parse_ddl
from eval.task.store import point_alias, read_aliases
from server import __main__ as command
from server import run, supervisor
from server.adapters.slots import MIN_RANK
from server.databases import Database
from server.registry import Registry
from server.run import (
    BUNDLED,
    StartError,
    available_memory_gib,
    bind,
    check_machine,
    publish_bundled,
)
from server.settings import PREFIX, Settings
from server.supervisor import EngineStartError, Launch
from tests.conftest import make_bundle, publish_new

GIB = 2**30


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SQLWRIGHT_CACHE", str(tmp_path / "cache"))


def settings(**values: Any) -> Settings:
    return Settings(**values)


def test_a_free_port_is_taken_at_once():
    with contextlib.closing(bind("127.0.0.1", 0)) as listener:
        assert listener.getsockname()[1] > 0
        socket.create_connection(listener.getsockname(), timeout=5).close()


def test_a_taken_port_is_refused_with_its_number_and_the_remedy():
    with contextlib.closing(bind("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port} .*taken.*SQLWRIGHT_PORT"):
            bind("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(StartError, match=r"can't listen on 192\.0\.2\.1:8000: "):
        bind("192.0.2.1", 8000)


@pytest.fixture
def machine(monkeypatch):
    """A machine with plenty of everything; tests make it smaller."""
    has = SimpleNamespace(disk=100 * GIB, memory=64.0, gpu=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=has.disk))
    monkeypatch.setattr(run, "available_memory_gib", lambda: has.memory)
    monkeypatch.setattr(run, "has_gpu", lambda: has.gpu)
    return has


def test_a_machine_with_enough_passes_and_gets_its_folders(machine, tmp_path):
    chosen = settings(store=tmp_path / "a" / "store")
    check_machine(chosen)
    assert chosen.store.is_dir()
    assert chosen.run_folder.is_dir()


def test_too_little_disk_is_refused_with_both_numbers(machine, tmp_path):
    machine.disk = GIB // 2
    with pytest.raises(StartError, match=r"0\.5 GiB of disk.*1 are needed"):
        check_machine(settings(store=tmp_path))


def test_too_little_memory_is_refused_with_the_remedy(machine, tmp_path):
    machine.memory = 5.9
    with pytest.raises(StartError, match=r"5\.9 GiB.*6 are needed.*SQLWRIGHT_KV_CACHE_GIB"):
        check_machine(settings(store=tmp_path))
    check_machine(settings(store=tmp_path, kv_cache_gib=1))
    machine.gpu = True
    check_machine(settings(store=tmp_path))


@pytest.mark.parametrize("name", ["store", "cache"])
def test_a_folder_that_cannot_be_made_is_named(machine, tmp_path, name):
    (tmp_path / name).write_text("a file")
    with pytest.raises(StartError, match=f"can't write to .*{name}"):
        check_machine(settings(store=tmp_path / "store" / "deeper"))


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 8.0), (str(3 * GIB), 3.0), (str(99 * GIB), 8.0), (None, 8.0)]
)
def test_memory_is_what_the_kernel_and_the_control_group_leave(monkeypatch, limit, expected):
    files = {"/proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:   {8 * GIB // 1024} kB\n"}
    if limit is not None:
        files["/sys/fs/cgroup/memory.max"] = f"{limit}\n"
    monkeypatch.setattr(Path, "read_text", lambda path: files[str(path)])
    monkeypatch.setattr(Path, "is_file", lambda path: str(path) in files)
    assert available_memory_gib() == expected


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "bundled"
    make_bundle(folder / "spider", "shipped")
    (folder / "not-yet").mkdir()
    monkeypatch.setattr(run, "BUNDLED", folder)
    return folder


def test_what_ships_is_published_once(bundled, tmp_path):
    store = tmp_path / "store"
    publish_bundled(store)
    first = read_aliases(store)
    assert set(first) == {"spider"}
    assert first["spider"].active == read_bundle(bundled / "spider").short
    publish_bundled(store)
    assert read_aliases(store) == first
    assert [path.name for path in store.iterdir() if path.is_dir()] == [first["spider"].active]


def test_what_ships_is_whole_and_fits_the_default_settings():
    found = {
        path.parent.name: read_bundle(path.parent) for path in BUNDLED.glob("*/sqlwright.json")
    }
    manifest = found[settings().default_adapter].manifest
    assert (manifest.base_model, manifest.base_model_sha256) == (BASE_MODEL, WEIGHTS_SHA256)
    assert manifest.rank <= MIN_RANK
    assert "{question}" in manifest.prompt_format.template


def test_what_ships_never_takes_the_place_of_ones_own(bundled, tmp_path):
    store = tmp_path / "store"
    own = publish_new(store, tag="own")
    publish_bundled(store)
    assert read_aliases(store)["spider"].active == own
    publish_new(store, alias="other", tag="own")
    point_alias(store, "spider", own)
    publish_bundled(store)
    assert read_aliases(store)["spider"].active == own


def test_a_store_with_broken_aliases_is_refused(bundled, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "aliases.json").write_text("{")
    with pytest.raises(BundleError, match=r"aliases\.json"):
        publish_bundled(store)


@pytest.fixture
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def started(monkeypatch, error: BaseException | None = None) -> list[Settings]:
    """Have the command call this instead of the server."""
    calls: list[Settings] = []

    async def serve(chosen: Settings) -> None:
        calls.append(chosen)
        if error:
            raise error

    monkeypatch.setattr(command, "serve", serve)
    return calls


def test_a_misspelt_variable_keeps_the_server_from_starting(monkeypatch, capsys):
    calls = started(monkeypatch)
    monkeypatch.setenv("SQLWRIGHT_PROT", "1")
    assert command.main([]) == 1
    assert "SQLWRIGHT_PROT is no setting" in capsys.readouterr().err
    assert calls == []


def test_a_bad_value_is_named_in_one_line(monkeypatch, capsys):
    calls = started(monkeypatch)
    assert command.main(["--port", "http"]) == 1
    assert capsys.readouterr().err.startswith("sqlwright-serve: error: port: ")
    assert command.main(["--max-tokens", "4000", "--max-model-len", "4000"]) == 1
    assert "max_tokens" in capsys.readouterr().err
    assert calls == []


@pytest.mark.usefixtures("_root_logger")
@pytest.mark.parametrize(
    "error",
    [
        StartError("port 1 is taken"),
        BaseModelError("no network"),
        EngineStartError("it died"),
        BundleError("aliases.json is bad"),
        ValueError("default_database: no such"),
        OSError("read-only file system"),
        ExceptionGroup("tasks", [ExceptionGroup("more", [EngineStartError("it died")])]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_keeps_it_from_running_is_one_line_and_exit_code_1(monkeypatch, capsys, error):
    calls = started(monkeypatch, error)
    assert command.main(["--port", "0"]) == 1
    first = error.exceptions[0].exceptions[0] if isinstance(error, ExceptionGroup) else error
    assert capsys.readouterr().err == f"sqlwright-serve: error: {first}\n"
    assert calls[0].port == 0


@pytest.mark.usefixtures("_root_logger")
@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), asyncio.CancelledError()])
def test_an_ordered_end_is_exit_code_0(monkeypatch, capsys, error):
    started(monkeypatch, error)
    assert command.main([]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("_root_logger")
def test_a_bug_is_not_hidden(monkeypatch):
    started(monkeypatch, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        command.main([])


STAND_IN = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    connection.close()
"""


@pytest.fixture
async def life(monkeypatch, bundled):
    """Settings of a server whose engine is a stand-in that only answers `/health`."""
    folder = Path(tempfile.mkdtemp(prefix="r"))  # pytest's own are too deep for a socket's path
    monkeypatch.setenv("SQLWRIGHT_CACHE", str(folder))
    monkeypatch.setattr(run, "resolve_base_model", lambda name, say: name)
    monkeypatch.setattr(run, "available_memory_gib", lambda: 64.0)
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.01)
    chosen = settings(store=folder / "store", port=0, base_model="org/model", rescan_seconds=0.1)
    made = SimpleNamespace(settings=chosen, code=STAND_IN)

    def plan(settings: Settings, model: Path | str, socket: Path) -> Launch:
        command = [sys.executable, "-I", "-S", "-c", made.code, str(socket)]
        return Launch(command, {"PATH": os.environ["PATH"]})

    monkeypatch.setattr(supervisor, "launch", plan)
    yield made
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().remove_signal_handler(number)
    shutil.rmtree(folder)


async def port_of(capsys, text: str = "") -> int:
    """The port in the curl line that is printed when everything is up."""
    while not (found := re.search(r"^curl -s http://localhost:(\d+)/generate-sql", text, re.M)):
        await asyncio.sleep(0.01)
        text += capsys.readouterr().out
    return int(found[1])


async def test_a_server_comes_up_answers_and_ends_with_its_engine_on_sigterm(life, capsys):
    serving = asyncio.create_task(run.serve(life.settings))
    port = await asyncio.wait_for(port_of(capsys), 20)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/health/live")).status == 200
        ready = await client.get("/health/ready")
        assert (ready.status, (await ready.json())["error"]["code"]) == (503, "not_ready")
        assert set(read_aliases(life.settings.store)) == {"spider"}
        sockets = list(life.settings.run_folder.glob("*.sock"))
        assert len(sockets) == 1
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 20)
    assert not sockets[0].exists()
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_the_admin_api_has_a_listener_of_its_own_and_ends_with_the_server(life, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        admin_port = free.getsockname()[1]
    keys = {"admin_keys": [SecretStr("key")], "admin_port": admin_port}
    serving = asyncio.create_task(run.serve(life.settings.model_copy(update=keys)))
    port = await asyncio.wait_for(port_of(capsys), 20)
    headers = {"Authorization": "Bearer key"}
    async with aiohttp.ClientSession(headers=headers) as client:
        async with client.get(f"http://127.0.0.1:{admin_port}/admin/adapters") as found:
            assert [alias["alias"] for alias in (await found.json())["aliases"]] == ["spider"]
        for path in (f"{port}/admin/adapters", f"{admin_port}/health/live"):
            async with client.get(f"http://127.0.0.1:{path}") as found:
                assert (await found.json())["error"]["code"] == "not_found"
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 20)
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection("127.0.0.1", admin_port)


async def test_an_admin_port_that_is_taken_keeps_the_server_from_starting(life):
    with run.bind("127.0.0.1", 0) as taken:
        keys = {"admin_keys": [SecretStr("key")], "admin_port": taken.getsockname()[1]}
        with pytest.raises(StartError, match="is taken"):
            await run.serve(life.settings.model_copy(update=keys))


async def test_an_engine_that_cannot_start_ends_the_server_with_its_reason(life):
    life.code = "raise ValueError('no such model')"
    with pytest.raises(EngineStartError, match="no such model"):
        await asyncio.wait_for(run.serve(life.settings), 20)


async def test_http_that_fails_ends_the_server_with_its_reason(life, monkeypatch):
    async def fail(self: object, sockets: object) -> None:
        raise OSError("no more files")

    monkeypatch.setattr(run._Server, "serve", fail)
    with pytest.raises(OSError, match="no more files"):
        await asyncio.wait_for(run.serve(life.settings), 20)


async def test_a_database_that_is_added_while_it_runs_is_served_and_one_removed_is_not(
    life, capsys
):
    registry = Registry(life.settings.databases)
    registry.add(Database("before", parse_ddl("CREATE TABLE a (b INT)")))
    serving = asyncio.create_task(run.serve(life.settings))
    port = await asyncio.wait_for(port_of(capsys), 20)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:

        async def served() -> set[str]:
            body = await (await client.get("/databases")).json()
            return {entry["name"] for entry in body["databases"]}

        assert "before" in await served()
        registry.add(Database("after", parse_ddl("CREATE TABLE a (b INT)")))
        registry.remove("before")
        async with asyncio.timeout(20):
            while "after" not in await served():
                await asyncio.sleep(0.01)
        assert "before" not in await served()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 20)
