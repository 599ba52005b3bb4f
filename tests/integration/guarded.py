"""Databases that a query could harm: the sample database `shop`, owned by the role that asks.

Beside its tables each has what only a hole in the guard would touch: hidden tables, a sequence, a
function that deletes. `state` is all of it: rows, catalogue, rights, settings, locks.
"""

import hashlib
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pymysql
from pymysql.constants import CLIENT
from pymysql.cursors import SSCursor

from eval.live.url import driver_arguments
from eval.task import samples
from eval.task.grants import Grants
from tests.unit.servers import TestServer, new_server

SECONDS = 0.5
MAX_ROWS = 50
CANARY = "canary-7f3a"
SCRIPT = (Path(samples.__file__).parent / "shop.sql").read_text(encoding="utf-8")
TABLES = re.findall(r"CREATE TABLE (\w+) \(.*?\);", SCRIPT, re.DOTALL)
CREATES = [found[0] for found in re.finditer(r"CREATE TABLE \w+ \(.*?\);", SCRIPT, re.DOTALL)]
HIDDEN = (
    "CREATE TABLE secrets (id INTEGER, token TEXT)",
    f"INSERT INTO secrets VALUES (1, '{CANARY}')",
)

# What a session of PostgreSQL or MariaDB may not have changed either.
POSTGRES_STATE = (
    "SELECT relname, relkind, relowner, relacl::text, reloptions::text FROM pg_class ORDER BY oid",
    "SELECT objoid, description FROM pg_description ORDER BY objoid, classoid, objsubid",
    "SELECT attrelid, attname, atttypid, attacl::text FROM pg_attribute ORDER BY attrelid, attnum",
    "SELECT nspname, nspacl::text FROM pg_namespace ORDER BY oid",
    "SELECT proname, prosrc, proacl::text FROM pg_proc WHERE oid > 16383 ORDER BY oid",
    "SELECT rolname, rolsuper, rolconfig::text FROM pg_roles WHERE rolname LIKE '{db}%' ORDER BY 1",
    "SELECT lomowner, oid FROM pg_largeobject_metadata ORDER BY oid",
    "SELECT * FROM pg_sequences ORDER BY 1, 2",
    "SELECT extname FROM pg_extension ORDER BY 1",
    "SELECT tgname FROM pg_trigger ORDER BY oid",
    "SELECT setconfig::text FROM pg_db_role_setting WHERE setdatabase = "
    "(SELECT oid FROM pg_database WHERE datname = '{db}')",
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
    "(SELECT oid FROM pg_database WHERE datname = '{db}')",
)
POSTGRES_SESSION = (
    "SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY 1",
    "SELECT name FROM pg_prepared_statements UNION ALL SELECT name FROM pg_cursors",
    "SELECT current_user, session_user, current_schema",
)
MARIADB_STATE = (
    "SELECT table_name, table_type, engine, create_options, table_comment "
    "FROM information_schema.tables WHERE table_schema = '{db}' ORDER BY 1",
    "SELECT table_name, column_name, column_type FROM information_schema.columns "
    "WHERE table_schema = '{db}' ORDER BY 1, ordinal_position",
    "SELECT routine_name, routine_definition FROM information_schema.routines "
    "WHERE routine_schema = '{db}' ORDER BY 1",
    "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = '{db}'",
    "SELECT event_name FROM information_schema.events WHERE event_schema = '{db}'",
    "SELECT grantee, privilege_type FROM information_schema.user_privileges "
    "WHERE grantee LIKE '_{db}%' ORDER BY 1, 2",
    "SELECT next_not_cached_value FROM {db}.s",
    "SHOW GLOBAL VARIABLES WHERE variable_name NOT REGEXP 'gtid|uptime|timestamp|lsn'",
)
# Their values move by themselves.
MARIADB_SESSION = (
    "SHOW SESSION VARIABLES WHERE variable_name NOT REGEXP "
    "'gtid|timestamp|pseudo|warning|error_count|rand_seed|last_gtid|in_transaction'",
    "SELECT IS_USED_LOCK('x'), CURRENT_USER(), DATABASE(), @x, LAST_INSERT_ID()",
)


State = dict[str, str]


class Guarded(Protocol):
    """A database with a role that may write in it."""

    dialect: str

    def run(self, sql: str) -> tuple[list[tuple[Any, ...]], str]:
        """The first rows of `sql`, run as it is and committed; or why it failed."""
        ...

    def state(self) -> State:
        """A hash of each thing that a query may not change."""
        ...


def _hash(found: object) -> str:
    return hashlib.sha256(repr(found).encode("utf-8", "replace")).hexdigest()


def _sample_rows() -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(SCRIPT)
        for table in TABLES:
            yield table, database.execute(f"SELECT * FROM {table}").fetchall()


class GuardedSqlite:
    """A file that is open for writing, with nothing to stop a write."""

    dialect = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = sqlite3.connect(folder / "shop.sqlite", isolation_level=None)
        self.database.executescript(SCRIPT)
        for statement in HIDDEN:
            self.database.execute(statement)
        self.database.create_function("evil", -1, self._evil)

    def _evil(self, *_: object) -> int:
        (self.folder / "evil").touch()
        return 1

    def run(self, sql: str) -> tuple[list[tuple[Any, ...]], str]:
        deadline = time.monotonic() + SECONDS
        self.database.set_progress_handler(lambda: int(time.monotonic() > deadline), 1000)
        try:
            with closing(self.database.execute(sql)) as cursor:
                return cursor.fetchmany(MAX_ROWS), ""
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            return [], str(error)
        finally:
            self.database.set_progress_handler(None, 0)

    def state(self) -> State:
        names = ("database_list", "writable_schema", "journal_mode", "user_version", "query_only")
        found: dict[str, object] = {
            name: self.database.execute(f"PRAGMA {name}").fetchall() for name in names
        }
        found["files"] = sorted(path.name for path in self.folder.iterdir())
        found["rows"] = list(self.database.iterdump())
        found["transaction"] = self.database.in_transaction
        return {name: _hash(value) for name, value in found.items()}


