"""Cases of the check that are data: blocks of headers and a statement, parted by blank lines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.task.grants import Grants
from eval.task.schema import Schema
from eval.task.sql import SqlCheck, check_sql

FIXTURES = Path(__file__).parents[1] / "fixtures"
HEADER = re.compile(r"-- (code|dialect|write|grants|name|gives|says|note): (.*)")


@dataclass(frozen=True)
class Case:
    """One block of a fixture file; the file's first comment tells what its headers mean."""

    line: int
    sql: str
    code: str = "ok"
    dialect: str = "sqlite"
    write: str | None = None
    grants: str | None = None
    name: str | None = None
    gives: str | None = None
    says: tuple[str, ...] = ()
    note: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.line}:{self.code}"

    def check(self, schema: Schema) -> SqlCheck:
        """What the check says of the statement."""
        grants = Grants.parse(self.grants.split(",")) if self.grants else None
        return check_sql(self.sql, schema, self.dialect, self.write, grants=grants)


def read_cases(path: Path) -> list[Case]:
    """The cases of a fixture file, in their order."""
    return list(_cases(path.read_text(encoding="utf-8")))


def _cases(text: str) -> Iterator[Case]:
    line = 1
    for block in text.split("\n\n"):
        lines = block.strip("\n").splitlines()
        headers = [(m[1], m[2]) for m in map(HEADER.fullmatch, lines) if m]
        if headers:
            values: dict[str, Any] = dict(headers)
            for key in ("says", "note"):
                values[key] = tuple(value for name, value in headers if name == key)
            yield Case(line, "\n".join(lines[len(headers) :]), **values)
        line += block.count("\n") + 2


def stray_blocks(path: Path) -> list[str]:
    """The blocks of a fixture file that are neither a case nor a comment."""
    found = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        lines = block.strip("\n").splitlines()
        is_header = [bool(HEADER.fullmatch(line)) for line in lines]
        is_comment = all(line.startswith("-- ") for line in lines)
        if all(is_header) or not (is_header[0] or is_comment):
            found.append(block)
    return found


def said(check: SqlCheck, text: str) -> tuple[str, ...]:
    """What a check says of `text`: of each violation its place, where that is known, and why."""
    return tuple(f"{_place(text, v.start, v.end)}{v.message}" for v in check.violations)


def _place(text: str, start: int | None, end: int | None) -> str:
    return "" if start is None or end is None else f"[{' '.join(text[start:end].split())}] "
