"""Fills the slots for what a query filters by, said of one entity or over the path to another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.pipeline.compose.catalogue import Attribute, Entity
from trainer.pipeline.compose.columns import is_own_name
from trainer.pipeline.compose.draw import Bound, Draw, NoFit, Source, sql_of
from trainer.pipeline.compose.hops import quote
from trainer.pipeline.compose.phrases import of_one, with_article
from trainer.pipeline.compose.values import literal, spoken, threshold
from trainer.pipeline.compose.wording import expand_choices

MAX_TRIES = 8
ABOVE = ("above", "greater than", "higher than")
BELOW = ("below", "less than", "lower than")


@dataclass(frozen=True)
class Condition:
    """`text` stands behind a plural noun; `is_naming`: it says which one by name."""

    sql: str
    text: str
    is_naming: bool = False


def draw_condition(draw: Draw, entity: Entity, *, naming: bool | None = None) -> Condition:
    """One condition on `entity`: by its name, not by it, or (None) either.

    Raises:
        NoFit: none of `MAX_TRIES` rules fits.
    """
    rules = [r for r in draw.grammar["conditions"] if naming in (None, bool(r.get("naming")))]
    for _ in range(MAX_TRIES):
        rule = draw.pick(rules, [r.get("weight", 1) for r in rules])
        try:
            return _apply(draw, rule, entity)
        except NoFit:
            continue
    raise NoFit


def _apply(draw: Draw, rule: Mapping[str, Any], entity: Entity) -> Condition:
    attribute, is_naming = draw.attribute(entity, *rule["kinds"]), bool(rule.get("naming"))
    if not _is_filterable(attribute, entity) or (is_naming and not _tells_which(attribute)):
        raise NoFit
    values = _values(draw, rule["sql"], attribute)
    words = {"p": attribute.phrase, "pa": with_article(attribute.phrase)}
    text = expand_choices(draw.pick(_texts(draw, rule, attribute, entity)), draw.rng)
    text = text.format_map(words | {name: said for name, (_, said) in values.items()})
    written = {"c": sql_of(attribute)} | {name: sql for name, (sql, _) in values.items()}
    return Condition(rule["sql"].format_map(written), _of_person(draw, entity, text), is_naming)


def _is_filterable(attribute: Attribute, entity: Entity) -> bool:
    """True for what people ask by: no long names, no free text, no noun twice."""
    num_words = len(attribute.phrase.split())
    is_short = num_words <= (2 if attribute.kind == "text" else 4)
    return is_short and attribute.phrase != entity.one and bool(attribute.values.usable())


def _tells_which(attribute: Attribute) -> bool:
    return is_own_name(attribute) or attribute.phrase in ("first name", "last name")


def _texts(draw: Draw, rule: Mapping[str, Any], attribute: Attribute, entity: Entity) -> list[str]:
    """The English of the rule; adjectives and places where the attribute has them."""
    more, less = draw.adjectives(attribute)[2:]
    if rule.get("adjective") and more and draw.chance(0.5):
        return [f"that are {more if '>' in rule['sql'] else less} {{n}}"]
    last = attribute.phrase.split()[-1]
    if rule.get("place") and last in draw.grammar["places"] and draw.chance(0.4):
        return ["from {v}"] if entity.is_person else ["in {v}", "located in {v}"]
    texts: list[str] = rule["text"]
    if rule.get("naming") and not is_own_name(attribute):
        return [text for text in texts if "{p}" in text]  # not "named Smith" for a last name
    return texts


def _of_person(draw: Draw, entity: Entity, text: str) -> str:
    if entity.is_person and text.startswith("that ") and draw.chance(0.6):
        return "who " + text.removeprefix("that ")
    return text


def _values(draw: Draw, sql: str, attribute: Attribute) -> dict[str, tuple[str, str]]:
    """(SQL, English) of each value that the rule's `sql` names."""
    usable = attribute.values.usable()
    texts = [value for value in usable if isinstance(value, str)]
    found: dict[str, tuple[str, str]] = {}
    if "{n}" in sql:
        is_range = "{n2}" in sql
        numbers = _two_numbers(draw, attribute) if is_range else [_number(draw, attribute)]
        names = zip(("n", "n2"), numbers, strict=False)
        found |= {name: (literal(number), spoken(number)) for name, number in names}
    if "{v}" in sql:
        value = draw.pick(usable)
        found["v"] = (literal(value), draw.said(value))
        if "{v2}" in sql:
            other = draw.pick([v for v in usable if v != value])
            found["v2"] = (literal(other), draw.said(other))
    if "{d}" in sql:
        date = draw.pick(texts)
        found["d"] = (literal(date), draw.said(date))
    if "{like}" in sql:
        word = draw.pick([w for text in texts for w in text.split() if len(w) > 2 and w.isalpha()])
        found |= {"like": (literal(f"%{word}%"), ""), "word": ("", draw.said(word))}
    if "{starts}" in sql:
        first = draw.pick([text for text in texts if text[0].isalpha()])[0]
        found |= {"starts": (literal(f"{first}%"), ""), "first": ("", draw.said(first))}
    return found


