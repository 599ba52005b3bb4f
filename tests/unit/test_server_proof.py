"""An adapter is served only if the engine makes of it what its trainer saw it do."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from eval.task.bundle import put_evidence, read_bundle
from eval.task.store import Alias, read_aliases, write_aliases
from server.adapters.proof import MAX_BYTES, MAX_PROBES, Probe, compared, read_probes
from server.adapters.refusal import Refusal
from server.adapters.table import AdapterTable
from server.completions import read_next_tokens
from server.errors import EngineFailed
from tests.conftest import publish_new

TUNED, BASE = {1: -0.1, 2: -4.0, 3: -6.0}, {1: -5.0, 2: -1.0, 3: -6.5}
PROBE = {"prompt": "-- q", "tokens": [1, 2], "tuned": [-0.1, -4.0], "base": [-5.0, -1.0]}


def with_fingerprint(store: Path, short: str, **changes: Any) -> Path:
    """Give version `short` of `store` a fingerprint of two probes."""
    record = {
        "digest": read_bundle(store / short).digest,
        "probes": [PROBE, PROBE | {"prompt": "-- r"}],
    } | changes
    return put_evidence(store / short, "fingerprint.json", record)


@pytest.fixture
def short(store: Path) -> str:
    return read_aliases(store)["spider"].active


async def refused(table: AdapterTable) -> dict[str, Any]:
    with capture_logs() as logs:
        await table.refresh()
    (entry,) = [log for log in logs if log["event"] == "adapter_refused"]
    assert table.active == {}
    return dict(entry)


async def test_an_adapter_that_does_what_its_trainer_saw_is_served(table, engine, store, short):
    with_fingerprint(store, short)
    engine.likeliest["spider"] = [{1: -0.2, 2: -3.9, 3: -6.0}] * 2
    with capture_logs() as logs:
        await table.refresh()
    served = table.find("spider")
    assert served.proof.distance == pytest.approx(0.1)
    assert served.proof.distance_to_base == pytest.approx((4.8 + 2.9) / 2)
    (entry,) = [log for log in logs if log["event"] == "adapter_served"]
    assert entry["fingerprint_distance"] == 0.1
    assert [ask.how for ask in engine.asked] == ["next_tokens"]


@pytest.mark.parametrize(
    ("found", "code", "says"),
    [
        (BASE, "no_effect", "as the base does"),
        ({1: -0.1, 2: -8.0, 3: -9.0}, "drift", "2.00 nats from the tuned"),
        ({1: -0.9, 2: -4.0, 3: -6.0}, "drift", "50% of the probability moved"),
        ({3: -4.0, 4: -4.0, 5: -4.1}, "drift", "92% of the probability moved"),
        (TUNED | {1: math.nan}, "not_finite", "no numbers"),
    ],
)
async def test_an_adapter_that_does_something_else_is_not(
    table, engine, store, short, found, code, says
):
    with_fingerprint(store, short)
    engine.likeliest["spider"] = [found] * 2
    entry = await refused(table)
    assert entry["code"] == code
    assert says in entry["reason"]
    assert table.metrics.adapter_refusals.labels(code)._value.get() == 1


async def test_a_refused_version_is_not_asked_again_until_its_files_change(
    table, engine, store, short
):
    with_fingerprint(store, short)
    engine.likeliest["spider"] = [BASE] * 2
    await refused(table)
    for _ in range(3):
        await table.refresh()
    assert len(engine.asked) == 1
    engine.likeliest["spider"] = [TUNED] * 2
    with_fingerprint(store, short, made="anew")
    await table.refresh()
    assert table.find("spider").proof.distance == 0


async def test_a_quarantined_version_that_is_pointed_at_again_is_said_again(
    table, engine, store, short
):
    with_fingerprint(store, short)
    engine.likeliest["spider"] = [BASE] * 2
    await refused(table)
    publish_new(store, tag="two")
    await table.refresh()
    write_aliases(store, {"spider": Alias(short)})
    with capture_logs() as logs:
        await table.refresh()
    assert [log["code"] for log in logs if log["event"] == "adapter_refused"] == ["no_effect"]
    assert [ask.how for ask in engine.asked] == ["next_tokens", "complete"]


async def test_the_old_version_serves_while_the_new_one_is_proved_and_after_it_failed(
    table, engine, store
):
    await table.refresh()
    old = table.find("spider")
    with_fingerprint(store, publish_new(store, tag="two"))
    engine.likeliest["spider"] = [BASE] * 2
    await table.refresh()
    assert table.find("spider") is old


async def test_an_engine_that_fails_is_asked_again(table, engine, store, short):
    with_fingerprint(store, short)
    engine.fail(EngineFailed("the engine answered 500"))
    assert (await refused(table))["code"] == "engine"
    engine.failures.clear()
    engine.likeliest["spider"] = [TUNED] * 2
    await table.refresh()
    assert table.find("spider").proof


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"digest": "0" * 64}, "belongs to another bundle"),
        ({"probes": []}, "0 probes"),
        ({"probes": [PROBE] * (MAX_PROBES + 1)}, f"{MAX_PROBES + 1} probes"),
        ({"probes": {}}, "0 probes"),
        ({"probes": 5}, "can't be read"),
        ({"probes": [[]]}, "can't be read"),
        ({"probes": [PROBE | {"prompt": 1}]}, "a prompt is no text"),
        ({"probes": [PROBE | {"tokens": []}]}, "differ in number"),
        ({"probes": [PROBE | {"tuned": [-1.0]}]}, "differ in number"),
        ({"probes": [PROBE | {"tuned": [-1.0, "x"]}]}, "can't be read"),
        ({"probes": [PROBE | {"base": [-1.0, -math.inf]}]}, "not finite"),
        ({"more": "x" * MAX_BYTES}, f"over {MAX_BYTES} bytes"),
    ],
)
async def test_what_is_no_fingerprint_is_refused(table, engine, store, short, changes, says):
    with_fingerprint(store, short, **changes)
    entry = await refused(table)
    assert entry["code"] == "bad_fingerprint"
    assert says in entry["reason"]
    assert "python -m trainer.fingerprint BUNDLE" in entry["reason"]
    assert engine.asked == []


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '"x"', "null"])
def test_damaged_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence/fingerprint.json").write_text(text)
    with pytest.raises(Refusal, match="bad_fingerprint"):
        read_probes(tmp_path, "0" * 64)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "evidence").mkdir()
    make(tmp_path / "evidence/fingerprint.json")
    with pytest.raises(Refusal, match="no regular file"):
        read_probes(tmp_path, "0" * 64)


def test_without_a_fingerprint_there_is_nothing_to_ask(tmp_path: Path) -> None:
    assert read_probes(tmp_path, "0" * 64) == ()


def test_what_moved_is_the_total_variation() -> None:
    probe = Probe("q", (1, 2), (math.log(0.75), math.log(0.25)), (-5.0, -5.0))
    found = {1: math.log(0.25), 2: math.log(0.25), 3: math.log(0.5)}
    assert compared([probe], [found]).moved == pytest.approx(0.5)
    assert compared([probe], [{3: -0.1}]).moved == pytest.approx(1.0)


def test_a_token_beyond_the_likeliest_counts_as_the_least_of_them() -> None:
    probe = Probe("q", (1, 9), (-0.1, -20.0), (-5.0, -20.0))
    proof = compared([probe], [{1: -0.1, 2: -4.0, 3: -9.0}])
    assert proof.distance == 0  # the engine gives it at most -9, the trainer gave less
    assert proof.distance_to_base == pytest.approx(4.9 / 2)
    unlikely = Probe("q", (9,), (-1.0,), (-20.0,))
    assert compared([unlikely], [{1: -0.1, 3: -9.0}]).distance == 8


def test_the_engines_answer_is_read_in_the_order_of_the_prompts() -> None:
    def choice(index: int, **tokens: float | None) -> dict[str, Any]:
        found = {f"token_id:{name[1:]}": value for name, value in tokens.items()}
        return {"index": index, "logprobs": {"top_logprobs": [found]}}

    record = {"choices": [choice(1, t7=-1.5), choice(0, t5=-0.5, t6=None)]}
    first, second = read_next_tokens(record, 2)
    assert first[5] == -0.5
    assert math.isnan(first[6])
    assert second == {7: -1.5}
    with pytest.raises(ValueError, match="2 choices, not 3"):
        read_next_tokens(record, 3)
    with pytest.raises(ValueError, match="no log-probabilities"):
        read_next_tokens({"choices": [choice(0)]}, 1)
