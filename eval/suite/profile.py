"""What the rows of the original database say of each table: values, keys, links, dependencies.

The evidence that keeps generated rows plausible. A wrong prediction that stays undetected costs
less than a right one that is called wrong, so whatever the original rows suggest is kept: a text
column without repeats stays without (unless a gold query supposes that it repeats), a link without
orphans gets none, a column without NULLs gets none, and a column that follows from another one
goes on following from it.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import permutations
from pathlib import Path

from eval.task.schema import Schema, Table
from eval.task.sqlite_judge import open_readonly, run_query
from eval.task.synthesis.links import Link, Place, links_of, repeating
from eval.task.synthesis.profile import (
    MAX_VALUES,
    Cells,
    ColumnProfile,
    Profile,
    TableProfile,
    Value,
    declared_kind,
    quoted,
)

MAX_ROWS = 3000
# A number column without repeats is taken for a key from this many rows on; fewer may be chance.
MANY_ROWS = 20
# So many rows must repeat a value of A, always with the same B, before "B follows from A" counts.
MIN_REPEATS = 6
MIN_KEY_ROWS = 4


def profile_database(database: Path, schema: Schema, golds: Iterable[str]) -> Profile:
    """Read the rows of the SQLite file `database`; `golds` say which columns are joined.

    Raises:
        JudgeError: the file is missing.
    """
    with closing(open_readonly(database)) as db:
        rows = {t.name.lower(): list(_rows(db, t)) for t in schema.tables}
        unique = {t.name.lower(): _unique_indexes(database, t) for t in schema.tables}
    links = tuple(links_of(schema, golds, rows))
    repeats = {place for gold in golds for place in repeating(gold, schema)}
    tables = {}
    for table in schema.tables:
        name = table.name.lower()
        tables[name] = _profile_table(
            table, rows[name], declared=unique[name], links=links, repeats=repeats
        )
    return Profile(tables, links)


def _rows(db: sqlite3.Connection, table: Table) -> Iterator[Cells]:
    names = ", ".join(f'"{quoted(name)}"' for name in table.column_names)
    found = run_query(db, f'SELECT {names} FROM "{quoted(table.name)}" LIMIT {MAX_ROWS}')
    lower = [name.lower() for name in table.column_names]
    for row in found.rows:
        yield dict(zip(lower, row, strict=True))  # type: ignore[arg-type]


def _unique_indexes(database: Path, table: Table) -> list[tuple[str, ...]]:
    """Column sets that the file itself holds unique; PRAGMAs are not for guarded connections."""
    found = []
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as db:
        for _, name, is_unique, *_ in db.execute(f'PRAGMA index_list("{quoted(table.name)}")'):
            columns = [row[2] for row in db.execute(f'PRAGMA index_info("{quoted(name)}")')]
            if is_unique and all(columns):
                found.append(tuple(column.lower() for column in columns))
    return found


def _profile_table(
    table: Table,
    rows: list[Cells],
    *,
    declared: list[tuple[str, ...]],
    links: tuple[Link, ...],
    repeats: set[Place],
) -> TableProfile:
    names = [name.lower() for name in table.column_names]
    parents = {link.references for link in links if link.is_parent(table.name)}
    children = {name for link in links if link.is_child(table.name) for name in link.columns}
    columns = {}
    for name, column in zip(names, table.columns, strict=True):
        needed = 1 if (name,) in parents else MANY_ROWS if name in children else None
        if (table.name.lower(), name) in repeats and needed is None:
            needed = MAX_ROWS + 1
        columns[name] = _profile_column(name, column.type, rows, needed=needed)
    primary = tuple(name.lower() for name in table.primary_key)
    keys = [key for key in (primary, *declared) if key and set(key) <= set(names)]
    if not keys:
        keys += _observed_keys(table.name, names, rows, links)
    keys += [(name,) for name in names if columns[name].is_unique]
    unique = tuple(dict.fromkeys(keys))
    single = {key[0] for key in unique if len(key) == 1}
    return TableProfile(table, columns, unique, _dependencies(names, rows, single))


def _profile_column(
    name: str, declared: str, rows: list[Cells], *, needed: int | None
) -> ColumnProfile:
    """`needed`: how many rows without repeats make it unique; by the values where None."""
    held = [v for row in rows if (v := row[name]) is not None]
    distinct = list(dict.fromkeys(held))
    step = max(1, len(distinct) // MAX_VALUES)
    kind = _kind(held, declared)
    is_name = kind == "text" and not all(map(_looks_like_number, held))
    needed = needed or (MIN_KEY_ROWS if is_name or _is_count(held) else MANY_ROWS)
    return ColumnProfile(
        name=name,
        values=tuple(distinct[::step][:MAX_VALUES]),
        kind=kind,
        null_share=1 - len(held) / len(rows) if rows else 0.0,
        is_varied=2 * len(distinct) > len(held),
        is_unique=len(distinct) == len(held) >= needed,
    )


def _kind(held: list[Value], declared: str) -> str:
    if not held:
        return declared_kind(declared)
    numbers = [v for v in held if isinstance(v, int | float)]
    if 2 * len(numbers) < len(held):
        return "text"
    return "int" if all(v == int(v) for v in numbers if abs(v) < 2**63) else "real"


def _looks_like_number(value: Value) -> bool:
    return not isinstance(value, str) or value.replace(".", "", 1).isdigit()


def _is_count(held: list[Value]) -> bool:
    """True for a running number: whole numbers without a gap, as ids are and measures are not."""
    return (
        len(held) >= MIN_KEY_ROWS
        and all(isinstance(v, int) for v in held)
        and max(held) - min(held) == len(held) - 1  # type: ignore[operator]
    )


def _observed_keys(
    table: str, names: list[str], rows: list[Cells], links: tuple[Link, ...]
) -> Iterator[tuple[str, ...]]:
    """What tells rows apart where no key is declared: the links together, else the whole row."""
    linked = {name for link in links if link.is_child(table) for name in link.columns}
    for key in (tuple(n for n in names if n in linked), tuple(names)):
        found = {tuple(row[name] for name in key) for row in rows}
        if len(key) > 1 and len(rows) >= MIN_KEY_ROWS and len(found) == len(rows):
            yield key


def _dependencies(names: list[str], rows: list[Cells], single: set[str]) -> dict[str, str]:
    """B: A where B follows from A; at most one A for each B, and no circles."""
    follows: dict[str, str] = {}
    free = [name for name in names if name not in single]
    for a, b in permutations(free, 2):
        is_free = b not in follows and a not in follows and b not in follows.values()
        if is_free and _follows(a, b, rows):
            follows[b] = a
    return follows


def _follows(a: str, b: str, rows: list[Cells]) -> bool:
    seen: dict[object, object] = {}
    repeats = 0
    for row in rows:
        if row[a] is None:
            continue
        if row[a] not in seen:
            seen[row[a]] = row[b]
        elif seen[row[a]] != row[b]:
            return False
        else:
            repeats += 1
    return repeats >= MIN_REPEATS and len(set(seen.values())) >= 3
