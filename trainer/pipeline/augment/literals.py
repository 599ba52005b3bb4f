"""Other values in question and query together: another year, another number, another city.

Strings come from the same column of the row's database. The changed query is run there: one that
fails, or whose answer becomes empty, is no copy.
"""

import itertools
import random
import re
import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from sqlglot import exp

from eval.task.sqlite_judge import JudgeError, open_readonly
from trainer.pipeline.augment.bind import Key, UnboundError, bind, parse
from trainer.pipeline.augment.pool import Pool
from trainer.pipeline.execution import rows_within
from trainer.pipeline.row import Row

NUMBER_WORDS = dict(
    zip("two three four five six seven eight nine ten eleven twelve".split(), range(2, 13),
        strict=True)
)  # fmt: skip
MAX_SMALL = 12
# Where a number is a value of the question's; in `SUBSTR(name, 1, 4)` it is none.
COMPARING = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Limit)
MAX_VALUES = 200
MAX_VALUE_CHARS = 40
MAX_STEPS = 20_000_000  # of SQLite's virtual machine, for a query
MAX_ROWS = 10_000
NUMBER = re.compile(r"\d+(\.\d+)?")
VALUE = re.compile(r"[^\W_][\w .&-]*\w")


def literals(row: Row, rng: random.Random, pool: Pool) -> Row | None:
    """`row` with other values; None where no value of the query stands in the question, or the
    answer would be empty."""
    if row.schema is None:
        return None
    try:
        tree = parse(row.sql, row.dialect)
        owners = {id(i): o for i, o in bind(tree, row.schema).names}
    except UnboundError:
        return None
    question = _change_numbers(tree, row.question, rng)
    question = _change_texts(tree, question, owners, row, rng)
    if question == row.question:
        return None
    copy = row.with_(question=question, sql=tree.sql(row.dialect, comments=False))
    return copy if not row.database or _answers_alike(row, copy) else None


def _change_numbers(tree: exp.Query, question: str, rng: random.Random) -> str:
    shift, factor = rng.choice([-3, -2, -1, 1, 2, 3, 4, 5]), rng.uniform(0.6, 1.6)
    changed: dict[str, str] = {}
    numbers = _numbers(tree)
    for literal in numbers:
        new = _jittered(literal.name, shift, factor)
        places = list(_number_places(question, literal.name))
        is_free = new not in changed.values() and not list(_number_places(question, new))
        if len(places) == 1 and is_free:
            changed[literal.name] = new
    values = sorted({float(n.name): float(changed.get(n.name, n.name)) for n in numbers}.items())
    is_ordered = all(a[1] < b[1] for a, b in itertools.pairwise(values))
    return _put_numbers(numbers, question, changed) if is_ordered else question


def _numbers(tree: exp.Query) -> list[exp.Literal]:
    """The numbers that columns and counts are compared with."""
    found = tree.find_all(exp.Literal)
    numbers = (n for n in found if not n.is_string and NUMBER.fullmatch(n.name))
    return [number for number in numbers if isinstance(number.parent, COMPARING)]


def _put_numbers(numbers: list[exp.Literal], question: str, changed: dict[str, str]) -> str:
    places = [(p, new) for old, new in changed.items() for p in _number_places(question, old)]
    for (start, end), new in sorted(places, reverse=True):
        shown = new if question[start].isdigit() else _number_word(new, question[start:end])
        question = question[:start] + shown + question[end:]
    for literal in numbers:
        literal.set("this", changed.get(literal.name, literal.name))
    return question


def _jittered(text: str, shift: int, factor: float) -> str:
    """Another number of the same kind; the order of two numbers is kept."""
    if float(text) < 2:
        return text
    if "." in text:
        return f"{float(text) * factor:.{len(text.partition('.')[2])}f}"
    number = int(text)
    if number <= MAX_SMALL:
        return str(max(2, number + shift))
    if 1500 <= number <= 2100:
        return str(number + shift)
    zeros = len(text) - len(text.rstrip("0"))
    unit = 10 ** min(zeros, len(text) - 1)
    return str(max(unit, round(number * factor / unit) * unit))


