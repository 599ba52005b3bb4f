"""What passes through the data pipeline: one row an example, and what a stage made of many.

A row is all text, so that it fits an Arrow table as it is: its schema travels as JSON with it,
because augmentation gives each copy a schema of its own. Knows nothing of tokens or models.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

from eval.task.schema import Column, ForeignKey, Schema, Table


@dataclass(frozen=True, slots=True)
class Row:
    """One question with its gold query and the schema that it is asked on.

    `schema_json` is `dump_schema(schema)`, "" where none is known; `database` is the path of the
    SQLite file that can run `sql`, "" where none can, as for a copy with other names. `origin` is
    the id of the row that a copy was made from, `made_by` how: `rename,shuffle`.
    """

    id: str
    db_id: str
    question: str
    sql: str
    dialect: str = "sqlite"
    source: str = ""
    schema_json: str = ""
    database: str = ""
    origin: str = ""
    made_by: str = ""

    @property
    def schema(self) -> Schema | None:
        """The tables; None where no schema is known."""
        return load_schema(self.schema_json) if self.schema_json else None

    def with_(self, **changes: Any) -> "Row":
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a row goes no further: a short name that is counted, and what it says of this row."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that a stage dropped."""

    id: str
    reason: str
    detail: str = ""


@dataclass
class Outcome:
    """What a stage made of its rows.

    `changed` counts by name what was changed in kept rows, `facts` is whatever else the report
    shows of the stage: JSON values under words.
    """

    rows: list[Row]
    dropped: list[Dropped] = field(default_factory=list)
    changed: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)


# Called with the number of rows that are done.
Tick = Callable[[int], None]


class Stage(Protocol):
    """One step of the pipeline. `name` is its key in reports and caches; `options` is whatever
    decides its outcome beside the rows: another value makes another cache entry."""

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]: ...

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome: ...


def each(rows: Iterable[Row], judge: Callable[[Row], Row | Drop], tick: Tick) -> Outcome:
    """Apply `judge` to every row: a row is kept, a `Drop` is counted."""
    outcome = Outcome([])
    for row in rows:
        made = judge(row)
        if isinstance(made, Drop):
            outcome.dropped.append(Dropped(row.id, made.reason, made.detail))
        else:
            outcome.rows.append(made)
        tick(1)
    return outcome


def dump_schema(schema: Schema) -> str:
    """`schema` as compact JSON; `load_schema` reads it back equal."""
    records = [
        {
            "name": t.name,
            "columns": [{"name": c.name, "type": c.type} for c in t.columns],
            "primary_key": t.primary_key,
            "foreign_keys": [
                {"columns": k.columns, "table": k.table, "references": k.references}
                for k in t.foreign_keys
            ],
        }
        for t in schema.tables
    ]
    return json.dumps(records, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=8192)
def load_schema(text: str) -> Schema:
    """The schema that `dump_schema` wrote."""
    return Schema(tuple(_table(record) for record in json.loads(text)))


def _table(record: Mapping[str, Any]) -> Table:
    return Table(
        record["name"],
        tuple(Column(**column) for column in record["columns"]),
        tuple(record["primary_key"]),
        tuple(
            ForeignKey(tuple(k["columns"]), k["table"], tuple(k["references"]))
            for k in record["foreign_keys"]
        ),
    )
