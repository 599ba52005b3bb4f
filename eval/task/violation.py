"""Why a text is refused: a closed set of codes, with the place in the text."""

from dataclasses import dataclass
from typing import Final

from sqlglot import exp

CODES: Final = (
    "empty",  # no text
    "truncated",  # the model was cut off; said by the server, never by `check_sql`
    "too_complex",  # over a limit of length, nesting or size
    "unparsable",  # not SQL of the dialect
    "not_one_statement",
    "not_a_query",  # a statement that does not only read
    "denied_node",  # a construct that is not in the allow-list
    "denied_function",  # a function that is not in the allow-list
    "unsupported_source",  # reads from what is no table, CTE or subquery
    "unknown_table",
    "unknown_column",
    "ambiguous_column",
    "repeated_table",  # two FROM items of one name
    "not_granted",  # in the schema, but this caller may not read it
    "misused_aggregate",  # an aggregate or window function where none may stand
    "ungrouped_column",  # beside an aggregate, though not in GROUP BY
    "unequal_columns",  # another number of columns than the place asks for
    "wrong_arguments",  # number or size of a function's arguments
    "out_of_range",  # ORDER BY 7 of 3 columns
    "not_transpilable",  # has no faithful form in the dialect asked for
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One reason why a text is refused. `code` is one of `CODES`.

    `start` and `end` are offsets in characters into the text that was checked, so that
    `text[start:end]` is what is meant; None where that is not known.
    """

    code: str
    message: str
    name: str = ""
    suggestions: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None


Span = tuple[int, int] | tuple[None, None]


def span(node: exp.Expr) -> Span:
    """Where `node` was written, or else where the parts of it that say so are. sqlglot counts
    within a hint from where that begins, so that nothing is known there."""
    if isinstance(node, exp.Hint) or node.find_ancestor(exp.Hint):
        return None, None
    if "start" in node.meta:  # of a function that is its name
        return node.meta["start"], node.meta["end"] + 1
    found = [(n.meta["start"], n.meta["end"]) for n in node.walk() if "start" in n.meta]
    if not found:
        return None, None
    return min(start for start, _ in found), max(end for _, end in found) + 1
