"""The runner and its cache, with stages of the tests' own."""

import importlib.util
import json
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainer.pipeline import cache as caching
from trainer.pipeline.cache import Cache, code_digest, key_of
from trainer.pipeline.corpus import Corpus, dataset_of, rows_of
from trainer.pipeline.load import Loaded
from trainer.pipeline.row import Drop, Dropped, Outcome, Row, Tick, each
from trainer.pipeline.run import DataSet, run_pipeline, ticking
from trainer.pipeline.source import DataError

ROOT = Path(__file__).parents[2]
TEXTS = ("plain", "quoted \"x\" and 'y'", "Wie viele Müller?\n日本 \U0001f600", "", "a" * 3000)


def rows(num: int = 5, start: int = 0) -> list[Row]:
    return [Row(f"r{n}", "db", TEXTS[n % 5], f"SELECT {n}") for n in range(start, start + num)]


@dataclass(frozen=True)
class Given:
    """A source of rows that are given; the first `num_lost` are lost on loading."""

    found: list[Row]
    name: str = "given"
    sha256: str = "ab" * 32
    num_lost: int = 0

    def load(self) -> Loaded:
        lost = [Dropped(row.id, "nul", "in 'sql'") for row in self.found[: self.num_lost]]
        return Loaded(self.found[self.num_lost :], self.name, self.sha256, lost, {"form": "own"})


@dataclass(frozen=True)
class Marked:
    """Puts `mark` before each question, drops rows whose id ends in `drops`, counts its calls."""

    mark: str = ">"
    drops: str = "9"
    calls: list[int] = field(default_factory=list)
    name: str = "marked"

    @property
    def options(self) -> Mapping[str, Any]:
        return {"mark": self.mark, "drops": self.drops}

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        self.calls.append(len(rows))

        def judge(row: Row) -> Row | Drop:
            is_dropped = row.id.endswith(self.drops)
            return Drop("unlucky", row.id) if is_dropped else row.with_(question=self.mark + row.id)

        outcome = each(rows, judge, tick)
        outcome.changed["marked"] += len(outcome.rows)
        outcome.facts = {"mark": (self.mark, 1)}
        return outcome


@dataclass(frozen=True)
class Copied(Marked):
    """Adds a copy of each row and one row made of nothing."""

    name: str = "copied"

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        copies = [row.with_(id=f"{row.id}-copy", origin=row.id) for row in rows]
        return Outcome([*rows, *copies, Row("new", "db", "Q?", "SELECT 1", source="grammar")])


def run(*stages: Marked, found: list[Row] | None = None, **options: Any) -> Corpus:
    return run_pipeline([Given(found if found is not None else rows())], stages, **options)


def test_rows_come_through_unchanged_without_stages(tmp_path: Path) -> None:
    assert list(run().rows()) == rows()
    assert list(run(cache=tmp_path).rows()) == rows()


def test_each_stage_reports_what_it_did(tmp_path: Path) -> None:
    said: list[str] = []
    sources = [Given(rows(12), num_lost=2)]
    corpus = run_pipeline(sources, [Marked()], cache=tmp_path, say=said.append)
    load, marked = corpus.stages
    assert (load.name, load.rows_in, load.rows_out) == ("load given", 12, 10)
    assert load.dropped == {"nul": 2} and load.facts == {"form": "own"}
    assert (marked.name, marked.rows_in, marked.rows_out) == ("marked", 10, 9)
    assert marked.dropped == {"unlucky": 1} and marked.changed == {"marked": 9}
    (example,) = marked.examples
    assert (example.id, example.reason, example.detail) == ("r9", "unlucky", "r9")
    assert (example.question, example.sql) == (TEXTS[4], "SELECT 9")
    assert [line.rpartition("; ")[0] for line in said] == [
        "load given: 12 rows, 10 left, 2 dropped (nul 2)",
        "marked: 10 rows, 9 left, 1 dropped (unlucky 1); marked 9",
    ]
    assert corpus.summary() == "9 examples (given 9), 3 dropped (nul 2, unlucky 1)"


def test_a_report_holds_the_first_few_rows_of_each_reason() -> None:
    found = [Row(f"{n}9", "db", f"Q{n}", "SELECT 1") for n in range(20)] + rows(1)
    stage = run(Marked(), found=found).stages[-1]
    assert stage.dropped == {"unlucky": 20}
    assert [example.question for example in stage.examples] == [f"Q{n}" for n in range(5)]


