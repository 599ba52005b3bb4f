"""Fills the slots for what a query shows, counts, groups and orders by."""

from trainer.pipeline.compose.catalogue import Attribute, Entity
from trainer.pipeline.compose.draw import NUMBER_WORDS, Bound, Draw, NoFit, sql_of
from trainer.pipeline.compose.phrases import join_words, plural

AGGREGATES = {
    "AVG": ("average", "average", "mean"),
    "MAX": ("maximum", "highest", "largest"),
    "MIN": ("minimum", "lowest", "smallest"),
    "SUM": ("total", "sum of"),
}
# Numbers whose sum says nothing.
NEVER_SUMMED = frozenset(
    """age elevation grade height humidity index latitude level longitude percent percentage
    position pressure rank ranking rate rating ratio score scores sequence series speed
    temperature weight year""".split()
)
SHOWN = ("name", "category", "text", "number", "date", "year")


def bind_show(draw: Draw, entity: Entity) -> Bound:
    """One to three columns: mostly a name first, then whatever is clear."""
    number = draw.pick((1, 2, 3), (6, 3, 1))
    is_named = bool(entity.of_kinds("name")) and draw.chance(0.8)
    chosen = [draw.attribute(entity, *(("name",) if is_named else ("id", *SHOWN)))]
    for _ in range(number - 1):
        try:
            chosen.append(draw.attribute(entity, *SHOWN))
        except NoFit:
            break
    return _listed(draw, entity, chosen)


def bind_label(draw: Draw, entity: Entity) -> Bound:
    """One column that tells the rows apart: mostly a name."""
    is_named = bool(entity.of_kinds("name")) and draw.chance(0.75)
    kinds = ("name",) if is_named else ("name", "category", "text")
    return _listed(draw, entity, [draw.attribute(entity, *kinds)])


def bind_name(draw: Draw, entity: Entity) -> Bound:
    return _listed(draw, entity, [draw.attribute(entity, "name")])


def bind_own_name(draw: Draw, entity: Entity) -> Bound:
    """The name that goes without saying: "Which singers …?" asks for it."""
    names = [a for a in entity.of_kinds("name") if is_own_name(a)]
    return _listed(draw, entity, [draw.pick(names[:1])])


def is_own_name(attribute: Attribute) -> bool:
    """False for half a name, and for names of others, as the "manager name" of a department."""
    return attribute.phrase in ("name", "title", "full name")


def bind_group(draw: Draw, entity: Entity) -> Bound:
    kinds = ("category", "year") if draw.chance(0.1) else ("category",)
    return _listed(draw, entity, [draw.attribute(entity, *kinds)])


def _listed(draw: Draw, entity: Entity, chosen: list[Attribute]) -> Bound:
    phrases = [a.phrase if a.phrase == a.full or draw.chance(0.93) else a.full for a in chosen]
    if len(set(phrases)) < len(phrases) or entity.one in phrases:
        raise NoFit
    comma = "," if draw.chance(0.4) else ""
    many = join_words([plural(p) for p in phrases], comma)
    sql = ", ".join(map(sql_of, chosen))
    return Bound(sql, {"": many, "one": join_words(phrases, comma)}, len(chosen) > 1)


def bind_aggregate(draw: Draw, entity: Entity) -> Bound:
    """AVG, MIN, MAX or SUM of a number, up to three of them: "minimum and average age"."""
    attribute = draw.attribute(entity, "number")
    number = draw.pick((1, 2, 3), (8, 3, 1))
    chosen = draw.rng.sample(_aggregates_of(attribute), number)
    words = [AGGREGATES[name][0] for name in chosen]
    if number == 1:
        words = [draw.pick(AGGREGATES[chosen[0]])]
    sql = ", ".join(f"{name}({sql_of(attribute)})" for name in chosen)
    return Bound(sql, {"": f"{join_words(words)} {attribute.phrase}"}, number > 1)


def _aggregates_of(attribute: Attribute) -> list[str]:
    is_summed = attribute.phrase.split()[-1] not in NEVER_SUMMED
    return [name for name in AGGREGATES if is_summed or name != "SUM"]


