"""What names mean at one place of a query: the FROM items of a SELECT, their columns, its aliases.

Knows the rules by which engines compare names; `names` walks the tree and asks here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from string import ascii_uppercase
from typing import NamedTuple

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect, NormalizationStrategy

from eval.task.schema import Table

# SQLite gives every table these names for its row number.
ROW_IDS = frozenset({"rowid", "oid", "_rowid_"})

# Engines whose names have no case, whatever the quotes. Of others not even that is sure (T-SQL goes
# by the collation, MySQL by the file system), so that there a name is itself only as it is written.
CASELESS = frozenset(
    "athena databricks duckdb hive presto redshift spark spark2 sqlite trino".split()
)
# Where the words RECURSIVE is needed; elsewhere a CTE that reads its own name is recursive.
SAYS_RECURSIVE = frozenset(
    """
    athena bigquery clickhouse databricks duckdb hive materialize mysql postgres presto redshift
    risingwave spark spark2 trino
    """.split()
)
# Clauses in which an engine takes a bare name for an alias of the select list, where no column has
# that name. In ORDER BY all do.
ALIAS_CLAUSES = {
    "sqlite": {"where", "group", "having", "on"},
    "mysql": {"group", "having"},
    "doris": {"group", "having"},
    "starrocks": {"group", "having"},
    "postgres": {"group"},
    "materialize": {"group"},
    "risingwave": {"group"},
    "redshift": {"group", "having", "where", "select", "qualify"},
    "duckdb": {"group", "having", "where", "select", "qualify"},
    "snowflake": {"group", "having", "where", "select", "qualify"},
    "clickhouse": {"group", "having", "where", "select", "qualify"},
    "databricks": {"group", "having", "select", "qualify"},
    "spark": {"group", "having", "select"},
    "spark2": {"group", "having"},
    "hive": {"having"},
    "bigquery": {"group", "having", "qualify"},
    "teradata": {"group", "having", "where", "select", "qualify"},
}


def lower(name: str) -> str:
    """`name` as engines compare it without regard to case: they agree on ASCII letters only. The
    Kelvin sign is a `k` to Python, and not to SQLite."""
    return name.lower() if name.isascii() else name.translate(ASCII_LOWER)


ASCII_LOWER = {ord(letter): letter.lower() for letter in ascii_uppercase}


class Output(NamedTuple):
    """A column that a query or table puts out; `origin` is the `table.column` that it shows,
    `source` the alias in FROM through which it is seen."""

    name: str
    origin: str | None
    source: str = ""


Outputs = list[Output]


@dataclass(slots=True)
class Source:
    """A FROM item; `outputs` is None where they can't be known. `table`: that of the schema.
    `merged`: what USING or NATURAL makes one with a column further left."""

    outputs: Outputs | None
    table: Table | None = None
    merged: set[str] = field(default_factory=set)
    columns: dict[str, Output] = field(init=False)

    def __post_init__(self) -> None:
        self.columns = {}
        for output in self.outputs or ():
            self.columns.setdefault(lower(output.name), output)


@dataclass(slots=True)
class Level:
    """One SELECT as its expressions see it. `visible`: lower-case column, the outputs that have the
    name, those merged by USING as one."""

    query: exp.Expr
    sources: dict[str, Source] = field(default_factory=dict)
    written: dict[str, tuple[str, bool]] = field(default_factory=dict)
    visible: dict[str, list[Output]] = field(default_factory=dict)
    aliases: dict[str, exp.Expr] = field(default_factory=dict)
    windows: set[str] = field(default_factory=set)
    clause: str = "from"

    @property
    def is_open(self) -> bool:
        """True where a source may hold any column."""
        return any(source.outputs is None for source in self.sources.values())

    def only_table(self) -> Table | None:
        """The table of the schema, where there is nothing else in FROM."""
        sources = list(self.sources.values())
        return sources[0].table if len(sources) == 1 else None


Chain = tuple[Level, ...]


class Cte(NamedTuple):
    """A CTE in sight: its name as written, its outputs; `is_open` while it is being read."""

    name: exp.Identifier
    outputs: Outputs | None
    is_open: bool = False


Ctes = dict[str, Cte]


def find_cte(name: exp.Expr, ctes: Ctes, dialect: str) -> Cte | None:
    """The CTE that `name` means on every engine of `dialect`, if one."""
    cte = ctes.get(lower(name.name))
    if cte is None or dialect in CASELESS:
        return cte
    return cte if _folded(name, dialect) == _folded(cte.name, dialect) else None


def is_spelled(name: exp.Expr, spelling: str, dialect: str) -> bool:
    """False where a name is not the one of the schema after all: quoted, and of another case where
    that matters, or of letters that only Python takes for the same."""
    if lower(name.name) != lower(spelling):
        return False
    if not name.args.get("quoted") or name.name == spelling:
        return True
    fold = fold_of(dialect)
    return name.name == fold(spelling) if fold else True


@cache
def fold_of(dialect: str) -> Callable[[str], str] | None:
    """What an engine does to a name without quotes; None where it leaves it or has no case."""
    strategy = Dialect.get_or_raise(dialect).NORMALIZATION_STRATEGY
    return FOLDS.get(NormalizationStrategy(strategy))


def _folded(name: exp.Expr, dialect: str) -> tuple[str, bool]:
    fold = fold_of(dialect)
    quoted = bool(name.args.get("quoted"))
    if fold is None:
        return name.name, quoted
    return (name.name if quoted else fold(name.name)), True


FOLDS = {
    NormalizationStrategy.LOWERCASE: str.lower,
    NormalizationStrategy.UPPERCASE: str.upper,
}
