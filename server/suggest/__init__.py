"""Suggestions on a valid query: what it costs, and how to say it for less, tried before it is said.

Reads the query and the schema only: no row of any database, no index, no plan.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import structlog
from sqlglot import exp
from sqlglot.errors import SqlglotError

from eval.task.dialect import parse_statements, resolve_dialect
from eval.task.names import ROW_IDS
from eval.task.schema import Schema
from eval.task.sql import check_sql
from eval.task.statement import MAX_SQL_BYTES, MAX_TOKENS
from server.suggest.conditions import redundant_condition
from server.suggest.distinct import count_distinct_key, distinct_over_key, redundant_distinct
from server.suggest.indexes import index_hint
from server.suggest.joins import missing_join_condition
from server.suggest.order import redundant_order
from server.suggest.sargable import non_sargable
from server.suggest.stars import select_star
from server.suggest.suggestion import Draft, Kind, Known, Proof, Rule, Suggestion
from server.suggest.trial import Verdict, try_rewrites
from server.suggest.unused import unused_join

__all__ = ["Kind", "Proof", "Suggestion", "suggest"]

log = structlog.get_logger()
BUDGET_MS = 20.0
MAX_SUGGESTIONS = 8
# A larger query is not looked at: rules walk a query once for each of its parts.
MAX_NODES = 400
RULES: tuple[Rule, ...] = (
    missing_join_condition,
    unused_join,
    non_sargable,
    redundant_condition,
    distinct_over_key,
    count_distinct_key,
    redundant_distinct,
    redundant_order,
    select_star,
    index_hint,
)


def suggest(
    query: str | exp.Query, schema: Schema, dialect: str = "sqlite", *, budget_ms: float = BUDGET_MS
) -> tuple[Suggestion, ...]:
    """What may be said of `query`, a valid one in `dialect`; the most important first.

    Takes about `budget_ms` milliseconds at most: then rules that were not asked are left out, and
    rewrites that were not tried on enough databases are unproved. A rewrite that gave other rows on
    any of them is not shown. Empty for what can't be read.

    Raises:
        DialectError: nobody knows `dialect`.
    """
    deadline = time.monotonic() + budget_ms / 1000
    known = Known(schema, resolve_dialect(dialect))
    try:
        tree = _read(query, known)
        return _advise(tree, known, deadline) if tree is not None else ()
    except Exception:  # advice is worth less than the answer that it comes with
        log.exception("suggestion_failed", dialect=known.dialect)
        return ()


def _advise(tree: exp.Query, known: Known, deadline: float) -> tuple[Suggestion, ...]:
    drafts = list(islice(_drafts(tree, known, deadline), MAX_SUGGESTIONS))
    tried = [d for d in drafts if d.rewrite is not None and d.keeps_result]
    rewrites = [d.rewrite for d in tried if d.rewrite is not None]
    verdicts = try_rewrites(tree, rewrites, known, deadline=deadline)
    told = {id(draft): verdict for draft, verdict in zip(tried, verdicts, strict=True)}
    found = [(draft, told.get(id(draft), Verdict())) for draft in drafts]
    return tuple(_suggestion(d, verdict, known) for d, verdict in found if not verdict.differs)


def _read(query: str | exp.Query, known: Known) -> exp.Query | None:
    """The tree of `query`, if it is one whose names mean what the rules take them to mean."""
    tree: exp.Expr | None = query if isinstance(query, exp.Query) else None
    if isinstance(query, str):
        limits = {"max_bytes": MAX_SQL_BYTES, "max_tokens": MAX_TOKENS}
        try:
            (tree,) = parse_statements(query, known.dialect, **limits)
        except (SqlglotError, ValueError):
            return None
    if not isinstance(tree, exp.Query) or sum(1 for _ in tree.walk()) > MAX_NODES:
        return None
    hides = any(known.schema.find(cte.alias) for cte in tree.find_all(exp.CTE))
    has_row_ids = any(column.name.lower() in ROW_IDS for column in tree.find_all(exp.Column))
    return None if hides or has_row_ids else tree


def _drafts(tree: exp.Query, known: Known, deadline: float) -> Iterator[Draft]:
    """What the rules find: each rewrite once, by the first rule that comes to it."""
    seen: set[object] = set()
    for rule in RULES:
        for draft in rule(tree, known):
            found = draft.rewrite or (draft.kind, draft.message)
            if found not in seen:
                seen.add(found)
                yield _checked(draft, known)
            if time.monotonic() > deadline:
                return


def _checked(draft: Draft, known: Known) -> Draft:
    """`draft` without its rewrite where that is no valid query."""
    rewrite = draft.rewrite
    is_valid = (
        rewrite is not None
        and check_sql(rewrite.sql(known.dialect, comments=False), known.schema, known.dialect).valid
    )
    return draft if is_valid else replace(draft, rewrite=None)


def _suggestion(draft: Draft, verdict: Verdict, known: Known) -> Suggestion:
    def write(node: exp.Expr) -> str:
        return node.sql(known.dialect, comments=False)

    if draft.rewrite is None:
        return Suggestion(draft.kind, draft.message, write(draft.clause))
    proof = Proof.UNPROVED if draft.keeps_result else Proof.CHANGES_RESULT
    return Suggestion(
        draft.kind,
        draft.message,
        write(draft.clause),
        write(draft.rewrite),
        Proof.EQUIVALENT if verdict.is_proved else proof,
        verdict.num_databases if verdict.is_proved else 0,
        draft.assumes,
    )
