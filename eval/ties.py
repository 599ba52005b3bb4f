"""Rows that tie under a query's ORDER BY: where they stand in its answer, if a LIMIT parts them.

The sort keys are read from the query itself, run with its keys as further columns. Knows nothing of
predictions.
"""

from eval.execution import Database
from eval.task.ordering import with_sort_keys, without_limit
from eval.task.rows import Row, same_blocks
from eval.task.sqlite_judge import Answer


def tied_blocks(sql: str, answer: Answer, database: Database) -> list[int]:
    """For each row of the `answer` to `sql` the number of the block of tied rows it stands in;
    each row is a block of its own where the sort keys can't be told.

    Keys are tied where their values are equal, so a collation's further ties aren't seen.
    """
    apart = list(range(len(answer.rows)))
    keyed = with_sort_keys(sql, database.dialect)
    if keyed is None:
        return apart
    rows = database.run(keyed.sql).rows if keyed.num_added else answer.rows
    blocks: list[int] = []
    before: list[object] = []
    for row in rows:
        keys = [row[place] for place in keyed.places]
        blocks.append(blocks[-1] + (keys != before) if blocks else 0)
        before = keys
    shown = [_without_keys(row, keyed.num_added) for row in rows]
    # With its keys the query may run by another plan, in which tied rows stand in another order.
    return blocks if same_blocks(answer.rows, shown, blocks) else apart


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


def _without_keys(row: Row, num_keys: int) -> Row:
    return row[: len(row) - num_keys]
