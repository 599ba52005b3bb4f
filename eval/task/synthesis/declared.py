"""What rows may look like where there are none to look at: by the schema and the queries alone.

Values are those that a column of the declared type holds, and those at the edges of what the
queries compare it with: `strftime('%Y', d) = '2024'` asks for the first and last days of 2024 and
for the days beside them. What is not of a primary key may be NULL; foreign keys hold.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from re import compile as compile_pattern

from sqlglot import exp

from eval.task.schema import Column, Schema, Table
from eval.task.synthesis.domain import WORDS
from eval.task.synthesis.hints import Hint, hints
from eval.task.synthesis.links import Place, links_of
from eval.task.synthesis.profile import (
    ColumnProfile,
    Profile,
    TableProfile,
    Value,
    declared_kind,
    holds_time,
)

NULL_SHARE = 0.25
MAX_VALUES = 60
MAX_NUMBER = 10**15
CLOCK = ("00:00:00", "12:30:00", "23:59:59")
DAYS = tuple(
    map(date.fromisoformat, ("2023-12-31", "2024-01-01", "2024-02-29", "2024-06-15", "2024-12-31"))
)
DAYS_AGO = (0, 1, 7, 31, 100, 366, 1200, 9000)
INTEGERS: tuple[Value, ...] = (0, 1, 2, 3, 5, 8, 13, 21, 40, 100)
AMOUNTS: tuple[Value, ...] = (0, 0.5, 1, 2.5, 3, 7.25, 10, 19.99, 50, 120.5)
YEAR = compile_pattern(r"[12]\d{3}")
MONTH = compile_pattern(r"([12]\d{3})-(0[1-9]|1[0-2])")
MONTH_OF_YEAR = compile_pattern(r"0?[1-9]|1[0-2]")
DAY = compile_pattern(r"([12]\d{3}-\d\d-\d\d)([ T].*)?")


def declare(
    schema: Schema,
    trees: Sequence[exp.Query],
    *,
    hostile: bool = False,
    today: date | None = None,
) -> Profile:
    """The profile of the tables that `trees` read; of all tables where they read none.

    With `hostile`, text comes in other case and with spaces too, and days with times: what a proof
    must see, and what would only part answers that mean the same. With `today`, there are days
    about it.
    """
    tables = _tables_read(trees, schema) or schema.tables
    found: dict[Place, list[Hint]] = {}
    for hint in (h for tree in trees for h in hints(tree, schema)):
        found.setdefault(hint.place, []).append(hint)
    recent = [today - timedelta(days=n) for n in DAYS_AGO] if today else []
    days = [*DAYS, *recent]
    profiles = {}
    for table in tables:
        own = {
            c.name.lower(): found.get((table.name.lower(), c.name.lower()), [])
            for c in table.columns
        }
        key = tuple(name.lower() for name in table.primary_key if name.lower() in own)
        columns = {
            column.name.lower(): ColumnProfile(
                name=column.name.lower(),
                values=_values(column, own[column.name.lower()], days, hostile=hostile),
                kind=declared_kind(column.type),
                null_share=0.0 if column.name.lower() in key else NULL_SHARE,
                is_unique=key == (column.name.lower(),),
                is_varied=False,
            )
            for column in table.columns
        }
        profiles[table.name.lower()] = TableProfile(table, columns, (key,) if key else (), {})
    links = tuple(links_of(Schema(tuple(tables)), (), {name: () for name in profiles}))
    return Profile(profiles, links)


def _tables_read(trees: Sequence[exp.Query], schema: Schema) -> tuple[Table, ...]:
    """The tables that `trees` name, with the columns that they may mean and those of keys."""
    named = {node.name.lower() for tree in trees for node in tree.find_all(exp.Table)}
    tables = [table for name in sorted(named) if (table := schema.find(name))]
    if any(_reads_all(tree) for tree in trees):
        return tuple(tables)
    words = {node.name.lower() for tree in trees for node in tree.find_all(exp.Identifier)}
    referred = {r.lower() for t in tables for key in t.foreign_keys for r in key.references}
    return tuple(_narrowed(table, words | referred) for table in tables)


def _reads_all(tree: exp.Query) -> bool:
    is_natural = any(join.method for join in tree.find_all(exp.Join))
    return is_natural or any(not isinstance(s.parent, exp.Count) for s in tree.find_all(exp.Star))


def _narrowed(table: Table, words: set[str]) -> Table:
    linked = {name for key in table.foreign_keys for name in key.columns}
    kept = {*linked, *table.primary_key}
    columns = [c for c in table.columns if c.name.lower() in words or c.name in kept]
    return replace(table, columns=tuple(columns or table.columns[:1]))


def _values(
    column: Column, own: Sequence[Hint], days: Sequence[date], *, hostile: bool
) -> tuple[Value, ...]:
    """What the column may hold: first what the hints ask for, then what its type says."""
    kind = declared_kind(column.type)
    own = [*own, Hint(("", ""), column.values, is_time=False)]
    constants = [constant for hint in own for constant in hint.constants]
    found: list[Value] = []
    if "bool" in column.type.lower() and not constants:
        found += (0, 1)
    elif kind != "text":
        found += (n for hint in own for n in _numbers(hint, kind))
        found += INTEGERS if kind == "int" else AMOUNTS
    elif _holds_time(column, own):
        found += _times(column, [*_days(constants), *days], hostile=hostile)
    else:
        found += (text for constant in constants for text in _texts(constant, hostile=hostile))
        found += WORDS[:8]
    return tuple(dict.fromkeys(found))[:MAX_VALUES]


def _holds_time(column: Column, own: Sequence[Hint]) -> bool:
    return holds_time(column.type) or any(
        h.is_time or any(map(DAY.fullmatch, h.constants)) for h in own
    )


def _numbers(hint: Hint, kind: str) -> Iterator[Value]:
    """The constants, what is beside them, and what arithmetic with two of them may give."""
    numbers = [number for text in hint.constants if (number := _number(text)) is not None]
    for one in numbers:
        for value in (one, one + 1, one - 1, *(f for two in numbers for f in _combined(one, two))):
            yield int(value) if kind == "int" else round(value, 6)


def _combined(one: float, two: float) -> tuple[float, ...]:
    return one - two, one + two, one * two, *((one / two, one / two + 1) if two else ())


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= MAX_NUMBER else None


def _days(constants: Iterable[str]) -> Iterator[date]:
    """First and last days of the years, months and days that `constants` name, and their
    neighbours."""
    for text in (constant.rstrip("%-") for constant in constants):
        for first, num_days in _spans(text):
            try:
                start = date.fromisoformat(first)
                yield from (start + timedelta(days=n) for n in (0, -1, num_days - 1, num_days))
            except (ValueError, OverflowError):
                continue


def _spans(text: str) -> Iterator[tuple[str, int]]:
    if YEAR.fullmatch(text):
        yield f"{text}-01-01", 366
        yield f"{text}-12-31", 1
    elif MONTH.fullmatch(text):
        yield f"{text}-01", 31
        yield f"{text}-01", 28
    elif found := DAY.fullmatch(text):
        yield found[1], 1
    elif MONTH_OF_YEAR.fullmatch(text):
        yield f"2024-{int(text):02}-01", 28


def _times(column: Column, days: Iterable[date], *, hostile: bool) -> Iterator[Value]:
    """The days as the column holds them: with a time of day where its type has one."""
    lower = column.type.lower()
    has_day = "date" in lower or "stamp" in lower or "time" not in lower
    has_clock = "time" in lower or (hostile and "date" not in lower)
    for number, day in enumerate(dict.fromkeys(days)):
        if has_day and not ("time" in lower and number % 2):
            yield day.isoformat()
        if has_clock:
            clock = CLOCK[number % len(CLOCK)]
            yield f"{day.isoformat()} {clock}" if has_day else clock


def _texts(constant: str, *, hostile: bool) -> Iterator[Value]:
    yield constant
    if hostile:
        core = constant.strip("%*")
        yield from (core, core.upper(), core.lower(), f"{core} x", f"x {core}", "")
