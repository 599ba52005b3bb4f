"""The engine's child: its command by device, and its life from start to end with a tiny stand-in
that answers `/health` on the UNIX socket."""

import asyncio
import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from server import supervisor
from server.engine import VllmEngine
from server.settings import Settings
from server.supervisor import EngineStartError, Launch, Supervisor, has_gpu, launch

CHILD = """
import os, signal, socket, sys, time
path, folder = sys.argv[1:]
has = lambda flag: os.path.exists(os.path.join(folder, flag))
if has("die"):
    print("loading\\nValueError: no such model\\nbye", flush=True)
    sys.exit(3)
if has("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if has("worker") and os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(os.path.join(folder, "worker"), "a") as out:
        print(os.getpid(), file=out)
    time.sleep(60)
if has("hang"):
    time.sleep(60)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
print("serving", flush=True)
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    connection.close()
"""


def settings(**values: Any) -> Settings:
    return Settings(**values)


@pytest.fixture
def folder():
    """pytest's own folders are too deep for the path of a socket."""
    made = Path(tempfile.mkdtemp(prefix="s"))
    (made / "child.py").write_text(CHILD)
    yield made
    shutil.rmtree(made)


@pytest.fixture
async def child(folder, monkeypatch) -> AsyncIterator[Supervisor]:
    """A supervisor of the stand-in; flags in the folder say how the next child behaves."""

    def plan(settings: Settings, model: Path | str, socket: Path) -> Launch:
        words = ["-I", "-S", folder / "child.py", socket, folder]
        return Launch([sys.executable, *map(str, words)], {"PATH": os.environ["PATH"]})

    monkeypatch.setattr(supervisor, "launch", plan)
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "BACKOFF_SECONDS", 0.01)
    engine = VllmEngine(socket=folder / "run" / "engine.sock", timeout=5)
    made = Supervisor(settings(store=folder), "base", engine)
    yield made
    if made.process and made.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(made.process.pid, signal.SIGKILL)
        await made.process.wait()
    await engine.close()


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize("is_gpu", [False, True])
def test_the_command_is_vllms_own_server_on_the_socket(monkeypatch, tmp_path, is_gpu):
    monkeypatch.setattr(supervisor, "has_gpu", lambda: is_gpu)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SQLWRIGHT_API_KEYS", "s3cret")
    chosen = settings(store=Path("store"), max_model_len=512, max_lora_rank=16, max_loras=3)
    plan = launch(chosen, tmp_path, tmp_path / "s")
    assert plan.command[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    expected = {
        "--model": str(tmp_path),
        "--served-model-name": "base",
        "--uds": str(tmp_path / "s"),
        "--max-model-len": "512",
        "--max-lora-rank": "16",
        "--max-loras": "3",
        "--structured-outputs-config": '{"backend": "guidance"}',
    }
    assert {name: option(plan.command, name) for name in expected} == expected
    assert "--enable-lora" in plan.command
    assert "--port" not in plan.command
    assert plan.env["SQLWRIGHT_STORE"] == str(chosen.versions_folder)
    assert plan.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert plan.env["VLLM_PLUGINS"] == "sqlwright"
    assert plan.env["PATH"] == os.environ["PATH"]
    assert "s3cret" not in str(plan)


@pytest.mark.parametrize("is_gpu", [True, False])
def test_no_adapter_may_change_the_head(monkeypatch, tmp_path, is_gpu):
    monkeypatch.setattr(supervisor, "has_gpu", lambda: is_gpu)
    command = launch(settings(store=tmp_path), "base", tmp_path / "s").command
    after = command[command.index("--lora-target-modules") + 1 :]
    modules = list(itertools.takewhile(lambda word: not word.startswith("--"), after))
    assert modules == list(supervisor.MODULES)
    assert "lm_head" not in modules


def test_on_a_cpu_every_core_works_in_float32(monkeypatch, tmp_path):
    monkeypatch.setattr(supervisor, "has_gpu", lambda: False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 1})
    plan = launch(settings(store=tmp_path, kv_cache_gib=5), "base", tmp_path / "s")
    assert option(plan.command, "--dtype") == "float32"
    assert option(plan.command, "--max-num-seqs") == "16"
    assert "--gpu-memory-utilization" not in plan.command
    assert plan.env["VLLM_CPU_OMP_THREADS_BIND"] == "1,3"
    assert plan.env["VLLM_CPU_KVCACHE_SPACE"] == "5"


