"""Real parts for the integration tests: one engine start for the whole session."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.integration.live import Live

ADMIN_KEY = "integration-admin"


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    log = folder / "server.log"
    env = os.environ | {
        "SQLWRIGHT_STORE": str(folder / "store"),
        "SQLWRIGHT_PORT": "0",
        "SQLWRIGHT_MAX_TOKENS": "128",
        "SQLWRIGHT_REQUEST_SECONDS": "600",  # a bound for hangs, on a machine that does other work
        "SQLWRIGHT_RESCAN_SECONDS": "1",
        "SQLWRIGHT_ADMIN_KEYS": ADMIN_KEY,
    }
    with log.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "server"], env=env, stdout=subprocess.PIPE, stderr=err, text=True
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()  # printed once everything answers
            found = re.search(r"http://[^/]+", line)
            assert found, log.read_text()[-3000:]
            yield Live(process, found[0], folder / "store", log)
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    async with async_playwright() as playwright:
        path = found or playwright.chromium.executable_path
        if not Path(path).exists():
            stop = pytest.fail if os.environ.get("REQUIRE_SERVICES") == "1" else pytest.skip
            stop("no Chromium: install the package `chromium`")
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        await browser.close()
