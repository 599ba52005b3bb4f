"""Measures that run the queries: execution accuracy in three definitions, test suites, speed.

The gold query must run: where it does not, each raises JudgeError. An empty prediction does not
run, though SQLite takes it for a query without rows.
"""

import math
import time
from functools import lru_cache
from statistics import fmean, pstdev

from sqlglot import tokenize
from sqlglot.errors import SqlglotError

from eval.execution import Database
from eval.measures.context import Context
from eval.task.ordering import is_ordered
from eval.task.rows import same_blocks, same_rows, same_sets
from eval.task.sqlite_judge import Answer, JudgeError
from eval.ties import tied_blocks

VES_REPEATS = 10


def execution_accuracy(predicted: str, gold: str, context: Context) -> float:
    """1 if the prediction returns the gold query's rows on the question's database (EX).

    Rows are a bag: duplicates count. Their order counts where the gold query has a top-level ORDER
    BY, though rows that tie under it may stand in any order. Columns keep their order unless
    `context.permute_columns`. Numbers may differ by floating-point noise (`eval.task.rows`).
    After Zhong, Yu and Klein, "Semantic Evaluation for Text-to-SQL with Distilled Test Suites"
    (2020), whose own rules are `execution_accuracy_spider`.
    """
    expected, found = _expected(gold, context), context.run(predicted)
    return float(_is_right(expected, found, gold, context.database, context.permute_columns))


def execution_accuracy_nonempty(predicted: str, gold: str, context: Context) -> float | None:
    """`execution_accuracy` where the gold answer holds a row, else None.

    Our own: an empty answer equals every other one, also that of a wrong query.
    """
    if not _expected(gold, context).rows:
        return None
    return execution_accuracy(predicted, gold, context)


def execution_accuracy_spider(predicted: str, gold: str, context: Context) -> float:
    """Execution accuracy as Spider's official script has it, on one database.

    `eval_exec_match` of taoyds/test-suite-sql-eval (Zhong, Yu and Klein 2020) with its defaults:
    every DISTINCT is dropped from both queries, `> =` mended to `>=`; then rows are a bag, columns
    may be permuted, order counts where the gold *text* holds "order by", and values are exact. Two
    empty answers are the same whatever their columns. Unlike there, a text that is no query is
    wrong, and nothing can write.
    """
    expected = _expected(_as_spider_reads(gold), context)
    found = context.run(_as_spider_reads(predicted))
    if found.error is not None:
        return 0.0
    ordered = "order by" in gold.lower()
    return float(
        same_rows(expected.rows, found.rows, ordered=ordered, permute_columns=True, exact=True)
    )


def execution_accuracy_bird(predicted: str, gold: str, context: Context) -> float:
    """Execution accuracy as BIRD has it: both answers hold the same set of rows.

    `calculate_ex` of `evaluation_ex.py` (Li et al., "Can LLM Already Serve as a Database
    Interface?", 2023): duplicates and order are ignored, columns keep their order, values are
    exact. Unlike there, a text that is no query is wrong.
    """
    expected, found = _expected(gold, context), context.run(predicted)
    return float(found.error is None and same_sets(expected.rows, found.rows))


def runs(predicted: str, gold: str, context: Context) -> float:
    """1 if the database executes the prediction without an error, within its limits.

    One minus the execution errors of Scholak et al., "PICARD" (2021).
    """
    return float(context.run(predicted).error is None)


def test_suite_accuracy(predicted: str, gold: str, context: Context) -> float | None:
    """1 if the prediction is right on the question's database and on every one of its suite (TS).

    Zhong, Yu and Klein (2020), section 2, with the rules of `execution_accuracy`. A database of
    the suite on which the gold query fails is left out; None without a suite.
    """
    if not context.suite:
        return None
    if not execution_accuracy(predicted, gold, context):
        return 0.0
    permute = context.permute_columns
    for database in context.suite:
        expected = database.run(gold)
        if expected.error is None and not _is_right(
            expected, database.run(predicted), gold, database, permute
        ):
            return 0.0
    return 1.0


def ves(predicted: str, gold: str, context: Context) -> float:
    """Valid efficiency score of one prediction: sqrt(gold seconds / its own seconds), 0 if wrong.

    Li et al. 2023, section 4.2, and `evaluation_ves.py`: right by `execution_accuracy_bird`; the
    ratio is the mean over repeats, those 3 standard deviations from it left out. Here rows are
    fetched as well. Over 1 where the prediction is faster. Depends on the machine and its load:
    never compare across machines.
    """
    if not execution_accuracy_bird(predicted, gold, context):
        return 0.0
    ratios = []
    for _ in range(VES_REPEATS):
        predicted_seconds = _seconds(predicted, context.database)
        ratios.append(_seconds(gold, context.database) / predicted_seconds)
    mean, deviation = fmean(ratios), pstdev(ratios)
    usual = [ratio for ratio in ratios if abs(ratio - mean) < 3 * deviation]
    return math.sqrt(fmean(usual or ratios))


def _expected(gold: str, context: Context) -> Answer:
    answer = context.run(gold)
    if answer.error is not None:
        raise JudgeError(f"gold query fails: {answer.error}")
    return answer


def _is_right(
    expected: Answer, found: Answer, gold: str, database: Database, permute_columns: bool
) -> bool:
    if found.error is not None or len(expected.columns) != len(found.columns):
        return False
    ordered = is_ordered(gold, database.dialect)
    if same_rows(expected.rows, found.rows, ordered=ordered, permute_columns=permute_columns):
        return True
    if not (ordered and len(expected.rows) == len(found.rows)):
        return False
    blocks = tied_blocks(gold, expected, database)
    return same_blocks(expected.rows, found.rows, blocks, permute_columns=permute_columns)


@lru_cache(maxsize=256)
def _as_spider_reads(sql: str) -> str:
    for operator in (">=", "<=", "!="):
        sql = sql.replace(" ".join(operator), operator)
    try:
        tokens = tokenize(sql, read="sqlite")
    except SqlglotError:
        return sql
    for token in reversed(tokens):
        if token.text.upper() == "DISTINCT":
            sql = sql[: token.start] + sql[token.end + 1 :]
    return sql


def _seconds(sql: str, database: Database) -> float:
    start = time.perf_counter()
    database.run(sql)
    return time.perf_counter() - start
