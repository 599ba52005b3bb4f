"""What a rule of the grammar remembers of the query so far: fields of its 64-bit parameter."""

from dataclasses import dataclass

from server.grammar.lark import Field, every, some

NUM_BITS = 64
# What is left to write, in units of about one column (see `budget.py`).
BUDGET = Field(58, 64)
# Of the items of the SELECT list, how many stand there; where WANTED is set, how many are to come.
ITEMS = Field(55, 58)
WANTED = Field(54, 55)
# What surrounds the column of the SELECT list that comes next, or that this is FROM.
AROUND = Field(51, 54)
# Columns stand without their table, of which there is but one.
BARE = Field(50, 51)
# How many queries stand around this one.
DEPTH = Field(48, 50)
GROUPED = Field(47, 48)
# The second query of a UNION, INTERSECT or EXCEPT.
SECOND = Field(46, 47)
# How many sources FROM still has to name, since columns of theirs stand in the SELECT list.
OWED = Field(43, 46)
# Which table stands under aliases, by its number among those that may.
ALIASED = Field(40, 43)
# The bits from 0 to here are for slots.
SLOT_BITS = 40


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for a source's number, and whether FROM has named it."""

    number: Field
    joined: Field
    whole: Field

    def joined_value(self, number: int) -> int:
        """The slot with a source that FROM has named, as part of the parameter."""
        return self.number.value(number) | self.joined.mask

    def joins(self, number: int) -> str:
        """The source is here, and FROM has named it."""
        return self.whole.equals(self.joined_value(number) >> self.number.start)

    @property
    def is_empty(self) -> str:
        return self.number.equals(0)

    @property
    def is_full(self) -> str:
        return self.number.differs(0)


@dataclass(frozen=True, slots=True)
class Slots:
    """The sources that a query uses, in the order of their first use; the first slots are full."""

    all: tuple[Slot, ...]

    @classmethod
    def of(cls, num_sources: int, max_tables: int) -> "Slots":
        """As many slots as fit, up to `max_tables`."""
        bits = num_sources.bit_length()
        count = min(max_tables, SLOT_BITS // (bits + 1))
        starts = (i * (bits + 1) for i in range(count))
        return cls(
            tuple(
                Slot(Field(s, s + bits), Field(s + bits, s + bits + 1), Field(s, s + bits + 1))
                for s in starts
            )
        )

    @property
    def first(self) -> Field:
        """The number of the source that was used first."""
        return self.all[0].number

    @property
    def are_empty(self) -> str:
        return self.all[0].is_empty

    @property
    def have_one(self) -> str:
        """At most one source is used."""
        return self.all[1].is_empty if len(self.all) > 1 else ""

    @property
    def have_room(self) -> str:
        return self.all[-1].is_empty

    def use(self, number: int) -> str:
        return some(*(slot.number.equals(number) for slot in self.all))

    def join(self, number: int) -> str:
        """FROM has named the source."""
        return some(*(slot.joins(number) for slot in self.all))

    def is_next(self, index: int) -> str:
        """The slot is the first empty one."""
        before = self.all[index - 1].is_full if index else ""
        return every(before, self.all[index].is_empty)

    def is_last(self, index: int) -> str:
        """The slot is the last full one."""
        after = self.all[index + 1].is_empty if index + 1 < len(self.all) else ""
        return every(self.all[index].is_full, after)
