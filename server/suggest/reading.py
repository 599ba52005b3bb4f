"""What each SELECT reads: its sources by alias, the columns it uses of each, what it sets equal."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from eval.task.schema import Schema, Table
from eval.task.synthesis.scope import Source, conjuncts, resolve, sources

# A column as a SELECT sees it: alias of the source and name, both in lower case.
Spot = tuple[str, str]


@dataclass(frozen=True)
class Reading:
    """One SELECT and what its FROM and JOINs offer."""

    select: exp.Select
    schema: Schema

    @cached_property
    def sources(self) -> dict[str, Source]:
        return sources(self.select, self.schema)

    @property
    def joins(self) -> list[exp.Join]:
        return self.select.args.get("joins") or []

    @property
    def items(self) -> list[exp.Expr]:
        """What stands in FROM and JOIN, in order."""
        origin = self.select.args.get("from_")
        return [*([origin.this] if origin else []), *(join.this for join in self.joins)]

    @cached_property
    def is_clear(self) -> bool:
        """True if all sources are known by different aliases, and no join merges columns."""
        is_known = len(self.sources) == len(self.items) > 0
        renames = any(item.args.get("alias") and item.args["alias"].columns for item in self.items)
        merges = any(join.args.get("using") or join.method for join in self.joins)
        return is_known and not renames and not merges

    @cached_property
    def has_left_joins_only(self) -> bool:
        """True if no join but LEFT ones may leave a source without a row."""
        return all(join.side in ("", "LEFT") for join in self.joins)

    @cached_property
    def columns(self) -> list[tuple[exp.Column, Spot]]:
        """The columns of the own sources, used here or in a subquery."""
        found = ((node, self.spot(node)) for node in self.select.find_all(exp.Column))
        return [(node, spot) for node, spot in found if spot]

    def spot(self, column: exp.Column) -> Spot | None:
        """What `column` means here; None where it is of another SELECT, or no column at all."""
        name = column.name.lower()
        own = column.find_ancestor(exp.Select)
        while own is not None and own is not self.select:
            if _offers(sources(own, self.schema), column):
                return None
            own = own.find_ancestor(exp.Select)
        alias = _offers(self.sources, column)
        return (alias, name) if alias is not None else None

    def table(self, alias: str) -> Table | None:
        source = self.sources.get(alias)
        return source if isinstance(source, Table) else None

    @cached_property
    def starred(self) -> set[str]:
        """The sources of which every column is shown, by `*` or `alias.*`."""
        stars = [item for item in self.select.expressions if item.is_star]
        is_bare = any(not isinstance(star, exp.Column) for star in stars)
        return set(self.sources) if is_bare else {star.table.lower() for star in stars}

    def item(self, alias: str) -> exp.Expr:
        """The table or subquery that stands under `alias`."""
        return next(item for item in self.items if item.alias_or_name.lower() == alias)

    def column(self, spot: Spot, dialect: str) -> exp.Column:
        """The column at `spot`, spelled as the schema has it, under its source's alias."""
        alias, name = spot
        item, table = self.item(alias), self.table(alias)
        spelled = {c.lower(): c for c in table.column_names} if table else {}
        owner = item.args["alias"].this if item.alias else item.this
        return exp.column(identifier(spelled.get(name, name), dialect), table=owner.copy())

    def join_of(self, alias: str) -> exp.Join | None:
        """The join that brings in `alias`; None for what stands in FROM."""
        parent = self.item(alias).parent
        return parent if isinstance(parent, exp.Join) else None

    @staticmethod
    def on(join: exp.Join) -> exp.Expr | None:
        """The condition of `join`; sqlglot reads ON TRUE where there is none."""
        found: exp.Expr | None = join.args.get("on")
        return None if isinstance(found, exp.Boolean) else found

    def key(self, alias: str) -> frozenset[str]:
        """The primary key of a source, in lower case; empty where there is none."""
        table = self.table(alias)
        return names(table.primary_key) if table else frozenset()

    def aliases(self, node: exp.Expr) -> set[str]:
        """The sources that `node`, a part of the SELECT, has columns of."""
        own = (self.spot(column) for column in node.find_all(exp.Column))
        return {spot[0] for spot in own if spot}

    def filters(self) -> Iterator[exp.Expr]:
        """The conditions that each row of the SELECT meets: of WHERE and of inner joins."""
        where = self.select.args.get("where")
        for condition in [where.this if where else None, *self._inner_conditions()]:
            yield from conjuncts(condition)

    def conditions(self) -> Iterator[exp.Expr]:
        """The filters, and what LEFT JOINs ask of the rows that they add."""
        yield from self.filters()
        for join in self.joins:
            yield from conjuncts(self.on(join)) if join.side else ()

    def _inner_conditions(self) -> Iterator[exp.Expr | None]:
        for join in self.joins:
            if not join.side:
                yield self.on(join)

    def equal(self, condition: exp.Expr) -> tuple[Spot, Spot] | None:
        """The two columns of own sources that `condition` sets equal."""
        if not isinstance(condition, exp.EQ):
            return None
        left, right = condition.left, condition.right
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            one, other = self.spot(left), self.spot(right)
            return (one, other) if one and other else None
        return None


def readings(tree: exp.Query, schema: Schema) -> Iterator[Reading]:
    for select in tree.find_all(exp.Select):
        yield Reading(select, schema)


def place_of(column: exp.Column, schema: Schema) -> tuple[Table, str] | None:
    """The table and column of the schema that `column` shows unchanged."""
    use = resolve(column, schema)
    return (use.table, use.column) if use else None


def identifier(name: str, dialect: str) -> exp.Identifier:
    """`name` as an identifier, in quotes where it has to be."""
    is_keyword = name.upper() in Dialect.get_or_raise(dialect).tokenizer_class.KEYWORDS
    return exp.to_identifier(name, quoted=is_keyword or None)


def names(columns: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.lower() for name in columns)


def _offers(offered: dict[str, Source], column: exp.Column) -> str | None:
    """The alias of the first source that has `column`."""
    wanted, name = column.table.lower(), column.name.lower()
    for alias, source in offered.items():
        if wanted == alias:
            return alias
        if not wanted and name in _output(source):
            return alias
    return None


def _output(source: Source) -> frozenset[str]:
    if isinstance(source, Table):
        return names(source.column_names)
    return frozenset(name.lower() for name in source.named_selects)
