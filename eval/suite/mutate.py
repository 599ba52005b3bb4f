"""Near misses of a gold query: each is the query with one small thing wrong.

Works on sqlglot's tree. Says nothing of whether a near miss has another answer: some are
equivalent on every database, and a few fail to run.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlglot import exp

from eval.suite import change, column_mutations, mutations
from eval.task.schema import Schema
from eval.task.statement import SQLGLOT_FAILURES, normalize_sql
from eval.task.synthesis.scope import parse_query
from eval.task.trees import Edit, edited

Operator = Callable[[exp.Expr, change.Facts], Iterator[change.Change]]

OPERATORS: dict[str, Operator] = {
    "changed_literal": mutations.changed_literal,
    "dropped_predicate": mutations.dropped_predicate,
    "flipped_order": mutations.flipped_order,
    "other_aggregate": column_mutations.other_aggregate,
    "changed_operator": mutations.changed_operator,
    "and_or": mutations.and_or,
    "dropped_order": mutations.dropped_order,
    "other_sort_column": column_mutations.other_sort_column,
    "changed_limit": mutations.changed_limit,
    "changed_distinct": column_mutations.changed_distinct,
    "other_column": column_mutations.other_column,
    "dropped_join": column_mutations.dropped_join,
    "other_join_key": column_mutations.other_join_key,
    "outer_join": column_mutations.outer_join,
    "dropped_group": mutations.dropped_group,
    "dropped_having": mutations.dropped_having,
    "changed_set_operation": mutations.changed_set_operation,
    "negated_membership": mutations.negated_membership,
    "dropped_subquery": mutations.dropped_subquery,
}
KINDS = tuple(OPERATORS)
# Those that the project's figure `judge_mutation_catch_rate` is about.
MAIN_KINDS = ("changed_literal", "dropped_predicate", "flipped_order", "other_aggregate")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A near miss; `kind` is one of `KINDS`."""

    kind: str
    sql: str


def mutants(
    sql: str, schema: Schema, *, keys: frozenset[change.Key] = frozenset()
) -> Iterator[Mutant]:
    """The near misses of the SQLite query `sql`, kind by kind in the order of `KINDS`.

    No two have the same canonical text (`normalize_sql`), and none has that of `sql`. A text that
    is not one query has none. `keys` are column sets besides the primary keys that no two rows
    share, as (table, columns) in lower case: DISTINCT over them is no mistake.
    """
    try:
        tree = parse_query(sql)
    except SQLGLOT_FAILURES:
        return
    if tree is None:
        return
    facts = change.Facts(schema, keys)
    seen = {normalize_sql(sql)}
    for kind, operator in OPERATORS.items():
        for node, edit in operator(tree, facts):
            text = _edited(tree, node, edit)
            canonical = normalize_sql(text) if text else ""
            if text and canonical not in seen:
                seen.add(canonical)
                yield Mutant(kind, text)


def _edited(tree: exp.Query, node: exp.Expr, edit: Edit) -> str:
    """The text of a copy of `tree` after `edit` was done to its twin of `node`; "" where that
    leaves no SQL."""
    try:
        copy = edited(tree, node, edit)
        return str(copy.sql("sqlite", comments=False)) if copy is not None else ""
    except SQLGLOT_FAILURES:
        return ""
