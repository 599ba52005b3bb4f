"""The stage that tells with each question which cells of its database it mentions.

"How many singers are from France?" becomes "How many singers are from France? (singer.country =
'France')". After the anchor texts of BRIDGE (Lin et al. 2020, "Bridging Textual and Tabular Data
for Cross-Domain Text-to-SQL Semantic Parsing"), with whole values only, and in the question, so
that the prompt's format stays. Looks at the question, the schema and the cells; never at the gold
query.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from eval.task.prompt import quote
from trainer.pipeline.compose.values import in_quotes, literal
from trainer.pipeline.execution import Databases
from trainer.pipeline.row import Outcome, Row, Tick, load_schema

MAX_HINTS = 4
MAX_WORDS = 5
MIN_CHARS, MAX_CHARS = 3, 60  # of a value
MAX_VALUES = 5000  # of a column, the first that are found
WORD = re.compile(r"[^\W_]+")
# Words that a cell may hold and that questions use for their own sake.
STOP_WORDS = frozenset(
    """
    all and any are average both but city count country date did different does each for from full
    had has have her his how its last least less list many maximum minimum more most name names new
    none not number old one other our out per show some than that the their them there these they
    this those three title total two type unknown was were what when where which who whose with year
    yes you
    """.split()
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A text that stands in a column; names as the schema spells them."""

    table: str
    column: str
    value: str

    def __str__(self) -> str:
        return f"{quote(self.table)}.{quote(self.column)} = {literal(self.value)}"


# The cells of a database by their words, in lower case with single spaces between them.
Values = Mapping[str, Sequence[Cell]]


@dataclass(frozen=True)
class Hints:
    """Adds hints to the questions; rows without a database or a schema stay as they are."""

    @property
    def name(self) -> str:
        return "hints"

    @property
    def options(self) -> Mapping[str, Any]:
        return {}

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        outcome = Outcome([], facts={"without_database": 0})
        with Databases() as databases:
            known = _Known(databases)
            for row in rows:
                has_database = bool(row.database and row.schema_json)
                values = known.values(row.database, row.schema_json) if has_database else {}
                question = hinted(row.question, values)
                outcome.rows.append(row.with_(question=question))
                outcome.changed["hinted"] += question != row.question
                outcome.facts["without_database"] += not has_database
                tick(1)
        outcome.facts["unread_columns"] = known.num_unread
        return outcome


@dataclass
class _Known:
    """Values of databases, each read once; `num_unread` columns could not be read."""

    databases: Databases
    num_unread: int = 0
    _read: dict[tuple[str, str], Values] = field(default_factory=dict)

    def values(self, database: str, schema_json: str) -> Values:
        """The texts in the columns of a schema, of `MIN_CHARS` to `MAX_CHARS` characters, at most
        `MAX_VALUES` of a column; of those that differ in case or marks only, the first. Not what a
        prompt can't show as it is."""
        key = (database, schema_json)
        if key not in self._read:
            found: defaultdict[str, dict[tuple[str, str], Cell]] = defaultdict(dict)
            for table in load_schema(schema_json).tables:
                for column in table.column_names:
                    for value in self._texts(database, table.name, column):
                        cell = Cell(table.name, column, value)
                        found[_key(_words(value))].setdefault((table.name, column), cell)
            self._read[key] = {k: tuple(v.values()) for k, v in found.items() if _is_telling(k)}
        return self._read[key]

    def _texts(self, database: str, table: str, column: str) -> Iterator[str]:
        source = in_quotes(table)
        # Without its table SQLite would take the name of a column that is missing for a text.
        name = f"{source}.{in_quotes(column)}"
        answer = self.databases.run(
            database,
            f"SELECT DISTINCT {name} FROM {source} WHERE typeof({name}) = 'text' "
            f"AND length({name}) BETWEEN {MIN_CHARS} AND {MAX_CHARS} LIMIT {MAX_VALUES}",
        )
        self.num_unread += answer.error is not None
        texts = (value for (value,) in answer.rows if isinstance(value, str))
        return filter(_is_plain, texts)


def hinted(question: str, values: Values) -> str:
    """`question` with the cells that it mentions, at most `MAX_HINTS`, in the order of mention.

    A mention is the whole value, in any case, as up to `MAX_WORDS` words of the question; a longer
    one goes first, and no word belongs to two.
    """
    starts: dict[str, int] = {}
    for start, key in _mentions(_words(question), values):
        starts.setdefault(key, start)
    chosen = [(start, cell) for key, start in starts.items() for cell in values[key]][:MAX_HINTS]
    hints = "; ".join(str(cell) for _, cell in sorted(chosen, key=itemgetter(0)))
    return f"{question} ({hints})" if hints else question


def _mentions(words: Sequence[str], values: Values) -> Iterator[tuple[int, str]]:
    """Where a value is mentioned and its key: the longest first, then from left to right."""
    taken: set[int] = set()
    for size in range(MAX_WORDS, 0, -1):
        for start in range(len(words) - size + 1):
            places = range(start, start + size)
            key = _key(words[start : start + size])
            if key in values and taken.isdisjoint(places):
                taken.update(places)
                yield start, key


def _words(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]


def _key(words: Sequence[str]) -> str:
    return " ".join(words)


def _is_plain(value: str) -> bool:
    """True for one line whose spaces a prompt keeps."""
    return value.isprintable() and value == " ".join(value.split())


def _is_telling(key: str) -> bool:
    """False for a number, for what is short, and for words that any question has."""
    has_letter = any(character.isalpha() for character in key)
    return has_letter and len(key) >= MIN_CHARS and not STOP_WORDS.issuperset(key.split())
