"""The values that generated rows draw from: observed ones, and those at the edges of conditions.

No value differs from an observed one in case or spacing only, and whole numbers stay whole: a
question can't be meant to tell such apart.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from re import compile as compile_pattern

from eval.task.synthesis.links import Place
from eval.task.synthesis.plan import Plan, Test
from eval.task.synthesis.profile import ColumnProfile, Profile, Value

ISO_DATE = compile_pattern(r"(\d{4})-\d\d-\d\d(.*)")
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "islet", "jade",
         "knoll", "larch", "maple", "north", "ocean", "pearl", "quartz", "river", "stone", "tulip",
         "umber", "vista", "willow", "yarrow", "zenith")  # fmt: skip
# What a column without observed values may hold.
UNSEEN: dict[str, tuple[Value, ...]] = {
    "int": tuple(range(1, 31)),
    "real": tuple(i + 0.5 for i in range(1, 31)),
    "text": WORDS,
}
MANY = 10  # a number column of so many distinct values is a measure; fewer may be codes
MAX_NUMBER = 10**18  # SQLite's whole numbers end at 2**63
NARROW = 4  # about so many values in a column with many ties


@dataclass(frozen=True)
class Pools:
    """By column: `values` it may hold, and among them the `edges` of the golds' conditions."""

    values: dict[Place, tuple[Value, ...]]
    edges: dict[Place, tuple[Value, ...]]


def pools(profile: Profile, plans: Iterable[Plan]) -> Pools:
    """What each column may hold, by the original's rows and the golds' conditions."""
    edges: dict[Place, dict[Value, None]] = {}
    for plan in plans:
        for test in plan.tests:
            place = plan.tables[test.var[0]], test.var[1]
            column = profile.tables[place[0]].columns[place[1]]
            edges.setdefault(place, {}).update(dict.fromkeys(_edges(test, column)))
    values = {}
    for table, owner in profile.tables.items():
        for name, column in owner.columns.items():
            observed = column.values or UNSEEN[column.kind]
            values[table, name] = tuple(edges.get((table, name), {}) | dict.fromkeys(observed))
    return Pools(values, {place: tuple(found) for place, found in edges.items()})


def _edges(test: Test, column: ColumnProfile) -> Iterator[Value]:
    """Values at and beside the constants of `test`, of the column's kind."""
    for constant in test.values:
        if "like" in test.operator:
            yield from _matches(str(constant), column)
        elif isinstance(constant, str):
            yield constant
            if set(column.values) <= {constant}:
                yield WORDS[0]  # else a condition that all rows meet could never matter
        elif column.kind == "text":
            yield from (str(value) for value in _beside(constant, column))
        else:
            yield from _beside(constant, column)


def _beside(constant: Value, column: ColumnProfile) -> Iterator[Value]:
    if isinstance(constant, int | float) and abs(constant) <= MAX_NUMBER:
        is_whole = column.kind != "real" and float(constant).is_integer()
        step = 1 if is_whole else 10.0 ** -_decimals(column)
        for value in (constant, constant + step, constant - step):
            yield int(value) if is_whole else round(value, 6)


def _decimals(column: ColumnProfile) -> int:
    """How many decimals the column's values have, at most 3."""
    texts = [repr(v).partition(".")[2] for v in column.values if isinstance(v, float)]
    return min(3, max((len(t) for t in texts if t != "0"), default=1))


def _matches(pattern: str, column: ColumnProfile) -> Iterator[Value]:
    """Texts that meet a LIKE pattern, bare and with more around where it has wildcards."""
    core = pattern.strip("%").replace("%", " ").replace("_", "a")
    other = next((str(v) for v in column.values if isinstance(v, str)), WORDS[0])
    yield core
    if pattern.startswith("%"):
        yield f"{other} {core}"
    if pattern.endswith("%"):
        yield f"{core} {other}"


class Drawer:
    """Draws the cells of one column of one generated database."""

    def __init__(self, column: ColumnProfile, pool: tuple[Value, ...], rng: Random) -> None:
        self.column = column
        self.rng = rng
        self.pool = list(pool)
        self.used: set[Value] = set()
        self._invented = 0
        self._range: tuple[Value, Value] | None = None
        # Without ties an answer can't hang on the order of rows.
        self._is_sparse = column.is_unique or (column.is_varied and rng.random() < 0.4)
        if not column.is_unique:
            self._narrow()

    def _narrow(self) -> None:
        """Few values make ties and repeats, many make answers that don't hang on row order."""
        size = self.rng.choice((NARROW, 3 * NARROW, len(self.pool), len(self.pool)))
        self.rng.shuffle(self.pool)
        self.pool = self.pool[:size]
        numbers = [v for v in self.pool if isinstance(v, int | float)]
        is_measure = len(self.column.values) >= MANY or self.column.is_varied
        if is_measure and len(numbers) == len(self.pool) > 1 and self.rng.random() < 0.6:
            self._range = min(numbers), max(numbers)

    def draw(self) -> Value:
        if self._is_sparse:
            return self._fresh()
        if self._range is not None and self.rng.random() < 0.8:
            return self._between(*self._range)
        return self.rng.choice(self.pool)

    def _between(self, low: Value, high: Value) -> Value:
        assert isinstance(low, int | float) and isinstance(high, int | float)
        if self.column.kind == "int":
            return self.rng.randint(int(low), int(high))
        return round(self.rng.uniform(low, high), _decimals(self.column))

    def _fresh(self) -> Value:
        """A value that this column does not hold yet."""
        for _ in range(8):
            value = self.rng.choice(self.pool)
            if value not in self.used:
                return value
        while True:
            self._invented += 1
            value = _invent(self.column.kind, self.rng.choice(self.pool), self._invented)
            if value not in self.used:
                return value


def _invent(kind: str, like: Value, number: int) -> Value:
    """The `number`-th value that looks `like` an observed one."""
    if isinstance(like, str):
        if found := ISO_DATE.fullmatch(like):
            return f"{found[1]}-{1 + number % 12:02}-{1 + number // 12 % 28:02}{found[2]}"
        is_number = like.isdecimal() and like.isascii() and like[0] != "0"
        return str(int(like) + number) if is_number else f"{like} {number}"
    if isinstance(like, bytes):
        return like + str(number).encode()
    if abs(like) > MAX_NUMBER:
        return number
    return like + number if kind == "int" else round(like + number / 2, 6)
