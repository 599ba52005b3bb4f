"""A grammar of our own that writes a question and its SQL side by side (patterns.yaml).

After the synchronous grammars of DBPal (Weir et al., 2020) and GraPPa (Yu et al., 2021). A pattern
names its slots, an SQL text and several English ones; `slots.py` fills the slots for one schema.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from trainer.pipeline.compose.catalogue import Catalogue
from trainer.pipeline.compose.draw import Bound, Draw, NoFit, Source
from trainer.pipeline.compose.hops import Hop
from trainer.pipeline.compose.slots import bind
from trainer.pipeline.compose.wording import expand_choices, sentence

FOLDER = Path(__file__).parent
SLOT = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
# What stands in `from` of a pattern → the kinds of its hops.
PATHS = {
    "flat": (),
    "up": ("up",),
    "down": ("down",),
    "bridge": ("bridge",),
    "through": ("through",),
    "upup": ("up", "up"),
    "updown": ("up", "down"),
    "upbridge": ("up", "bridge"),
    "bridgeup": ("bridge", "up"),
}


@dataclass(frozen=True)
class Pattern:
    """One pattern of patterns.yaml with one of its paths; `slots` are (name, kind)."""

    id: str
    weight: float
    is_nested: bool
    path: str
    slots: tuple[tuple[str, str], ...]
    sql: str
    texts: tuple[str, ...]

    @property
    def shape(self) -> str:
        """As `templates.shape_of` says of its SQL."""
        if self.is_nested:
            return "nested"
        num_joins = sum(2 if kind in ("bridge", "through") else 1 for kind in PATHS[self.path])
        return ("flat", "join", "joins")[min(num_joins, 2)]


@dataclass(frozen=True, slots=True)
class Pair:
    """A question with its SQL, and the id of the pattern or template that made it."""

    question: str
    sql: str
    origin: str


@cache
def load_grammar() -> dict[str, Any]:
    """language.yaml as it is, and under `patterns` patterns.yaml."""
    names = {"language": FOLDER / "language.yaml", "patterns": FOLDER / "patterns.yaml"}
    texts = {name: path.read_text(encoding="utf-8") for name, path in names.items()}
    return {**yaml.safe_load(texts["language"]), "patterns": yaml.safe_load(texts["patterns"])}


@cache
def load_patterns() -> tuple[Pattern, ...]:
    """Every pattern once for each path that its source may take."""
    return tuple(
        Pattern(
            f"grammar.{record['id']}",
            record["weight"] / len(record["from"]),
            record.get("nested", False),
            path,
            tuple(record.get("slots", {}).items()),
            record["sql"],
            tuple(record["text"]),
        )
        for record in load_grammar()["patterns"]
        for path in record["from"]
    )


def draw_pattern(rng: Random, shape: str) -> Pattern:
    """A pattern of the shape, by weight."""
    patterns, weights = _weighted(shape)
    return rng.choices(patterns, weights)[0]


@cache
def _weighted(shape: str) -> tuple[list[Pattern], list[float]]:
    patterns = [p for p in load_patterns() if p.shape == shape]
    return patterns, [p.weight for p in patterns]


def derive(rng: Random, pattern: Pattern, catalogue: Catalogue) -> Pair:
    """A pair by `pattern` on the schema of `catalogue`.

    Raises:
        NoFit: the pattern finds nothing there; draw again.
    """
    draw = Draw(rng, catalogue, load_grammar())
    source = _draw_source(draw, PATHS[pattern.path])
    bound = {"A": source.bound()}
    for name, spec in pattern.slots:
        bound[name] = bind(draw, spec, source)
    sql = _fill_sql(pattern.sql, bound)
    return Pair(_question(draw, pattern, bound), sql, pattern.id)


def _draw_source(draw: Draw, kinds: tuple[str, ...]) -> Source:
    if not kinds:
        return Source((draw.pick(draw.catalogue.nouns),), ())
    hops: tuple[Hop, ...] = draw.pick(draw.catalogue.paths(kinds))
    entities = [draw.catalogue.entities[hops[0].start]]
    entities += [draw.catalogue.entities[hop.end] for hop in hops]
    return Source(tuple(entities), hops)


def _fill_sql(text: str, bound: dict[str, Bound]) -> str:
    def fill(match: re.Match[str]) -> str:
        slot, form = bound[match[1]], match[2]
        return _form(slot, form) if form else slot.sql

    return SLOT.sub(fill, text)


def _form(slot: Bound, form: str) -> str:
    if form not in slot.forms:
        raise NoFit
    return slot.forms[form]


def _question(draw: Draw, pattern: Pattern, bound: dict[str, Bound]) -> str:
    """One of the pattern's English texts all of whose forms there are, filled."""
    texts = list(pattern.texts)
    draw.rng.shuffle(texts)
    for text in texts:
        try:
            return _fill_text(draw, text, bound)
        except NoFit:
            continue
    raise NoFit


def _fill_text(draw: Draw, text: str, bound: dict[str, Bound]) -> str:
    openers = draw.grammar["openers"]
    if any(slot.is_one for slot in bound.values()):  # "more than one dog"
        text = text.replace("{h} {A.ends}", "{h} {A.end}").replace("{h} {A.s}", "{h} {A.one}")

    def fill(match: re.Match[str]) -> str:
        if match[1] in openers:
            is_list = any(slot.is_list for slot in bound.values())
            name = "show" if match[1] == "show1" and is_list else match[1]
            opener: str = draw.rng.choice(openers["are" if name == "is" and is_list else name])
            return opener if not match.start() else opener.lower()
        return _form(bound[match[1]], match[2] or "")

    return sentence(SLOT.sub(fill, expand_choices(text, draw.rng)), draw.rng)
