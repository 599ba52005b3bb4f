"""What rows are read from: a name, columns, and records that know where they stand.

Knows nothing of what a column means; `files.py` and `hub.py` make sources.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Where a record stands, as an error message begins ("train.csv:7"), and its values by column.
Record = tuple[str, Mapping[str, object]]


class DataError(ValueError):
    """Data that can't be read; one line that names the file, the line or row, and the remedy."""


@dataclass(frozen=True)
class Source:
    """One data set that is not read yet.

    `read(columns)` yields its records with at least these columns, each time from the beginning.
    `beside` is the folder in which schemas and databases may lie, None where there is none.
    `file` is the file, None for a data set of several; `hub_id` is "" for what is not on the hub.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Record]]
    beside: Path | None = None
    file: Path | None = None
    hub_id: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
