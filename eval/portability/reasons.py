"""Why engines part over a query: by what they say, and by a trial where they say nothing.

A reason is a statement about SQL, not about the judge: each engine's verdict is right for it.
"""

import re
from itertools import pairwise

from sqlglot import exp

from eval.portability.agreement import Case, Engine
from eval.task.dialect import parse_statements
from eval.task.ordering import MAX_SQL_BYTES
from eval.task.rows import same_rows
from eval.task.sqlite_judge import Answer
from eval.task.statement import SQLGLOT_FAILURES

REASONS = {
    "strict_group_by": "a column that is neither grouped nor aggregated: PostgreSQL refuses it, "
    "the others take the value of any row",
    "strict_distinct_order": "DISTINCT rows ordered by what is not among their columns: "
    "PostgreSQL refuses it, the others take the value of any row",
    "strict_types": "text meets a number: PostgreSQL refuses it, MariaDB makes the text a number, "
    "SQLite goes by the column's declared type",
    "scalar_subquery": "a subquery of several rows where one value stands: SQLite takes the first, "
    "the others refuse it",
    "division_by_zero": "division by zero: an error on PostgreSQL, NULL on the others",
    "not_supported": "a function or form that the engine does not have",
    "not_translatable": "sqlglot knows no form of it in the engine's dialect",
    "time_limit": "over the time limit on one engine",
    "limit_of_ties": "LIMIT without an order that says which rows come first; without the LIMIT "
    "all engines have the same rows",
    "row_order": "the gold query orders its rows, the prediction does not, or not fully: "
    "right where the rows happen to come in that order; all engines have the same rows",
    "several": "one engine refuses the query, and those that run it part as well, over the value "
    "of any row, over ties or over text as a number: not told apart here, to be read by hand",
    "unexplained": "none of these",
}
MESSAGES = (
    ("strict_group_by", r"must appear in the GROUP BY clause"),
    ("strict_distinct_order", r"for SELECT DISTINCT, ORDER BY expressions"),
    ("scalar_subquery", r"more than (one|1) row"),
    ("division_by_zero", r"division by zero"),
    ("time_limit", r"^over .* s$"),
    (
        "strict_types",
        r"operator does not exist|cannot be matched|invalid input syntax|must be type boolean|"
        r"function (avg|sum)\((text|character varying)\)",
    ),
    (
        "not_supported",
        r"no such|does not exist|doesn't exist|doesn't yet support|syntax|must have an alias",
    ),
)


def reason_of_error(error: str | None) -> str:
    """The reason, one of `REASONS`, in an engine's message; None is a query not translated."""
    if error is None:
        return "not_translatable"
    found = (name for name, pattern in MESSAGES if re.search(pattern, error, re.IGNORECASE))
    return next(found, "unexplained")


def reason_of_difference(case: Case) -> str:
    """Why the verdicts of `case` differ, one of `REASONS`.

    An engine's message is the reason only where the engines that run the query agree.
    """
    if errors := case.errors:
        others = {verdict for dialect, verdict in case.verdicts.items() if dialect not in errors}
        reasons = {reason_of_error(error) for error in errors.values()}
        return reasons.pop() if len(others) == len(reasons) == 1 else "several"
    try:
        golds = [_unlimited(engine, engine.gold) for engine in case.engines]
        predicted = [_unlimited(engine, case.predicted[engine.dialect]) for engine in case.engines]
    except SQLGLOT_FAILURES:
        return "unexplained"
    if not (_have_same_rows(golds) and _have_same_rows(predicted)):
        return "unexplained"
    has_limit = any(had_limit for _, had_limit in golds + predicted)
    return "limit_of_ties" if has_limit else "row_order"


def _unlimited(engine: Engine, sql: str) -> tuple[Answer, bool]:
    """The answer to `sql` without its LIMITs, and whether it had any."""
    limits = {"max_bytes": MAX_SQL_BYTES, "max_tokens": MAX_SQL_BYTES}
    (tree,) = parse_statements(sql, engine.dialect, **limits)
    found = list(tree.find_all(exp.Limit))
    for limit in found:
        limit.pop()
    return engine.context.run(tree.sql(engine.dialect)), bool(found)


def _have_same_rows(found: list[tuple[Answer, bool]]) -> bool:
    """True if all engines ran the query, and their answers hold the same rows in any order."""
    answers = [answer for answer, _ in found]
    return all(answer.error is None for answer in answers) and all(
        same_rows(one.rows, other.rows, ordered=False) for one, other in pairwise(answers)
    )
