"""Rows that tie under a query's ORDER BY, and whether a LIMIT parts them.

Knows nothing of predictions.
"""

from eval.execution import Database
from eval.task import ties as task_ties
from eval.task.ordering import without_limit
from eval.task.sqlite_judge import Answer


def tied_blocks(sql: str, answer: Answer, database: Database) -> list[int]:
    """`eval.task.ties.tied_blocks` on a database."""
    return task_ties.tied_blocks(sql, answer, database.run, database.dialect)


def limit_parts_ties(sql: str, database: Database) -> bool:
    """True if the LIMIT of `sql` lets some of the rows that tie through and others not, so that
    the database is free to choose between different answers."""
    whole = without_limit(sql, database.dialect)
    if whole is None:
        return False
    rest, window = whole
    answer = database.run(rest)
    blocks = tied_blocks(rest, answer, database)
    return any(
        0 < edge < len(blocks)
        and blocks[edge - 1] == blocks[edge]
        and _differ(answer, blocks, blocks[edge])
        for edge in (window.start, window.stop)
    )


def _differ(answer: Answer, blocks: list[int], wanted: int) -> bool:
    rows = [row for row, block in zip(answer.rows, blocks, strict=True) if block == wanted]
    return any(row != rows[0] for row in rows)
