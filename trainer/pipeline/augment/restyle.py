"""Another style of naming over a whole schema and its query; the question stays, that is the point.

snake_case, camelCase and their like; short forms (`dept`) or full words; the table's name before
its columns or not; plural or singular tables; `id` or `singer_id`.
"""

import random
from collections import Counter
from dataclasses import dataclass

from eval.task.schema import Schema, Table
from trainer.pipeline.augment.bind import Key
from trainer.pipeline.augment.concepts import known_words, linked_columns
from trainer.pipeline.augment.names import rename_row
from trainer.pipeline.augment.naming import (
    STYLES,
    Name,
    is_plain,
    plural,
    restyled,
    singular,
    snake,
    split_name,
)
from trainer.pipeline.augment.pool import Pool
from trainer.pipeline.augment.words import ABBREVIATIONS, GLUED_WORDS
from trainer.pipeline.row import Row

SHORT = {word: forms for word, forms in ABBREVIATIONS.items() if " " not in word}
LONG = {form: word for word, forms in SHORT.items() for form in forms if form not in ("no", "id")}
STYLE_WEIGHTS = {"snake": 6, "camel": 3, "pascal": 4, "joined": 1, "upper": 2, "title": 4}
MAX_PREFIX_WORDS = 2
LINKING = frozenset({"to", "of", "in", "by", "from", "with", "on", "at", "for", "has", "is"})

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Style:
    """How names are written: `letters` is one of `STYLES`; "" keeps what is there."""

    letters: str = ""
    spelling: str = ""  # short or long
    prefix: str = ""  # add or strip
    tables: str = ""  # plural or singular
    key: str = ""  # short (id) or long (singer_id)


def draw_style(rng: random.Random) -> Style:
    letters = rng.choices(list(STYLE_WEIGHTS), list(STYLE_WEIGHTS.values()))[0]
    return Style(
        letters if rng.random() < 0.85 else "",
        rng.choice(["", "", "short", "long", "long"]),
        rng.choice(["", "", "add", "strip"]),
        rng.choice(["", "plural", "singular"]),
        rng.choice(["", "short", "long"]),
    )


def restyle(row: Row, rng: random.Random, pool: Pool) -> Row | None:
    """`row` in another style of naming; None where that changes nothing."""
    if row.schema is None:
        return None
    return rename_row(row, styled_names(row.schema, draw_style(rng)))


def styled_names(schema: Schema, style: Style) -> dict[Key, str]:
    """New names by `Key`; a name that would be taken or reserved keeps more of its old form."""
    known = known_words(schema)
    linked = linked_columns(schema)
    names: dict[Key, str] = {}
    taken = Counter(table.name.lower() for table in schema.tables)
    for table in schema.tables:
        plain = _spelled(split_name(table.name, known).words, style)
        forms = [_number(plain, style), plain]
        names[table.name, ""] = _first_free(table.name, forms, style, taken)
    for table in schema.tables:
        names |= _column_names(table, style, known, linked)
    return names


def _column_names(
    table: Table, style: Style, known: frozenset[str], linked: set[Key]
) -> dict[Key, str]:
    stem = tuple(map(singular, _spelled(split_name(table.name, known).words, style)))
    names: dict[Key, str] = {}
    taken = Counter(name.lower() for name in table.column_names)
    for name in table.column_names:
        plain = _spelled(split_name(name, known).words, style)
        if (table.name, name) in linked:
            forms = [_key_words(plain, stem, style) if table.primary_key == (name,) else plain]
        else:
            forms = [_prefixed(plain, stem, style)]
        names[table.name, name] = _first_free(name, [*forms, plain], style, taken)
    return names


def _first_free(old: str, forms: list[Words], style: Style, taken: Counter[str]) -> str:
    """The first of `forms` that is neither reserved nor taken, by an old name that is still to
    change or by a new one; `old` if none is."""
    taken[old.lower()] -= 1
    texts = (_written(words, split_name(old), style) for words in forms)
    text = next((t for t in texts if is_plain(t) and not taken[t.lower()]), old)
    taken[text.lower()] += 1
    return text


def _written(words: Words, old: Name, style: Style) -> str:
    """`words` in the letters of `style`, or else in those of the old name."""
    if not style.letters and words == old.words:
        return old.text
    own = (s for s in STYLES if restyled(old, s).text == old.text)
    return restyled(snake(words), style.letters or next(own, "snake")).text


def _spelled(words: Words, style: Style) -> Words:
    if style.spelling == "long":
        parts = [GLUED_WORDS.get(word, (LONG.get(word, word),)) for word in words]
        return tuple(w for part in parts for w in " ".join(part).split())
    if style.spelling == "short":
        return tuple(SHORT.get(word, (word,))[0] for word in words)
    return words


def _number(words: Words, style: Style) -> Words:
    if style.tables == "plural" and _is_noun(words):
        return (*words[:-1], plural(words[-1]))
    return (*words[:-1], singular(words[-1])) if style.tables == "singular" else words


def _is_noun(words: Words) -> bool:
    """False for `documents_to_be_destroyed`, `participates_in`: they have no plural."""
    return not words[-1].endswith(("ed", "ing")) and not LINKING.intersection(words)


def _key_words(words: Words, stem: Words, style: Style) -> Words:
    if style.key == "short" and tuple(map(singular, words)) == (*stem, "id"):
        return ("id",)
    if style.key == "long" and words == ("id",):
        return (*stem, "id")
    return words


def _prefixed(words: Words, stem: Words, style: Style) -> Words:
    size = len(stem)
    has_stem = tuple(map(singular, words[:size])) == stem
    if style.prefix == "add" and not has_stem and size <= MAX_PREFIX_WORDS and words[-1] != "id":
        return (*stem, *words)
    if style.prefix == "strip" and has_stem and len(words) > size and words[size:] != ("id",):
        return words[size:]
    return words
