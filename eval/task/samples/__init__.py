"""Six small databases of our own with questions: the server's default databases and test data."""

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from eval.task.example import Example, load_examples
from eval.task.schema import Schema, parse_ddl

FOLDER = Path(__file__).parent
DEFAULT = "shop"


def sample_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.sql"))


@cache
def sample_schema(name: str) -> Schema:
    return parse_ddl((FOLDER / f"{name}.sql").read_text(encoding="utf-8"))


def sample_examples(split: str) -> list[Example]:
    """The examples of `split`: "train" or "test"."""
    return load_examples(FOLDER / f"{split}.jsonl")


def build_databases(folder: Path) -> None:
    """Write each sample database as `folder/NAME.sqlite`, with relative dates made anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in sample_names():
        path = folder / f"{name}.sqlite"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as db:
            db.executescript((FOLDER / f"{name}.sql").read_text(encoding="utf-8"))
