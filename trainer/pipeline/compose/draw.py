"""What one derivation works with: its random numbers, its schema, and the slots it has filled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from trainer.pipeline.compose.catalogue import Attribute, Catalogue, Entity
from trainer.pipeline.compose.hops import Hop, column_sql, from_clause, quote
from trainer.pipeline.compose.phrases import plural, with_article
from trainer.pipeline.compose.values import Value, spoken

# How much rarer an attribute with a cryptic name is drawn than a clear one, and how often it is
# taken where it is drawn.
CRYPTIC = 0.15
CRYPTIC_TAKEN = 0.3
NUMBER_WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 10: "ten"}
NO_ADJECTIVES = ("", "", "", "")


class NoFit(Exception):
    """The schema has nothing for this slot. No error: draw again."""


@dataclass(frozen=True)
class Bound:
    """A filled slot: its SQL, and its English by form ("" is the form of `{x}`). `is_list`: it
    names several things; `is_one`: the noun behind it stands in the singular."""

    sql: str
    forms: Mapping[str, str]
    is_list: bool = False
    is_one: bool = False


@dataclass(frozen=True)
class Source:
    """Where a query reads from: an entity, and the hops to the one at the end of the path."""

    entities: tuple[Entity, ...]
    hops: tuple[Hop, ...]

    @property
    def start(self) -> Entity:
        return self.entities[0]

    @property
    def end(self) -> Entity:
        return self.entities[-1]

    def bound(self) -> Bound:
        """The slot `A` of a pattern: FROM with its joins, and the nouns of both ends.

        `left` and `right` are the columns of a single join; `key` is missing without a key.
        """
        start, end = self.start, self.end
        forms = {"": start.many, "s": start.many, "one": start.one}
        forms |= {"end": end.one, "ends": end.many, "enda": with_article(end.one)}
        forms |= _pronouns(start) | {"start": quote(start.table)}
        if start.key:
            forms["key"] = column_sql(start.table, start.key)
        if len(self.hops) == 1 and len(self.hops[0].joins) == 1:
            left, right = self.hops[0].joins[0]
            forms |= {"left": column_sql(*left), "right": column_sql(*right)}
            forms["last"] = quote(right[0])
            if key := start.find(left[1]):
                forms["keys"] = plural(key.phrase)
        return Bound(from_clause(start.table, self.hops), forms)


@dataclass
class Draw:
    """The choices of one derivation: `grammar` is what `load_grammar` reads, `used` are the columns
    that were drawn."""

    rng: Random
    catalogue: Catalogue
    grammar: Mapping[str, Any]
    used: set[tuple[str, str]] = field(default_factory=set)

    def pick(self, items: Sequence[Any], weights: Sequence[float] | None = None) -> Any:
        """One of `items`.

        Raises:
            NoFit: there are none.
        """
        if not items:
            raise NoFit
        return self.rng.choices(items, weights)[0] if weights else self.rng.choice(items)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def attribute(self, entity: Entity, *kinds: str, fresh: bool = True) -> Attribute:
        """One attribute of the kinds, with `fresh` none that was drawn before; rather one with a
        clear name than a cryptic one.

        Raises:
            NoFit: there is none.
        """
        found = [
            a for a in entity.of_kinds(*kinds) if not fresh or (a.table, a.name) not in self.used
        ]
        chosen: Attribute = self.pick(found, [1.0 if a.is_clear else CRYPTIC for a in found])
        if not chosen.is_clear and not self.chance(CRYPTIC_TAKEN):
            raise NoFit
        self.used.add((chosen.table, chosen.name))
        return chosen

    def said(self, value: Value) -> str:
        """A value as a question has it: text often in quotes, as people write it."""
        text = spoken(value)
        if not isinstance(value, str):
            return text
        mark: str = self.pick(('"', "'", ""), (3, 3, 4))
        if not text[:1].isupper() or not text.replace(" ", "").isalnum():
            mark = mark or '"'
        return f"{mark}{text}{mark}"

    def adjectives(self, attribute: Attribute) -> Sequence[str]:
        """[most, least, more than, less than] of the attribute; "" where English has none."""
        known = self.grammar["adjectives"] if attribute.kind == "number" else {}
        found: Sequence[str] = known.get(attribute.phrase, NO_ADJECTIVES)
        return found


def sql_of(attribute: Attribute) -> str:
    return column_sql(attribute.table, attribute.name)


def _pronouns(entity: Entity) -> dict[str, str]:
    if entity.is_person:
        return {"its": "their", "it_has": "they have", "what": "Who"}
    return {"its": "its", "it_has": "it has", "what": "What"}
