"""Adapters' life on a real engine: a shadow is compared and promoted, names flip while questions
are asked, and each answer is that of the version which it names."""

import hashlib
import json
import os
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hostile_adapters.draft import Kind
from benchmarks.hostile_adapters.kinds import KINDS
from benchmarks.variants import BUNDLED, make_variants
from eval.task.bundle import BundleError, bundle_digest
from eval.task.store import Alias, read_aliases, write_aliases
from server.adapters.files import check_files
from server.adapters.operations import Operations
from tests.integration.conftest import ADMIN_KEY
from tests.integration.live import QUESTION, Live, wait_for

ALIAS = "life"
# How loud each variant is: far enough apart for their log-probabilities to tell them apart.
LOUDNESS = (1.0, 0.9, 0.8)
PROMPT = (
    "-- sqlite\n-- List all users\nCREATE TABLE users (id INTEGER, name TEXT)\n-- List all users\n"
)


@pytest.fixture(scope="module")
def versions(live: Live) -> list[str]:
    """The bundled adapter with its effect scaled, without a fingerprint of its own."""
    return make_variants(BUNDLED, live.store, LOUDNESS)


@pytest.fixture
def life(live: Live, versions: list[str]) -> Iterator[Operations]:
    """Operations on the store, in which `ALIAS` has the first variant active."""
    operate = Operations(live.store, "shell:test")
    folder = live.store / versions[0]
    operate.publish(folder, ALIAS)
    yield operate
    operate.withdraw(ALIAS)


