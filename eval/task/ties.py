"""Rows that tie under a query's ORDER BY: where they stand in its answer.

The sort keys are read from the query itself, run with its keys as further columns. Knows nothing of
predictions, nor of how a query is run.
"""

from collections.abc import Callable

from eval.task.ordering import with_sort_keys
from eval.task.rows import same_blocks
from eval.task.sqlite_judge import Answer


def tied_blocks(
    sql: str, answer: Answer, run: Callable[[str], Answer], dialect: str = "sqlite"
) -> list[int]:
    """For each row of the `answer` to `sql` the number of the block of tied rows it stands in;
    each row is a block of its own where the sort keys can't be told. `run` answers a query.

    Keys are tied where their values are equal, so a collation's further ties aren't seen.
    """
    apart = list(range(len(answer.rows)))
    keyed = with_sort_keys(sql, dialect)
    if keyed is None:
        return apart
    rows = run(keyed.sql).rows if keyed.num_added else answer.rows
    blocks: list[int] = []
    before: list[object] = []
    for row in rows:
        keys = [row[place] for place in keyed.places]
        blocks.append(blocks[-1] + (keys != before) if blocks else 0)
        before = keys
    shown = [row[: len(row) - keyed.num_added] for row in rows]
    # With its keys the query may run by another plan, in which tied rows stand in another order.
    return blocks if same_blocks(answer.rows, shown, blocks) else apart
