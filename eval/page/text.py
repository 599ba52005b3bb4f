"""How the page writes numbers, names and text that nobody checked. Knows no HTML."""

import math
import re
from datetime import datetime
from typing import TypeGuard

DASH = "–"
SPACE = "\u00a0"  # keeps a number and its unit on one line
WORDS = {"sql": "SQL", "ves": "VES", "cte": "CTE", "bird": "(BIRD)", "spider": "(Spider)"}

# What a browser would not show, or would let reorder the text around it: control characters,
# line separators, bidirectional overrides, halves of surrogate pairs.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)


def shown(text: str) -> str:
    """`text` with every character that could not be seen written as its escape."""
    text = text.replace("\r\n", "\n")
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a number that can be shown: finite, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(share: float | None, digits: int = 1) -> str:
    """0.7123 as "71.2 %"; what would round to nothing or to all, but is not, as a bound."""
    if not is_number(share):
        return DASH
    written, unit = f"{share * 100:.{digits}f}", 10**-digits
    if share > 0 and float(written) == 0:
        written = f"<{SPACE}{unit:.{digits}f}"
    elif share < 1 and float(written) == 100:
        written = f">{SPACE}{100 - unit:.{digits}f}"
    return f"{written}{SPACE}%".replace("-", "−")  # noqa: RUF001  # a real minus sign


def bare(share: float | None) -> str:
    """0.7123 as "71.2", where the unit is said elsewhere."""
    return f"{share * 100:.1f}" if is_number(share) else DASH


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, always with its sign: "+3.2"."""
    if not is_number(difference):
        return DASH
    return f"{difference * 100:+.1f}".replace("-", "−")  # noqa: RUF001  # a real minus sign


def span(interval: list[float] | None, *, signed: bool = False) -> str:
    """Both ends in percent: "68.4–73.9", or "+1.2 to +4.0"."""
    if not interval or not all(map(is_number, interval)):
        return DASH
    low, high = interval
    return f"{points(low)} to {points(high)}" if signed else f"{low * 100:.1f}–{high * 100:.1f}"


def p_value(p: float | None) -> str:
    if not is_number(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(n: int, noun: str = "") -> str:
    """1026 and "question" as "1,026 questions"."""
    if not noun:
        return f"{n:,}"
    return f"{n:,}{SPACE}{noun if n == 1 else noun + 's'}"


def label(name: str) -> str:
    """An identifier as words: `valid_sql` as "Valid SQL"."""
    words = [WORDS.get(word, word) for word in name.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def plain(value: object) -> str:
    """A setting for people: yes and no, lists and dicts with commas, "" for nothing."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.4g}"
        case dict():
            return ", ".join(f"{name} {plain(held)}" for name, held in value.items())
        case list() | tuple():
            return ", ".join(map(plain, value))
    return str(value)


def sentence(note: str) -> str:
    """A note as a sentence: with a capital letter and a full stop."""
    note = note[:1].upper() + note[1:]
    return note if note.endswith((".", "!", "?")) else f"{note}."


def day(created: str) -> str:
    """An ISO time as "22 November 2026", or as it stands where it is none."""
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{when.day} {when:%B %Y}"
