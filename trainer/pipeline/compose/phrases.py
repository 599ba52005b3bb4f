"""Names of tables and columns as English: `custFName` → "customer first name".

Knows inflection by rule and by a short list, and no meaning: "series" is told from "customers" by
the list alone.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

# What a word of a name stands for. Only what reads the same in every schema.
ABBREVIATIONS = {
    "acc": "account", "acct": "account", "addr": "address", "amt": "amount", "avg": "average",
    "birthdate": "birth date", "bldg": "building", "cat": "category", "cred": "credits",
    "crs": "course", "cust": "customer", "dep": "department", "dept": "department",
    "desc": "description", "descr": "description", "dob": "date of birth", "emp": "employee",
    "enddate": "end date", "enr": "enrollment", "fac": "faculty", "firstname": "first name",
    "fname": "first name", "fullname": "full name", "homecity": "home city", "hrs": "hours",
    "lang": "language", "lastname": "last name", "lat": "latitude", "lname": "last name",
    "lng": "longitude", "loc": "location", "max": "maximum", "mgr": "manager", "min": "minimum",
    "mname": "middle name", "nbr": "number", "no": "number", "num": "number",
    "org": "organization", "pct": "percentage", "pos": "position", "prod": "product",
    "prof": "professor", "qty": "quantity", "rep": "representative", "sal": "salary",
    "startdate": "start date", "stu": "student", "tel": "telephone", "temp": "temperature",
    "tot": "total", "univ": "university", "yr": "year", "zipcode": "zip code",
}  # fmt: skip
IRREGULAR = {
    "alias": "aliases", "analysis": "analyses", "atlas": "atlases", "axe": "axes",
    "base": "bases", "basis": "bases", "bonus": "bonuses", "bus": "buses", "cache": "caches",
    "calorie": "calories", "campus": "campuses", "canvas": "canvases", "case": "cases",
    "child": "children", "cookie": "cookies", "course": "courses", "crisis": "crises",
    "criterion": "criteria", "database": "databases", "disease": "diseases",
    "expense": "expenses", "foot": "feet", "gas": "gases", "half": "halves", "hero": "heroes",
    "horse": "horses", "hour": "hours", "house": "houses", "index": "indices",
    "leaf": "leaves", "lease": "leases", "lens": "lenses", "license": "licenses",
    "life": "lives", "man": "men", "medium": "media", "mouse": "mice", "movie": "movies",
    "nurse": "nurses", "person": "people", "phase": "phases", "photo": "photos",
    "potato": "potatoes", "prize": "prizes", "purchase": "purchases", "purpose": "purposes",
    "quiz": "quizzes", "release": "releases", "response": "responses", "shelf": "shelves",
    "size": "sizes", "status": "statuses", "tie": "ties", "tooth": "teeth", "video": "videos",
    "virus": "viruses", "wife": "wives", "woman": "women", "zombie": "zombies",
}  # fmt: skip
SINGULAR = {many: one for one, many in IRREGULAR.items()} | {"bases": "base"}
UNCHANGING = frozenset(
    """aircraft athletics content data earnings economics equipment faculty feedback fish furniture
    hardware information luggage metadata money music news personnel physics revenue sales series
    sheep software species staff weather""".split()
)
NOT_PLURAL = ("ss", "us", "is", "as")
# Words before which the head of a phrase stands: "dates of birth", "prices in dollar".
AFTER_HEAD = frozenset("at by for from in of on per to with".split())
UNITS = frozenset("billions cm dollars euros kg km mb millions thousands usd".split())
WHICH_NAME = {"f": "first", "l": "last", "m": "middle"}
# Clauses behind a plural noun, and behind a singular one.
AGREEMENT = (("do not ", "does not "), ("have ", "has "), ("are ", "is "), ("belong ", "belongs "))


@lru_cache(maxsize=65536)
def split_name(name: str) -> tuple[str, ...]:
    """The words of an identifier in lower case: snake_case, camelCase, digits set apart."""
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    text = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", text)
    text = re.sub(r"([^\W\d_])(\d)", r"\1 \2", text)
    return tuple(re.sub(r"[\W_]+", " ", text).lower().split())


def expand(name: str, known: Iterable[str] = ()) -> tuple[str, ...]:
    """The words of `name` with abbreviations written out; `known` are words of the schema, so that
    `petid` is "pet id" where there is a table of pets."""
    spelled: list[str] = []
    for word in split_name(name):
        for part in _without_id(word, known):
            spelled += ABBREVIATIONS.get(part, part).split()
    spelled = _without_initials(spelled)
    return tuple(w for i, w in enumerate(spelled) if not i or w != spelled[i - 1])


def _without_id(word: str, known: Iterable[str]) -> list[str]:
    is_id = word.endswith("id") and (word[:-2] in known or word[:-2] in ABBREVIATIONS)
    return [word[:-2], "id"] if is_id else [word]


def _without_initials(words: list[str]) -> list[str]:
    """`LName` of a student is "last name", `cName` of a college "name"."""
    whole = re.sub(r"\b([flm]) (?=name\b)", lambda m: f"{WHICH_NAME[m[1]]} ", " ".join(words))
    return re.sub(r"^[^\W\d] (?=\w)", "", whole).split()


@lru_cache(maxsize=65536)
def plural(phrase: str) -> str:
    """`phrase` with its head in the plural: "date of birth" → "dates of birth"."""
    words = phrase.split()
    head = head_index(words)
    words[head] = _plural_word(words[head])
    return " ".join(words)


@lru_cache(maxsize=65536)
def singular(phrase: str) -> str:
    """`phrase` with its head in the singular."""
    words = phrase.split()
    head = head_index(words)
    words[head] = _singular_word(words[head])
    return " ".join(words)


def head_index(words: list[str]) -> int:
    """Where the head noun of a phrase stands: before the first preposition, else last."""
    for index, word in enumerate(words):
        if index and word in AFTER_HEAD:
            return index - 1
    return len(words) - 1


def is_plural(word: str) -> bool:
    return _singular_word(word) != word


def with_article(phrase: str) -> str:
    """`phrase` after "a" or "an"; a plural takes neither."""
    words = phrase.split()
    if words and is_plural(words[head_index(words)]):
        return phrase
    return f"{article(phrase)} {phrase}"


def article(phrase: str) -> str:
    """The article that stands before `phrase`: "a" or "an"."""
    if phrase.startswith(("hour", "honor", "honour", "heir")):
        return "an"
    sounds_open = phrase[:1] in "aeiou" and not phrase.startswith(("uni", "use", "eu", "one"))
    return "an" if sounds_open else "a"


def join_words(parts: list[str], comma: str = "") -> str:
    """ "a", "a and b", "a, b and c"; with `comma` "a, b, and c"."""
    if len(parts) < 3:
        return " and ".join(parts)
    return f"{', '.join(parts[:-1])}{comma} and {parts[-1]}"


def of_one(clause: str) -> str:
    """A clause behind a singular: "that have a dog" → "that has a dog"."""
    for many, one in AGREEMENT:
        clause = re.sub(rf"^(that|who) {many}", rf"\1 {one}", clause)
    return clause


def _plural_word(word: str) -> str:
    if word in IRREGULAR:
        return IRREGULAR[word]
    is_fixed = word in UNCHANGING or word in UNITS or word in AFTER_HEAD or is_plural(word)
    if is_fixed or word.endswith("ed") or not word[-1:].isalpha():
        return word
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _singular_word(word: str) -> str:
    if word in SINGULAR:
        return SINGULAR[word]
    if word in UNCHANGING or word in IRREGULAR or len(word) < 4 or word.endswith(NOT_PLURAL):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word
