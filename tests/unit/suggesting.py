"""A schema to suggest on, and the suggestions by kind."""

from eval.task.schema import parse_ddl
from server.suggest import Kind, Suggestion, suggest

SCHEMA = parse_ddl("""
CREATE TABLE venues (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE events (id INTEGER PRIMARY KEY, name TEXT, at TIMESTAMP, day DATE, code VARCHAR(10),
    n INTEGER, price NUMERIC, venue_id INTEGER REFERENCES venues(id));
CREATE TABLE teams (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE matches (id INTEGER PRIMARY KEY, home_id INTEGER REFERENCES teams(id),
    away_id INTEGER REFERENCES teams(id));
CREATE TABLE stays (venue_id INTEGER, day DATE, guest TEXT, PRIMARY KEY (venue_id, day),
    FOREIGN KEY (venue_id) REFERENCES venues(id));
CREATE TABLE "order" ("select" INTEGER PRIMARY KEY, "two words" TEXT);
""")
# Late enough for any machine; what it takes is measured elsewhere.
BUDGET_MS = 20_000


def advice(sql: str, dialect: str = "sqlite") -> dict[Kind, Suggestion]:
    """The first suggestion of each kind, index hints aside."""
    found: dict[Kind, Suggestion] = {}
    for suggestion in suggest(sql, SCHEMA, dialect, budget_ms=BUDGET_MS):
        found.setdefault(suggestion.kind, suggestion)
    found.pop(Kind.INDEX_HINT, None)
    return found


def the_one(sql: str, kind: Kind, dialect: str = "sqlite") -> Suggestion:
    found = advice(sql, dialect)
    assert list(found) == [kind]
    return found[kind]
