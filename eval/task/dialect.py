"""Names of SQL dialects: every alias maps explicitly, and an unknown one is an error.

A silent default here once switched a rival's guard off (SQLBot, `pg` against `postgresql`).
"""

from sqlglot.dialects.dialect import Dialects

# PRQL is another language, not a dialect of SQL that a database runs.
DIALECTS = frozenset(d.value for d in Dialects) - {"", "prql"}

ALIASES = {
    "pg": "postgres",
    "psql": "postgres",
    "postgresql": "postgres",
    "pgsql": "postgres",
    "cockroachdb": "postgres",
    "sqlite3": "sqlite",
    "mariadb": "mysql",
    "mssql": "tsql",
    "sqlserver": "tsql",
    "sql-server": "tsql",
    "bq": "bigquery",
    "sparksql": "spark",
    "spark3": "spark",
}


class DialectError(ValueError):
    """A dialect that nobody here knows; the message lists those that are."""


def resolve_dialect(name: str) -> str:
    """Return sqlglot's name of the dialect `name` (any case, common aliases).

    Raises:
        DialectError: the name is not known.
    """
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key not in DIALECTS:
        known = ", ".join(sorted(DIALECTS | ALIASES.keys()))
        raise DialectError(f"unknown dialect {name[:64]!r}; known: {known}")
    return key
