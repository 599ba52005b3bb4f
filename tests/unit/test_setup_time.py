"""The set-up benchmark reads what `make serve` prints, in an environment with empty caches."""

import sys
from pathlib import Path

import pytest

from benchmarks.setup_time import SetupFailed, Start, fresh_environment, serve_once

FAKE = """serve:
\t@echo '[install] making the environment' >&2
\t@echo '[   1.0 s] engine is starting (10 s)' >&2
\t@echo '[   2.0 s] ready: spider@0123456789ab' >&2
\t@echo "{curl}"
\t@sleep 30
"""


def makefile(folder: Path, curl: str) -> Path:
    (folder / "Makefile").write_text(FAKE.format(curl=curl))
    return folder


def env(tmp_path: Path) -> dict[str, str]:
    return fresh_environment(tmp_path) | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}


def test_the_rows_are_the_printed_phases_without_heartbeats(tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    answer.write_text('{"sql_query": "SELECT 1"}')
    start = serve_once(makefile(tmp_path, f"curl -s file://{answer}"), env(tmp_path))
    assert [row["phase"] for row in start.rows("first")] == [
        "making the environment",
        "ready: spider@0123456789ab",
        "ready",
        "first answer",
    ]
    assert start.answer == {"sql_query": "SELECT 1"}


def test_a_start_that_prints_no_curl_line_fails_with_what_it_printed(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("serve:\n\t@echo '[install] error: the disk is full' >&2\n")
    with pytest.raises(SetupFailed, match="the disk is full"):
        serve_once(tmp_path, env(tmp_path))


def test_the_environment_has_another_home_and_none_of_our_settings(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SQLWRIGHT_STORE", "elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "elsewhere")
    found = fresh_environment(tmp_path)
    assert found["HOME"] == str(tmp_path)
    assert "elsewhere" not in found.values()


def test_rows_name_the_start(tmp_path: Path) -> None:
    start = Start([(0.25, "phase")], ready_seconds=1.0, answer_seconds=2.0)
    assert {row["start"] for row in start.rows("second")} == {"second"}
    assert [row["seconds"] for row in start.rows("second")] == [0.2, 1.0, 2.0]