def bind_ranked_aggregate(draw: Draw, entity: Entity) -> Bound:
    """Ordered by an aggregate: "highest total price"."""
    attribute = draw.attribute(entity, "number")
    name = draw.pick([n for n in _aggregates_of(attribute) if n in ("AVG", "SUM")])
    is_most = draw.chance(0.6)
    ranks = ("highest", "largest", "greatest") if is_most else ("lowest", "smallest")
    word = "total" if name == "SUM" else "average"
    sql = f"{name}({sql_of(attribute)}) {'DESC' if is_most else 'ASC'}"
    return Bound(sql, {"": f"{draw.pick(ranks)} {word} {attribute.phrase}"})


def bind_ordering(draw: Draw, entity: Entity) -> Bound:
    """ORDER BY one column; forms `dir` and `of` for "in ascending order of age"."""
    attribute = draw.attribute(entity, "number", "year", "date", "name", fresh=False)
    phrase, target = attribute.phrase, sql_of(attribute)
    if attribute.kind == "name":
        forms = {"": f"{phrase} in alphabetical order", "dir": "alphabetical", "of": phrase}
        return Bound(draw.pick((target, f"{target} ASC")), forms)
    most, least = draw.adjectives(attribute)[:2]
    if draw.chance(0.5):
        ways = [f"{phrase} in descending order"] * 2
        ways += [f"{phrase} from high to low"] * (attribute.kind == "number")
        ways += [f"{phrase} from the {most} to the {least}"] * bool(most)
        return Bound(f"{target} DESC", {"": draw.pick(ways), "dir": "descending", "of": phrase})
    ways = [f"{phrase} in ascending order"] * 2 + [phrase]
    ways += [f"{phrase} from the {least} to the {most}"] * bool(most)
    return Bound(f"{target} ASC", {"": draw.pick(ways), "dir": "ascending", "of": phrase})


def bind_top(draw: Draw, entity: Entity) -> Bound:
    """The column that is ordered by, and which end of it: "highest price"; `adj`: "cheapest"."""
    attribute = draw.attribute(entity, "number", "year", "date", fresh=False)
    is_most = draw.chance(0.6)
    words: tuple[str, ...] = ("latest", "most recent") if is_most else ("earliest",)
    if attribute.kind == "number":
        words = ("highest", "largest", "maximum") if is_most else ("lowest", "smallest", "minimum")
    forms = {"": f"{draw.pick(words)} {attribute.phrase}"}
    if adjective := draw.adjectives(attribute)[0 if is_most else 1]:
        forms["adj"] = adjective
    return Bound(f"{sql_of(attribute)} {'DESC' if is_most else 'ASC'}", forms)


def bind_count(draw: Draw, _: Entity) -> Bound:
    """A small number of rows to keep."""
    number = draw.pick((2, 3, 3, 4, 5, 10))
    return Bound(str(number), {"": draw.pick((str(number), NUMBER_WORDS[number]))})


def bind_direction(draw: Draw, _: Entity) -> Bound:
    sql, word = draw.pick((("ASC", "ascending"), ("DESC", "descending")))
    return Bound(sql, {"": word})


def bind_most(draw: Draw, _: Entity) -> Bound:
    """By number of rows, most or fewest first; `common`: "most common"."""
    if draw.chance(0.7):
        words = ("most", "most", "largest number of", "greatest number of")
        common = ("most common", "most frequent", "most popular")
        return Bound("DESC", {"": draw.pick(words), "common": draw.pick(common)})
    words = ("fewest", "fewest", "smallest number of", "least number of")
    return Bound("ASC", {"": draw.pick(words), "common": draw.pick(("least common",))})


def bind_having(draw: Draw, _: Entity) -> Bound:
    """HAVING on the number of rows."""
    number = draw.pick((1, 1, 2, 2, 3, 4, 5))
    sign = draw.pick((">", ">=", "<", "=", "<="), (5, 5, 1, 2, 1))
    if number == 1 and sign in ("<", "<=", ">="):
        number = 2
    said = draw.pick((str(number), NUMBER_WORDS[number]))
    words = {
        ">": (f"more than {said}",),
        ">=": (f"at least {said}", f"{said} or more"),
        "<": (f"less than {said}", f"fewer than {said}"),
        "=": (f"exactly {said}",),
        "<=": (f"at most {said}", f"no more than {said}"),
    }
    return Bound(f"COUNT(*) {sign} {number}", {"": draw.pick(words[sign])}, is_one=number == 1)
