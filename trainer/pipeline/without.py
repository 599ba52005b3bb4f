"""The stage that leaves whole databases out, to measure on them what training gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.pipeline.row import Drop, Outcome, Row, Tick, each

REASON = "left_out_database"


@dataclass(frozen=True)
class Without:
    """Drops the rows of these databases."""

    databases: tuple[str, ...]

    @property
    def name(self) -> str:
        return "without"

    @property
    def options(self) -> Mapping[str, Any]:
        return {"databases": sorted(self.databases)}

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        left_out = set(self.databases)
        return each(rows, lambda row: Drop(REASON) if row.db_id in left_out else row, tick)
