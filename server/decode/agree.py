"""Which of several answers most samples agree on: self-consistency (Wang et al. 2023).

Two queries agree if they are one text in canonical spelling, or if they give the same rows on
small databases made up from the schema and the queries. Takes CPU time: run it in a thread.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import structlog

from eval.task.dialect import parse_statements
from eval.task.ordering import is_ordered
from eval.task.rows import Row, same_rows
from eval.task.schema import Schema
from eval.task.statement import MAX_SQL_BYTES, MAX_TOKENS, SQLGLOT_FAILURES, normalize_sql
from eval.task.synthesis.database import Limits, answers, recipe
from eval.task.synthesis.translate import in_sqlite
from server.decode.candidate import Candidate
from server.decode.options import Agreement

log = structlog.get_logger()

NUM_DATABASES = 3
ROWS = 12
LIMITS = Limits(timeout_seconds=0.1, max_rows=2_000, max_bytes=4 << 20)


@dataclass(frozen=True, slots=True)
class Vote:
    """The winner, and how many candidates agree with it, itself included; None and 0 where none
    is valid."""

    winner: Candidate | None
    num_votes: int


def vote(candidates: Sequence[Candidate], schema: Schema, dialect: str, by: Agreement) -> Vote:
    """The likeliest of the valid candidates on which most agree.

    Among groups of one size the one with the likeliest member wins. The candidates' SQL is of
    `dialect`.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.valid:
            groups.setdefault(normalize_sql(candidate.check.sql, dialect), []).append(candidate)
    found = list(groups.values())
    if by == "execution" and len(found) > 1:
        found = _merged_if_possible(found, schema, dialect)
    if not found:
        return Vote(None, 0)
    best = max(found, key=lambda group: (len(group), max(map(_likelihood, group))))
    return Vote(max(best, key=_likelihood), len(best))


def as_sqlite(sql: str, dialect: str) -> str | None:
    """The query as SQLite runs it; None where sqlglot can't say it."""
    try:
        (tree,) = parse_statements(sql, dialect, max_bytes=MAX_SQL_BYTES, max_tokens=MAX_TOKENS)
    except (*SQLGLOT_FAILURES, ValueError):
        return None
    return in_sqlite(tree, dialect)


def _likelihood(candidate: Candidate) -> float:
    return candidate.completion.logprob


def _merged_if_possible(
    groups: list[list[Candidate]], schema: Schema, dialect: str
) -> list[list[Candidate]]:
    try:
        return _merged(groups, schema, dialect)
    except Exception:  # a schema that no rows can be made up for costs the vote, not the answer
        log.exception("vote_failed", dialect=dialect)
        return groups


def _merged(
    groups: Sequence[list[Candidate]], schema: Schema, dialect: str
) -> list[list[Candidate]]:
    """The groups, those with the same rows on every database in one."""
    queries = [as_sqlite(group[0].check.sql, dialect) for group in groups]
    merged: list[tuple[_Answers, list[Candidate]]] = []
    for found, group in zip(_all_answers(queries, schema), groups, strict=True):
        for other, members in merged:
            if found.same(other):
                members.extend(group)
                break
        else:
            merged.append((found, list(group)))
    return [members for _, members in merged]


@dataclass(frozen=True, slots=True)
class _Answers:
    """What one query answers on each database; None where it fails."""

    rows: tuple[tuple[Row, ...] | None, ...]
    is_ordered: bool

    def same(self, other: "_Answers") -> bool:
        """Also False where nothing was found: two empty answers say nothing."""
        ordered = self.is_ordered or other.is_ordered
        return any(self.rows) and all(
            mine is not None and theirs is not None and same_rows(mine, theirs, ordered=ordered)
            for mine, theirs in zip(self.rows, other.rows, strict=True)
        )


def _all_answers(queries: Sequence[str | None], schema: Schema) -> Iterator[_Answers]:
    readable = [sql for sql in queries if sql]
    found: list[list[tuple[Row, ...] | None]] = [[] for _ in queries]
    made = recipe(schema, readable)
    for seed in range(NUM_DATABASES):
        with closing(made.database(seed=seed, rows=ROWS)) as database:
            for rows, sql in zip(found, queries, strict=True):
                rows.append(answers(database, sql, LIMITS) if sql else None)
    for rows, sql in zip(found, queries, strict=True):
        yield _Answers(tuple(rows), bool(sql and is_ordered(sql)))