def test_on_a_gpu_its_memory_is_shared_out(monkeypatch, tmp_path):
    monkeypatch.setattr(supervisor, "has_gpu", lambda: True)
    plan = launch(settings(store=tmp_path, gpu_memory_utilization=0.5), "base", tmp_path / "s")
    assert option(plan.command, "--gpu-memory-utilization") == "0.5"
    assert option(plan.command, "--max-num-seqs") == "256"
    assert "--dtype" not in plan.command
    assert "VLLM_CPU_KVCACHE_SPACE" not in plan.env


def test_the_settings_stand_over_the_devices_defaults(monkeypatch, tmp_path):
    monkeypatch.setattr(supervisor, "has_gpu", lambda: True)
    chosen = settings(store=tmp_path, max_num_seqs=7, max_loras=20, max_cpu_loras=4)
    command = launch(chosen, "base", tmp_path / "s").command
    assert option(command, "--max-num-seqs") == "7"
    assert option(command, "--max-cpu-loras") == "20"


def test_the_hub_is_asked_only_for_a_hub_id(monkeypatch, tmp_path):
    monkeypatch.setattr(supervisor, "has_gpu", lambda: False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    chosen = settings(store=tmp_path)
    assert launch(chosen, tmp_path, tmp_path / "s").env["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in launch(chosen, "org/model", tmp_path / "s").env


def test_intels_openmp_is_loaded_first_where_it_is_there(monkeypatch, tmp_path):
    monkeypatch.setattr(supervisor, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("LD_PRELOAD", "other.so")
    chosen = settings(store=tmp_path)
    assert launch(chosen, "base", tmp_path / "s").env["LD_PRELOAD"] == "other.so"
    openmp = tmp_path / "lib" / "libiomp5.so"
    openmp.parent.mkdir()
    openmp.touch()
    assert launch(chosen, "base", tmp_path / "s").env["LD_PRELOAD"] == f"{openmp}:other.so"


CUDA = "__version__ = '2.11.0+cu130'\ncuda: Optional[str] = '13.0'\n"
CPU = "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n"


@pytest.mark.parametrize(
    ("smi", "version", "expected"),
    [
        ("/usr/bin/nvidia-smi", CUDA, True),
        ("/usr/bin/nvidia-smi", CPU, False),
        ("/usr/bin/nvidia-smi", None, False),
        (None, CUDA, False),
    ],
)
def test_a_gpu_counts_with_a_driver_and_a_cuda_torch(monkeypatch, tmp_path, smi, version, expected):
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py")) if version else None
    (tmp_path / "version.py").write_text(version or "")
    monkeypatch.setattr(shutil, "which", lambda _: smi)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    assert has_gpu() is expected


async def test_a_start_waits_until_the_engine_answers(child):
    seen: list[float] = []
    await child.start(seen.append)
    assert await child.engine.is_healthy()
    assert child.process.returncode is None
    assert seen == sorted(seen)
    assert "serving" in child.log_path.read_text()


async def test_a_stale_socket_is_taken_away(child):
    child.socket.parent.mkdir()
    child.socket.write_text("stale")
    await child.start()
    assert child.socket.is_socket()


async def test_a_child_that_dies_at_its_start_is_reported_with_its_last_errors(child, folder):
    (folder / "die").touch()
    with pytest.raises(EngineStartError) as caught:
        await child.start()
    assert "exit code 3" in str(caught.value)
    assert "ValueError: no such model" in str(caught.value)
    assert str(child.log_path) in str(caught.value)
    assert "loading" not in str(caught.value)


async def test_a_child_that_is_never_ready_is_ended(child, folder):
    (folder / "hang").touch()
    child.settings = settings(store=folder, start_seconds=0.2)
    with pytest.raises(EngineStartError, match=r"not ready in 0\.2 s"):
        await child.start()
    assert child.process.returncode is not None


@contextlib.asynccontextmanager
async def watching(child: Supervisor, on_ready: Callable[[], object]) -> AsyncIterator[Any]:
    task = asyncio.create_task(child.watch(on_ready))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, EngineStartError):
            await task


async def test_a_child_that_dies_is_started_again_and_said_to_be_ready(child):
    ready = asyncio.Event()
    await child.start()
    first = child.process.pid
    with capture_logs() as logs:
        async with watching(child, ready.set) as task:
            os.kill(first, signal.SIGKILL)
            await asyncio.wait_for(ready.wait(), 20)
            assert not task.done()
    assert child.process.pid != first
    assert child.restarts == 1
    assert await child.engine.is_healthy()
    assert [entry["event"] for entry in logs] == ["engine_died", "engine_restarted"]
    assert logs[0]["exit_code"] == -signal.SIGKILL


async def test_a_child_that_dies_again_and_again_is_given_up(child, folder, monkeypatch):
    monkeypatch.setattr(supervisor, "MAX_CRASHES", 3)
    await child.start()
    (folder / "die").touch()
    with capture_logs() as logs:
        async with watching(child, lambda: None) as task:
            os.kill(child.process.pid, signal.SIGKILL)
            with pytest.raises(EngineStartError, match=r"(?s)died 3 times in a row.*no such model"):
                await asyncio.wait_for(task, 20)
    events = [entry["event"] for entry in logs]
    assert events == ["engine_died", "engine_restart_failed"] * 2 + ["engine_died"]


async def test_deaths_with_a_long_life_between_are_no_loop(child, monkeypatch):
    monkeypatch.setattr(supervisor, "MAX_CRASHES", 2)
    monkeypatch.setattr(supervisor, "STABLE_SECONDS", -1.0)
    ready: asyncio.Queue[int] = asyncio.Queue()
    await child.start()
    with capture_logs():
        async with watching(child, lambda: ready.put_nowait(1)) as task:
            for _ in range(3):
                os.kill(child.process.pid, signal.SIGKILL)
                await asyncio.wait_for(ready.get(), 20)
            assert not task.done()
    assert child.restarts == 3


def is_alive(pid: int) -> bool:
    """True unless the process is gone or only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def workers(folder: Path, number: int) -> list[int]:
    while len(pids := (folder / "worker").read_text().split()) < number:
        await asyncio.sleep(0.01)
    return [int(pid) for pid in pids]


async def test_workers_of_a_dead_engine_do_not_outlive_it(child, folder):
    (folder / "worker").touch()
    await child.start()
    (worker,) = await workers(folder, 1)
    ready = asyncio.Event()
    with capture_logs():
        async with watching(child, ready.set):
            os.kill(child.process.pid, signal.SIGKILL)
            await asyncio.wait_for(ready.wait(), 20)
    assert not is_alive(worker)
    _, second = await workers(folder, 2)
    await child.stop()
    while is_alive(second):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_dead", [False, True])
async def test_a_stop_ends_the_child_and_takes_its_socket_away(child, is_dead):
    await child.start()
    if is_dead:
        os.kill(child.process.pid, signal.SIGKILL)
        await child.process.wait()
    await child.stop()
    assert child.process.returncode == (-signal.SIGKILL if is_dead else -signal.SIGTERM)
    assert not child.socket.exists()
    await child.stop()


async def test_a_child_that_does_not_listen_to_a_stop_is_killed(child, folder, monkeypatch):
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", -4.9)
    (folder / "stubborn").touch()
    await child.start()
    await child.stop()
    assert child.process.returncode == -signal.SIGKILL


async def test_a_stop_before_any_start_does_nothing(child):
    await child.stop()
    assert child.process is None
