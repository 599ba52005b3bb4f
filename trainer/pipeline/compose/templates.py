"""Templates from the pairs at hand: a query without its names, a question without its mentions.

A pair becomes a template only where each name and value of its SQL that a reader must be told of
is found in the question, and what is left of the question are words that people use of any
database. After GraPPa's induction (Yu et al., 2021), with columns matched by kind. Knows nothing of
synonyms.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot.errors import SqlglotError

from trainer.pipeline.compose.agreement import agrees
from trainer.pipeline.compose.catalogue import Catalogue
from trainer.pipeline.compose.mentions import PLACE, TOKEN, Mentions
from trainer.pipeline.compose.skeleton import NotGeneralError, Skeleton, ValueSlot
from trainer.pipeline.row import Row

MIN_DATABASES = 3
MIN_SHARE = 0.06  # of the databases: how many must have a word for it to be no schema's own
# Words that fit some things only, however many databases have them.
BLOCKED = frozenset(
    """contain contains got held hosted made offered produced take taken took use used uses using
    age aged big bigger biggest born cheap cheaper cheapest cities city cost costs countries
    country customer customers date day days employee employees expensive fast faster fastest
    female he heavier heaviest heavy her hers him his large larger light lighter lightest live
    lived lives living long longer longest male men month old older oldest paid people person play
    played playing plays popular rich richest short shorter shortest slow slowest small smaller
    someone student students tall taller tallest they're time times weigh when where who whom women
    work working works year years young younger youngest""".split()
)


@dataclass(frozen=True, slots=True)
class ColumnSlot:
    """A column of table slot `table`. `is_link`: the joins decide which column it is, or it is the
    key that rows are grouped by."""

    table: int
    kind: str
    is_link: bool


@dataclass(frozen=True, slots=True)
class Template:
    """`sql` holds places `zzT0zz`, `zzC0zz`, `zzV0zz` for tables, columns and values, and so do the
    parts of `question`, with ".p" behind for a plural.

    `nouns` are the table slots that the question names. `links` pairs the column slots (child,
    parent) of each join. `has_twins`: two columns are said by the same words.
    """

    id: str
    shape: str
    question: tuple[str, ...]
    sql: str
    num_tables: int
    nouns: frozenset[int]
    columns: tuple[ColumnSlot, ...]
    values: tuple[ValueSlot, ...]
    links: tuple[tuple[int, int], ...]
    has_twins: bool


def shape_of(sql: str) -> str:
    """The class of a query: nested, else flat, join (one) or joins (two and more)."""
    if sql.count("SELECT ") > 1:
        return "nested"
    return ("flat", "join", "joins")[min(sql.count(" JOIN "), 2)]


def induce(
    rows: Sequence[Row], catalogues: Mapping[tuple[str, str], Catalogue]
) -> tuple[Template, ...]:
    """The different templates of `rows`, in their order; `catalogues` by db_id and schema."""
    common = common_words(rows)
    found: dict[tuple[tuple[str, ...], str], Template] = {}
    for row in rows:
        try:
            template = template_of(row, catalogues[row.db_id, row.schema_json], common)
        except (NotGeneralError, SqlglotError, RecursionError):
            continue
        found.setdefault((template.question, template.sql), template)
    return tuple(found.values())


def common_words(rows: Sequence[Row]) -> frozenset[str]:
    """The words in questions on many databases, so that they belong to none of them."""
    seen: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for word in TOKEN.findall(row.question.lower()):
            seen[word].add(row.db_id)
    least = max(MIN_DATABASES, MIN_SHARE * len({row.db_id for row in rows}))
    return frozenset(word for word, names in seen.items() if len(names) >= least) - BLOCKED


def template_of(row: Row, catalogue: Catalogue, common: frozenset[str]) -> Template:
    """The template of one pair.

    Raises:
        NotGeneralError: it makes none, or its question does not say what its SQL does.
        SqlglotError: the SQL can't be parsed.
    """
    skeleton = Skeleton(row.sql, catalogue)
    mentions = Mentions(row.question, skeleton)
    mentions.match()
    mentions.expect_general(common)
    parts = mentions.parts()
    sql = skeleton.text()
    if not agrees(" ".join(parts), sql):
        raise NotGeneralError
    digest = hashlib.sha256("\n".join((*parts, sql)).encode()).hexdigest()[:8]
    nouns = frozenset(int(m[2]) for p in parts if (m := PLACE.match(p)) and m[1] == "T")
    return Template(
        f"template.{digest}", shape_of(sql), parts, sql, len(skeleton.tables), nouns,
        tuple(_column_slot(skeleton, i) for i in range(len(skeleton.columns))),
        tuple(slot for slot, _ in skeleton.values), tuple(skeleton.links), bool(mentions.twins),
    )  # fmt: skip


def _column_slot(skeleton: Skeleton, index: int) -> ColumnSlot:
    attribute = skeleton.attribute(index)
    linked = {i for pair in skeleton.links for i in pair}
    is_link = index in linked or index not in skeleton.mentioned
    return ColumnSlot(skeleton.tables.index(attribute.table), attribute.kind, is_link)
