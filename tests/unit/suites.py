"""Invented databases that generated suites are tried on."""

import sqlite3
from contextlib import closing
from pathlib import Path

from eval.dataset import Question
from eval.suite.generate import Source
from eval.task.example import Example
from eval.task.schema import parse_ddl

AIRLINE = """
CREATE TABLE pilot (id INTEGER PRIMARY KEY, name TEXT, base TEXT, age INTEGER, born TEXT);
CREATE TABLE flight (number INTEGER PRIMARY KEY, pilot_id INTEGER, km REAL,
    FOREIGN KEY (pilot_id) REFERENCES pilot(id));
"""
AIRLINE_ROWS = """
INSERT INTO pilot VALUES (1, 'Ada', 'Oslo', 41, '1980-02-03'), (2, 'Bo', 'Oslo', 29, '1992-05-06'),
    (3, 'Cy', 'Rome', 35, '1986-07-08'), (4, 'Dee', 'Lima', 35, '1986-09-10'),
    (5, 'Eli', NULL, 52, '1970-01-01');
INSERT INTO flight VALUES (10, 1, 120.5), (11, 1, 80.0), (12, 2, 300.25), (13, 3, 77.0),
    (14, 3, 91.5);
"""
GOLDS = (
    "SELECT name FROM pilot WHERE age > 35",
    "SELECT base, count(*) FROM pilot GROUP BY base",
    "SELECT name FROM pilot ORDER BY age DESC LIMIT 1",
    "SELECT p.name, sum(f.km) FROM pilot AS p JOIN flight AS f ON p.id = f.pilot_id GROUP BY p.id",
    "SELECT name FROM pilot WHERE id NOT IN (SELECT pilot_id FROM flight)",
)


def make_database(path: Path, *scripts: str) -> Path:
    with closing(sqlite3.connect(path)) as db:
        for script in scripts:
            db.executescript(script)
    return path


def airline(folder: Path) -> Path:
    return make_database(folder / "airline.sqlite", AIRLINE, AIRLINE_ROWS)


def source_of(path: Path, ddl: str, *golds: str) -> Source:
    return Source(parse_ddl(ddl), path, golds)


def question_of(path: Path, sql: str, *alternatives: str) -> Question:
    example = Example(
        id="airline-1", db_id="airline", question="?", sql=sql, alternatives=alternatives
    )
    return Question(example, path, AIRLINE, parse_ddl(AIRLINE))


def rows_of(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()
