"""The fuzzers themselves: what they write, that they repeat, that they see each kind of fault."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import strategies as st

from eval.task.samples import sample_schema
from eval.task.sql import SqlCheck, check_sql
from eval.task.violation import Violation
from tests.fuzz import fuzz_bytes, fuzz_grammar, judgement
from tests.fuzz.grammar import NUMBERS, Writer, mutate, write_query
from tests.fuzz.hostile_parts import EXPRESSIONS, FRAMES, SOURCES, parts
from tests.fuzz.judgement import Judge
from tests.fuzz.seeds import seeds

DIALECTS = ("sqlite", "postgres", "mysql", "tsql")


def test_the_grammar_knows_the_tables_of_the_schema() -> None:
    assert set(NUMBERS) == {table.name for table in sample_schema("shop").tables}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_plain_queries_pass_and_hostile_ones_do_not(dialect: str) -> None:
    """Of those without a piece nearly all pass (some group by nothing real), so the fuzzer gets
    through the guard; some with a piece are refused."""
    schema = sample_schema("shop")
    plain, refused = [], 0
    for number in range(150):
        writer = Writer(Random(number), dialect)
        is_valid = check_sql(writer.write(), schema, dialect).valid
        if writer.is_hostile:
            refused += not is_valid
        else:
            plain.append(is_valid)
    assert sum(plain) >= 0.6 * len(plain) > 20
    assert refused >= 20


def test_the_same_seed_writes_the_same_query() -> None:
    one, other, third = (write_query(Random(seed), "mysql") for seed in (5, 5, 6))
    assert one == other != third


def test_a_mutation_is_made_of_its_statements() -> None:
    statements = ("SELECT a b", "DROP x y")
    found = {mutate(Random(seed), statements) for seed in range(2000)}
    assert "SELECT a b" in found
    assert "SELECT a y" in found
    assert len(found) > 100


def test_every_frame_holds_a_query() -> None:
    for kind in (FRAMES,):
        assert all("{}" in frame or "DELETE" in frame for frame in kind["all"])
    assert set(parts(SOURCES, "mysql")) > set(SOURCES["all"])
    assert parts(EXPRESSIONS, "exasol") == EXPRESSIONS["all"]


def test_seeds_are_the_corpus_without_its_bombs() -> None:
    found = seeds()
    assert len(found) == len(set(found)) > 900
    assert "DROP TABLE users" in found


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (SqlCheck("SELECT 1"), ""),
        (SqlCheck("x", (Violation("not_a_query", "no"),)), ""),
        (SqlCheck("x", (Violation("made_up", "no"),)), "unknown codes: {'made_up'}"),
        (SqlCheck("SELECT 1; x"), "unsafe: a mark: ';': 'SELECT 1; x'"),
        (SqlCheck("SELECT id FROM secrets"), "unsafe: reads table secrets"),
        (KeyError("k"), "crash: KeyError: 'k'"),
    ],
)
def test_each_kind_of_fault_is_seen(
    monkeypatch: pytest.MonkeyPatch, answer: SqlCheck | Exception, complaint: str
) -> None:
    def check(*_: object, **__: object) -> SqlCheck:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(judgement, "check_sql", check)
    assert Judge().complaint("text", "sqlite").startswith(complaint)
    assert bool(Judge().complaint("text", "sqlite")) == bool(complaint)


def test_a_hang_is_seen_and_a_single_slow_try_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 1.0, 1.1, *(2.0,) * 100])
    monkeypatch.setattr("tests.fuzz.judgement.time.process_time", lambda: next(ticks))
    assert Judge().complaint("SELECT 1", "sqlite") == ""
    ticks = iter([0.0, 1.0, 1.0, 2.0])
    assert Judge().complaint("SELECT 1", "sqlite") == "hang: 1000 ms"


def test_grants_are_judged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that ignores grants is caught."""

    def deaf(text: str, schema: object, read: str, write: str | None, **_: object) -> SqlCheck:
        return check_sql(text, sample_schema("shop"), read, write)

    assert Judge().complaint("SELECT email FROM users", "sqlite") == ""
    monkeypatch.setattr(judgement, "check_sql", deaf)
    complaint = Judge().complaint("SELECT email FROM users", "postgres")
    assert complaint.startswith("unsafe: reads column users.email")


def test_what_is_found_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge()

    def complaint(text: str, dialect: str) -> str:
        return "unsafe: b" if "b" in text.split() and "d" in text.split() else ""

    monkeypatch.setattr(judge, "complaint", complaint)
    assert fuzz_grammar.shrunk(judge, "a b c d e", "sqlite", kind="unsafe") == "b d"
    with pytest.raises(fuzz_grammar.GuardAtFault, match="unsafe: b\nsqlite: 'b d'"):
        monkeypatch.setattr(fuzz_grammar, "statements", lambda _: st.just(("a b d", "sqlite")))
        fuzz_grammar.run_batch(judge, (), 0)


def test_what_atheris_reads(tmp_path: Path) -> None:
    assert fuzz_bytes.read(b"\x05SELECT \xff", ["a", "b"]) == ("SELECT \ufffd", "b")
    fuzz_bytes.write_seeds(tmp_path, ("SELECT 1", "x" * 5000))
    written = sorted((tmp_path / "corpus").iterdir())
    assert [len(path.read_bytes()) for path in written] == [9, fuzz_bytes.MAX_BYTES]
    assert '"\\x3b"' in (tmp_path / "words").read_text().splitlines()
