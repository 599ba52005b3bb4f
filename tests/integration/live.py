"""A running server for the integration tests, and what they ask of it."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eval.task.store import read_aliases

QUESTION = {"natural_language_query": "Show me all users who signed up last month"}


@dataclass
class Live:
    """A running `python -m server` on a real vLLM."""

    process: subprocess.Popen[str]
    url: str
    store: Path
    log: Path

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=60) as response:
            text: str = response.read().decode()
            return text

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=900) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def ask(self, **more: Any) -> dict[str, Any]:
        status, answer = self.post("/generate-sql", QUESTION | more)
        assert status == 200, answer
        return answer

    def active(self, alias: str) -> str:
        return f"{alias}@{read_aliases(self.store)[alias].active}"

    def log_lines(self, event: str) -> list[dict[str, Any]]:
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [record for record in map(json.loads, lines) if record.get("event") == event]


def need(program: str) -> str:
    """The program's path; skips without it, or fails where CI asks for every service."""
    if path := shutil.which(program):
        return path
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{program} is not installed, and REQUIRE_SERVICES=1")
    pytest.skip(f"{program} is not installed")


def wait_for(what: Any, seconds: float) -> None:
    """Poll `what()` until it is true; fails after `seconds`, a bound for hangs."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)
