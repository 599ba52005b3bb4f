"""`python -m benchmarks.setup_time`: from a fresh clone with empty caches to the first answer.

Clones this checkout's HEAD to a temporary folder, runs `make serve` there with an empty home, times
every line that it prints, runs the printed curl line, then starts once more with all in place.
Writes the figure `setup_serve_seconds`.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from eval.task.figure import RESULTS, Figure, write_figure

LIMIT_SECONDS = 3600
# Lines that come every few seconds while something slow goes on.
HEARTBEAT = re.compile(r"is starting \(")
# Caches and stores are taken from the empty home; pip reads its own configuration as ever.
DROPPED = ("XDG_CACHE_HOME", "XDG_DATA_HOME", "VIRTUAL_ENV", "BASE_MODEL_GGUF", "PYTHONPATH")


class SetupFailed(RuntimeError):
    """`make serve` did not come to an answer; the message holds the end of what it printed."""


@dataclass
class Start:
    """One run of `make serve`: seconds since its beginning for each line and for the answer."""

    lines: list[tuple[float, str]] = field(default_factory=list)
    ready_seconds: float = 0.0
    answer_seconds: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)

    def rows(self, name: str) -> list[dict[str, Any]]:
        before = [(s, t) for s, t in self.lines if s <= self.answer_seconds]
        phases = [(s, t) for s, t in before if not HEARTBEAT.search(t)]
        marks = [*phases, (self.ready_seconds, "ready"), (self.answer_seconds, "first answer")]
        return [{"start": name, "seconds": round(s, 1), "phase": text} for s, text in marks]


def serve_once(clone: Path, env: dict[str, str]) -> Start:
    """Run `make serve` in `clone` until the printed curl line has answered, then stop it.

    Raises:
        SetupFailed: it ended, or the answer has no SQL.
    """
    start, began = Start(), time.monotonic()
    process = subprocess.Popen(
        ["make", "serve", "ARGS=--port 0"],
        cwd=clone, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    watchdog = threading.Timer(LIMIT_SECONDS, _stop, [process])
    watchdog.start()
    assert process.stdout is not None and process.stderr is not None
    reader = threading.Thread(target=_follow, args=(process.stderr, start, began))
    reader.start()
    try:
        curl = next((line for line in process.stdout if line.startswith("curl ")), "")
        start.ready_seconds = time.monotonic() - began
        if not curl:
            reader.join()
            raise SetupFailed("\n".join(text for _, text in start.lines[-10:]))
        found = subprocess.run(curl, shell=True, capture_output=True, text=True)
        start.answer_seconds = time.monotonic() - began
        start.answer = json.loads(found.stdout)
        if "sql_query" not in start.answer:
            raise SetupFailed(found.stdout[:500])
    finally:
        watchdog.cancel()
        _stop(process)
        process.wait(90)
        reader.join()
        process.stdout.close()
        process.stderr.close()
    return start


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)


def _follow(stream: IO[str], start: Start, began: float) -> None:
    for line in stream:
        text = re.sub(r"^\[ *[\d.]+ s\] |^\[install\] ", "", line.strip())
        start.lines.append((time.monotonic() - began, text[:200]))
        print(f"{time.monotonic() - began:7.1f} s  {text[:160]}", file=sys.stderr, flush=True)


def fresh_environment(home: Path) -> dict[str, str]:
    """The environment of a user who has never run anything of ours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SQLWRIGHT_")}
    return {k: v for k, v in kept.items() if k not in DROPPED} | {"HOME": str(home)}


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="sqlwright-setup-"))
    try:
        clone, home = folder / "clone", folder / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "-q", "--no-local", ".", str(clone)], check=True)
        env = fresh_environment(home)
        first = serve_once(clone, env)
        second = serve_once(clone, env)
    except SetupFailed as error:
        print(f"setup_time: error: make serve failed:\n{error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    path = write_figure(
        Figure(
            "setup_serve_seconds",
            value=round(first.answer_seconds, 1),
            unit="seconds from a fresh clone with empty caches to the first answer",
            n=1,
            notes=f"second start: {second.answer_seconds:.1f} s to its first answer; "
            "rows: seconds since `make serve`, by what it printed",
            rows=[*first.rows("first"), *second.rows("second")],
        ),
        RESULTS,
    )
    print(json.dumps({"first": first.answer, "figure": str(path)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
