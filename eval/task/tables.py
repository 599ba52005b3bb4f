"""What a schema is: tables, columns, keys, comments, sample values; and the rules that all keep to.

Import these names from `eval.task.schema`. Knows nothing of DDL, databases or prompts.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

MAX_TABLES = 500
MAX_NAME = 300  # BigQuery's longest; other databases stop at 128 or sooner
MAX_COMMENT = 500
# Control, format and surrogate characters, line and paragraph separators: what can't be seen.
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
JOINERS = frozenset("\u200c\u200d")  # invisible, but part of the spelling in Persian and Hindi


class DdlError(ValueError):
    """DDL that gives no usable schema; nothing can be checked against it."""


@dataclass(frozen=True, slots=True)
class Column:
    """`comment` and `values` (a few of the column's own) help to find it; no prompt shows them."""

    name: str
    type: str = ""
    comment: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """`columns` of the owning table refer to `references` of `table`, in order."""

    columns: tuple[str, ...]
    table: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    comment: str = ""

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class Schema:
    """The tables of one database; names are looked up without regard to case."""

    tables: tuple[Table, ...]
    _by_name: dict[str, Table] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {t.name.lower(): t for t in self.tables})

    def __hash__(self) -> int:
        return hash(self.digest)  # kept, so that a cache by schema costs no walk through it

    def find(self, name: str) -> Table | None:
        return self._by_name.get(name.lower())

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the tables: the cache key of whatever is made from a schema."""
        return hashlib.sha256(repr(self.tables).encode()).hexdigest()


def checked_schema(tables: Sequence[Table]) -> Schema:
    """The schema of `tables`, the columns of keys spelled as the tables spell them.

    Raises:
        DdlError: too many tables, two of one name, or a name that can't be shown in one line.
    """
    if len(tables) > MAX_TABLES:
        raise DdlError(f"the schema has {len(tables)} tables; at most {MAX_TABLES} are read")
    _expect_unique("table", [table.name for table in tables])
    for table in tables:
        _expect_unique(f"in table {table.name[:80]!r}, column", table.column_names)
    for name in _names(tables):
        _expect_name(name)
    columns = {t.name.lower(): {c.lower(): c for c in t.column_names} for t in tables}
    return Schema(tuple(_with_spelling(table, columns) for table in tables))


def one_line(text: str, limit: int | None = None) -> str:
    """`text` as one line of at most `limit` characters, without those that can't be seen."""
    seen = "".join(" " if unicodedata.category(c) in UNSEEN else c for c in text)
    return " ".join(seen.split())[:limit]


def _names(tables: Iterable[Table]) -> Iterator[str]:
    for table in tables:
        yield table.name
        yield from table.column_names
        for key in table.foreign_keys:
            yield from (*key.columns, key.table, *key.references)


def _expect_name(name: str) -> None:
    """A name goes into prompts and grammars, where a line break would start a line of its own."""
    if not name:
        raise DdlError("a table or column has an empty name")
    if len(name) > MAX_NAME:
        raise DdlError(
            f"the name {name[:40]!r}... has {len(name)} characters; at most {MAX_NAME} are read"
        )
    if name.isascii() and name.isprintable():
        return
    for character in name:
        if unicodedata.category(character) in UNSEEN and character not in JOINERS:
            raise DdlError(
                f"the name {name[:80]!r} holds U+{ord(character):04X}, a control character, "
                "line break or invisible character; rename it"
            )


def _expect_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise DdlError(f"{what} {name[:80]!r} is created twice")
        seen.add(name.lower())


def _with_spelling(table: Table, columns: dict[str, dict[str, str]]) -> Table:
    """The table with the columns of its keys spelled as created: `PRIMARY KEY (ID)` means `id`."""

    def spell(owner: str, names: tuple[str, ...]) -> tuple[str, ...]:
        own = columns.get(owner.lower(), {})
        return tuple(own.get(name.lower(), name) for name in names)

    keys = tuple(
        ForeignKey(spell(table.name, k.columns), k.table, spell(k.table, k.references))
        for k in table.foreign_keys
    )
    return replace(table, primary_key=spell(table.name, table.primary_key), foreign_keys=keys)
