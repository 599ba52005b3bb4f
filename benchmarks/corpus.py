"""The hostile statements of `tests/fixtures/hostile`: each must be refused, or come back harmless.

One JSON object a line: `id`, `class`, `dialects` (`*`: each that the guard knows), `why`, and `sql`
or `recipe` (pieces with how often each is repeated). By choice `write` (the dialect that it is
regenerated in), `grants` (as `Grants.parse` reads them), `expect: "regenerated"` (may pass where
the regenerated SQL is harmless) and `lacks` (words that this SQL must not hold). The schema is that
of the sample database `shop`. Knows the fixtures, not the guard.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.task.grants import Grants

CORPUS = Path("tests/fixtures/hostile")
# By sqlglot's name. A copy of our own: a name that the guard forgets must be seen.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "bigquery": ("bq",),
    "mysql": ("mariadb",),
    "postgres": ("pg", "postgresql", "psql", "PostgreSQL"),
    "spark": ("sparksql",),
    "sqlite": ("sqlite3", " SQLite "),
    "tsql": ("mssql", "sqlserver"),
}
KEYS = {
    "id", "class", "dialects", "why", "sql", "recipe", "write", "grants", "expect", "lacks"
}  # fmt: skip


class CorpusError(ValueError):
    """A line of the corpus is not a statement; the message names file, line and key."""


@dataclass(frozen=True, slots=True)
class Hostile:
    """One statement in one of its dialects, under one of that dialect's names."""

    id: str
    kind: str
    sql: str
    dialect: str
    why: str
    write: str | None = None
    grants: Grants | None = None
    lacks: tuple[str, ...] = ()
    may_pass: bool = False

    def __str__(self) -> str:
        return f"{self.id}-{self.dialect.strip()}"


def load_corpus(folder: Path, dialects: Iterable[str]) -> list[Hostile]:
    """Every statement of `folder` in each of its dialects and their aliases.

    `dialects` are sqlglot's names of those that `*` stands for.

    Raises:
        CorpusError: a line can't be read, names another key, or `folder` holds no statement.
    """
    every = tuple(sorted(dialects))
    files = sorted(folder.glob("*.jsonl"))
    found = [case for file in files for row in _rows(file) for case in _expand(row, every)]
    if not found:
        raise CorpusError(f"{folder}: no statement in any *.jsonl; run from the repository's root")
    return found


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        place = f"{file.name}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CorpusError(f"{place}: not JSON: {error}") from error
        if unknown := row.keys() - KEYS:
            raise CorpusError(f"{place}: unknown key {min(unknown)!r}; known: {sorted(KEYS)}")
        if ("sql" in row) == ("recipe" in row):
            raise CorpusError(f"{place}: exactly one of 'sql' and 'recipe' makes a statement")
        yield row


def _expand(row: dict[str, Any], every: tuple[str, ...]) -> Iterator[Hostile]:
    named = every if row["dialects"] == ["*"] else row["dialects"]
    text = row["sql"] if "sql" in row else "".join(piece * n for piece, n in row["recipe"])
    for dialect in named:
        for name in (dialect, *ALIASES.get(dialect, ())):
            yield Hostile(
                row["id"],
                row["class"],
                text,
                name,
                row["why"],
                row.get("write"),
                Grants.parse(row["grants"]) if "grants" in row else None,
                tuple(row.get("lacks", ())),
                row.get("expect") == "regenerated",
            )
