"""The evidence of rollouts is shared by all servers of a store."""

import json
import sqlite3

import pytest

from eval.task.store import Alias
from server.adapters import evidence as module
from server.adapters.evidence import FILE, KEPT_ROLLOUTS, Evidence, EvidenceError
from server.adapters.sequential import Rules
from server.adapters.trials import Observation, Trial

ONE, TWO, THREE = "1" * 12, "2" * 12, "3" * 12
SHADOW = Alias(ONE, shadow=TWO, share=0.5)
CANARY = Alias(ONE, canary=TWO, share=0.5)
GOOD, BAD = Trial(False, True, True, 10.0), Trial(False, False, None, 20.0)
WORSE = Observation(GOOD, BAD)


@pytest.fixture
def evidence(tmp_path):
    return Evidence(tmp_path)


def test_servers_share_a_rollout_and_its_test(evidence, tmp_path):
    other = Evidence(tmp_path)
    rollout = evidence.begin("spider", SHADOW, Rules())
    assert other.begin("spider", SHADOW, Rules()) == rollout
    evidence.add(rollout, [WORSE] * 3)
    other.add(rollout, [Observation(GOOD, GOOD, True)] * 2)
    for server in (evidence, other, Evidence(tmp_path)):
        test = server.follow(rollout)
        assert (test.pairs, test.mean, test.agreement) == (5, -0.6, 1.0)


def test_what_is_followed_again_is_not_counted_again(evidence):
    rollout = evidence.begin("spider", SHADOW, Rules())
    for expected in (2, 4, 6):
        evidence.add(rollout, [WORSE] * 2)
        assert evidence.follow(rollout).pairs == expected
        assert evidence.follow(rollout).pairs == expected


def test_the_rules_are_those_that_it_began_with(evidence, tmp_path):
    rollout = evidence.begin("spider", SHADOW, Rules(min_pairs=2, max_pairs=3))
    evidence.add(rollout, [Observation(GOOD, GOOD)] * 3)
    assert Evidence(tmp_path).follow(rollout).verdict == "undecided"


def test_a_canary_compares_single_answers(evidence):
    rollout = evidence.begin("spider", CANARY, Rules())
    evidence.add(rollout, [Observation(candidate=BAD), Observation(active=GOOD)])
    test = evidence.follow(rollout)
    assert (test.pairs, test.mean) == (1, -1.0)


def test_another_candidate_begins_anew_and_ends_what_was(evidence):
    first = evidence.begin("spider", SHADOW, Rules())
    evidence.add(first, [WORSE])
    second = evidence.begin("spider", Alias(ONE, shadow=THREE, share=0.5), Rules())
    assert second != first
    assert evidence.follow(second).pairs == 0
    now, before = evidence.report("spider")["rollouts"]
    assert (now["candidate"], now["ended"]) == (THREE, None)
    assert (before["candidate"], before["verdict"]) == (TWO, "stopped")


def test_other_aliases_are_left_alone(evidence):
    first = evidence.begin("spider", SHADOW, Rules())
    evidence.begin("other", SHADOW, Rules())
    assert evidence.begin("spider", SHADOW, Rules()) == first


def test_a_report_sets_both_versions_side_by_side(evidence):
    rollout = evidence.begin("spider", SHADOW, Rules())
    evidence.add(
        rollout, [WORSE, Observation(GOOD, GOOD, True), Observation(GOOD, Trial(True, False))]
    )
    evidence.stop("spider", "roll_back", "why", "rollout")
    (found,) = evidence.report("spider")["rollouts"]
    json.dumps(found)
    active, candidate = found["arms"]["active"], found["arms"]["candidate"]
    assert (active["n"], active["usable"]["value"]) == (3, 1.0)
    assert (candidate["failed"]["value"], candidate["ran"]["n"]) == (
        pytest.approx(1 / 3, abs=1e-4),
        1,
    )
    assert candidate["valid"]["interval"][0] < 1 / 3 < candidate["valid"]["interval"][1]
    assert (found["agreement"], found["compared"], found["difference"]) == (1.0, 1, -0.6667)
    assert (found["verdict"], found["reason"], found["actor"]) == ("roll_back", "why", "rollout")
    assert active["latency_ms_p50"] == 10.0


def test_an_alias_without_rollouts_has_an_empty_report(evidence, tmp_path):
    assert evidence.report("none") == {"alias": "none", "rollouts": []}
    assert not (tmp_path / FILE).exists()  # who only looks writes nothing


def test_old_rollouts_are_forgotten_with_what_was_seen(evidence, tmp_path):
    for number in range(KEPT_ROLLOUTS + 5):
        rollout = evidence.begin("spider", Alias(ONE, shadow=f"{number:012x}", share=1), Rules())
        evidence.add(rollout, [WORSE])
        evidence.stop("spider", "stopped", "", "")
    assert len(evidence.report("spider", limit=100)["rollouts"]) <= KEPT_ROLLOUTS + 1
    with sqlite3.connect(tmp_path / FILE) as db:
        (left,) = db.execute("SELECT count(DISTINCT rollout) FROM observations").fetchone()
    assert left <= KEPT_ROLLOUTS + 1


def test_damage_is_said_with_a_remedy(evidence, tmp_path):
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(EvidenceError, match="move it away"):
        evidence.begin("spider", SHADOW, Rules())
    with pytest.raises(EvidenceError, match="move it away"):
        evidence.report("spider")


def test_a_store_that_is_locked_for_long_is_an_error(evidence, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    rollout = evidence.begin("spider", SHADOW, Rules())
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(EvidenceError, match="locked"):
            evidence.add(rollout, [WORSE])
    assert evidence.follow(rollout).pairs == 0