def admin(live: Live, path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{live.url}/admin/{path}", data, headers)
    with urllib.request.urlopen(request, timeout=600) as response:
        return json.loads(response.read())


def logprobs(live: Live, model: str) -> tuple[str, tuple[float, ...]]:
    """The version that completed `PROMPT`, and the log-probabilities of its tokens."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": 6, "temperature": 0, "logprobs": 0}
    status, answer = live.post("/v1/completions", body)
    assert status == 200, answer
    return answer["model"], tuple(answer["choices"][0]["logprobs"]["token_logprobs"])


def is_near(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(abs(a - b) < 1e-3 for a, b in pairs)


def test_a_shadow_is_compared_promoted_and_rolled_back(
    live: Live, life: Operations, versions: list[str]
) -> None:
    old, new = (f"{ALIAS}@{version}" for version in versions[:2])
    body = {"version": versions[1], "share": 1.0, "automatic": False}
    found = admin(live, f"adapters/{ALIAS}/shadow", body)
    assert (found["serving"], found["serving_candidate"]) == (old, new)
    assert {live.ask(model=ALIAS)["model"] for _ in range(2)} == {old}

    def evidence() -> dict[str, Any]:
        rollouts: list[dict[str, Any]] = admin(live, f"adapters/{ALIAS}/evidence")["rollouts"]
        return rollouts[0] if rollouts else {"pairs": 0}

    wait_for(lambda: evidence()["pairs"] == 2, 300)
    assert evidence()["arms"]["candidate"]["failed"]["value"] == 0
    assert admin(live, f"adapters/{ALIAS}/promote", {})["serving"] == new
    assert live.ask(model=ALIAS)["model"] == new
    assert admin(live, f"adapters/{ALIAS}/rollback", {})["serving"] == old
    assert live.ask(model=ALIAS)["model"] == old
    assert [r["action"] for r in admin(live, f"audit?limit=3&alias={ALIAS}")["records"]] == [
        "rollback", "promote", "shadow",
    ]  # fmt: skip


def test_names_flip_under_load_without_a_wrong_or_failed_answer(
    live: Live, life: Operations, versions: list[str]
) -> None:
    """Ten swaps; each answer's log-probabilities are those that its version gives alone."""
    alone = {}
    for version in versions:
        if read_aliases(live.store)[ALIAS].active != version:
            life.promote(ALIAS, version)
        name, alone[version] = logprobs(live, f"{ALIAS}@{version}")
        assert name == f"{ALIAS}@{version}"
    assert not any(is_near(alone[a], alone[b]) for a in versions for b in versions if a < b)
    stop = threading.Event()

    def asking() -> list[tuple[str, tuple[float, ...]]]:
        seen = []
        while not stop.is_set():
            seen.append(logprobs(live, ALIAS))
        return seen

    with ThreadPoolExecutor(3) as pool:
        askers = [pool.submit(asking) for _ in range(3)]
        try:
            for number in range(10):
                version = versions[number % len(versions)]
                admin(live, f"adapters/{ALIAS}/promote", {"version": version})
                # Acknowledged: whoever asks from now on is answered by it.
                assert logprobs(live, ALIAS)[0] == f"{ALIAS}@{version}"
        finally:
            stop.set()
        seen = [answer for asker in askers for answer in asker.result()]
    assert len({name for name, _ in seen}) > 1
    assert all(is_near(found, alone[name.partition("@")[2]]) for name, found in seen)


def test_twenty_random_steps_of_adapters_life(
    live: Live, life: Operations, versions: list[str]
) -> None:
    """What the state machine does to a fake engine (`tests/unit/lifecycle.py`), on a real one."""
    draw = random.Random(int(os.environ.get("LIFECYCLE_SEED", "1")))
    steps = draw.choices(["promote", "rollback", "canary", "cancel", "ask"], k=20)
    for step in steps:
        entry = read_aliases(live.store)[ALIAS]
        version = draw.choice([v for v in versions if v != entry.active])
        try:
            if step == "promote":
                admin(live, f"adapters/{ALIAS}/promote", {"version": version})
            elif step == "rollback":
                admin(live, f"adapters/{ALIAS}/rollback", {})
            elif step == "canary":
                body = {"version": version, "share": 0.5, "automatic": False}
                admin(live, f"adapters/{ALIAS}/canary", body)
            elif step == "cancel":
                _leave_early(live)
        except urllib.error.HTTPError as error:
            assert error.code == 409, error.read()
        entry = read_aliases(live.store)[ALIAS]
        name, found = logprobs(live, ALIAS)
        assert name.partition("@")[2] in (entry.active, entry.canary)
        assert is_near(found, logprobs(live, name)[1])


def _leave_early(live: Live) -> None:
    """Ask, and hang up before the answer is there."""
    body = json.dumps(QUESTION | {"model": ALIAS}).encode()
    request = urllib.request.Request(
        live.url + "/generate-sql", body, {"Content-Type": "application/json"}
    )
    with pytest.raises((TimeoutError, urllib.error.URLError)):
        urllib.request.urlopen(request, timeout=0.05)


def hostile_version(live: Live, kind: Kind, folder: Path) -> str:
    """Put one of `kind` into the store, under the name that fits it; what it is called there."""
    kind.make(BUNDLED, folder)
    try:
        check_files(folder)  # a pipe would keep us waiting
        short = bundle_digest(folder)[:12]
    except BundleError:
        short = hashlib.sha256(kind.name.encode()).hexdigest()[:12]
    if os.path.lexists(folder):  # there is a kind of which nothing is left
        folder.rename(live.store / short)
    return short


def test_hostile_adapters_change_nothing_for_others(
    live: Live, life: Operations, tmp_path: Path
) -> None:
    """One kind in five of `benchmarks.hostile_adapters`, each pointed at in its turn."""
    before = [logprobs(live, model) for model in ("spider", ALIAS)]
    good, codes = read_aliases(live.store), {}
    for number, kind in enumerate(KINDS[::5]):
        short = hostile_version(live, kind, tmp_path / str(number))
        write_aliases(live.store, {**good, "hostile": Alias(short)})
        wait_for(partial(refusals, live, short), 60)
        codes[kind.name] = refusals(live, short)[0]["code"]
        status, answer = live.post("/v1/completions", {"model": "hostile", "prompt": "x"})
        assert (status, answer["error"]["code"]) == (404, "adapter_not_found")
    write_aliases(live.store, good)
    assert len(codes) >= 40
    assert codes == {kind.name: kind.code for kind in KINDS[::5]}
    after = [logprobs(live, model) for model in ("spider", ALIAS)]
    assert [name for name, _ in after] == [name for name, _ in before]
    assert all(is_near(a, b) for (_, a), (_, b) in zip(before, after, strict=True))


def refusals(live: Live, short: str) -> list[dict[str, Any]]:
    return [line for line in live.log_lines("adapter_refused") if line["version"] == short]
