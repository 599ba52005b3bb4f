"""`sqlwright-adapters validate` of several bundles: one line each, with how long it took."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from eval.task.bundle import WEIGHTS, bundle_digest
from server.adapters import validation
from server.adapters.__main__ import app
from server.adapters.admission import Admission
from server.adapters.validation import validate
from tests.conftest import make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["validate", *map(str, words)])


def at(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """What the clock shows, one look after the other."""
    looks = iter(seconds)
    monkeypatch.setattr(validation, "process_time", lambda: next(looks))


def test_each_bundle_is_one_line_of_json(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle" / "x.py").write_text("")
    good = make_bundle(tmp_path / "good")
    done = run(good, bundle, tmp_path / "none", "--json")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert (first["bundle"], first["admitted"]) == (str(good), True)
    assert (first["digest"], first["rank"]) == (bundle_digest(good), 8)
    assert (second["admitted"], second["code"], second["param"]) == (False, "unsafe_format", "x.py")
    assert (third["code"], third["param"]) == ("missing", "none")
    assert second["message"].startswith("unsafe_format: x.py: ")
    assert done.exit_code == 1
    assert done.stderr.count("sqlwright-adapters: error: ") == 2


def test_lines_for_people_say_the_same(bundle: Path, tmp_path: Path) -> None:
    done = run(bundle, bundle)
    assert (done.exit_code, done.stdout.count("admitted: ")) == (0, 2)
    done = run(bundle, tmp_path / "none")
    assert (done.exit_code, done.stdout.count("admitted: ")) == (1, 1)
    assert "missing: none: " in done.stderr


def test_a_base_that_can_not_be_read_is_said_for_each(bundle: Path, tmp_path: Path) -> None:
    done = run(bundle, bundle, "--base", tmp_path / "nowhere", "--json")
    assert [json.loads(line)["admitted"] for line in done.stdout.splitlines()] == [False, False]
    assert done.exit_code == 1


def test_what_hashing_takes_does_not_count(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 0.0, 0.030, 1.0, 1.020)
    verdict = validate(bundle, Admission())
    assert (round(verdict.ms, 3), round(verdict.hash_ms, 3)) == (10.0, 20.0)
    at(monkeypatch, 0.0, 0.015, 1.0, 1.020)
    assert validate(bundle, Admission()).ms == 0


def test_what_did_not_hash_counts_whole(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 0.0, 0.002, 1.0, 1.020)
    assert round(validate(bundle, Admission("c" * 64)).ms, 3) == 2.0
    (bundle / WEIGHTS).unlink()
    at(monkeypatch, 0.0, 0.002)
    verdict = validate(bundle, Admission())
    assert (round(verdict.ms, 3), verdict.hash_ms) == (2.0, 0.0)
