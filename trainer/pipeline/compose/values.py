"""What stands in the columns of a database: the values that a made question may filter by.

Read from the SQLite file where there is one, else made up by type and name. Knows nothing of
questions.
"""

import re
import sqlite3
from dataclasses import dataclass
from random import Random

from eval.task.schema import Column

Value = str | int | float

MAX_ROWS_READ = 5000
MAX_VALUES = 60
MAX_TEXT = 40
NUMERIC_TYPES = ("int", "real", "num", "dec", "float", "double", "money", "bigint", "smallint")
# What a question would not carry to the query letter by letter.
NOT_QUOTABLE = re.compile(r"""["'`\\;{}\[\]|%_]|\s[,.?]|\s\s""")

MADE_UP: dict[str, tuple[Value, ...]] = {
    "age": (21, 27, 34, 42, 58),
    "category": ("books", "music", "sports", "food"),
    "city": ("Paris", "Boston", "Osaka", "Lima", "Dublin", "Seattle"),
    "color": ("red", "blue", "green", "black", "white"),
    "country": ("France", "Japan", "Brazil", "Canada", "Kenya", "Norway"),
    "date": ("2012-03-01", "2015-07-19", "2018-11-30"),
    "gender": ("male", "female"),
    "language": ("English", "Spanish", "French", "Chinese"),
    "level": ("beginner", "advanced", "senior", "junior"),
    "name": ("Smith", "Garcia", "Miller", "Chen", "Novak", "Rossi"),
    "nationality": ("American", "German", "Indian", "Italian"),
    "sex": ("male", "female"),
    "state": ("Texas", "Ohio", "California", "Nevada", "Florida"),
    "status": ("active", "pending", "closed", "cancelled"),
    "title": ("The River", "Blue Sky", "First Light", "Old Town"),
    "type": ("standard", "premium", "basic", "special"),
    "year": (1998, 2003, 2008, 2012, 2016, 2019),
}


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """The values of one column, most frequent first, and what they tell.

    `num_rows` counts rows that are not NULL among those read, `num_distinct` their values; both
    are 0 where no database was read and `values` are made up.
    """

    values: tuple[Value, ...] = ()
    num_rows: int = 0
    num_distinct: int = 0

    @property
    def is_numeric(self) -> bool:
        return bool(self.values) and all(isinstance(v, int | float) for v in self.values)

    @property
    def is_repeated(self) -> bool:
        """True where values come again, so that grouping by them means something."""
        return 1 < self.num_distinct <= 0.7 * self.num_rows

    def usable(self) -> tuple[Value, ...]:
        """Values that a question can quote: short, printable, without odd spaces or quotes."""
        return tuple(v for v in self.values if _is_quotable(v))


def has_numeric_type(column: Column) -> bool:
    kind = column.type.lower()
    return kind.startswith(NUMERIC_TYPES) or "int" in kind.split("(")[0]


def read_values(db: sqlite3.Connection, table: str, column: str) -> ColumnValues:
    """The values of a column among the first `MAX_ROWS_READ` rows; empty if it can't be read."""
    # Without its table SQLite would take the name of a column that is missing for a text.
    name, source = in_quotes(column), in_quotes(table)
    inner = f"SELECT {source}.{name} AS v FROM {source} LIMIT {MAX_ROWS_READ}"
    query = f"SELECT v, COUNT(*) FROM ({inner}) WHERE v IS NOT NULL GROUP BY v ORDER BY 2 DESC, 1"
    try:
        found = db.execute(query).fetchall()
    except sqlite3.Error:
        return ColumnValues()
    kept = [v for v, _ in found if isinstance(v, str | int | float)]
    return ColumnValues(_spread(kept), sum(n for _, n in found), len(found))


def made_up_values(column: Column, words: tuple[str, ...]) -> ColumnValues:
    """Plausible values of a column of which only the type and the name are known."""
    is_number = has_numeric_type(column)
    for word in reversed(words):
        values = MADE_UP.get(word, ())
        if values and is_number == isinstance(values[0], int):
            return ColumnValues(values)
    return ColumnValues((2, 5, 10, 50, 100, 500) if is_number else ())


def threshold(rng: Random, values: tuple[Value, ...]) -> int | float | None:
    """A number that splits numeric `values`: one from between, often rounded as people would;
    None where fewer than three differ."""
    numbers = sorted({v for v in values if isinstance(v, int | float)})
    if len(numbers) < 3:
        return None
    number = rng.choice(numbers[1:-1])
    return _rounded(number) if rng.random() < 0.5 else number


def literal(value: Value) -> str:
    """`value` as SQL writes it."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return spoken(value)


def spoken(value: Value) -> str:
    """`value` as a question has it: 3.0 is "3"."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def in_quotes(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _rounded(number: int | float) -> int | float:
    """To two digits; years and what is small stay as they are."""
    if abs(number) < 20 or 1800 <= number <= 2100:
        return number
    digits = len(str(int(abs(number)))) - 2
    return int(round(number / 10**digits) * 10**digits)


def _spread(values: list[Value]) -> tuple[Value, ...]:
    """At most `MAX_VALUES`: the most frequent half, then evenly over the rest."""
    if len(values) <= MAX_VALUES:
        return tuple(values)
    half = MAX_VALUES // 2
    step = (len(values) - half) / half
    return tuple(values[:half] + [values[half + int(i * step)] for i in range(half)])


def _is_quotable(value: Value) -> bool:
    if not isinstance(value, str):
        return isinstance(value, int) or round(value, 2) == value
    is_plain = value.isprintable() and not NOT_QUOTABLE.search(value)
    return bool(value.strip()) and value == value.strip() and len(value) <= MAX_TEXT and is_plain
