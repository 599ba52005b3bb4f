"""The stage: which copies come out, that they depend on seed and id alone, and what is refused."""

import random
from dataclasses import FrozenInstanceError

import pytest

from eval.task.samples import sample_examples, sample_names, sample_schema
from eval.task.sql import check_sql
from trainer.pipeline.augment import stage
from trainer.pipeline.augment.pool import Pool
from trainer.pipeline.augment.stage import KINDS, Augment, AugmentError
from trainer.pipeline.row import Outcome, Row, Stage, dump_schema

ALL = (*KINDS, "transpile:postgres", "transpile:mysql")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    schemas = {name: dump_schema(sample_schema(name)) for name in sample_names()}
    examples = sample_examples("train")[::8]
    return [
        Row(e.id, e.db_id, e.question, e.sql, e.dialect, e.source, schemas[e.db_id])
        for e in examples
    ]


@pytest.fixture(scope="module")
def outcome(rows: list[Row]) -> Outcome:
    return Augment(ALL, 3, seed=1, workers=1)(rows, lambda n: None)


def test_it_is_a_stage_with_options_that_decide_its_outcome() -> None:
    made: Stage = Augment(("shuffle",), 2, seed=7, workers=3)
    assert made.name == "augment"
    assert made.options == {"kinds": ["shuffle"], "copies": 2, "composed_copies": 0, "seed": 7}
    with pytest.raises(FrozenInstanceError):
        made.copies = 3  # type: ignore[attr-defined]


def test_every_row_stays_and_its_copies_follow_it(rows: list[Row], outcome: Outcome) -> None:
    assert [row for row in outcome.rows if not row.origin] == rows
    last = ""
    for row in outcome.rows:
        last = last if row.origin else row.id
        assert row.origin in ("", last)
    copies = [row for row in outcome.rows if row.origin]
    assert all(copy.id in {f"{copy.origin}~{n}" for n in (1, 2, 3)} for copy in copies)
    assert len({row.id for row in outcome.rows}) == len(outcome.rows)
    assert len(copies) > 2.5 * len(rows)
    assert outcome.facts["num_copies"] == len(copies)
    assert outcome.dropped == []


def test_every_copy_is_valid_and_another(outcome: Outcome) -> None:
    contents = set()
    for row in outcome.rows:
        assert row.schema
        assert check_sql(row.sql, row.schema, row.dialect).valid
        contents.add((row.question, row.sql, row.schema_json, row.dialect))
    assert len(contents) == len(outcome.rows)


def test_made_by_names_the_kinds_in_their_order(outcome: Outcome) -> None:
    for copy in (row for row in outcome.rows if row.origin):
        kinds = copy.made_by.split(",")
        assert kinds == [kind for kind in ALL if kind in kinds]
        assert sum(kind.startswith("transpile") for kind in kinds) <= 1
        assert copy.dialect == (kinds[-1].partition(":")[2] or "sqlite")
    assert set(outcome.changed) == set(ALL) - {"literals"} | {"literals"} & set(outcome.changed)


def test_a_tick_for_every_row(rows: list[Row]) -> None:
    ticks: list[int] = []
    Augment(("shuffle",), 1, seed=1)(rows, ticks.append)
    assert sum(ticks) == len(rows)


def test_several_processes_make_the_same_copies(
    rows: list[Row], outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "MIN_PARALLEL_ROWS", 1)
    assert Augment(ALL, 3, seed=1, workers=2)(rows, lambda n: None) == outcome


def test_a_row_s_copies_do_not_depend_on_the_order_of_rows(
    rows: list[Row], outcome: Outcome
) -> None:
    found = Augment(ALL, 3, seed=1, workers=1)(rows[::-1], lambda n: None)
    assert sorted(found.rows, key=lambda r: r.id) == sorted(outcome.rows, key=lambda r: r.id)


def test_another_seed_makes_other_copies(rows: list[Row], outcome: Outcome) -> None:
    found = Augment(ALL, 3, seed=2, workers=1)(rows[:5], lambda n: None)
    assert not {r.schema_json for r in found.rows if r.origin} & {
        r.schema_json for r in outcome.rows if r.origin
    }


def test_a_copy_that_does_not_pass_the_check_is_refused_and_counted(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(row: Row, rng: random.Random, pool: Pool) -> Row:
        return row.with_(sql="SELECT nothing FROM nowhere")

    monkeypatch.setitem(stage.KINDS, "shuffle", (spoil, 1.0))
    found = Augment(("shuffle",), 2, seed=1, workers=1)(rows[:3], lambda n: None)
    assert found.rows == rows[:3]
    assert found.facts == {"num_copies": 0, "refused": {"unknown_table": 18}}


def test_a_copy_that_changes_nothing_is_refused(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stage.KINDS, "shuffle", (lambda row, rng, pool: row, 1.0))
    found = Augment(("shuffle",), 1, seed=1, workers=1)(rows[:1], lambda n: None)
    assert found.facts["refused"] == {"same_as_another": 3}


def test_what_no_kind_applies_to_has_no_copies(rows: list[Row]) -> None:
    lone = rows[0].with_(schema_json="")
    for kinds, copies, row in ((ALL, 2, lone), (ALL, 0, rows[0]), ((), 2, rows[0])):
        found = Augment(kinds, copies, seed=1)([row], lambda n: None)
        assert found.rows == [row]
    assert Augment(ALL, 2, seed=1)([], lambda n: None).rows == []


BAD = {
    "rhyme": "unknown kind 'rhyme'; known: literals, prune, .*transpile:DIALECT",
    "transpile:klingon": "kind 'transpile:klingon': unknown dialect 'klingon'",
    "transpile": "kind 'transpile': unknown dialect ''",
}


@pytest.mark.parametrize("kind", BAD)
def test_an_unknown_kind_is_refused_by_name(kind: str) -> None:
    with pytest.raises(AugmentError, match=BAD[kind]):
        Augment((kind,), 1, seed=1)


def test_counts_can_not_be_negative() -> None:
    with pytest.raises(AugmentError, match="negative"):
        Augment(("shuffle",), -1, seed=1)