def test_sources_count_what_is_left_of_each() -> None:
    sources = [Given(rows(10), "one", "1" * 64), Given(rows(4), "two", "2" * 64)]
    corpus = run_pipeline(sources, [Marked(), Copied()])
    assert corpus.sources == (
        {"name": "one", "sha256": "1" * 64, "examples": 18},
        {"name": "two", "sha256": "2" * 64, "examples": 8},
        {"name": "grammar", "sha256": "", "examples": 1},
    )
    assert len({row.id for row in corpus.rows()}) == len(corpus) == 27


def test_a_later_step_takes_its_rows_out_of_the_counts() -> None:
    corpus = run_pipeline([Given(rows(3), "one"), Given(rows(2, 7), "two")], [])
    report = corpus.stages[0]
    after = corpus.after(report, [Dropped("r1", "too_long"), Dropped("r8", "too_long")])
    assert [row.id for row in after.rows()] == ["r0", "r2", "r7"]
    assert [source["examples"] for source in after.sources] == [2, 1]
    assert len(corpus) == 5 and after.stages == (*corpus.stages, report)


def test_many_rows_of_one_id_get_ids_of_their_own() -> None:
    found = [Row("x", "db", str(n), "SELECT 1") for n in range(3)]
    corpus = run(found=[*found, Row("x~2", "db", "3", "SELECT 1")])
    assert [row.id for row in corpus.rows()] == ["x", "x~2", "x~3", "x~2~2"]


def test_a_second_run_takes_all_from_the_cache(tmp_path: Path) -> None:
    first, second = Marked(), Marked("!", name="second")
    before = run(first, second, cache=tmp_path)
    said: list[str] = []
    again = run(first, second, cache=tmp_path, say=said.append)
    assert first.calls == second.calls == [5]
    assert list(again.rows()) == list(before.rows())
    assert again.sources == before.sources
    assert said[1:] == ["marked, second: 5 rows from the cache"]
    assert [stage.cached for stage in again.stages] == [False, True, True]
    pairs = zip(before.stages[1:], again.stages[1:], strict=True)
    assert all(one.record() | {"cached": True} == other.record() for one, other in pairs)


def test_another_option_runs_that_stage_and_those_after_it(tmp_path: Path) -> None:
    first, second, third = Marked(), Marked("!", name="second"), Marked("?", name="third")
    run(first, second, third, cache=tmp_path)
    other = Marked("!!", name="second")
    corpus = run(first, other, third, cache=tmp_path)
    assert (first.calls, other.calls, third.calls) == ([5], [5], [5, 5])
    assert next(corpus.rows()).question == "?r0"


@pytest.mark.parametrize("change", ["row", "sha256", "order"])
def test_other_rows_are_another_run(change: str, tmp_path: Path) -> None:
    stage = Marked()
    run(stage, cache=tmp_path)
    changed = {
        "row": Given([*rows(4), rows(5)[4].with_(schema_json="[]")]),
        "sha256": Given(rows(), sha256="cd" * 32),
        "order": Given(rows()[::-1]),
    }[change]
    run_pipeline([changed], [stage], cache=tmp_path)
    assert stage.calls == [5, 5]


def test_a_changed_database_is_another_run(tmp_path: Path) -> None:
    database = tmp_path / "shop.sqlite"
    database.write_bytes(b"one")
    found = [Row("1", "shop", "Q?", "SELECT 1", database=str(database))]
    stage = Marked()
    for content in (b"one", b"other"):
        database.write_bytes(content)
        run(stage, found=found, cache=tmp_path / "cache")
    database.unlink()
    run(stage, found=found, cache=tmp_path / "cache")
    assert stage.calls == [1, 1, 1]


def test_changed_code_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "ROOT", tmp_path)
    folder = tmp_path / "trainer" / "near"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "stage.py").write_text("def f():\n    from trainer.near import words\n")
    (folder / "words.py").write_text("import trainer.far\nimport json\n")
    (tmp_path / "trainer" / "far.py").write_text("A = 1\n")
    (tmp_path / "trainer" / "apart.py").write_text("B = 1\n")

    def digest() -> str:
        caching._imports.cache_clear()
        caching._closure_digest.cache_clear()
        return caching._closure_digest(folder / "stage.py")

    before = digest()
    (tmp_path / "trainer" / "apart.py").write_text("B = 2\n")
    assert digest() == before
    (tmp_path / "trainer" / "far.py").write_text("A = 2\n")
    assert digest() != before


