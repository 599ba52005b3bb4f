"""Why a predicted query is wrong: classes for error analysis, first the one that explains most.

Reads texts, the schema and what the database said; never runs anything.
"""

import re
from collections.abc import Iterator
from contextlib import suppress

from eval.canonical.equivalence import is_equivalent
from eval.queries.clauses import parse_query
from eval.queries.edits import changes
from eval.queries.sql_diff import Kind, Run, sql_diff
from eval.task.schema import Schema
from eval.task.sql import SqlCheck, check_sql
from eval.task.statement import SQLGLOT_FAILURES

__all__ = ["CLASSES", "Kind", "Run", "diagnose", "sql_diff"]

MAX_NODES = 600
# With one of these there is no query whose clauses could be compared.
NO_QUERY = frozenset({"no_prediction", "no_statement", "unparsable", "not_a_query"})

# In the order in which they explain a failure.
CLASSES = {
    "no_prediction": "nothing was answered: the request failed, or the text is empty",
    "no_statement": "only comments or semicolons, no query",
    "unparsable": "not SQL of the dialect, or too complex to be read",
    "several_statements": "more than one statement",
    "not_a_query": "a statement that is no query",
    "unknown_table": "a table that the schema does not have",
    "unknown_column": "a column that no table of the query has",
    "repeated_table": "a table twice in one FROM under one name",
    "ambiguous_column": "a column that two tables of the query have",
    "wrong_function": "a function that the database lacks, or uses in another way",
    "timed_out": "the database took too long",
    "too_many_rows": "more rows than are read",
    "other_execution_error": "the database refused it for another reason",
    "wrong_set_operation": "UNION, INTERSECT or EXCEPT is missing, extra or another one",
    "wrong_nesting": "a subquery is missing or extra",
    "wrong_table": "another table",
    "missing_table": "a table of the gold query is not joined",
    "extra_table": "a table is joined that the gold query does not read",
    "wrong_join_type": "an inner join for an outer one, or the reverse",
    "wrong_join_condition": "the right tables, joined on other columns",
    "wrong_aggregate": "another aggregate, or one is missing or extra",
    "missing_column": "the answer has too few columns",
    "extra_column": "the answer has too many columns",
    "wrong_column": "another column in the answer",
    "wrong_expression": "another expression of the right columns",
    "wrong_column_order": "the right columns in another order",
    "missing_condition": "a condition of the gold query is missing",
    "extra_condition": "a condition that the gold query does not have",
    "wrong_column_in_condition": "a condition on another column",
    "wrong_operator": "another comparison",
    "wrong_value": "a comparison with another value",
    "wrong_connective": "AND for OR, or the reverse",
    "wrong_group": "other columns in GROUP BY",
    "wrong_having": "another HAVING",
    "wrong_distinct": "DISTINCT is missing or extra",
    "wrong_order": "another ORDER BY",
    "wrong_limit": "another LIMIT",
    "unsupported": "a construct that the check refuses",
    "equivalent_looking": "no difference in the trees: the answers differ by ties or row order",
    "other": "none of the above",
}

VIOLATIONS = {
    "empty": "no_prediction",
    "too_complex": "unparsable",
    "unparsable": "unparsable",
    "not_a_query": "not_a_query",
    "unknown_table": "unknown_table",
    "unknown_column": "unknown_column",
    "ambiguous_column": "ambiguous_column",
    "denied_node": "unsupported",
    "denied_function": "unsupported",
    "unsupported_source": "unsupported",
    "not_transpilable": "unsupported",
}
# What SQLite, PostgreSQL and MariaDB say, lower case; the first that is found counts.
MESSAGES = (
    (r"^over .* rows|too many rows", "too_many_rows"),
    (r"^over .* s$|timeout|time limit|max_statement_time|interrupted", "timed_out"),
    (r"holds no statement|^empty query", "no_statement"),
    (r"one statement at a time|multiple (commands|statements)", "several_statements"),
    (r"no such table|relation .* does not exist|table .* doesn't exist|missing from-clause"
     r"|unknown table", "unknown_table"),
    (r"ambiguous", "ambiguous_column"),
    (r"function|misuse of|wrong number of arguments|operator does not exist", "wrong_function"),
    (r"no such column|column .* does not exist|unknown column", "unknown_column"),
    (r"syntax error|incomplete input|unrecognized token|error in your sql syntax", "unparsable"),
    (r"not authorized|not a query|readonly|read-only", "not_a_query"),
)  # fmt: skip


def diagnose(
    predicted: str,
    gold: str,
    schema: Schema,
    *,
    dialect: str = "sqlite",
    execution_error: str | None = None,
) -> tuple[str, ...]:
    """The classes of `CLASSES` that a wrong prediction falls into, in their order; never raises.

    `execution_error` is what the database said of it, None where it ran or was not tried.
    """
    check = check_sql(predicted, schema, dialect)
    found = set(_violated(check, predicted, dialect))
    if execution_error is not None:
        found.add(_error_class(execution_error))
    with suppress(*SQLGLOT_FAILURES):
        if found & NO_QUERY:
            return _ordered(found)
        found |= _differences(predicted, gold, schema, dialect)
        if not found and is_equivalent(predicted, gold, schema, dialect=dialect):
            found.add("equivalent_looking")
    return _ordered(found)


def _ordered(found: set[str]) -> tuple[str, ...]:
    return tuple(name for name in CLASSES if name in found) or ("other",)


def _differences(predicted: str, gold: str, schema: Schema, dialect: str) -> set[str]:
    ours, theirs = parse_query(predicted, dialect), parse_query(gold, dialect)
    if ours is None or theirs is None:
        return set()
    if sum(1 for tree in (ours, theirs) for _ in tree.walk()) > MAX_NODES:
        return set()
    return changes(ours, theirs, schema)


def _violated(check: SqlCheck, predicted: str, dialect: str) -> Iterator[str]:
    for violation in check.violations:
        if violation.code == "not_one_statement":
            is_none = violation.message.startswith("0 ")
            yield "no_statement" if is_none else "several_statements"
        elif "Alias already used" in violation.message:
            yield "repeated_table"
        elif not _is_string(violation.name, predicted, dialect):
            yield VIOLATIONS.get(violation.code, "other")


def _is_string(name: str, predicted: str, dialect: str) -> bool:
    """True for `"such"`, which SQLite takes for a string where no column has the name."""
    return dialect == "sqlite" and bool(name) and f'"{name}"' in predicted


def _error_class(error: str) -> str:
    text = error.lower()
    found = (name for pattern, name in MESSAGES if re.search(pattern, text))
    return next(found, "other_execution_error")
