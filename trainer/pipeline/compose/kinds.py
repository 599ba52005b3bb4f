"""What a column is good for in a question: its kind, judged by type, name and values.

The judgement is made for questions to read well: in doubt a column is "text", which is shown but
seldom compared.
"""

import re

from eval.task.schema import Column
from trainer.pipeline.compose.values import ColumnValues, has_numeric_type

KINDS = ("id", "name", "category", "text", "number", "year", "date", "flag")

NAME_WORDS = frozenset("fullname label name title".split())
CATEGORY_WORDS = frozenset(
    """brand category city class color colour continent country county department district format
    gender genre grade industry kind language level location major method nationality party
    position rank region role sex state status team type""".split()
)
DATE_WORDS = frozenset("birthday date datetime time timestamp".split())
# Numbers that count nothing: never summed or compared.
CODE_WORDS = frozenset("code email fax id isbn key phone postal postcode ssn url uuid zip".split())
CODED = frozenset("advisor block dnumber major manager room ssn superior supervisor".split())
NOT_SHOWN = frozenset("blob hash image password photo picture".split())
MARKS = frozenset("0 1 t f y n yes no true false".split())
MAX_CATEGORIES = 60


def kind_of(column: Column, words: tuple[str, ...], values: ColumnValues, *, is_key: bool) -> str:
    """One of `KINDS`; `words` are those of the column's name, `is_key` that it is a part of a
    primary or a foreign key."""
    last, is_number = words[-1], has_numeric_type(column)
    is_code = bool(CODE_WORDS & set(words[-2:])) or last in CODED
    if is_id_word(last) or (is_key and (is_code or is_number)):
        return "id"
    if set(words) & NOT_SHOWN or _is_flag(words, values):
        return "flag"
    if (last == "year" and is_number) or _are_years(values):
        return "year"
    are_dates = all(map(_is_iso, values.values))
    if column.type.lower().startswith(("date", "timestamp")) or DATE_WORDS & {last, words[0]}:
        return "date" if are_dates else "text"
    if values.values and are_dates:
        return "date"
    if is_number and (values.is_numeric or not values.values):
        return "text" if is_code or last == "number" else "number"
    return _text_kind(words, values, is_code=is_code)


def is_id_word(word: str) -> bool:
    """True for "id", `alid` and `dno`, not for "paid"."""
    is_short = len(word) < 6 and word.endswith("id") and not word.endswith("aid")
    return word == "id" or is_short or (len(word) < 5 and word.endswith("no") and word != "no")


def is_word(word: str) -> bool:
    """A guess: three letters or more with a vowel, or a short word that everyone knows."""
    if word in ("at", "by", "fax", "for", "id", "in", "km", "no", "of", "on", "per", "to", "up"):
        return True
    return word.isalpha() and len(word) > 2 and bool(set(word) & set("aeiouy"))


def _text_kind(words: tuple[str, ...], values: ColumnValues, *, is_code: bool) -> str:
    if words[-1] in NAME_WORDS:
        return "name"
    if values.is_numeric or (is_code and not values.is_repeated):
        return "text"
    if values.is_repeated and values.num_distinct <= MAX_CATEGORIES and values.usable():
        return "category"
    return "category" if words[-1] in CATEGORY_WORDS and values.usable() else "text"


def _is_flag(words: tuple[str, ...], values: ColumnValues) -> bool:
    marks = {str(value).lower() for value in values.values}
    return words[0] in ("is", "has", "if", "was") or (bool(marks) and marks <= MARKS)


def _are_years(values: ColumnValues) -> bool:
    return values.is_numeric and all(1800 <= float(v) <= 2100 for v in values.values)


def _is_iso(value: object) -> bool:
    """True for dates that compare as texts do."""
    return isinstance(value, str) and bool(re.match(r"\d{4}-\d\d\b", value))
