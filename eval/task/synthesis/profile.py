"""What generated rows are to look like: by table the values, keys, links and dependencies.

Says nothing of where they come from: the rows of a database (`eval.suite.profile`) or a schema
alone (`declared`).
"""

from dataclasses import dataclass
from functools import cached_property

from eval.task.schema import Table
from eval.task.synthesis.links import Link

Value = int | float | str | bytes
Cells = dict[str, Value | None]

MAX_VALUES = 150
REAL_WORDS = ("real", "num", "dec", "float", "double")


@dataclass(frozen=True)
class ColumnProfile:
    """The values of one column: at most `MAX_VALUES` distinct ones; kind "int", "real", "text"."""

    name: str
    values: tuple[Value, ...]
    kind: str
    null_share: float
    is_unique: bool
    is_varied: bool  # most rows have a value of their own


@dataclass(frozen=True)
class TableProfile:
    """One table: `keys` are column sets that no two rows share; `follows` maps B to A where each
    A has one B. Column names are in lower case."""

    table: Table
    columns: dict[str, ColumnProfile]
    keys: tuple[tuple[str, ...], ...]
    follows: dict[str, str]


@dataclass(frozen=True)
class Profile:
    """A database by table name in lower case; `links` are foreign keys, declared and joined."""

    tables: dict[str, TableProfile]
    links: tuple[Link, ...]

    @cached_property
    def order(self) -> dict[str, int]:
        """A rank for each table: parents before children, circles cut where they are met."""
        ranks: dict[str, int] = {}

        def visit(table: str, path: tuple[str, ...]) -> None:
            if table not in ranks and table not in path:
                for link in self.links:
                    if link.child == table:
                        visit(link.parent, (*path, table))
                ranks[table] = len(ranks)

        for table in self.tables:
            visit(table, ())
        return ranks


def declared_kind(declared: str) -> str:
    """The kind of a column of which only the declared type is known."""
    lower = declared.lower()
    if "int" in lower or "bool" in lower:
        return "int"
    return "real" if any(word in lower for word in REAL_WORDS) else "text"


def affinity(declared: str) -> str:
    """The SQLite type that columns declared so prefer (section 3.1 of sqlite.org/datatype3.html),
    but for the texts of other systems. INT it is: an INTEGER primary key would take no text, and
    queries may compare one with text."""
    lower = declared.lower()
    if "int" in lower and "point" not in lower and "interval" not in lower:
        return "INT"
    if any(word in lower for word in ("char", "clob", "text", "string", "uuid", "enum")):
        return "TEXT"
    if any(word in lower for word in ("real", "floa", "doub")):
        return "REAL"
    return "BLOB" if not lower or "blob" in lower else "NUMERIC"


def holds_time(declared: str) -> bool:
    """True for a column of days or times of day."""
    return "date" in declared.lower() or "time" in declared.lower()


def quoted(name: str) -> str:
    """`name` as it stands between double quotes."""
    return name.replace('"', '""')
