"""How long a query may get: a budget in units, of which each part of the grammar takes some.

A unit is as many tokens as the usual column of the schema and what goes with it (a comma, an
operator, a function's name), half a join, or a short value with its operator. Tokens are guessed
from the letters, on the safe side, since a grammar is text and knows no tokenizer; nor is anyone's
query made of the longest names alone. So the bound is one of practice: queries drawn at random from
the grammar keep it (`benchmarks/grammar_time.py`). A model that cuts words smaller than its
tokenizer does, or fills its strings with rare letters, can still write more.
"""

import re
from collections.abc import Sequence
from statistics import fmean

from server.grammar.options import GrammarError
from server.grammar.sources import Source
from server.grammar.spelling import Spelling

# Digits, underscores in a row and signs are tokens of their own; so are parts of words.
PIECE = re.compile(r"(?P<capitals>[A-Z]{2,})|(?P<word>[A-Z]?[a-z]+)|_+|.", re.DOTALL)
# Keywords of one query, from SELECT DISTINCT to LIMIT 1000, its first item and its first table.
KEYWORDS = 30
AROUND_COLUMN = 3
AROUND_JOIN = 4
SHORT = 16  # characters of a short value
AROUND_VALUE = 4  # quotes, operator
VALUE = 7  # tokens of a short value, mostly fewer
MIN_UNITS, MAX_UNITS = 4, 63
# What a query pays for one within it, by what it has left at least: its first item and its first
# table, and the units that it then has itself.
NESTED = {8: 8, 4: 2}


def budget_of(sources: Sequence[Source], spelling: Spelling, max_tokens: int) -> int:
    """Units that fit into `max_tokens`.

    Raises:
        GrammarError: too few for the names of these sources.
    """
    columns = [n for source in sources for n in _lengths(source, spelling)]
    tables = [tokens_of(spelling.name(source.table.name)) for source in sources]
    column, table = fmean(columns), fmean(tables)
    unit = max(column + AROUND_COLUMN, (table + 2 * column + AROUND_JOIN) / 2, AROUND_VALUE + VALUE)
    units = int((max_tokens - KEYWORDS - column - table) / unit)
    if units < MIN_UNITS:
        raise GrammarError(f"max_tokens: {max_tokens} are too few for names as long as these")
    return min(units, MAX_UNITS)


def tokens_of(text: str) -> int:
    """About how many tokens a tokenizer makes of `text`, rather too many than too few."""
    return sum(map(_tokens_of_piece, PIECE.finditer(text)))


def _tokens_of_piece(piece: re.Match[str]) -> int:
    if piece["capitals"]:
        return -(-len(piece[0]) // 2)
    return -(-len(piece[0]) // 4) if piece["word"] else -(-len(piece[0].encode()) // 2)


def _lengths(source: Source, spelling: Spelling) -> list[int]:
    """Tokens of each column, qualified."""
    own = tokens_of(spelling.name(source.name)) + 1
    return [own + tokens_of(spelling.name(name)) for name in source.table.column_names]
