"""Fills a template with the names and values of another schema."""

import re
from collections.abc import Mapping, Sequence
from random import Random

from trainer.pipeline.compose.catalogue import Attribute, Catalogue, Entity
from trainer.pipeline.compose.columns import is_own_name
from trainer.pipeline.compose.draw import NoFit
from trainer.pipeline.compose.grammar import Pair
from trainer.pipeline.compose.hops import Edge, quote
from trainer.pipeline.compose.mentions import PLACE
from trainer.pipeline.compose.phrases import article, plural
from trainer.pipeline.compose.skeleton import ValueSlot
from trainer.pipeline.compose.templates import Template
from trainer.pipeline.compose.values import Value, literal, spoken, threshold
from trainer.pipeline.compose.wording import sentence

# How often a column with a cryptic name is taken where there is no clear one.
CRYPTIC = 0.1
QUOTED = re.compile("([\"'\u201c\u2018]) (.+?) ([\"'\u201d\u2019])")


def fill(rng: Random, template: Template, catalogue: Catalogue) -> Pair:
    """`template` on the schema of `catalogue`.

    Raises:
        NoFit: the schema has no tables, columns or values for it.
    """
    tables, linked = _fill_tables(rng, template, catalogue)
    columns = _fill_columns(rng, template, tables, linked)
    values = _fill_values(rng, template, columns)

    def name(match: re.Match[str]) -> str:
        number = int(match[2])
        if match[1] == "V":
            return values[number][0]
        return quote(tables[number].table if match[1] == "T" else columns[number].name)

    words = [_word(part, tables, columns, values) for part in template.question]
    return Pair(_spelled(words, rng), PLACE.sub(name, template.sql), template.id)


def _fill_tables(
    rng: Random, template: Template, catalogue: Catalogue
) -> tuple[dict[int, Entity], dict[int, str]]:
    """Entities by table slot, and the names of the columns that the joins fix by column slot."""
    tables: dict[int, Entity] = {}
    linked: dict[int, str] = {}
    for link in template.links:
        slots = [template.columns[index].table for index in link]
        fitting = [e for e in catalogue.edges if _agrees(e, slots, link, tables, linked)]
        if not fitting:
            raise NoFit
        for slot, index, end in zip(slots, link, rng.choice(fitting), strict=True):
            tables[slot], linked[index] = catalogue.entities[end[0]], end[1]
    if not template.links and catalogue.nouns:
        tables[0] = rng.choice(catalogue.nouns)
    is_whole = len(tables) == template.num_tables
    if not is_whole or not all(tables[slot].is_noun for slot in template.nouns):
        raise NoFit
    return tables, linked


def _agrees(
    edge: Edge,
    slots: Sequence[int],
    link: tuple[int, int],
    tables: Mapping[int, Entity],
    linked: Mapping[int, str],
) -> bool:
    """True if `edge` can be the link, given what is filled already; no table fills two slots."""
    taken = {entity.table: slot for slot, entity in tables.items()}
    for slot, index, (table, column) in zip(slots, link, edge, strict=True):
        if slot in tables and tables[slot].table != table:
            return False
        if taken.get(table, slot) != slot or linked.get(index, column) != column:
            return False
    return True


def _fill_columns(
    rng: Random, template: Template, tables: Mapping[int, Entity], linked: Mapping[int, str]
) -> list[Attribute]:
    chosen: list[Attribute] = []
    said_slots = {int(m[2]) for p in template.question if (m := PLACE.match(p)) and m[1] == "C"}
    for index, slot in enumerate(template.columns):
        entity = tables[slot.table]
        if slot.is_link or slot.kind == "id":
            found = [a for a in entity.attributes if a.name == linked.get(index, entity.key)]
        else:
            fitting = [a for a in entity.of_kinds(slot.kind) if a not in chosen]
            if index not in said_slots:  # a name that goes without saying
                fitting = [a for a in fitting if is_own_name(a)]
            clear = [a for a in fitting if a.is_clear and a.phrase != entity.one]
            found = clear or (fitting if rng.random() < CRYPTIC else [])
        if not found:
            raise NoFit
        chosen.append(rng.choice(found))
    said = [a.phrase for a, s in zip(chosen, template.columns, strict=True) if not s.is_link]
    if len(set(said)) < len(said) and not template.has_twins:
        raise NoFit
    return chosen


def _fill_values(
    rng: Random, template: Template, columns: Sequence[Attribute]
) -> list[tuple[str, str]]:
    """(SQL, English) of each value; two of one column differ, and the ends of a range are in
    order."""
    chosen: list[Value] = []
    for slot in template.values:
        drawn = zip(template.values, chosen, strict=False)
        before = [v for earlier, v in drawn if earlier.column == slot.column]
        usable = [v for v in columns[slot.column].values.usable() if v not in before]
        value = _draw_value(rng, slot, usable)
        if before and slot.way == "splits" and not _is_after(value, before[-1]):
            raise NoFit
        chosen.append(value)
    return [_written(slot, v) for slot, v in zip(template.values, chosen, strict=True)]


def _is_after(value: Value, before: Value) -> bool:
    if isinstance(value, str) or isinstance(before, str):
        return str(value) > str(before)
    return value > before


def _draw_value(rng: Random, slot: ValueSlot, usable: list[Value]) -> Value:
    texts = [v for v in usable if isinstance(v, str)]
    if slot.way == "like":
        words = [w for text in texts for w in text.split() if len(w) > 2 and w.isalpha()]
        found: Sequence[Value] = words
    elif slot.way == "splits" and not texts:
        number = threshold(rng, tuple(usable))
        found = [] if number is None else [number]
    else:
        found = usable
    if not found:
        raise NoFit
    return rng.choice(found)


def _written(slot: ValueSlot, value: Value) -> tuple[str, str]:
    if slot.way == "like":
        return literal(f"{slot.before}{value}{slot.after}"), spoken(value)
    return literal(value), spoken(value)


def _word(
    part: str,
    tables: Mapping[int, Entity],
    columns: Sequence[Attribute],
    values: Sequence[tuple[str, str]],
) -> str:
    match = PLACE.match(part)
    if not match:
        return part
    number = int(match[2])
    if match[1] == "V":
        return values[number][1]
    one = tables[number].one if match[1] == "T" else columns[number].phrase
    return plural(one) if part.endswith(".p") else one


def _spelled(words: Sequence[str], rng: Random) -> str:
    """The words as a sentence: articles agree, and quotation marks stand by what they quote."""
    fixed: list[str] = []
    for word in words:
        if fixed and fixed[-1].lower() in ("a", "an") and word[:1].isalpha():
            fixed[-1] = article(word)
        fixed.append(word)
    return sentence(QUOTED.sub(r"\1\2\3", " ".join(fixed)), rng)