def _number_places(question: str, text: str) -> Iterator[tuple[int, int]]:
    words = [word for word, number in NUMBER_WORDS.items() if str(number) == text]
    for pattern in (re.escape(text), *words):
        found = re.finditer(rf"(?<![\w.,-]){pattern}(?![\w-]|[.,]\d)", question, re.IGNORECASE)
        yield from (match.span() for match in found)


def _number_word(number: str, old: str) -> str:
    word = next((w for w, n in NUMBER_WORDS.items() if str(n) == number), number)
    return word.capitalize() if old[:1].isupper() else word


def _change_texts(
    tree: exp.Query, question: str, owners: dict[int, tuple[Key, ...]], row: Row, rng: random.Random
) -> str:
    for literal in list(tree.find_all(exp.Literal)):
        key = _column_of(literal, owners)
        if not (literal.is_string and row.database and key):
            continue
        core = literal.name.strip("%")
        places = rf"(?<!\w){re.escape(core)}(?!\w)"
        values = [v for v in _values(row.database, *key) if v.lower() not in question.lower()]
        values = [v for v in values if v.isdigit() == core.isdigit()]
        if len(core) < 2 or not values or not re.search(places, question):
            continue
        new = rng.choice(values)
        if core != literal.name:
            new = new.split()[0]
        _put_text(tree, literal.name, literal.name.replace(core, new))
        question = re.sub(places, lambda _, new=new: new, question)  # type: ignore[misc]
    return question


def _put_text(tree: exp.Query, old: str, new: str) -> None:
    for literal in list(tree.find_all(exp.Literal)):
        if literal.is_string and literal.name == old:
            literal.set("this", new)


def _column_of(literal: exp.Literal, owners: dict[int, tuple[Key, ...]]) -> Key | None:
    """The column that a literal is compared with."""
    parent = literal.parent
    if not isinstance(parent, exp.EQ | exp.NEQ | exp.In | exp.Like):
        return None
    sides = (side for side in (parent.this, parent.expression) if isinstance(side, exp.Column))
    origin = next((owners.get(id(side.this), ()) for side in sides), ())
    return origin[0] if origin else None


@lru_cache(maxsize=4096)
def _values(database: str, table: str, column: str) -> tuple[str, ...]:
    """Some values of a column that a question can say as they are."""
    name, source = (part.replace('"', '""') for part in (column, table))
    query = f'SELECT DISTINCT "{name}" FROM "{source}" ORDER BY 1 LIMIT {MAX_VALUES}'
    texts = (str(row[0]).strip() for row in _rows(database, query) or ())
    return tuple(t for t in texts if len(t) <= MAX_VALUE_CHARS and _is_sayable(t))


def _is_sayable(text: str) -> bool:
    """True for a value that a prompt, which folds white space, shows as it is."""
    return bool(VALUE.fullmatch(text)) and text == " ".join(text.split())


def _answers_alike(row: Row, copy: Row) -> bool:
    """True where the copy runs, and has an answer if the row has one."""
    old, new = _rows(row.database, row.sql), _rows(copy.database, copy.sql)
    return new is not None and (_is_filled(new) or not _is_filled(old or []))


def _is_filled(rows: list[tuple[object, ...]]) -> bool:
    return any(cell not in (None, 0) for row in rows for cell in row)


def _rows(database: str, sql: str) -> list[tuple[object, ...]] | None:
    """The rows of `sql`; None where it fails or takes too long."""
    try:
        db = _connection(database)
    except (JudgeError, sqlite3.Error):
        return None
    return rows_within(db, sql, max_steps=MAX_STEPS, max_rows=MAX_ROWS)


@lru_cache(maxsize=8)
def _connection(database: str) -> sqlite3.Connection:
    return open_readonly(Path(database))
