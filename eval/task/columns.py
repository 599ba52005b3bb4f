"""What a column of a query means, looked up in the SELECTs that it can see.

`ColumnReader` also keeps what was found: the names read, and those that may not be.
"""

from dataclasses import dataclass, field

from sqlglot import exp

from eval.task.grants import Grants
from eval.task.schema import Schema, Table
from eval.task.scope import ALIAS_CLAUSES, ROW_IDS, Chain, Level, Output, is_spelled, lower
from eval.task.violation import span

# Where an alias may stand in ORDER BY by itself only, not in an expression.
BARE_ORDER = frozenset({"postgres", "materialize", "risingwave", "tsql", "fabric"})
# Where SQLite takes a name in a subquery for an alias of the query around it.
SQLITE_CLAUSES = ALIAS_CLAUSES["sqlite"] | {"order"}


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that may not stand where it does, with what would have been possible."""

    code: str
    name: str
    candidates: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None


@dataclass(slots=True)
class Names:
    """What a query reads: schema spellings of tables and `table.column`, and what is unknown.

    By the `id` of a column's node: `origins`, the `table.column` that it shows; `owners` and
    `sources`, the SELECT and the alias in its FROM that it comes from; `aliases`, the item of a
    select list that it stands for. `spellings`: identifiers, each with the spelling of what it
    names.
    """

    tables: set[str] = field(default_factory=set)
    columns: set[str] = field(default_factory=set)
    unknown: list[Unknown] = field(default_factory=list)
    origins: dict[int, str] = field(default_factory=dict)
    owners: dict[int, exp.Expr] = field(default_factory=dict)
    sources: dict[int, str] = field(default_factory=dict)
    aliases: dict[int, exp.Expr] = field(default_factory=dict)
    spellings: list[tuple[exp.Expr, str]] = field(default_factory=list)

    def spell(self) -> None:
        """Write the names in the tree as they are spelled where they are made: some engines tell
        `Singer` from `singer`."""
        for identifier, spelling in self.spellings:
            if identifier.name != spelling:
                identifier.set("this", spelling)

    def identity(self, column: exp.Column) -> tuple[str, str]:
        """What makes two columns of one SELECT the same: FROM item and name, in lower case."""
        return self.sources.get(id(column), lower(column.table)), lower(column.name)


class ColumnReader:
    """Resolves columns against the levels in sight, nearest first, as far as `grants` allow."""

    def __init__(self, schema: Schema, dialect: str, grants: Grants | None) -> None:
        self.schema = schema
        self.dialect = dialect
        self.grants = grants
        self.names = Names()
        self.denied: set[str] = set()
        self.clauses = ALIAS_CLAUSES.get(dialect, set())

    def column(self, column: exp.Column, chain: Chain) -> None:
        if column.args.get("db") or column.args.get("catalog"):
            self.report("unknown_column", written(column), column)
        elif isinstance(column.this, exp.Star):
            self.report("unparsable", written(column), column)
        elif column.table:
            self.qualified(column, self.seen(column, chain))
        else:
            self.bare(column, self.seen(column, chain))

    def seen(self, column: exp.Column, chain: Chain) -> Chain:
        """In SQLite, ORDER BY and GROUP BY see nothing of the queries around theirs."""
        is_apart = self.dialect == "sqlite" and chain[0].clause in ("order", "group")
        return chain[:1] if is_apart else chain

    def qualified(self, column: exp.Column, chain: Chain) -> None:
        key, name = lower(column.table), lower(column.name)
        level = next((level for level in chain if key in level.sources), None)
        if level is None:
            known = [alias for level in chain for alias in named_sources(level)]
            return self.report("unknown_table", column.table, column.args["table"], known)
        source = level.sources[key]
        self.names.spellings.append((column.args["table"], level.written[key][0]))
        found = source.columns.get(name)
        if found and is_spelled(column.this, found.name, self.dialect):
            return self.read(found._replace(source=key), column, level)
        if source.outputs is None or self.is_row_id(column, source.table):
            return None
        known = [f"{column.table}.{output.name}" for output in self.readable(source.columns)]
        return self.report("unknown_column", f"{column.table}.{column.name}", column, known)

    def bare(self, column: exp.Column, chain: Chain) -> None:
        name = lower(column.name)
        for depth, level in enumerate(chain):
            if depth == 0 and self.is_order_key(column, level):
                return self.alias(column, level)
            found = [
                output
                for output in level.visible.get(name, ())
                if is_spelled(column.this, output.name, self.dialect)
            ]
            if len(found) > 1:
                self.report("ambiguous_column", column.name, column)
            if found:
                return self.read(found[0], column, level)
            if self.is_alias(column, level, depth):
                return self.alias(column, level)
            if level.is_open or self.is_row_id(column, level.only_table()):
                return None  # a source that is unknown, and reported, may hold it
        if self.dialect == "oracle" and name == "rownum":
            return None
        known = [o.name for level in chain for o in self.readable_lists(level)]
        return self.report("unknown_column", column.name, column, known)

    def is_order_key(self, column: exp.Expr, level: Level) -> bool:
        """True for the whole key of an ORDER BY that is an alias: there it outranks a column."""
        parent = column.parent
        if level.clause != "order" or not isinstance(parent, exp.Ordered):
            return False
        is_own = parent.parent is level.query.args.get("order")
        return is_own and lower(column.name) in level.aliases

    def is_alias(self, column: exp.Expr, level: Level, depth: int) -> bool:
        if lower(column.name) not in level.aliases:
            return False
        if depth:  # from within a subquery
            return self.dialect == "sqlite" and level.clause in SQLITE_CLAUSES
        if level.clause == "order":
            return self.dialect not in BARE_ORDER
        return level.clause in self.clauses or level.clause == "distinct"

    def alias(self, column: exp.Expr, level: Level) -> None:
        self.names.aliases[id(column)] = level.aliases[lower(column.name)]

    def read(self, output: Output, node: exp.Expr, level: Level | None = None) -> None:
        if level is not None:
            self.names.owners[id(node)] = level.query
            self.names.sources[id(node)] = output.source
        if output.origin is None:
            return
        if output.origin in self.denied:
            self.report("not_granted", written(node), node)
        self.names.columns.add(output.origin)
        self.names.origins[id(node)] = output.origin
        if isinstance(node, exp.Column) and lower(node.name) == lower(output.name):
            self.names.spellings.append((node.this, output.name))

    def is_row_id(self, column: exp.Expr, table: Table | None) -> bool:
        """True for SQLite's number of a row, which is its key if it has one of whole numbers."""
        if self.dialect != "sqlite" or table is None or lower(column.name) not in ROW_IDS:
            return False
        key, grants = table.primary_key, self.grants
        if grants and not grants.has_whole(table.name):
            granted = bool(key) and all(grants.has_column(table.name, name) for name in key)
            if not granted:
                self.report("not_granted", written(column), column)
        return True

    def readable(self, columns: dict[str, Output]) -> list[Output]:
        return [output for output in columns.values() if output.origin not in self.denied]

    def readable_lists(self, level: Level) -> list[Output]:
        return [o for found in level.visible.values() for o in found if o.origin not in self.denied]

    def report(
        self, code: str, name: str, node: exp.Expr, candidates: list[str] | None = None
    ) -> None:
        start, end = span(node)
        self.names.unknown.append(Unknown(code, name, tuple(candidates or ()), start, end))


def named_sources(level: Level) -> list[str]:
    return [written for written, _ in level.written.values()]


def written(node: exp.Expr) -> str:
    return node.sql(comments=False)[:64]