def _number(draw: Draw, attribute: Attribute) -> int | float:
    number = threshold(draw.rng, attribute.values.usable())
    if number is None:
        raise NoFit
    return number


def _two_numbers(draw: Draw, attribute: Attribute) -> list[int | float]:
    """Two different ones, the lower first."""
    numbers = sorted({_number(draw, attribute), _number(draw, attribute)})
    if len(numbers) < 2:
        raise NoFit
    return numbers


def _post(sql: str, text: str) -> Bound:
    """A condition as a slot: `one` behind a singular, `pred` as the verb of a question."""
    forms = {"": text, "one": of_one(text)}
    is_single = " and " not in text and " or " not in text
    if text.startswith(("that ", "who ")) and is_single:
        forms["pred"] = text.split(" ", 1)[1]
    return Bound(sql, forms)


def bind_where(draw: Draw, source: Source) -> Bound:
    """A condition on the end of the path, said of its start; now and then one on the start too."""
    try:
        last = draw_condition(draw, source.end, naming=bool(source.hops) and draw.chance(0.5))
    except NoFit:
        last = draw_condition(draw, source.end, naming=None if source.hops else False)
    text = _related(draw, source, last)
    if not draw.chance(0.2):
        return _post(last.sql, text)
    try:
        other = draw_condition(draw, source.start, naming=False)
    except NoFit:
        return _post(last.sql, text)
    if "having" in {text.split()[0], other.text.split()[0]}:  # "who are old and having a dog"
        return _post(last.sql, text)
    if source.hops:
        return _post(f"{other.sql} AND {last.sql}", f"{other.text} and {text}")
    word = draw.pick(("AND", "OR"), (2, 1))
    return _post(f"{last.sql} {word} {other.sql}", f"{text} {word.lower()} {other.text}")


def _related(draw: Draw, source: Source, last: Condition) -> str:
    """`last`, said of the start of the path: "that have an order whose price is 5"."""
    text, is_naming = last.text, last.is_naming
    for hop, entity, owner in zip(
        reversed(source.hops), reversed(source.entities[1:]), reversed(source.entities[:-1]),
        strict=True,
    ):  # fmt: skip
        rules = draw.grammar["relations"][hop.kind]["the" if is_naming else "some"]
        rule = expand_choices(draw.pick(rules), draw.rng)
        forms = {"the": f"the {entity.one}", "a": with_article(entity.one)}
        forms |= {"s": entity.many, "one": entity.one}
        text = f"{rule.format_map(forms)} {text if '{s}' in rule else of_one(text)}"
        text, is_naming = _of_person(draw, owner, text), False
    return text


def bind_maybe(draw: Draw, source: Source) -> Bound:
    """WHERE with a condition, which is needed only where there is a path to use."""
    if not source.hops and draw.chance(0.65):
        return Bound("", {"": "", "one": ""})
    if source.hops:
        bound = bind_where(draw, source)
    else:
        found = draw_condition(draw, source.start, naming=False)
        bound = _post(found.sql, found.text)
    return Bound(f" WHERE {bound.sql}", bound.forms)


def bind_pathed(draw: Draw, source: Source) -> Bound:
    """AND with the name of the end of the path; nothing without a path."""
    if not source.hops:
        return Bound("", {"": ""})
    last = draw_condition(draw, source.end, naming=True)
    return Bound(f" AND {last.sql}", {"": _related(draw, source, last)})


def bind_local(draw: Draw, entity: Entity) -> Bound:
    found = draw_condition(draw, entity, naming=False)
    return _post(found.sql, found.text)


def bind_naming(draw: Draw, entity: Entity) -> Bound:
    found = draw_condition(draw, entity, naming=True)
    return _post(found.sql, found.text)


