"""Measures that read the two queries only. Know nothing of rows."""

from contextlib import suppress

from eval.canonical.equivalence import is_equivalent
from eval.measures.context import Context
from eval.task.sql import check_sql
from eval.task.statement import SQLGLOT_FAILURES, normalize_sql


def exact_match(predicted: str, gold: str, context: Context) -> float:
    """1.0 if both texts are equal after `eval.task.sql.normalize_sql` (EM).

    "Logical form accuracy" of Zhong et al., "Seq2SQL" (2017), less spelling; not Spider's exact
    set match (Yu et al. 2018), which compares clauses as sets and ignores values.
    """
    dialect = context.question.dialect
    with suppress(*SQLGLOT_FAILURES):
        return float(normalize_sql(predicted, dialect) == normalize_sql(gold, dialect))
    return 0.0


def canonical_match(predicted: str, gold: str, context: Context) -> float | None:
    """1.0 if rewriting shows that both queries have the same answer on every database.

    Our own measure, defined by `eval.canonical`: names resolved, aliases and brackets removed,
    conditions in conjunctive normal form, what commutes in order. It claims nothing else: 0.0 may
    be an equivalent query too, 1.0 is never a different one, nor one that the database refuses
    (`UCASE(x)` reads as `UPPER(x)`). None where the gold query can't be parsed.
    """
    question = context.question
    found = is_equivalent(predicted, gold, question.schema, dialect=question.dialect)
    if found is None:
        return None
    return float(found and context.run(predicted).error is None)


def valid_sql(predicted: str, gold: str, context: Context) -> float:
    """1.0 if the text is one read-only query over the schema, as `eval.task.sql.check_sql`
    defines it; asked here, whatever a server says."""
    question = context.question
    with suppress(*SQLGLOT_FAILURES):
        return float(check_sql(predicted, question.schema, question.dialect).valid)
    return 0.0
