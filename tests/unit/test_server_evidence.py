"""The evidence of rollouts is shared by all servers of a store."""

import json
import random
import sqlite3
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.task.store import ALIASES, Alias, read_aliases
from server.adapters import evidence as module
from server.adapters.evidence import FILE, KEPT_ROLLOUTS, Evidence, EvidenceError
from server.adapters.sequential import Rules, SequentialTest
from server.adapters.trials import Observation, Trial

ONE, TWO, THREE = "1" * 12, "2" * 12, "3" * 12
SHADOW = Alias(ONE, shadow=TWO, share=0.5)
CANARY = Alias(ONE, canary=TWO, share=0.5)
GOOD, BAD = Trial(False, True, True, 10.0), Trial(False, False, None, 20.0)
WORSE = Observation(GOOD, BAD)


@pytest.fixture
def evidence(tmp_path):
    return Evidence(tmp_path)


def begin(evidence: Evidence, alias: str, entry: Alias, rules: Rules) -> int:
    """Begin a rollout that `aliases.json` says is in progress."""
    store = evidence.path.parent
    entries = read_aliases(store) | {alias: entry}
    (store / ALIASES).write_text(json.dumps({name: asdict(e) for name, e in entries.items()}))
    return evidence.begin(alias, entry, rules)


def test_servers_share_a_rollout_and_its_test(evidence, tmp_path):
    other = Evidence(tmp_path)
    rollout = begin(evidence, "spider", SHADOW, Rules())
    assert begin(other, "spider", SHADOW, Rules()) == rollout
    evidence.add(rollout, [WORSE] * 3)
    other.add(rollout, [Observation(GOOD, GOOD, True)] * 2)
    for server in (evidence, other, Evidence(tmp_path)):
        test = server.follow(rollout)
        assert (test.pairs, test.mean, test.agreement) == (5, -0.6, 1.0)


def test_what_is_followed_again_is_not_counted_again(evidence):
    rollout = begin(evidence, "spider", SHADOW, Rules())
    for expected in (2, 4, 6):
        evidence.add(rollout, [WORSE] * 2)
        assert evidence.follow(rollout).pairs == expected
        assert evidence.follow(rollout).pairs == expected


def test_a_server_that_has_not_heard_begins_nothing_anew(evidence, tmp_path):
    rollout = begin(evidence, "spider", Alias(ONE, shadow=THREE, share=0.5), Rules())
    with pytest.raises(EvidenceError, match="has ended"):
        Evidence(tmp_path).begin("spider", SHADOW, Rules())
    (found,) = evidence.report("spider")["rollouts"]
    assert (found["candidate"], found["ended"]) == (THREE, None)
    assert evidence.follow(rollout).pairs == 0


def state(test: SequentialTest) -> tuple[object, ...]:
    return test.pairs, test.mean, test.agreement, test.verdict, test.e_values()


SEEN = st.sampled_from([WORSE, Observation(GOOD, GOOD, True), Observation(BAD, GOOD)])
BATCHES = st.lists(st.tuples(st.booleans(), st.booleans(), st.lists(SEEN, max_size=9)), max_size=6)


@settings(max_examples=25, deadline=None)
@given(batches=BATCHES)
def test_who_wrote_what_and_who_looked_when_changes_nothing(batches):
    rules = Rules(min_pairs=4)
    with tempfile.TemporaryDirectory() as folder:
        servers = [Evidence(Path(folder)) for _ in range(2)]
        rollout = begin(servers[0], "spider", SHADOW, rules)
        alone = SequentialTest(rules)
        for writer, looker, seen in batches:
            servers[writer].add(rollout, seen)
            servers[looker].follow(rollout)
            for o in seen:
                alone.add(o.candidate.score - o.active.score, o.agreed)
        assert [state(s.follow(rollout)) for s in servers] == [state(alone)] * 2


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(SEEN, max_size=9), max_size=6), draw=st.randoms())
def test_the_order_in_which_batches_arrive_changes_no_e_value(batches, draw):
    found = []
    for order in (batches, draw.sample(batches, len(batches))):
        with tempfile.TemporaryDirectory() as folder:
            evidence = Evidence(Path(folder))
            rollout = begin(evidence, "spider", SHADOW, Rules(min_pairs=100))
            for batch in order:
                evidence.add(rollout, batch)
            found.append(evidence.follow(rollout))
    assert found[0].e_values() == pytest.approx(found[1].e_values())
    assert found[0].mean == pytest.approx(found[1].mean)


def test_the_rules_are_those_that_it_began_with(evidence, tmp_path):
    rollout = begin(evidence, "spider", SHADOW, Rules(min_pairs=2, max_pairs=3))
    evidence.add(rollout, [Observation(GOOD, GOOD)] * 3)
    assert Evidence(tmp_path).follow(rollout).verdict == "undecided"


def test_a_canary_compares_single_answers(evidence):
    rollout = begin(evidence, "spider", CANARY, Rules())
    evidence.add(rollout, [Observation(candidate=BAD), Observation(active=GOOD)])
    test = evidence.follow(rollout)
    assert (test.pairs, test.mean) == (1, -1.0)


def test_another_candidate_begins_anew_and_ends_what_was(evidence):
    first = begin(evidence, "spider", SHADOW, Rules())
    evidence.add(first, [WORSE])
    second = begin(evidence, "spider", Alias(ONE, shadow=THREE, share=0.5), Rules())
    assert second != first
    assert evidence.follow(second).pairs == 0
    now, before = evidence.report("spider")["rollouts"]
    assert (now["candidate"], now["ended"]) == (THREE, None)
    assert (before["candidate"], before["verdict"]) == (TWO, "stopped")


