"""What all parts of a grammar stand on: the sources, their names as terminals, guards about them.

Names are short, since to read a grammar takes time by its length. With a source's number: T its
table, C its columns after its name, B without it, J (two numbers) a join's condition; the guards
u used, v unused, j joined (named in FROM), o owed (used and not joined), by component c (room for
more of it), by aliased table a (no other has aliases); the rules are said where they are made.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from eval.task.schema import Schema, Table
from server.grammar.lark import Rules, choice, every, ref, some
from server.grammar.options import GrammarError, Options
from server.grammar.sources import ALIASES, Source, sources_of
from server.grammar.spelling import Spelling
from server.grammar.state import ALIASED, BARE, BUDGET, OWED, Slots

# llguidance follows at most 2,000 items at a time. A list of sources takes up to four for each, and
# a bare column, until FROM says whose it is, up to 70 for each table that has one of its name.
MAX_SOURCES = 450
MAX_NAMESAKES = 25

# Guards: the parameter says …
NONE_USED = ref("gn")  # … that no source is used
SOME_USED = ref("gs")
AFFORDS_TABLE = ref("ga")  # … that there is room and budget for another source
NO_TABLE_LEFT = ref("gx")  # … that there is not
OWES_NONE = ref("g0")  # … that FROM has named all that it must
OWES_ONE = ref("g1")


@dataclass(frozen=True)
class Ground:
    """The lines so far, and what they are made for."""

    spelling: Spelling
    options: Options
    sources: tuple[Source, ...]
    rules: Rules

    @classmethod
    def of(cls, schema: Schema, spelling: Spelling, options: Options) -> "Ground":
        """The names of `schema` as terminals, and guards, but no other rules yet.

        Raises:
            GrammarError: no column is left that a query could name, or there are too many tables.
        """
        tables = [_writable(table, spelling) for table in schema.tables]
        readable = Schema(tuple(t for t in tables if t.columns and spelling.name(t.name)))
        if not readable.tables:
            raise GrammarError("schema: it has no column that a query could name")
        sources = sources_of(readable)
        if len(sources) > MAX_SOURCES:
            raise GrammarError(f"schema: {len(tables)} tables are too many for a grammar; prune it")
        ground = cls(spelling, options, sources, Rules())
        ground._add_names()
        ground._add_guards()
        return ground

    @cached_property
    def slots(self) -> Slots:
        return Slots.of(len(self.sources), self.options.max_tables)

    @cached_property
    def components(self) -> dict[int, tuple[Source, ...]]:
        """The sources that joins can bring together, by the first one's number."""
        return {s.first: self.sources[s.first - 1 : s.last] for s in self.sources}

    @cached_property
    def bare_columns(self) -> dict[int, tuple[str, ...]]:
        """By number of source the columns that may stand without their table, as written."""
        if self.options.names == "qualified":
            return {}
        written = {
            s.number: [
                self.spelling.name(n) for n in s.table.column_names if self.spelling.stands_alone(n)
            ]
            for s in self.sources
            if not s.alias
        }
        shared = Counter(name for names in written.values() for name in names)
        few = {n: tuple(x for x in w if shared[x] <= MAX_NAMESAKES) for n, w in written.items()}
        return {number: names for number, names in few.items() if names}

    def table(self, source: Source) -> str:
        """The parts of an alternative that name a source in FROM."""
        number = self._table_numbers[source.table.name]
        return f"T{number} AS_{source.alias}" if source.alias else f"T{number}"

    def column(self, source: Source) -> str:
        return f"C{source.number}"

    def bare(self, number: int) -> str:
        return f"B{number}"

    def used(self, number: int) -> str:
        return ref(f"u{number}")

    def unused(self, number: int) -> str:
        return ref(f"v{number}")

    def joined(self, number: int) -> str:
        return ref(f"j{number}")

    def owed(self, number: int) -> str:
        return ref(f"o{number}")

    def related(self, first: int) -> str:
        """There is room for another source, and the first one used is of the component `first`."""
        return ref(f"c{first}")

    def unclaimed(self, source: Source) -> str:
        """No other table stands under aliases; "" where the source has none."""
        return ref(f"a{source.aliased}") if source.aliased else ""

    def entry(self, source: Source) -> int:
        """What a new source adds to the parameter besides its number."""
        return ALIASED.value(source.aliased)

    @property
    def can_grow(self) -> str:
        """There is room for a source that joins lead to, where FROM owes none."""
        return self._grows(self.slots.have_room)

    @property
    def can_reach(self) -> str:
        """There is a source that joins lead to, and FROM has not named it."""
        return self._grows("")

    def _grows(self, room: str) -> str:
        """The first source's component has more that can be joined than are used."""
        slots, first, found = self.slots.all, self.slots.first, []
        for count in range(len(slots) + 1, 1, -1):
            same = [s.number for s in self.sources if min(s.num_joined, len(slots) + 1) == count]
            if same:
                left = slots[count - 1].is_empty if count <= len(slots) else room
                found.append(every(first.at_least(same[0]), first.at_most(same[-1]), left))
        return some(*found)

    @cached_property
    def _table_numbers(self) -> dict[str, int]:
        return {s.table.name: s.number for s in self.sources if not s.alias}

    def _add_names(self) -> None:
        rules, name = self.rules, self.spelling.name
        for alias in ALIASES:
            rules.terminal(f"AS_{alias}", choice([f" AS {alias}"]))
        for source in self.sources:
            if not source.alias:
                rules.terminal(self.table(source), choice([name(source.table.name)]))
            columns = choice(map(name, source.table.column_names))
            prefix = choice([f"{name(source.name)}."])
            rules.terminal(self.column(source), f"{prefix}({columns})")
        for number, columns_alone in self.bare_columns.items():
            rules.terminal(self.bare(number), choice(columns_alone))

    def _add_guards(self) -> None:
        guard, slots = self.rules.guard, self.slots
        affords = every(slots.have_room, BUDGET.at_least(2), BARE.equals(0))
        guard("gn", slots.are_empty)
        guard("gs", slots.all[0].is_full)
        guard("ga", affords)
        guard("gx", f"not({affords})")
        guard("g0", OWED.equals(0))
        guard("g1", OWED.equals(1))
        for i in range(len(slots.all)):
            guard(f"s{i}", slots.is_next(i))
        for number in {source.aliased for source in self.sources} - {0}:
            guard(f"a{number}", some(ALIASED.equals(0), ALIASED.equals(number)))
        for source in self.sources:
            number, used = source.number, slots.use(source.number)
            guard(f"u{number}", used)
            guard(f"v{number}", f"not({used})")
            guard(f"j{number}", slots.join(number))
            guard(f"o{number}", some(*(slot.whole.equals(number) for slot in slots.all)))
        for first, members in self.components.items():
            range_ = every(slots.first.at_least(first), slots.first.at_most(members[0].last))
            guard(f"c{first}", every(range_, slots.have_room, BUDGET.at_least(2)))


def _writable(table: Table, spelling: Spelling) -> Table:
    """The table with those columns whose names `spelling` can write."""
    columns = tuple(column for column in table.columns if spelling.name(column.name))
    return replace(table, columns=columns)