def test_a_stage_without_source_code_runs_each_time(tmp_path: Path) -> None:
    homeless = type("Homeless", (Marked,), {"__module__": "nowhere"})()
    assert code_digest("nowhere") is None
    first, last = Marked(), Marked(name="last")
    for _ in range(2):
        run(first, homeless, last, cache=tmp_path)
    assert first.calls == [5]
    assert homeless.calls == last.calls == [5, 5]


def test_a_path_among_options_stands_for_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("one")
    before = key_of({"words": path})
    assert key_of({"words": path}) == before
    path.write_text("two")
    assert key_of({"words": path}) != before
    with pytest.raises(TypeError, match="is no JSON value"):
        key_of({"words": object()})


def truncate(entry: Path) -> None:
    (path,) = entry.glob("data/*.arrow")
    os.truncate(path, path.stat().st_size // 2)


def flip_a_byte(entry: Path) -> None:
    (path,) = entry.glob("data/*.arrow")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def garble_the_record(entry: Path) -> None:
    (entry / "record.json").write_text('{"stages": [')


def empty_the_record(entry: Path) -> None:
    (entry / "record.json").write_text("[]")


def lose_the_record(entry: Path) -> None:
    (entry / "record.json").unlink()


def lose_a_file(entry: Path) -> None:
    (entry / "data" / "state.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [truncate, flip_a_byte, garble_the_record, empty_the_record, lose_the_record, lose_a_file],
)
def test_a_damaged_entry_is_made_anew(damage: Callable[[Path], None], tmp_path: Path) -> None:
    stage = Marked()
    run(stage, cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    damage(entry)
    said: list[str] = []
    corpus = run(stage, cache=tmp_path, say=said.append)
    assert [row.question for row in corpus.rows()] == [f">r{n}" for n in range(5)]
    (line,) = [line for line in said if "damaged" in line]
    assert line.startswith(f"cache: {entry} is damaged (") and line.endswith("making it anew")
    run(stage, cache=tmp_path)
    assert stage.calls == [5, 5]
    assert list(tmp_path.iterdir()) == [entry]


# Stages of a run that a SIGKILL ends: in the middle of the third stage, or while what the second
# made is being written.
KILLED = """
import os, signal, sys
from pathlib import Path
from dataclasses import dataclass
from trainer.pipeline import cache
from trainer.pipeline.load import Loaded
from trainer.pipeline.row import Outcome, Row
from trainer.pipeline.run import run_pipeline

RAN = []
DEADLY = None

class Source:
    def load(self):
        return Loaded([Row(f"r{n}", "db", "Q", "SELECT 1") for n in range(9)], "s", "0", [], {})

@dataclass(frozen=True)
class Stage:
    name: str
    options = {}
    def __call__(self, rows, tick):
        if self.name == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        RAN.append(self.name)
        return Outcome([row.with_(question=row.question + self.name) for row in rows])

def go(folder, **options):
    return run_pipeline([Source()], [Stage("a"), Stage("b"), Stage("c")], cache=folder, **options)

if __name__ == "__main__":
    DEADLY = sys.argv[2]
    write = cache._write
    def torn(folder, dataset, record):
        write(folder, dataset, record)
        if DEADLY == "writing b" and len(record["stages"]) == 2:
            (folder / "record.json").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    cache._write = torn
    go(Path(sys.argv[1]))
"""


def test_a_killed_run_goes_on_after_its_last_whole_stage(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    expected = {"c": ["c"], "writing b": ["b", "c"]}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / moment), moment],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for moment in expected
    ]
    assert [process.wait() for process in processes] == [-9, -9]
    spec = importlib.util.spec_from_file_location("killed", script)
    assert spec and spec.loader
    module = sys.modules["killed"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for moment, ran in expected.items():
        module.RAN.clear()
        corpus = module.go(tmp_path / moment)
        assert ran == module.RAN
        assert {row.question for row in corpus.rows()} == {"Qabc"}
    del sys.modules["killed"]


def test_what_a_killed_process_left_goes_when_it_is_old(tmp_path: Path) -> None:
    for name, age in ((".making-old", 7200), (".removing-old", 7200), (".making-new", 5)):
        (tmp_path / name / "data").mkdir(parents=True)
        times = (tmp_path.stat().st_mtime - age,) * 2
        os.utime(tmp_path / name, times)
    run(Marked(), cache=tmp_path)
    hidden = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert hidden == [".making-new"]


class Raced:
    """A dataset that, while it is saved, another process saves too."""

    def __init__(self, store: Cache, key: str) -> None:
        self.store, self.key = store, key

    def save_to_disk(self, folder: str) -> None:
        self.store.put(self.key, dataset_of(rows(1)), {"by": "other"})
        dataset_of(rows(1)).save_to_disk(folder)


def test_two_that_make_the_same_entry_do_not_meet(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    entry = store.put("k" * 64, Raced(store, "k" * 64), {"by": "own"})
    assert list(rows_of(entry.dataset)) == rows(1)
    assert entry.record == {"by": "other"}
    assert [path.name for path in tmp_path.iterdir()] == ["k" * 64]


def test_an_entry_that_another_process_removes_can_still_be_read(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    entry = store.put("k", dataset_of(rows(5)), {})
    store._remove(tmp_path / "k")
    assert store.get("k") is None
    assert list(rows_of(entry.dataset)) == rows(5)


def test_the_longest_unused_entries_go_first(tmp_path: Path) -> None:
    size = sum(path.stat().st_size for path in written(Cache(tmp_path), "a").rglob("*"))
    store = Cache(tmp_path, max_bytes=3 * size + size // 2)
    for place, key in enumerate("abc"):
        os.utime(written(store, key), (place + 1, place + 1))
    assert store.get("a")
    written(store, "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c", "d"]
    written(Cache(tmp_path, max_bytes=0), "e")
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def written(store: Cache, key: str) -> Path:
    store.put(key, dataset_of(rows(5)), {})
    return store.folder / key


@contextmanager
def small_files(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    stage = Marked()
    found = [row.with_(sql="x" * 5000) for row in rows()]
    with small_files(2000), pytest.raises(OSError, match="make room") as raised:
        run(stage, found=found, cache=tmp_path)
    assert raised.value.filename == str(tmp_path)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    assert len(run(stage, found=found, cache=tmp_path)) == 5


def test_a_cache_that_is_no_folder_is_said(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(OSError, match="name another folder for the cache") as raised:
        run(Marked(), cache=path)
    assert raised.value.filename == str(path)


def test_a_stage_that_leaves_nothing_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"marked: no row is left of 5 \(unlucky 5\)"):
        run(Marked(drops=""), cache=tmp_path)
    with pytest.raises(DataError, match=r"data: no row can be used \(nul 3\)"):
        run_pipeline([Given(rows(3), num_lost=3)], [])
    with pytest.raises(DataError, match="data: no row can be used"):
        run(found=[])


def test_a_data_set_is_loaded_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    record = {"question": "Q?", "answer": "SELECT a FROM t", "context": "CREATE TABLE t (a INT)"}
    path.write_text(json.dumps(record) + "\n")
    corpus = run_pipeline([DataSet(str(path), dialect="pg")], [])
    (row,) = corpus.rows()
    assert (row.question, row.sql, row.dialect) == ("Q?", "SELECT a FROM t", "postgres")
    assert row.schema and row.schema.find("t")


def test_a_bar_is_shown_where_it_is_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich, that is a terminal
    monkeypatch.setenv("TERM", "xterm")
    for progress in (False, True):
        with ticking("stage", 2, progress) as tick:
            tick(2)
        assert ("2/2" in capsys.readouterr().err) is progress


def test_a_dataset_gives_back_its_rows() -> None:
    many = [row.with_(id=str(n)) for n, row in enumerate(rows(5) * 500)]
    assert list(rows_of(dataset_of(many))) == many
    assert list(rows_of(dataset_of([]))) == []


def test_reports_add_up() -> None:
    corpus = run(Marked(), Marked(drops="8", name="second"), found=rows(20))
    assert corpus.dropped == Counter(unlucky=4)
