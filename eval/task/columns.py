"""What a column of a query means, looked up in the SELECTs that it can see.

`ColumnReader` also keeps what was found: the names read, and those that may not be.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlglot import exp

from eval.task.grants import Grants
from eval.task.schema import Schema, Table
from eval.task.scope import (
    ALIAS_CLAUSES,
    HIDDEN_COLUMNS,
    ROW_BY_NAME,
    ROW_IDS,
    Chain,
    Level,
    Output,
    fold_of,
    is_spelled,
    lower,
)
from eval.task.unknown import Unknown
from eval.task.violation import span

# Where an alias may stand in ORDER BY by itself only, not in an expression.
BARE_ORDER = frozenset({"postgres", "materialize", "risingwave", "tsql", "fabric"})
# Names beyond this many are not listed: nobody reads them.
MAX_UNKNOWN = 100
# Where SQLite takes a name in a subquery for an alias of the query around it.
SQLITE_CLAUSES = ALIAS_CLAUSES["sqlite"] | {"order"}


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

    def __init__(self, schema: Schema, dialect: str, grants: Grants | None, tree: exp.Expr) -> None:
        self.tree = tree
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
        level = self.level_of(column.args["table"], chain)
        if level is None:
            known = [alias for level in chain for alias in named_sources(level)]
            return self.report("unknown_table", column.table, column.args["table"], known)
        key = lower(column.table)
        source = level.sources[key]
        self.spell(column.args["table"], level.written[key][0])
        found = source.columns.get(lower(column.name))
        if found and self.means(column.this, found):
            return self.read(found._replace(source=key), column, level)
        if source.outputs is None or self.is_row_id(column, source.table):
            return None
        known = [
            f"{column.table}.{output.name}" for output in self.readable(source.columns.values())
        ]
        return self.report("unknown_column", f"{column.table}.{column.name}", column, known)

    def level_of(self, table: exp.Expr, chain: Chain) -> Level | None:
        """The nearest level with a FROM item of that name; None where it may not be named."""
        key = lower(table.name)
        for level in chain:
            if key in level.sources:
                spelling, quoted = level.written[key]
                if is_spelled(table, spelling, self.dialect, quoted):
                    return None if level.is_closed else level
        return None

    def means(self, name: exp.Expr, output: Output) -> bool:
        return is_spelled(name, output.name, self.dialect, output.quoted)

    def bare(self, column: exp.Column, chain: Chain) -> None:
        name = lower(column.name)
        for depth, level in enumerate(chain):
            if depth == 0 and self.is_order_key(column, level):
                return self.alias(column, level)
            found = [o for o in level.visible.get(name, ()) if self.means(column.this, o)]
            if found and not level.is_closed:
                return self.found(found, column, chain[depth:])
            if self.is_alias(column, level, depth):
                return self.alias(column, level)
            if level.is_open or self.is_row_id(column, level.only_table()):
                return None  # a source that is unknown, and reported, may hold it
            if found or self.is_hidden(name, level):
                break
        if self.dialect == "oracle" and name == "rownum":
            return None
        known = [o.name for level in chain for o in self.readable_lists(level)]
        return self.report("unknown_column", column.name, column, known)

    def found(self, outputs: list[Output], column: exp.Column, chain: Chain) -> None:
        """Read a column that is seen in the first level of `chain`."""
        if len(outputs) > 1:
            self.report("ambiguous_column", column.name, column)
        name, output = lower(column.name), outputs[0]
        fold = fold_of(self.dialect)
        is_plain = not column.this.args.get("quoted") and output.quoted is None
        if fold and is_plain and fold(output.name) != output.name:
            # The engine may know this column in quotes only, and look further out for the name.
            others = [o.origin for level in chain[1:] for o in level.visible.get(name, ())]
            if not self.denied.isdisjoint(others):
                self.report("not_granted", column.name, column)
        if self.dialect == "bigquery" and name in chain[0].sources:  # the whole row, says ZetaSQL
            self.whole(chain[0].sources[name].outputs or [], column)
        return self.read(output, column, chain[0])

    def whole(self, outputs: list[Output], node: exp.Expr) -> None:
        """Read all of a FROM item."""
        origins = {output.origin for output in outputs if output.origin}
        if not self.denied.isdisjoint(origins):
            self.report("not_granted", written(node), node)
        self.names.columns |= origins

    def is_hidden(self, name: str, level: Level) -> bool:
        """True where an engine finds something at this level that the schema does not list."""
        has_row = self.dialect in ROW_BY_NAME and name in level.sources
        return has_row or (name in HIDDEN_COLUMNS and level.has_table)

    def is_order_key(self, column: exp.Expr, level: Level) -> bool:
        """True for the whole key of an ORDER BY that is an alias: there it outranks a column."""
        parent = column.parent
        if level.clause != "order" or not isinstance(parent, exp.Ordered):
            return False
        is_own = parent.parent is level.query.args.get("order")
        return is_own and self.names_alias(column, level)

    def names_alias(self, column: exp.Expr, level: Level) -> bool:
        item = level.aliases.get(lower(column.name))
        if item is None:
            return False
        alias = alias_of(item)
        return is_spelled(column.this, alias.name, self.dialect, bool(alias.args.get("quoted")))

    def is_alias(self, column: exp.Expr, level: Level, depth: int) -> bool:
        if not self.names_alias(column, level):
            return False
        if depth:  # from within a subquery
            return self.dialect == "sqlite" and level.clause in SQLITE_CLAUSES
        if level.clause == "order":
            return self.dialect not in BARE_ORDER
        return level.clause in self.clauses or level.clause == "distinct"

    def alias(self, column: exp.Expr, level: Level) -> None:
        item = level.aliases[lower(column.name)]
        self.names.aliases[id(column)] = item
        self.spell(column.this, alias_of(item).name)

    def spell(self, name: exp.Expr, spelling: str) -> None:
        """Keep in mind how `name` is to be written. In quotes it is, where that is what counts."""
        if not (name.args.get("quoted") and fold_of(self.dialect)):
            self.names.spellings.append((name, spelling))

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
            self.spell(node.this, output.name)

    def is_row_id(self, column: exp.Expr, table: Table | None) -> bool:
        """True for SQLite's number of a row. It tells of a row what no column may: who reads it
        must be granted the table."""
        if self.dialect != "sqlite" or table is None or lower(column.name) not in ROW_IDS:
            return False
        if self.grants and not self.grants.has_whole(table.name):
            self.report("not_granted", written(column), column)
        return True

    def readable(self, columns: Iterable[Output]) -> list[Output]:
        return [output for output in columns if output.origin not in self.denied]

    def readable_lists(self, level: Level) -> list[Output]:
        return [o for found in level.visible.values() for o in self.readable(found)]

    def report(
        self, code: str, name: str, node: exp.Expr, candidates: list[str] | None = None
    ) -> None:
        if len(self.names.unknown) >= MAX_UNKNOWN:
            return
        start, end = span(node)
        self.names.unknown.append(Unknown(code, name, tuple(candidates or ()), start, end))


def is_named(item: exp.Expr) -> bool:
    """True for an item of a select list that is given a name. What a window function has for an
    alias is the name of its window."""
    return isinstance(item, exp.Alias | exp.Subquery) and bool(item.alias)


def alias_of(item: exp.Expr) -> exp.Expr:
    """The name that an item of a select list is given."""
    alias: exp.Expr = item.args["alias"]
    return alias.this if isinstance(alias, exp.TableAlias) else alias


def named_sources(level: Level) -> list[str]:
    return [written for written, _ in level.written.values()]


def written(node: exp.Expr) -> str:
    return node.sql(comments=False)[:64]
