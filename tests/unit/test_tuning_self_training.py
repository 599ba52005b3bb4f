"""What is kept of a model's own answers, and what makes pairs."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eval.task.prompt import PromptFormat
from tests.unit.tiny import byte_tokenizer, lora, make_database, row_on
from trainer.pipeline.row import Row
from trainer.tuning import self_training as module
from trainer.tuning.dev_set import DevSetError
from trainer.tuning.self_training import Pair, Selection, collect, select
from trainer.tuning.verdicts import verdict_of

FORMAT = PromptFormat()
GOLD = "SELECT name FROM \"pet shop\" WHERE city = 'Ulm'"
SAME = "select T1.name from \"pet shop\" AS T1 where T1.city = 'Ulm'"
NEW = "SELECT name FROM \"pet shop\" WHERE city IN ('Ulm')"
NEWER = "SELECT name FROM \"pet shop\" WHERE city LIKE 'Ulm'"
NEWEST = 'SELECT name FROM "pet shop" WHERE id <> 2'
WRONG = 'SELECT name FROM "pet shop" WHERE stock = 3'
MORE = 'SELECT name FROM "pet shop"'
COLUMNS = "SELECT name, city FROM \"pet shop\" WHERE city = 'Ulm'"
UNKNOWN = 'SELECT nam FROM "pet shop"'
BROKEN = 'SELECT name FROM "pet shop" WHERE'


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("sampled"))


@pytest.fixture(autouse=True)
def _judged_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(cases: Any, *, workers: int) -> Any:
        return [verdict_of(case) for case in cases]

    monkeypatch.setattr(module, "judge", judge)


def chosen(row: Row, *answers: str, **options: Any) -> Selection:
    return select([row], [answers], FORMAT, **options)


def test_another_query_with_the_golds_rows_becomes_a_row(database):
    gold = row_on(database, GOLD, id="q7", made_by="clean")
    found = chosen(gold, f"```sql\n{NEW};\n```")
    assert found.rows == [gold.with_(id="q7~1", sql=NEW, origin="q7", made_by="clean,sampled")]


def test_a_copy_of_a_copy_knows_its_first_origin(database):
    gold = row_on(database, GOLD, id="q7+shuffle", origin="q7")
    assert chosen(gold, NEW).rows[0].origin == "q7"


@pytest.mark.parametrize(
    ("gold", "answer", "outcome"),
    [
        (GOLD, GOLD, "gold"),
        (GOLD, SAME, "gold"),
        (GOLD, NEW, "kept"),
        (GOLD, WRONG, "wrong"),
        (GOLD, UNKNOWN, "failed"),
        (GOLD, "", "failed"),
        # SQLite takes a double-quoted name that it does not know for a text; the check does not.
        (GOLD, NEW.replace("'", '"'), "invalid"),
        ("SELECT name FROM \"pet shop\" WHERE city = 'Rom'", 'SELECT name FROM "pet shop" LIMIT 0',
         "lucky"),
        ("SELECT count(*) FROM pet WHERE kind = 'cow'", "SELECT 0", "lucky"),
        ("SELECT max(id) FROM pet WHERE kind = 'cow'", "SELECT NULL", "lucky"),
        ("SELECT nothing FROM nowhere", NEW, "unjudged"),
    ],
)  # fmt: skip
def test_every_answer_is_counted_by_what_became_of_it(database, gold, answer, outcome):
    found = chosen(row_on(database, gold), answer, answer)
    assert found.statistics["answers"] == found.statistics[outcome] == 2
    assert len(found.rows) == found.statistics["questions_with_new_query"] == (outcome == "kept")


def test_those_sampled_most_often_are_kept_up_to_the_limit(database):
    row = row_on(database, GOLD)
    answers = [NEWEST, NEW, NEWER, NEW, NEWER, NEW]
    found = chosen(row, *answers, max_per_question=2)
    assert [r.sql for r in found.rows] == [NEW, NEWER]
    assert found.statistics["kept"] == 5 and found.statistics["over_limit"] == 1
    assert chosen(row, *sorted(answers), max_per_question=2) == found


def test_two_spellings_of_one_query_are_kept_once(database):
    spelled = NEW.replace("SELECT name", "select NAME")
    found = chosen(row_on(database, GOLD), NEW, NEW, spelled)
    assert [r.sql for r in found.rows] == [NEW]
    assert found.statistics["duplicate"] == 1


def test_a_pair_prefers_the_gold_query_to_one_that_fails(database):
    row = row_on(database, GOLD)
    (pair,) = chosen(row, WRONG, WRONG, NEW, GOLD).pairs
    assert row.schema is not None
    assert pair == Pair("r1", FORMAT.render(row.schema, "Which?"), GOLD, WRONG, "values")
    assert pair.record == {"prompt": pair.prompt, "chosen": GOLD, "rejected": WRONG}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (WRONG, "values"),
        (MORE, "num_rows"),
        (COLUMNS, "columns"),
        (UNKNOWN, "unknown_column"),
        (BROKEN, "unparsable"),
        ("DROP TABLE pet", "not_a_query"),
        ("", "no_sql"),
    ],
)
def test_a_pairs_kind_is_the_fault_of_what_is_rejected(database, answer, kind):
    found = chosen(row_on(database, GOLD), answer)
    assert [pair.kind for pair in found.pairs] == [kind]
    assert found.statistics["pairs"] == found.statistics[f"pairs_{kind}"] == 1


def test_a_gold_query_that_fails_makes_no_pairs(database):
    assert chosen(row_on(database, "SELECT nothing FROM nowhere"), WRONG, BROKEN).pairs == []


def test_right_answers_are_never_rejected_not_even_lucky_ones(database):
    lucky = row_on(database, "SELECT count(*) FROM pet WHERE kind = 'cow'")
    assert chosen(lucky, "SELECT 0").pairs == chosen(row_on(database, GOLD), NEW, SAME).pairs == []


def test_rare_kinds_are_preferred_and_no_kind_drowns_the_others(database):
    rows = [row_on(database, GOLD, id=str(i)) for i in range(12)]
    answers = [[WRONG, MORE] if i < 9 else [WRONG, UNKNOWN] for i in range(11)] + [[WRONG, BROKEN]]
    pairs = select(rows, answers, FORMAT, max_pairs_per_question=1).pairs
    # Before balancing: 9 × num_rows (rarer than values), 2 × unknown_column, 1 × unparsable.
    assert Counter(p.kind for p in pairs) == {"num_rows": 2, "unknown_column": 2, "unparsable": 1}
    assert [int(p.row_id) for p in pairs] == sorted(int(p.row_id) for p in pairs)
    again = select(rows[::-1], answers[::-1], FORMAT, max_pairs_per_question=1).pairs
    assert set(again) == set(pairs)


def test_a_query_that_is_right_by_chance_is_found_out_by_another_database(database, tmp_path):
    other = make_database(tmp_path)
    with closing(sqlite3.connect(other)) as db, db:
        db.execute("UPDATE \"pet shop\" SET city = 'Rom' WHERE id = 3")
    suites = {str(database): [str(other)]}
    row = row_on(database, GOLD)
    found = chosen(row, NEW, NEWEST, suites=suites)
    assert [r.sql for r in found.rows] == [NEW] and found.rows[0].database == str(database)
    assert [(p.rejected, p.kind) for p in found.pairs] == [(NEWEST, "num_rows")]
    assert [r.sql for r in chosen(row, NEW, NEWEST).rows] == [NEW, NEWEST]


def test_a_suite_on_which_the_gold_query_fails_says_nothing(database, tmp_path):
    other = make_database(tmp_path)
    with closing(sqlite3.connect(other)) as db, db:
        db.execute('DROP TABLE "pet shop"')
    found = chosen(row_on(database, GOLD), NEW, suites={str(database): [str(other)]})
    assert [r.sql for r in found.rows] == [NEW] and found.pairs == []


def test_no_answers_give_nothing():
    found = select([], [], FORMAT)
    assert (found.rows, found.pairs, found.statistics["questions"]) == ([], [], 0)


def test_rows_and_answers_must_be_as_many(database):
    with pytest.raises(ValueError, match="shorter"):
        select([row_on(database, GOLD)], [], FORMAT)


def test_a_row_without_a_schema_is_named(database):
    with pytest.raises(DevSetError, match="row 'r1' has no schema"):
        chosen(row_on(database, GOLD, schema_json=""), WRONG)


def test_a_model_is_asked_the_prompts_of_the_rows_that_have_a_database(database, monkeypatch):
    asked: list[Any] = []

    def generate(model: Any, tokenizer: Any, prompts: Any, **options: Any) -> list[list[str]]:
        asked.append((prompts, options))
        return [[NEW, WRONG, GOLD] for _ in prompts]

    monkeypatch.setattr(module, "generate", generate)
    rows = [row_on(database, GOLD), row_on(database, GOLD, id="r2", database="")]
    found = collect(None, None, rows, FORMAT, num_samples=3, temperature=0.7, seed=4)
    ((prompts, options),) = asked
    assert rows[0].schema is not None
    assert prompts == [FORMAT.render(rows[0].schema, "Which?")]
    assert (options["num_samples"], options["temperature"], options["seed"]) == (3, 0.7, 4)
    assert [r.sql for r in found.rows] == [NEW] and len(found.pairs) == 1
    assert found.statistics["questions_without_database"] == 1


def test_a_real_model_is_sampled_and_judged(database):
    rows = [row_on(database, GOLD)]
    found = collect(lora(), byte_tokenizer(), rows, FORMAT, num_samples=3, max_new_tokens=4)
    assert found.statistics["answers"] == found.statistics["failed"] == 3
    assert {pair.kind for pair in found.pairs} <= {"unparsable", "no_sql", "not_a_query"}
