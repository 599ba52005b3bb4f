"""What the guard lets pass can't change a real database, though the role that runs it may write.

`SQLWRIGHT_GUARD_QUERIES` says how many queries are generated for each engine (1,000).
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from random import Random

import pytest

from benchmarks.corpus import load_corpus
from eval.task.dialect import resolve_dialect
from eval.task.grants import Grants
from eval.task.samples import sample_examples, sample_schema
from eval.task.sql import check_sql
from tests.fuzz.grammar import mutate, write_query
from tests.fuzz.judgement import GRANTS
from tests.integration.guarded import CANARY, Guarded, GuardedServer, guarded

FIXTURES = Path(__file__).parents[1] / "fixtures"
ENGINES = ("sqlite", "postgres", "mysql")
NUM_QUERIES = int(os.environ.get("SQLWRIGHT_GUARD_QUERIES", "1000"))
SEED = 20261122
# What a server says to a role that may not.
DENIED = re.compile(r"permission denied|SELECT command denied")
# What gives another answer a moment later.
CLOCK = re.compile(r"\bnow\b|\bcurrent_", re.IGNORECASE)
# Between two looks at the state.
CHUNK = 100
HARM = {
    "sqlite": (
        "DELETE FROM users WHERE id = 3",
        "UPDATE products SET stock = 0",
        "CREATE TABLE gone AS SELECT 1",
        "SELECT evil('x')",
        "PRAGMA user_version = 7",
        "ATTACH '' AS x",
    ),
    "postgres": (
        "WITH d AS (DELETE FROM reviews RETURNING 1) SELECT * FROM d",
        "SELECT name FROM users; UPDATE products SET stock = 0",
        "SELECT * INTO gone FROM users",
        "SELECT evil('x')",
        "SELECT nextval('s')",
        "SELECT set_config('work_mem', '1MB', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT lo_from_bytea(0, 'x')",
        "COMMENT ON TABLE users IS 'x'; GRANT SELECT ON users TO PUBLIC",
    ),
    "mysql": (
        "DELETE FROM order_items LIMIT 1",
        "SELECT name FROM users; UPDATE products SET stock = 0",
        "CREATE TABLE gone AS SELECT 1 AS x",
        "SELECT evil('x')",
        "SELECT NEXT VALUE FOR s",
        "SELECT @x := 7",
        "SELECT GET_LOCK('x', 1)",
        "SELECT LAST_INSERT_ID(7)",
        "SET sql_mode = ''",
    ),
}
# Values that need escapes somewhere, or look like more than text.
STRINGS = (
    "\\", "\\'", "'", "''", "\\\\", "\\n", "a\nb", "\t", "`", '"', '"; DROP TABLE users; --',
    "%", "%s", "--", "/*", "/*! x */", ";", "#", "$$", "$1", ":x", "?", "{}",
    "\\u0041", "\\x27", "\\0", "Zoë 😀", " x ", "", "[a]", "E'", "\\'; DROP TABLE users; -- ",
)  # fmt: skip
LEAKS = {
    "sqlite": "SELECT token FROM secrets",
    "postgres": 'SELECT * FROM "Users"',
    "mysql": "SELECT name FROM users UNION SELECT token FROM secrets",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Guarded]]:
    with ExitStack() as stack:

        @cache
        def prepare(dialect: str) -> Guarded:
            return stack.enter_context(guarded(dialect, tmp_path_factory.mktemp("guarded")))

        yield prepare


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, prepared: Callable[[str], Guarded]) -> Guarded:
    return prepared(request.param)


def assert_harmless(database: Guarded, statements: list[str], *, min_share: float) -> None:
    """Run all of `statements`; at least `min_share` of them without an error."""
    num_ran = 0
    for start in range(0, len(statements), CHUNK):
        chunk = statements[start : start + CHUNK]
        before = database.state()
        for sql in chunk:
            rows, error = database.run(sql)
            num_ran += not error
            assert CANARY not in repr(rows), sql
            assert CANARY not in error, sql
        assert database.state() == before, chunk
    assert num_ran >= min_share * len(statements), num_ran


def passing(
    texts: Iterable[tuple[str, str]], write: str, grants: Grants | None = None
) -> list[str]:
    """What the guard gives in dialect `write` for those of `texts` (with dialects) it lets pass."""
    schema = sample_schema("shop")
    checks = (check_sql(text, schema, read, write, grants=grants) for text, read in texts)
    return [check.sql for check in checks if check.valid]


def generated(dialect: str) -> list[tuple[str, str]]:
    """Random queries and mutations of the corpus, each with its dialect."""
    rng = Random(SEED)
    corpus = tuple(
        case.sql
        for case in load_corpus(FIXTURES / "hostile", ENGINES)
        if resolve_dialect(case.dialect) == dialect and case.kind != "bomb"
    )
    return [
        (mutate(rng, corpus) if rng.random() < 0.3 else write_query(rng, dialect), dialect)
        for _ in range(NUM_QUERIES)
    ]


def test_what_passes_of_the_corpus_changes_nothing(database: Guarded) -> None:
    written = database.dialect
    cases = load_corpus(FIXTURES / "hostile", ENGINES)
    named = ((c, resolve_dialect(c.dialect)) for c in cases if c.kind not in ("bomb", "grants"))
    texts = {(case.sql, dialect) for case, dialect in named}
    found = passing(sorted(texts), written)
    assert found
    assert_harmless(database, found, min_share=0.5)


def ordinary(dialect: str) -> list[tuple[str, str]]:
    """Ordinary queries over `shop` with the dialect of each; `dialect` for those of any."""
    rows = map(json.loads, (FIXTURES / "benign.jsonl").read_text(encoding="utf-8").splitlines())
    texts = [(row["sql"], d) for row in rows if row["schema"] == "shop" for d in row["dialects"]]
    examples = [e for split in ("train", "test") for e in sample_examples(split)]
    texts += [(e.sql, e.dialect) for e in examples if e.db_id == "shop"]
    return [(text, dialect if read == "*" else read) for text, read in texts]


def test_what_is_regenerated_answers_as_the_text_does(database: Guarded) -> None:
    for text, read in ordinary(database.dialect):
        if read == database.dialect and not CLOCK.search(text):
            (sql,) = passing([(text, read)], read)
            assert database.run(sql) == database.run(text), sql


def test_ordinary_queries_run_and_change_nothing(database: Guarded) -> None:
    found = passing(ordinary(database.dialect), database.dialect)
    assert len(found) > 100
    assert_harmless(database, found, min_share=0.8)


def test_what_passes_of_generated_queries_changes_nothing(database: Guarded) -> None:
    found = passing(generated(database.dialect), database.dialect)
    assert len(found) > 0.2 * NUM_QUERIES
    assert_harmless(database, found, min_share=0.5)


@pytest.mark.parametrize("dialect", ["postgres", "mysql"])
def test_the_server_would_grant_what_passes_under_grants(
    dialect: str, prepared: Callable[[str], Guarded]
) -> None:
    """The role that asks has the same grants on the server, and is never denied."""
    database = prepared(dialect)
    assert isinstance(database, GuardedServer)
    cases = load_corpus(FIXTURES / "hostile", [dialect])
    texts = [(case.sql, dialect) for case in cases if case.kind in ("grants", "hidden")]
    found = passing([*generated(dialect), *ordinary(dialect), *texts], dialect, GRANTS)
    assert len(found) > 0.05 * NUM_QUERIES
    with database.limited(GRANTS) as error_of:
        assert DENIED.search(error_of("SELECT email FROM users"))
        assert DENIED.search(error_of("SELECT * FROM users"))
        assert DENIED.search(error_of("SELECT 1 FROM reviews"))
        assert error_of("SELECT id, name FROM users") == ""
        errors = {sql: error_of(sql) for sql in found}
    assert {sql: error for sql, error in errors.items() if DENIED.search(error)} == {}
    assert sum(not error for error in errors.values()) > 0.5 * len(errors)


def literal(value: str, dialect: str) -> str:
    escaped = value.replace("\\", "\\\\") if dialect == "mysql" else value
    return "'" + escaped.replace("'", "''") + "'"


def test_strings_keep_their_value_in_every_engine(database: Guarded) -> None:
    """A quote or backslash that one dialect escapes otherwise would let the rest of a text out."""
    for read in ENGINES:
        for value in STRINGS:
            sql = f"SELECT {literal(value, read)} AS x"
            check = check_sql(sql, sample_schema("shop"), read, database.dialect)
            assert check.violations == (), sql
            assert database.run(check.sql) == ([(value,)], ""), check.sql


@pytest.mark.parametrize("dialect", ENGINES)
def test_harm_would_be_seen(dialect: str, tmp_path: Path) -> None:
    """The role may write, and each kind of harm changes the state: so the tests above can fail."""
    with guarded(dialect, tmp_path) as database:
        for sql in HARM[dialect]:
            before = database.state()
            assert database.state() == before
            _, error = database.run(sql)
            assert error == "", sql
            assert database.state() != before, sql
        rows, _ = database.run(LEAKS[dialect])
        assert CANARY in repr(rows)
