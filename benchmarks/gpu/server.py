"""The server of a GPU session: up while steps need it, down while others want the card."""

import os
import subprocess
import time
import urllib.request
from pathlib import Path

from benchmarks.gpu.steps import Session, StepError, python
from eval.task.base_model import cache_folder

START_SECONDS = 400.0
KEPT_BYTES = 500_000


class Server:
    """`python -m server` as a child; may run checked queries on registered databases."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.session.work / "server.log"

    def start(self) -> None:
        """Return once it is ready; do nothing if it is.

        Raises:
            StepError: it did not come up; the message is the end of its log.
        """
        if self.process and self.process.poll() is None:
            return
        own = {"SQLWRIGHT_PORT": str(self.session.port), "SQLWRIGHT_RUN_QUERIES": "1"}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                python("server"), stdout=out, stderr=subprocess.STDOUT, env=os.environ | own
            )
        if not self._is_ready(self.process):
            self.stop()
            tail = self.log.read_text(errors="replace")[-1000:]
            raise StepError(f"the server did not come up: {tail}")

    def _is_ready(self, process: "subprocess.Popen[bytes]") -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.session.url}/health/ready", timeout=5):
                    return True
            except OSError:
                time.sleep(0.5)
        return False

    def keep_log(self) -> None:
        """Put the end of the engine's own log beside the server's: it says why an engine died."""
        for path in (cache_folder() / "run").glob("*.log"):
            with path.open("rb") as log:
                log.seek(max(0, path.stat().st_size - KEPT_BYTES))
                (self.session.work / path.name).write_bytes(log.read())

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None
