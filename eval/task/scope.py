"""What names mean at one place of a query: the FROM items of a SELECT, their columns, its aliases.

Knows the rules by which engines compare names; `names` walks the tree and asks here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from string import ascii_uppercase
from typing import NamedTuple

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect, NormalizationStrategy

from eval.task.schema import Table

# SQLite gives every table these names for its row number.
ROW_IDS = frozenset({"rowid", "oid", "_rowid_"})
# Columns that tables of one engine or another have though nobody declared them.
HIDDEN_COLUMNS = ROW_IDS | frozenset(
    """
    _change_type _file_name _metadata _part _part_index _partition_id _partition_value
    _partitiondate _partitiontime _rescued_data _rowid _table _table_suffix cmax cmin ctid
    block__offset__inside__file input__file__name ora_rowscn row__id tableoid xmax xmin
    """.split()
)
# Where a FROM item's name alone is its whole row, and nearer than a column further out.
ROW_BY_NAME = frozenset({"bigquery", "duckdb"})
# Engines that read a comma in FROM as CROSS JOIN. Elsewhere a JOIN binds closer, and its ON sees
# nothing of what stands before the comma.
FLAT_COMMAS = frozenset("bigquery clickhouse databricks duckdb hive spark spark2 sqlite".split())
# Where a subquery in FROM sees its neighbours without the word LATERAL.
LATERAL_ALWAYS = frozenset({"duckdb"})

# Engines whose names have no case, whatever the quotes. Of others not even that is sure (T-SQL goes
# by the collation, MySQL by the file system), so that there a name is itself only as it is written.
CASELESS = frozenset(
    "athena databricks duckdb hive presto redshift spark spark2 sqlite trino".split()
)
# Engines that tell `Total` from `total`, quoted or not.
EXACT = frozenset({"clickhouse"})
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
    `source` the alias in FROM through which it is seen. `quoted`: whether the query names it in
    quotes; None where the schema does, which does not say."""

    name: str
    origin: str | None
    source: str = ""
    quoted: bool | None = None


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
    name, those merged by USING as one. `written`: a source's name as it is spelled, and whether in
    quotes; None where the schema spells it. `is_closed`: what is found here may not be named."""

    query: exp.Expr
    sources: dict[str, Source] = field(default_factory=dict)
    written: dict[str, tuple[str, bool | None]] = field(default_factory=dict)
    visible: dict[str, list[Output]] = field(default_factory=dict)
    aliases: dict[str, exp.Expr] = field(default_factory=dict)
    windows: set[str] = field(default_factory=set)
    clause: str = "from"
    is_closed: bool = False

    @property
    def is_open(self) -> bool:
        """True where a source may hold any column."""
        return any(source.outputs is None for source in self.sources.values())

    @property
    def has_table(self) -> bool:
        return any(source.table is not None for source in self.sources.values())

    def only_table(self) -> Table | None:
        """The table of the schema, where there is nothing else in FROM."""
        sources = list(self.sources.values())
        return sources[0].table if len(sources) == 1 else None

    def closed(self) -> "Level":
        """The same level, seen from where none of it may be named."""
        return replace(self, is_closed=True)


Chain = tuple[Level, ...]


class Cte(NamedTuple):
    """A CTE in sight: its name as written, its outputs; `is_open` while it is being read."""

    name: exp.Identifier
    outputs: Outputs | None
    is_open: bool = False


Ctes = dict[str, Cte]


def find_cte(name: exp.Expr, ctes: Ctes, dialect: str, *, is_sure: bool = True) -> Cte | None:
    """The CTE that `name` means on every engine of `dialect`, if one; unless `is_sure`, also one
    of which only the case differs, where engines go by their settings."""
    cte = ctes.get(lower(name.name))
    if cte is None or dialect in CASELESS:
        return cte
    if fold_of(dialect) is None and not is_sure and dialect not in EXACT:
        return cte
    return cte if _folded(name, dialect) == _folded(cte.name, dialect) else None


def is_spelled(name: exp.Expr, spelling: str, dialect: str, quoted: bool | None = None) -> bool:
    """True if `name` means what is spelled so: `quoted` by the query or not, None by the schema.

    False where a name is another one after all: quoted, and of another case where that matters, or
    of letters that only Python takes for the same.
    """
    if lower(name.name) != lower(spelling):
        return False
    fold, is_exact = fold_of(dialect), bool(name.args.get("quoted"))
    if quoted is None:
        is_same = not is_exact or name.name == spelling
        return is_same or fold is None or name.name == fold(spelling)
    if fold is None:
        return dialect not in EXACT or name.name == spelling
    written = name.name if is_exact else fold(name.name)
    return written == (spelling if quoted else fold(spelling))


@cache
def fold_of(dialect: str) -> Callable[[str], str] | None:
    """What an engine does to a name without quotes; None where it leaves it or has no case."""
    strategy = Dialect.get_or_raise(dialect).NORMALIZATION_STRATEGY
    return FOLDS.get(NormalizationStrategy(strategy))


def _folded(name: exp.Expr, dialect: str) -> str:
    fold = fold_of(dialect)
    return name.name if fold is None or name.args.get("quoted") else fold(name.name)


FOLDS = {
    NormalizationStrategy.LOWERCASE: str.lower,
    NormalizationStrategy.UPPERCASE: str.upper,
}
