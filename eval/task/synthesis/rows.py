"""Builds the rows of one generated database: keys unique, children with parents, rows planted.

Works on dictionaries; `insert` writes them into tables that exist.
"""

import sqlite3
from collections.abc import Sequence
from random import Random

from eval.task.synthesis.domain import Drawer, Pools
from eval.task.synthesis.links import Link, Place, key_of
from eval.task.synthesis.plan import Plan, Test, Var
from eval.task.synthesis.profile import Cells, Profile, TableProfile, Value, quoted

MAX_DEPTH = 6
TRIES = 8
EDGE_SHARE = 0.6
MIN_NULLS, MAX_NULLS = 0.05, 0.3

Key = tuple[str, ...]


class Rows:
    """The tables under construction; `add` returns the row that stands for what was asked."""

    def __init__(
        self,
        profile: Profile,
        pools: Pools,
        *,
        sizes: dict[str, int],
        rng: Random,
    ) -> None:
        self.profile = profile
        self.pools = pools
        self.sizes = sizes
        self.rng = rng
        self.tables: dict[str, list[Cells]] = {name: [] for name in profile.tables}
        self._building: list[str] = []
        self._taken: dict[tuple[str, Key], dict[Key, Cells]] = {}
        self._followed: dict[tuple[str, str], dict[Value | None, Value | None]] = {}
        self._drawers = {
            (table, name): Drawer(column, pools.values[table, name], rng)
            for table, owner in profile.tables.items()
            for name, column in owner.columns.items()
        }
        self._links: dict[str, list[Link]] = {name: [] for name in profile.tables}
        for link in profile.links:
            self._links[link.child].append(link)
        # Some links spread children evenly, some heap them on few parents.
        self._skew = {link: rng.choice((1.0, 1.0, 2.0, 3.0)) for link in profile.links}

    def fill(self) -> None:
        """Add rows until every table has its size; gives up on a table whose keys are used up."""
        for table, size in self.sizes.items():
            for _ in range(2 * size):
                if len(self.tables[table]) >= size:
                    break
                self.add(table, {})

    def add(self, table: str, given: Cells, depth: int = 0) -> Cells:
        """A new row with the cells `given`; the row in its place where a key is taken."""
        owner = self.profile.tables[table]
        clash: Cells = {}
        self._building.append(table)
        for _ in range(TRIES):
            row = self._complete(owner, dict(given), depth)
            found = self._clash(owner, row)
            clash = row if found is None else found
            if found is None:
                self._keep(owner, row)
                break
        self._building.pop()
        return clash

    def _complete(self, owner: TableProfile, row: Cells, depth: int) -> Cells:
        table = owner.table.name.lower()
        self._lead(owner, row)
        for link in self._links[table]:
            self._refer(link, row, depth)
        for name, column in owner.columns.items():
            if name not in row and name not in owner.follows:
                is_null = column.null_share > 0 and self.rng.random() < min(
                    MAX_NULLS, max(MIN_NULLS, column.null_share)
                )
                drawer = self._drawers[table, name]
                row[name] = None if is_null else drawer.draw()
        for name, leader in owner.follows.items():
            known = self._followed.setdefault((table, name), {})
            if row[leader] in known:
                row[name] = known[row[leader]]
            elif name not in row:
                row[name] = self._drawers[table, name].draw()
        return row

    def _lead(self, owner: TableProfile, row: Cells) -> None:
        """Give cells that decide a given cell a value that decides it so, or an undecided one."""
        table = owner.table.name.lower()
        for name, leader in owner.follows.items():
            if name in row and leader not in row:
                known = self._followed.setdefault((table, name), {})
                fits = [a for a, b in known.items() if b == row[name]]
                free = [v for v in self.pools.values[table, leader] if v not in known]
                if fits or free:
                    row[leader] = self.rng.choice(fits or free)

    def _refer(self, link: Link, row: Cells, depth: int) -> None:
        """Give the row the parent that its cells name, or one at random."""
        cells = {r: row[c] for c, r in zip(link.columns, link.references, strict=True) if c in row}
        if len(cells) == len(link.columns):
            is_known = key_of(cells, link.references) in self._index(link.parent, link.references)
            is_nested = self._building.count(link.parent) > 1
            if None not in cells.values() and not is_known and not is_nested:
                self.add(link.parent, cells, depth + 1)
            return
        if self.rng.random() >= link.match:
            return
        shares = self._null_shares(link)
        leaves_null = self.rng.random() < min(MAX_NULLS, max(shares.values(), default=0))
        parent = None if leaves_null else self._parent(link, cells, depth)
        if parent is None:
            row.update({name: None for name in shares if name not in row})
            return
        for column, reference in zip(link.columns, link.references, strict=True):
            row.setdefault(column, parent[reference])

    def _null_shares(self, link: Link) -> dict[str, float]:
        """The columns of `link` that hold NULLs in the original, with their shares."""
        columns = self.profile.tables[link.child].columns
        shares = {name: columns[name].null_share for name in link.columns}
        return {name: share for name, share in shares.items() if share > 0}

    def _parent(self, link: Link, cells: Cells, depth: int) -> Cells | None:
        rows = self.tables[link.parent]
        wants_more = len(rows) < self.sizes[link.parent] and self.rng.random() < 0.4
        if (wants_more or not rows or cells) and self._may_add(link.parent, depth):
            return self.add(link.parent, cells, depth + 1)
        return rows[int(len(rows) * self.rng.random() ** self._skew[link])] if rows else None

    def _may_add(self, table: str, depth: int) -> bool:
        """False inside a circle of links: the row that waits for its parent would be its parent."""
        return depth < MAX_DEPTH and table not in self._building

    def _index(self, table: str, names: Key) -> dict[Key, Cells]:
        """Rows by the cells of `names`, kept up to date from the first question on."""
        if (table, names) not in self._taken:
            rows = {key_of(row, names): row for row in self.tables[table]}
            self._taken[table, names] = rows
        return self._taken[table, names]

    def _clash(self, owner: TableProfile, row: Cells) -> Cells | None:
        for key in owner.keys:
            if None not in (row[name] for name in key):
                found = self._index(owner.table.name.lower(), key).get(key_of(row, key))
                if found is not None:
                    return found
        return None

    def _keep(self, owner: TableProfile, row: Cells) -> None:
        table = owner.table.name.lower()
        self.tables[table].append(row)
        for (indexed, names), rows in self._taken.items():
            if indexed == table:
                rows[key_of(row, names)] = row
        for name, value in row.items():
            if value is not None:
                self._drawers[table, name].used.add(value)
        for name, leader in owner.follows.items():
            self._followed.setdefault((table, name), {}).setdefault(row[leader], row[name])

    def match(self, table: str, cells: Cells) -> Cells | None:
        """A row that has these cells already."""
        found = [r for r in self.tables[table] if all(r[n] == v for n, v in cells.items())]
        return self.rng.choice(found) if found else None

    def candidates(self, place: Place) -> Sequence[Value]:
        """Values to meet or miss a condition on a column with: often those at its very edge."""
        edges = self.pools.edges.get(place)
        return edges if edges and self.rng.random() < EDGE_SHARE else self.pools.values[place]


