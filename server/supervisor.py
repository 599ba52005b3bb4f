"""Starts vLLM as a child on a UNIX socket, watches it, restarts it with back-off.

Chooses the settings by the device: CUDA where a GPU is present, else the CPU build with float32
(bf16 is emulated there), every core and Intel's OpenMP.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from server.engine import VllmEngine
from server.settings import Settings

log = structlog.get_logger()

GRACE_SECONDS = 30
# A child that dies sooner than this after its start counts towards the crash loop.
STABLE_SECONDS = 60.0
MAX_CRASHES = 5
BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 2.0, 30.0
POLL_SECONDS = 0.5
# The layers that an adapter may change: those of Llama and its like, without the head. Unless told,
# vLLM takes a LoRA of the head wherever it may stand, and computes it for one token a request: a
# request for log-probabilities of its prompt then ends the engine if any other is in progress
# (vllm-project/vllm issues 16668 and 51594; seen with 0.32 on a CPU, and with 0.26 on an H200 as an
# illegal memory access).
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PR_SET_PDEATHSIG = 1


class EngineStartError(RuntimeError):
    """The engine did not start; the message holds the end of its log."""


@dataclass(frozen=True)
class Launch:
    """A command line with its environment."""

    command: list[str]
    env: dict[str, str]


def has_gpu() -> bool:
    """True if a CUDA GPU and vLLM's CUDA build are here."""
    return shutil.which("nvidia-smi") is not None and _is_cuda_torch()


def _is_cuda_torch() -> bool:
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return False
    version = (Path(spec.origin).parent / "version.py").read_text()
    return "cuda: Optional[str] = None" not in version and "+cpu" not in version


def launch(settings: Settings, model: Path | str, socket: Path) -> Launch:
    """The engine's command and environment for this machine."""
    is_gpu = has_gpu()
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(model),
        "--served-model-name", "base",
        "--uds", str(socket),
        "--max-model-len", str(settings.max_model_len),
        "--max-num-seqs", str(settings.max_num_seqs or (256 if is_gpu else 16)),
        "--enable-lora",
        "--max-loras", str(settings.max_loras),
        "--max-cpu-loras", str(max(settings.max_loras, settings.max_cpu_loras)),
        "--max-lora-rank", str(settings.max_lora_rank),
        "--lora-target-modules", *MODULES,
        "--shutdown-timeout", str(GRACE_SECONDS),
        # The grammars of constrained decoding are llguidance's.
        "--structured-outputs-config", '{"backend": "guidance"}',
    ]  # fmt: skip
    # The engine has no use for the clients' keys.
    own = {name: text for name, text in os.environ.items() if name != "SQLWRIGHT_API_KEYS"}
    env = own | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_PLUGINS": "sqlwright",
        "VLLM_NO_USAGE_STATS": "1",
        "SQLWRIGHT_STORE": str(settings.versions_folder.absolute()),
    }
    if Path(str(model)).is_dir():
        env["HF_HUB_OFFLINE"] = "1"
    if is_gpu:
        command += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    else:
        command += ["--dtype", "float32"]
        env |= _cpu_env(settings)
    return Launch(command, env)


def _cpu_env(settings: Settings) -> dict[str, str]:
    cores = sorted(os.sched_getaffinity(0))
    env = {
        "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
    }
    openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
    if openmp.is_file():
        env["LD_PRELOAD"] = ":".join(filter(None, [str(openmp), os.environ.get("LD_PRELOAD")]))
    return env


def _die_with_parent() -> None:
    """In the child: get SIGTERM when the server is killed, so that no engine is left behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Keeps one engine child alive; `on_ready` is called after each start that succeeds."""

    def __init__(self, settings: Settings, model: Path | str, engine: VllmEngine) -> None:
        assert engine.socket is not None
        self.settings = settings
        self.model = model
        self.engine = engine
        self.socket = engine.socket
        self.log_path = self.socket.with_suffix(".log")
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0

    async def start(self, progress: Callable[[float], None] = lambda _: None) -> None:
        """Start the child and wait until it answers; `progress` gets the seconds since the start.

        Raises:
            EngineStartError: the child died or was not ready in time.
        """
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)  # a stale one makes vLLM die with "address in use"
        plan = launch(self.settings, self.model, self.socket)
        with self.log_path.open("ab") as out:  # appended: it says why the last one died
            self.process = await asyncio.create_subprocess_exec(
                *plan.command,
                env=plan.env,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                preexec_fn=_die_with_parent,
                start_new_session=True,
            )
        await self._wait_ready(progress)

    async def _wait_ready(self, progress: Callable[[float], None]) -> None:
        assert self.process is not None
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not await self.engine.is_healthy():
            if self.process.returncode is not None:
                raise EngineStartError(f"the engine ended with {self._why()}")
            if loop.time() - began > self.settings.start_seconds:
                await self.stop()
                raise EngineStartError(
                    f"the engine was not ready in {self.settings.start_seconds:g} s"
                )
            progress(loop.time() - began)
            await asyncio.sleep(POLL_SECONDS)

    def _why(self) -> str:
        assert self.process is not None
        lines = self.log_path.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "Error" in line]
        tail = "\n".join((errors or lines)[-3:])
        return f"exit code {self.process.returncode}; {self.log_path} says:\n{tail}"

    async def watch(self, on_ready: Callable[[], object]) -> None:
        """Restart the child whenever it dies; runs until cancelled.

        Raises:
            EngineStartError: it died `MAX_CRASHES` times in a row soon after its start.
        """
        loop = asyncio.get_running_loop()
        crashes = 0
        while True:
            assert self.process is not None
            began = loop.time()
            await self.process.wait()
            self._end_group()
            crashes = 1 if loop.time() - began > STABLE_SECONDS else crashes + 1
            log.error("engine_died", exit_code=self.process.returncode, crashes=crashes)
            if crashes >= MAX_CRASHES:
                raise EngineStartError(f"the engine died {crashes} times in a row: {self._why()}")
            await asyncio.sleep(min(BACKOFF_SECONDS * 2 ** (crashes - 1), MAX_BACKOFF_SECONDS))
            self.restarts += 1
            try:
                await self.start()
            except EngineStartError as error:
                log.error("engine_restart_failed", reason=str(error))
            else:
                log.info("engine_restarted", restarts=self.restarts)
                on_ready()

    async def stop(self) -> None:
        """End the child: running requests get `GRACE_SECONDS` to finish."""
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), GRACE_SECONDS + 5)
        self._end_group()
        await self.process.wait()
        self.socket.unlink(missing_ok=True)

    def _end_group(self) -> None:
        """Kill what is left of the child's process group: a dead server's workers hold memory."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