def bind_both(draw: Draw, entity: Entity) -> Bound:
    """Two conditions on one attribute that no single row meets: `first` and `second` are their
    SQL, `one` and `two` their English."""
    kinds = draw.pick((("category",), ("category",), ("name",), ("number", "year")))
    attribute = draw.attribute(entity, *kinds)
    if not _is_filterable(attribute, entity):
        raise NoFit
    if attribute.kind in ("number", "year"):
        return _two_ranges(draw, attribute)
    first = draw.pick(attribute.values.usable())
    second = draw.pick([v for v in attribute.values.usable() if v != first])
    ways = ["with {p} {v}", "whose {p} is {v}"]
    way = draw.pick(["named {v}", "called {v}"] if is_own_name(attribute) else ways)
    one, two = ((f"= {literal(value)}", draw.said(value)) for value in (first, second))
    return _pair(attribute, way, one, two)


def _two_ranges(draw: Draw, attribute: Attribute) -> Bound:
    low, high = _two_numbers(draw, attribute)
    is_year = attribute.kind == "year"
    more, less = ("after", "before") if is_year else ("greater than", "less than")
    way = draw.pick(("with {pa} {v}", "whose {p} is {v}"))
    one = (f"> {literal(high)}", f"{more} {spoken(high)}")
    two = (f"< {literal(low)}", f"{less} {spoken(low)}")
    return _pair(attribute, way, one, two)


def _pair(attribute: Attribute, way: str, first: tuple[str, str], second: tuple[str, str]) -> Bound:
    words = {"p": attribute.phrase, "pa": with_article(attribute.phrase)}
    one, two = (way.format_map(words | {"v": said}) for _, said in (first, second))
    target = sql_of(attribute)
    forms = {"": one, "one": one, "two": two}
    forms |= {"first": f"{target} {first[0]}", "second": f"{target} {second[0]}"}
    return Bound(forms["first"], forms)


def bind_compared(draw: Draw, entity: Entity) -> Bound:
    """Above or below the average of all."""
    attribute = draw.attribute(entity, "number")
    sign, words = draw.pick(((">", ABOVE), ("<", BELOW)), (3, 2))
    phrase, word = attribute.phrase, draw.pick(words)
    texts = (
        f"whose {phrase} is {word} [the|] average[| {phrase}| {phrase} of all {entity.many}]",
        f"that have {with_article(phrase)} {word} the average[| {phrase}]",
        f"with {with_article(phrase)} {word} [the|] average",
    )
    text = expand_choices(draw.pick(texts), draw.rng)
    target = sql_of(attribute)
    sql = f"{target} {sign} (SELECT AVG({target}) FROM {quote(entity.table)})"
    return _post(sql, _of_person(draw, entity, text))


def bind_beats(draw: Draw, entity: Entity) -> Bound:
    """Above or below the extreme or the average of those that meet a condition."""
    attribute = draw.attribute(entity, "number")
    other = draw_condition(draw, entity, naming=False)
    name, word = draw.pick((("MAX", "highest"), ("MIN", "lowest"), ("AVG", "average")))
    sign, words = draw.pick(((">", ABOVE), ("<", BELOW)))
    target, phrase = sql_of(attribute), attribute.phrase
    inner = f"SELECT {name}({target}) FROM {quote(entity.table)} WHERE {other.sql}"
    start = draw.pick((f"whose {phrase} is", f"that have {with_article(phrase)}"))
    every = draw.pick(("all", "the"))
    text = f"{start} {draw.pick(words)} the {word} {phrase} of {every} {entity.many} {other.text}"
    return _post(f"{target} {sign} ({inner})", _of_person(draw, entity, text))


def bind_extreme(draw: Draw, entity: Entity) -> Bound:
    """At the highest or the lowest of all."""
    attribute = draw.attribute(entity, "number")
    most, least = ("highest", "maximum", "largest"), ("lowest", "minimum", "smallest")
    name, words = draw.pick((("MAX", most), ("MIN", least)))
    target = sql_of(attribute)
    sql = f"{target} = (SELECT {name}({target}) FROM {quote(entity.table)})"
    text = f"{draw.pick(('with', 'that have'))} the {draw.pick(words)} {attribute.phrase}"
    return _post(sql, _of_person(draw, entity, text))


def bind_limit(draw: Draw, entity: Entity) -> Bound:
    """HAVING on an average: "whose average age is above 30"."""
    attribute = draw.attribute(entity, "number")
    number = _number(draw, attribute)
    sign, words = draw.pick(((">", ABOVE), ("<", BELOW)))
    phrase, word = attribute.phrase, draw.pick(words)
    ways = (f"whose average {phrase} is {word}", f"with an average {phrase} {word}")
    sql = f"AVG({sql_of(attribute)}) {sign} {literal(number)}"
    return _post(sql, f"{draw.pick(ways)} {spoken(number)}")