def plant(plan: Plan, rows: Rows) -> None:
    """Add rows that the query of `plan` finds, or that all its conditions but one would find."""
    rng = rows.rng
    broken = _broken(plan.tests, rng)
    # With some SELECTs left out, set operations and subqueries meet rows of one side only.
    kept = {s for s in set(plan.selects) if rng.random() < 0.75} or set(plan.selects)
    group: dict[Var, Value | None] = {}
    for _ in range(rng.choice([1, 1, 2, 3, *plan.sizes])):
        values = _class_values(plan, broken, rows, group)
        _plant_once(plan, rows, kept=kept, values=values)
        group = {var: cell for var, cell in values.items() if var in plan.grouped}


def _broken(tests: Sequence[Test], rng: Random) -> list[Test]:
    """The conditions that the planted rows are to miss: none, one, or any."""
    kind = rng.random()
    if not tests or kind < 0.45:
        return []
    return [rng.choice(tests)] if kind < 0.85 else [t for t in tests if rng.random() < 0.5]


def _class_values(
    plan: Plan, broken: Sequence[Test], rows: Rows, fixed: dict[Var, Value | None]
) -> dict[Var, Value | None]:
    """A value for each cell with conditions that meets them all, those `broken` excepted."""
    leaders = plan.leaders
    tests: dict[Var, list[Test]] = {}
    for test in plan.tests:
        tests.setdefault(leaders.get(test.var, test.var), []).append(test)
    values = dict(fixed)
    for var, own in tests.items():
        pool = [v for t in own for v in rows.candidates((plan.tables[t.var[0]], t.var[1]))]
        wanted = [test not in broken for test in own]
        met = [(value, [test.holds(value) for test in own]) for value in pool]
        fits = [value for value, found in met if found == wanted]
        loose = [value for value, found in met if any(found)]
        if var not in values and (fits or loose):
            values[var] = rows.rng.choice(fits or loose)
    return values


def _plant_once(
    plan: Plan,
    rows: Rows,
    *,
    kept: set[int],
    values: dict[Var, Value | None],
) -> None:
    leaders = plan.leaders
    numbers = [n for n, select in enumerate(plan.selects) if select in kept]
    numbers.sort(key=lambda n: rows.profile.order[plan.tables[n]])  # parents first
    for number in numbers:
        table = plan.tables[number]
        given: Cells = {}
        for column in rows.profile.tables[table].columns:
            leader = leaders.get((number, column), (number, column))
            if leader in values:
                given[column] = values[leader]
        is_last = number == numbers[-1]  # each time at least one row is new
        old = None if is_last or rows.rng.random() < 0.5 else rows.match(table, given)
        row = old or rows.add(table, given)
        for column, cell in row.items():
            var = number, column
            if var in leaders or var in plan.groups:
                values.setdefault(leaders.get(var, var), cell)


def insert(db: sqlite3.Connection, rows: Rows) -> None:
    """Write `rows` in a random order into tables of `db`; a CHECK that the profile knows nothing
    of costs the row, not the database."""
    for table, owner in rows.profile.tables.items():
        columns = owner.table.column_names
        names = ", ".join(f'"{quoted(name)}"' for name in columns)
        marks = ", ".join("?" * len(columns))
        into = f'"{quoted(owner.table.name)}" ({names})'
        found = rows.tables[table]
        rows.rng.shuffle(found)
        db.executemany(
            f"INSERT OR IGNORE INTO {into} VALUES ({marks})",
            [[row[name.lower()] for name in columns] for row in found],
        )
