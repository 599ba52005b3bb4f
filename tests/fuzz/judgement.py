"""What is wrong with the guard's answer to one text: a crash, a hang, or harm that passes.

The judges of harm share nothing with the guard: see `benchmarks.oracle`.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.oracle import why_harmful, why_sqlite_refuses
from eval.task.grants import Grants
from eval.task.samples import sample_schema
from eval.task.schema import Schema
from eval.task.sql import SqlCheck, check_sql
from eval.task.violation import CODES

MAX_CPU_MS = 250.0
# Tables that exist and are no part of the schema.
HIDDEN = "CREATE TABLE secrets (id INT, token TEXT); CREATE TABLE evil (id INT)"
GRANTS = Grants.parse(["users.id", "users.name", "users.country", "orders", "products"])


def new_database(schema: Schema) -> sqlite3.Connection:
    """An empty database in memory with the tables of `schema`, and hidden ones."""
    database = sqlite3.connect(":memory:")
    for table in schema.tables:
        names = ", ".join(f'"{column.name}" {column.type}' for column in table.columns)
        database.execute(f'CREATE TABLE "{table.name}" ({names})')
    database.executescript(HIDDEN)
    return database


def _readable(table: str, columns: Iterable[str]) -> list[str]:
    """What GRANTS let read of a table: of a whole one the number of a row too."""
    row_id = ["ROWID"] if GRANTS.has_whole(table) else []
    return [column for column in columns if GRANTS.has_column(table, column)] + row_id


@dataclass
class Judge:
    """Asks the guard and judges its answers; counts what it saw."""

    schema: Schema = field(default_factory=lambda: sample_schema("shop"))
    seen: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0
    slowest: str = ""

    def __post_init__(self) -> None:
        self.database = new_database(self.schema)
        columns = {table.name: table.column_names for table in self.schema.tables}
        self._readable: dict[Grants | None, Mapping[str, Iterable[str] | None]] = {
            None: dict.fromkeys(columns, None),
            GRANTS: {t: _readable(t, cs) for t, cs in columns.items()},
        }

    def complaint(self, text: str, dialect: str) -> str:
        """Why the guard's answers to `text` are wrong; "" where they are right."""
        asked = ((None, None), ("sqlite", None), (None, GRANTS), ("sqlite", GRANTS))
        found = (self._complaint(text, dialect, write, grants) for write, grants in asked)
        return next(filter(None, found), "")

    def _complaint(self, text: str, dialect: str, write: str | None, grants: Grants | None) -> str:
        try:
            check, cpu_ms = self._timed(text, dialect, write, grants)
        except Exception as error:
            return f"crash: {type(error).__name__}: {error}"
        self.seen["checks"] += 1
        self.seen["passed"] += check.valid
        if cpu_ms > self.slowest_ms:
            self.slowest_ms, self.slowest = cpu_ms, f"{dialect}: {text}"
        if cpu_ms > MAX_CPU_MS:
            return f"hang: {cpu_ms:.0f} ms"
        if not check.valid:
            unknown = {violation.code for violation in check.violations} - set(CODES)
            return f"unknown codes: {unknown}" if unknown else ""
        harm = why_harmful(check.sql, write or dialect)
        if not harm and (write or dialect) == "sqlite":
            harm = why_sqlite_refuses(self.database, check.sql, self._readable[grants])
        return f"unsafe: {harm}: {check.sql!r}" if harm else ""

    def _timed(
        self, text: str, dialect: str, write: str | None, grants: Grants | None
    ) -> tuple[SqlCheck, float]:
        """The answer with its processor time: of two tries, where the first is slow."""
        times: list[float] = []
        for _ in range(2):
            began = time.process_time()
            check = check_sql(text, self.schema, dialect, write, grants=grants)
            times.append(1000 * (time.process_time() - began))
            if times[-1] <= MAX_CPU_MS:
                break
        return check, min(times)

    def report(self) -> dict[str, object]:
        """What was seen, for the last line of a run."""
        return dict(self.seen) | {
            "slowest_ms": round(self.slowest_ms, 1), "slowest": self.slowest[:300]
        }  # fmt: skip
