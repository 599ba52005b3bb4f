"""Two queries side by side: which stretches of their texts differ. Knows nothing of meaning."""

import re
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal

from eval.queries.clauses import parse_query
from eval.task.statement import SQLGLOT_FAILURES

Kind = Literal["same", "removed", "added"]
Run = tuple[str, Kind]

# Strings, quoted names, words and numbers, runs of white space, then any single character.
PIECE = re.compile(r"'(?:[^']|'')*+'|\"[^\"]*+\"|\w++|\s++|[<>!=|]++|.", re.DOTALL)
MAX_PIECES = 2_000


def sql_diff(
    predicted: str, gold: str, dialect: str = "sqlite"
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The predicted and the gold text as runs, each text whole when its runs are joined.

    Pretty-printed where they can be parsed. What only the predicted query has is "removed", what
    only the gold has is "added"; white space and the case of words make no difference.
    """
    left, right = _pieces(_pretty(predicted, dialect)), _pieces(_pretty(gold, dialect))
    matcher = SequenceMatcher(None, list(map(_key, left)), list(map(_key, right)), autojunk=False)
    ours: list[Run] = []
    theirs: list[Run] = []
    for tag, start, end, from_, to in matcher.get_opcodes():
        is_same = tag == "equal"
        ours.append(("".join(left[start:end]), "same" if is_same else "removed"))
        theirs.append(("".join(right[from_:to]), "same" if is_same else "added"))
    return _joined(ours), _joined(theirs)


def _pretty(sql: str, dialect: str) -> str:
    try:
        tree = parse_query(sql, dialect)
        return tree.sql(dialect, pretty=True, comments=False) if tree else sql
    except SQLGLOT_FAILURES:
        return sql


def _pieces(text: str) -> list[str]:
    """Tokens; of a long text its lines, of a very long one the whole."""
    found = PIECE.findall(text)
    if len(found) <= MAX_PIECES:
        return found
    lines = text.splitlines(keepends=True)
    return lines if len(lines) <= MAX_PIECES else [text]


def _key(piece: str) -> str:
    return " " if piece.isspace() else piece if piece[0] in "'\"" else piece.lower()


def _joined(runs: list[Run]) -> tuple[Run, ...]:
    groups = groupby((run for run in runs if run[0]), key=lambda run: run[1])
    return tuple(("".join(text for text, _ in group), kind) for kind, group in groups)