class GuardedServer:
    """A database of its own on a server; the asking role owns all that is in it."""

    def __init__(self, server: TestServer) -> None:
        self.server = server
        self.dialect = server.dialect
        url = server.role(*RIGHTS[self.dialect])
        self.connection = CONNECT[self.dialect](url)
        self._fill()

    def _fill(self) -> None:
        with closing(self.connection.cursor()) as cursor:
            for statement in (*CREATES, *HIDDEN, *OWN[self.dialect]):
                cursor.execute(statement)
            for table, rows in _sample_rows():
                if self.dialect == "postgres":
                    rows = [_with_booleans(table, row) for row in rows]
                places = ", ".join(["%s"] * len(rows[0]))
                cursor.executemany(f"INSERT INTO {table} VALUES ({places})", rows)

    def run(self, sql: str) -> tuple[list[tuple[Any, ...]], str]:
        return _run(self.connection, sql)

    def state(self) -> State:
        queries = [f"SELECT * FROM {name} ORDER BY 1, 2" for name in (*TABLES, "secrets")]
        queries += [query.format(db=self.server.name) for query in STATE[self.dialect]]
        found = {query: _hash(self.server.run(query)) for query in queries}
        with closing(self.connection.cursor()) as cursor:
            for query in SESSION[self.dialect]:
                cursor.execute(query)
                found[query] = _hash(list(cursor.fetchall()))
        return found

    @contextmanager
    def limited(self, grants: Grants) -> Iterator[Callable[[str], str]]:
        """A function that runs SQL as a role that the server itself lets read only `grants`, and
        returns its error."""
        rights = [f"GRANT SELECT ON {{db}}.{table} TO {{role}}" for table in sorted(grants.tables)]
        for table in sorted({table for table, _ in grants.columns}):
            columns = ", ".join(sorted(c for t, c in grants.columns if t == table))
            rights.append(f"GRANT SELECT ({columns}) ON {{db}}.{table} TO {{role}}")
        if self.dialect == "postgres":
            rights = [right.replace("{db}.", "") for right in rights]
        with closing(CONNECT[self.dialect](self.server.role(*rights))) as connection:
            yield lambda sql: _run(connection, sql)[1]

    def close(self) -> None:
        with suppress(psycopg.Error, pymysql.Error):
            self.connection.close()


def _run(connection: Any, sql: str) -> tuple[list[tuple[Any, ...]], str]:
    try:
        with closing(connection.cursor()) as cursor:
            cursor.execute(sql)
            return list(cursor.fetchmany(MAX_ROWS)) if cursor.description else [], ""
    except (psycopg.Error, pymysql.Error, ValueError, OverflowError) as error:
        return [], str(error)


def _with_booleans(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """SQLite's 0 and 1 as PostgreSQL wants them."""
    place = {"users": 6, "products": 6}.get(table)
    return tuple(bool(v) if i == place else v for i, v in enumerate(row))


def _postgres(url: Any) -> Any:
    """A query without parameters goes by the simple protocol: several statements would all run."""
    options = f"-cstatement_timeout={int(1000 * SECONDS)} -clock_timeout=200"
    arguments = driver_arguments(url) | {"prepare_threshold": None}
    return psycopg.connect(**arguments, autocommit=True, options=options)


def _mariadb(url: Any) -> Any:
    command = f"SET max_statement_time = {SECONDS}, lock_wait_timeout = 1"
    return pymysql.connect(
        **driver_arguments(url),
        autocommit=True,
        init_command=command,
        cursorclass=SSCursor,
        client_flag=CLIENT.MULTI_STATEMENTS,
    )


CONNECT = {"postgres": _postgres, "mysql": _mariadb}
STATE = {"postgres": POSTGRES_STATE, "mysql": MARIADB_STATE}
SESSION = {"postgres": POSTGRES_SESSION, "mysql": MARIADB_SESSION}
RIGHTS = {
    "postgres": (
        "GRANT CREATE, USAGE ON SCHEMA public TO {role}",
        "GRANT ALL ON DATABASE {db} TO {role}",
    ),
    "mysql": ("GRANT ALL ON {db}.* TO {role}",),
}
OWN = {
    "postgres": (
        "CREATE SEQUENCE s",
        'CREATE TABLE "Users" (id int, token text)',
        f"INSERT INTO \"Users\" VALUES (1, '{CANARY}')",
        "CREATE FUNCTION evil(text) RETURNS int LANGUAGE sql AS "
        "'DELETE FROM reviews; INSERT INTO secrets VALUES (2, $1) RETURNING 1'",
    ),
    "mysql": (
        "CREATE SEQUENCE s",
        "CREATE FUNCTION evil(x TEXT) RETURNS INT MODIFIES SQL DATA BEGIN "
        "DELETE FROM reviews; INSERT INTO secrets VALUES (2, x); RETURN 1; END",
    ),
}


@contextmanager
def guarded(dialect: str, folder: Path) -> Iterator[Guarded]:
    """A database of `dialect` for one test; skips where there is no server."""
    if dialect == "sqlite":
        database = GuardedSqlite(folder)
        with closing(database.database):
            yield database
        return
    with new_server(dialect) as server:
        opened = GuardedServer(server)
        with closing(opened):
            yield opened
