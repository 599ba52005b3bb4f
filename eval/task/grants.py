"""What a caller may read: whole tables, or some columns of a table.

Prompt and grammar are made of `restrict(schema, grants)`; the check takes the whole schema and the
grants, so that it can tell `not_granted` from `unknown_table`. Names are looked up without regard
to case. Knows nothing of callers.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from eval.task.schema import ForeignKey, Schema, Table

PART = r'"(?:[^"]|"")+"|[^".\s][^".]*'
GRANT = re.compile(rf"\s*({PART})\s*(?:\.\s*({PART})\s*)?")


class GrantsError(ValueError):
    """A grant that can't be read; the message says which and how one looks."""


@dataclass(frozen=True, slots=True)
class Grants:
    """`tables` may be read as a whole, of others `columns`, as (table, column); all lower case."""

    tables: frozenset[str] = frozenset()
    columns: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """Read grants as `table`, `table.*` or `table.column`; a name with a dot stands in double
        quotes, a double quote in it is doubled.

        Raises:
            GrantsError: one of them is none.
        """
        pairs = [_read(text) for text in texts]
        return cls(
            frozenset(table for table, column in pairs if column == "*"),
            frozenset((table, column) for table, column in pairs if column != "*"),
        )

    def has_table(self, table: str) -> bool:
        """True if anything of `table` may be read."""
        name = table.lower()
        return name in self.tables or any(owner == name for owner, _ in self.columns)

    def has_whole(self, table: str) -> bool:
        return table.lower() in self.tables

    def has_column(self, table: str, column: str) -> bool:
        return self.has_whole(table) or (table.lower(), column.lower()) in self.columns

    def missing(self, schema: Schema) -> tuple[str, ...]:
        """The grants that name nothing of `schema`, sorted: mistakes of who wrote them."""
        known = {t.name.lower(): {c.lower() for c in t.column_names} for t in schema.tables}
        tables = {table for table in self.tables if table not in known}
        columns = {f"{t}.{c}" for t, c in self.columns if c not in known.get(t, ())}
        return tuple(sorted(tables | columns))


def restrict(schema: Schema, grants: Grants) -> Schema:
    """`schema` without what is not granted, and without the keys that name any of that."""
    tables = [t for t in schema.tables if grants.has_table(t.name)]
    restricted = [_restricted(table, grants) for table in tables]
    return Schema(tuple(table for table in restricted if table.columns))


def _restricted(table: Table, grants: Grants) -> Table:
    def all_granted(owner: str, columns: Iterable[str]) -> bool:
        return all(grants.has_column(owner, column) for column in columns)

    def may_name(key: ForeignKey) -> bool:
        # A key without columns on the other side refers to that table's primary key.
        granted = (
            all_granted(key.table, key.references)
            if key.references
            else (key.table.lower() in grants.tables)
        )
        return granted and grants.has_table(key.table) and all_granted(table.name, key.columns)

    return replace(
        table,
        columns=tuple(c for c in table.columns if grants.has_column(table.name, c.name)),
        primary_key=table.primary_key if all_granted(table.name, table.primary_key) else (),
        foreign_keys=tuple(key for key in table.foreign_keys if may_name(key)),
    )


def _read(text: str) -> tuple[str, str]:
    match = GRANT.fullmatch(text)
    if not match:
        raise GrantsError(
            f"grant {text[:80]!r} can't be read; write table, table.* or table.column, "
            'a name with a dot in double quotes: "a.b".c'
        )
    table, column = (_unquoted(part) for part in match.groups(default="*"))
    return table, column


def _unquoted(part: str) -> str:
    part = part.strip()
    return (part[1:-1].replace('""', '"') if part.startswith('"') else part).lower()