def test_other_aliases_are_left_alone(evidence):
    first = begin(evidence, "spider", SHADOW, Rules())
    begin(evidence, "other", SHADOW, Rules())
    assert begin(evidence, "spider", SHADOW, Rules()) == first


def test_a_report_sets_both_versions_side_by_side(evidence):
    rollout = begin(evidence, "spider", SHADOW, Rules())
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
        rollout = begin(evidence, "spider", Alias(ONE, shadow=f"{number:012x}", share=1), Rules())
        evidence.add(rollout, [WORSE])
        evidence.stop("spider", "stopped", "", "")
    assert len(evidence.report("spider", limit=100)["rollouts"]) <= KEPT_ROLLOUTS + 1
    with sqlite3.connect(tmp_path / FILE) as db:
        (left,) = db.execute("SELECT count(DISTINCT rollout) FROM observations").fetchone()
    assert left <= KEPT_ROLLOUTS + 1


def test_damage_is_said_with_a_remedy(evidence, tmp_path):
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(EvidenceError, match="move it away"):
        begin(evidence, "spider", SHADOW, Rules())
    with pytest.raises(EvidenceError, match="move it away"):
        evidence.report("spider")


def test_a_new_file_in_place_of_a_damaged_one_begins_with_nothing(evidence, tmp_path):
    first = begin(evidence, "spider", SHADOW, Rules())
    evidence.add(first, [Observation(BAD, GOOD, True)] * 50)
    assert evidence.follow(first).verdict == "promote"
    (tmp_path / FILE).rename(tmp_path / "aside")
    second = begin(evidence, "spider", Alias(ONE, shadow=THREE, share=0.5), Rules())
    assert second == first  # the number is given again
    evidence.add(second, [WORSE] * 60)
    assert evidence.follow(second).verdict == "roll_back"


def change(store: Path, statement: str) -> None:
    with sqlite3.connect(store / FILE) as db:
        db.execute(statement)


def test_what_was_read_before_a_damaged_row_is_not_counted_twice(evidence, tmp_path):
    rollout = begin(evidence, "spider", SHADOW, Rules())
    evidence.add(rollout, [WORSE] * 9)
    change(tmp_path, "UPDATE observations SET active_ms = 'x' WHERE id = 8")
    for _ in range(2):
        with pytest.raises(EvidenceError, match="move it away"):
            evidence.follow(rollout)
    change(tmp_path, "UPDATE observations SET active_ms = 1 WHERE id = 8")
    assert evidence.follow(rollout).pairs == 9


def test_a_thread_that_was_held_up_counts_nothing_again(evidence, monkeypatch):
    rollout = begin(evidence, "spider", SHADOW, Rules())
    evidence.add(rollout, [WORSE])
    evidence.follow(rollout)
    evidence.add(rollout, [WORSE] * 3)
    read, meanwhile = module._observation, [rollout]

    def held_up(row):
        if meanwhile:  # another thread reads the same rows, and ends first
            assert evidence.follow(meanwhile.pop()).pairs == 4
        return read(row)

    monkeypatch.setattr(module, "_observation", held_up)
    assert evidence.follow(rollout).pairs == 4


def test_rules_of_another_version_are_an_error_with_a_remedy(evidence, tmp_path):
    rollout = begin(evidence, "spider", SHADOW, Rules())
    for rules in ('{"margin": 0.05, "new": 1}', "{", "[]", '{"margin": 7}', '{"min_pairs": ""}'):
        change(tmp_path, f"UPDATE rollouts SET rules = '{rules}'")
        with pytest.raises(EvidenceError, match="move it away"):
            Evidence(tmp_path).follow(rollout)
        with pytest.raises(EvidenceError, match="move it away"):
            evidence.report("spider")


@pytest.mark.parametrize("seed", range(5))
def test_no_damage_leads_to_another_error(evidence, tmp_path, seed):
    rollout = begin(evidence, "spider", SHADOW, Rules())
    evidence.add(rollout, [WORSE, Observation(GOOD, GOOD, True)] * 100)
    whole, draw, refused = (tmp_path / FILE).read_bytes(), random.Random(seed), 0
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 3, 30))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        (tmp_path / FILE).write_bytes(damaged)
        for work in (Evidence(tmp_path).follow, lambda _: evidence.report("spider")):
            try:
                work(rollout)
            except EvidenceError:
                refused += 1
    assert 0 < refused < 80


def test_a_rollout_that_nobody_ends_does_not_fill_the_disk(evidence, monkeypatch):
    monkeypatch.setattr(module, "MAX_OBSERVATIONS", 3)
    rollout = begin(evidence, "spider", SHADOW, Rules())
    for _ in range(5):
        evidence.add(rollout, [WORSE] * 2)
    assert evidence.follow(rollout).pairs == 4
    other = begin(evidence, "other", SHADOW, Rules())
    evidence.add(other, [WORSE])
    assert evidence.follow(other).pairs == 1


def test_a_long_report_keeps_no_server_from_writing(evidence, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    rollout = begin(evidence, "spider", SHADOW, Rules())

    def long_sum(seen, test):
        Evidence(tmp_path).add(rollout, [WORSE])
        return {}

    monkeypatch.setattr(module, "summary", long_sum)
    evidence.report("spider")
    assert evidence.follow(rollout).pairs == 1


def test_a_store_that_is_locked_for_long_is_an_error(evidence, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    rollout = begin(evidence, "spider", SHADOW, Rules())
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(EvidenceError, match="locked"):
            evidence.add(rollout, [WORSE])
    assert evidence.follow(rollout).pairs == 0
