"""How strongly a question is linked to each table and column, by words alone.

Schema linking by names, as in RAT-SQL (Wang et al. 2020), with inverse document frequency (Sparck
Jones 1972), tables being the documents. Knows nothing of what is made of it (see `prune.py`).
"""

import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

from eval.task.tables import Schema

PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]|\d+")
# Words that stand in any question and say nothing of a table.
STOP = frozenset(
    """
    a all an and any are as at be been between by can did do does each every find for from get give
    had has have how i in is it its list many me more most much of on or other our per please return
    shall show than that the their them there these they this those to total us was we were what
    when where which who whom whose why will with you your
    """.split()
)
ENDINGS = (
    ("sses", "ss"), ("ies", "y"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("ss", "ss"),
    ("us", "us"), ("is", "is"), ("s", ""), ("ing", ""), ("ed", ""),
)  # fmt: skip
# How much a word counts by where it was found, and if only a part of it was found. By trial on
# Spider's train questions; what they are matters little.
NAME, COLUMN, VALUE, COMMENT, PART = 3.0, 1.5, 1.5, 1.0, 0.5
MIN_PART, MAX_PART = 4, 40  # characters of a part of a word
MAX_WORDS = 200  # of a question

# A column by the positions of its table and its own; a table itself by -1 for the latter.
Place = tuple[int, int]
ITSELF = -1


class Links:
    """Scores of `question`: `tables` by position, `columns` by the table's and their own."""

    def __init__(self, schema: Schema, question: str) -> None:
        self.tables = [0.0] * len(schema.tables)
        self.columns = [[0.0] * len(table.columns) for table in schema.tables]
        asked = dict.fromkeys(word for word in words(question) if word not in STOP)
        index = _index(schema)
        for word in list(asked)[:MAX_WORDS]:
            self._add(index.find(word))

    def _add(self, found: dict[Place, float]) -> None:
        best: dict[int, float] = {}
        for (table, _), weight in found.items():
            best[table] = max(best.get(table, 0.0), weight)
        rarity = math.log(1 + len(self.tables) / max(1, len(best)))
        for table, weight in best.items():
            self.tables[table] += rarity * weight
        for (table, column), weight in found.items():
            if column != ITSELF:
                self.columns[table][column] += rarity * weight


def words(text: str) -> Iterator[str]:
    """The words of a name or a text, split at `_` and camel case, lower case, without endings."""
    return (_stem(piece.lower()) for piece in PIECE.findall(text))


def _stem(word: str) -> str:
    if len(word) <= 3:
        return word
    for ending, instead in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            return word.removesuffix(ending) + instead
    return word


class _Index:
    """Where each word stands in a schema, and what it counts there."""

    def __init__(self, schema: Schema) -> None:
        self._places: dict[str, dict[Place, float]] = defaultdict(dict)
        for number, table in enumerate(schema.tables):
            self._put((number, ITSELF), COMMENT, [table.comment])
            self._put((number, ITSELF), NAME, [table.name])
            for position, column in enumerate(table.columns):
                self._put((number, position), COMMENT, [column.comment])
                self._put((number, position), VALUE, column.values)
                self._put((number, position), COLUMN, [column.name])
        self._sorted = sorted(self._places)

    def _put(self, place: Place, weight: float, texts: Iterable[str]) -> None:
        for text in texts:
            for word in words(text):
                self._places[word][place] = weight

    def find(self, word: str) -> dict[Place, float]:
        """The places of `word`, and for less those of which one is the other's start."""
        found = dict(self._places.get(word, {}))
        for part in self._parts(word):
            for place, weight in self._places[part].items():
                found[place] = max(found.get(place, 0.0), PART * weight)
        return found

    def _parts(self, word: str) -> Iterator[str]:
        if MIN_PART <= len(word) <= MAX_PART:
            starts = (word[:length] for length in range(MIN_PART, len(word)))
            yield from (start for start in starts if start in self._places)
            for other in self._sorted[bisect_right(self._sorted, word) :]:
                if not other.startswith(word):
                    break
                yield other


@lru_cache(maxsize=16)
def _index(schema: Schema) -> _Index:
    return _Index(schema)
