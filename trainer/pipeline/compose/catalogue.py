"""A schema as a grammar sees it: entities with nouns, attributes with phrases, hops between."""

import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product

from eval.task.schema import Column, Schema, Table
from trainer.pipeline.compose.hops import Edge, Hop, find_edges, find_hops, is_simple
from trainer.pipeline.compose.kinds import is_word, kind_of
from trainer.pipeline.compose.phrases import AFTER_HEAD, expand, plural, singular, split_name
from trainer.pipeline.compose.values import ColumnValues, made_up_values, read_values

EMPTY_TABLE_WORDS = frozenset("all data detail details info list record records ref tb tbl".split())
# Tables whose name starts with one of these link others and have no noun: `has_pet`.
VERBS = frozenset(
    """affiliated attends belongs enrolled follows has have is likes lives located made manages owns
    participates plays prescribes sings takes taken teaches trained treats undergoes uses
    visits works""".split()
)
NOUNS_TOO = frozenset("plays uses visits works".split())  # where nothing follows
PERSONS = frozenset(
    """actor architect artist author captain climber coach customer director doctor driver
    editor employee engineer entrepreneur guest gymnast instructor journalist manager member
    musician nurse parent passenger patient people person physician pilot player professor
    reviewer scientist singer staff student swimmer teacher technician user voter worker
    wrestler""".split()
)
MAX_CLEAR_WORDS = 4
# `joined_on` is the "date joined".
MOMENTS = {"on": "date", "at": "time"}


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column: `phrase` is how it is said of its own entity ("name"), `full` with the entity's
    words ("customer name"); `kind` is one of `kinds.KINDS`."""

    table: str
    name: str
    kind: str
    phrase: str
    full: str
    values: ColumnValues
    is_key: bool = False

    @property
    def is_clear(self) -> bool:
        """False for names that are no nouns: `CMI`, `x1`, `directed_by`, `founded`."""
        words = self.phrase.split()
        is_date = words[0] in MOMENTS.values()
        is_said = is_date or (not words[-1].endswith("ed") and words[-1] not in AFTER_HEAD)
        return is_said and len(words) <= MAX_CLEAR_WORDS and all(map(is_word, words))


@dataclass(frozen=True)
class Entity:
    """A table with a noun. `is_noun` is False for `Participates_in`: it only links others.
    `key` is the primary key if it is one column, else ""."""

    table: str
    one: str
    many: str
    is_noun: bool
    key: str
    attributes: tuple[Attribute, ...]

    @property
    def is_person(self) -> bool:
        return self.one.split()[-1] in PERSONS

    def of_kinds(self, *kinds: str) -> list[Attribute]:
        return [a for a in self.attributes if a.kind in kinds]

    def find(self, name: str) -> Attribute | None:
        """The attribute of the column `name`."""
        return next((a for a in self.attributes if a.name == name), None)


@dataclass(frozen=True)
class Catalogue:
    """The entities of one schema by table name, the hops by the table that they start from, and
    the keys that joins follow."""

    schema: Schema
    entities: Mapping[str, Entity]
    hops: Mapping[str, tuple[Hop, ...]] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    _paths: dict[tuple[str, ...], list[tuple[Hop, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def nouns(self) -> list[Entity]:
        return [e for e in self.entities.values() if e.is_noun]

    def paths(self, kinds: tuple[str, ...]) -> list[tuple[Hop, ...]]:
        """All ways of hops of these kinds, one after the other."""
        if kinds not in self._paths:
            every = [hop for hops in self.hops.values() for hop in hops]
            choices = [[hop for hop in every if hop.kind == kind] for kind in kinds]
            self._paths[kinds] = [hops for hops in product(*choices) if is_simple(hops)]
        return self._paths[kinds]


def build_catalogue(schema: Schema, db: sqlite3.Connection | None) -> Catalogue:
    """The catalogue of `schema`, with the values of `db` where it is given."""
    words = [w for table in schema.tables for w in split_name(table.name)]
    known = frozenset(words) | {singular(w) for w in words}
    edges = find_edges(schema)
    foreign = frozenset(child for child, _ in edges)
    nouns = _nouns(schema, known)
    entities = {t.name: _entity(t, nouns[t.name], known, foreign, db) for t in schema.tables}
    for name in _pairs(entities, edges):
        entities[name] = replace(entities[name], is_noun=False)
    named = [e.table for e in entities.values() if e.is_noun]
    return Catalogue(schema, entities, find_hops(schema, edges, named, db), tuple(edges))


def _nouns(schema: Schema, known: frozenset[str]) -> dict[str, str]:
    """The noun of each table: without words that say no more than that it is a table, but for
    where two would be the same, as of `Pilots` and `Pilot_Records`."""
    whole = {t.name: expand(t.name, known) or (t.name.lower(),) for t in schema.tables}
    short = {
        name: tuple(w for w in words if w not in EMPTY_TABLE_WORDS) or words
        for name, words in whole.items()
    }
    ones = {name: singular(" ".join(words)) for name, words in short.items()}
    counts = Counter(ones.values())
    return {
        name: one if counts[one] == 1 else singular(" ".join(whole[name]))
        for name, one in ones.items()
    }


def _pairs(entities: Mapping[str, Entity], edges: list[Edge]) -> list[str]:
    """Tables called after the two that they link: `airport_aircraft`."""
    parents: dict[str, set[str]] = {}
    for child, parent in edges:
        parents.setdefault(child[0], set()).add(singular(entities[parent[0]].one))
    found = []
    for name, nouns in parents.items():
        own = entities[name].one
        if any(own in (f"{a} {b}", f"{plural(a)} {b}") for a in nouns for b in nouns if a != b):
            found.append(name)
    return found


def _entity(
    table: Table,
    one: str,
    known: frozenset[str],
    foreign: frozenset[tuple[str, str]],
    db: sqlite3.Connection | None,
) -> Entity:
    words = one.split()
    first = split_name(table.name)[:1] + tuple(words[:1])
    is_verb = bool(VERBS & set(first)) and not (len(words) == 1 and NOUNS_TOO & set(first))
    is_noun = not is_verb and words[-1] not in AFTER_HEAD and all(map(is_word, words))
    found = [_attribute(table, column, known, foreign, db) for column in table.columns]
    key = table.primary_key[0] if len(table.primary_key) == 1 else ""
    return Entity(table.name, one, plural(one), is_noun, key, _phrased(found, one))


def _attribute(
    table: Table,
    column: Column,
    known: frozenset[str],
    foreign: frozenset[tuple[str, str]],
    db: sqlite3.Connection | None,
) -> Attribute:
    words = expand(column.name, known) or (column.name.lower(),)
    is_foreign = (table.name, column.name) in foreign
    is_key = is_foreign or column.name in table.primary_key
    values = read_values(db, table.name, column.name) if db else made_up_values(column, words)
    kind = kind_of(column, words, values, is_key=is_key)
    full = " ".join(words)
    if kind == "date" and len(words) == 2 and words[1] in MOMENTS:
        full = f"{MOMENTS[words[1]]} {words[0]}"
    found = Attribute(table.name, column.name, kind, full, full, values, is_key)
    # A name that is a foreign key names another table's row.
    return replace(found, kind=_unnamed(found)) if kind == "name" and is_foreign else found


def _unnamed(attribute: Attribute) -> str:
    return "category" if attribute.values.is_repeated else "text"


def _phrased(found: list[Attribute], noun: str) -> tuple[Attribute, ...]:
    """The attributes with the noun of their entity left out: "customer name" of a customer is
    "name", and so is `party` of a party; not where two would be the same."""
    short = [_without_owner(a.full, noun) for a in found]
    has_name = any(a.kind == "name" for a in found)
    phrased = []
    for attribute, phrase in zip(found, short, strict=True):
        is_owner = attribute.full in (noun, plural(noun))
        if is_owner and not has_name and attribute.kind in ("category", "text"):
            phrased.append(replace(attribute, kind="name", phrase="name"))
        else:
            phrased.append(replace(attribute, phrase=phrase))
    if noun.split()[-1] in PERSONS:  # the title of a person is no name
        phrased = [replace(a, kind=_unnamed(a)) if a.phrase == "title" else a for a in phrased]
    counts = Counter(a.phrase for a in phrased)
    return tuple(a if counts[a.phrase] == 1 else replace(a, phrase=a.full) for a in phrased)


def _without_owner(full: str, noun: str) -> str:
    """ "order id" of a customer order is "id"; "number of rooms" of a number stays."""
    words, own = full.split(), noun.split()
    for start in range(len(own)):
        tail = own[start:]
        if words[: len(tail)] == tail and len(words) > len(tail):
            rest = words[len(tail) :]
            return full if rest[0] in AFTER_HEAD else " ".join(rest)
    return full
