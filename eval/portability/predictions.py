"""Queries to judge against a gold query: right ones in other words, near misses, other golds.

Works on text and trees; runs nothing.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from eval.suite.mutate import mutants
from eval.task.dialect import parse_statements
from eval.task.ordering import MAX_SQL_BYTES
from eval.task.schema import Schema
from eval.task.statement import SQLGLOT_FAILURES

MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
    exp.GT: exp.LT,
    exp.LT: exp.GT,
    exp.GTE: exp.LTE,
    exp.LTE: exp.GTE,
    exp.And: exp.And,
    exp.Or: exp.Or,
}


@dataclass(frozen=True, slots=True)
class Prediction:
    """A query in SQLite's words. `kind`: gold, mirrored, other_gold or a kind of near miss."""

    kind: str
    sql: str


def predictions(
    gold: str, schema: Schema, others: Sequence[str], *, num_mutants: int
) -> Iterator[Prediction]:
    """The gold query itself, mirrored, `num_mutants` near misses at most, one of `others`.

    Which ones depends on the text of the gold query alone.
    """
    choice = random.Random(gold)
    yield Prediction("gold", gold)
    if (other_words := mirrored(gold)) != gold:
        yield Prediction("mirrored", other_words)
    found = list(mutants(gold, schema))
    for mutant in choice.sample(found, min(num_mutants, len(found))):
        yield Prediction(mutant.kind, mutant.sql)
    if different := [other for other in others if other != gold]:
        yield Prediction("other_gold", choice.choice(different))


def mirrored(sql: str) -> str:
    """`sql` with the sides of each comparison, AND and OR exchanged: its answer is the same."""
    try:
        (tree,) = parse_statements(sql, "sqlite", max_bytes=MAX_SQL_BYTES, max_tokens=MAX_SQL_BYTES)
        for node in list(tree.find_all(*MIRRORED)):
            left, right = node.this, node.expression
            kind = MIRRORED[type(node)]
            node.replace(kind(this=right, expression=left))
        return tree.sql("sqlite")
    except SQLGLOT_FAILURES:
        return sql
