"""Where the tests find a PostgreSQL and a MariaDB server, and a database of their own on each."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from eval.live.url import forced_arguments, parse_url

ADMIN_URLS = {
    "postgres": ("SQLWRIGHT_TEST_POSTGRES", "postgresql:///postgres"),
    "mysql": ("SQLWRIGHT_TEST_MARIADB", "mysql:///?unix_socket=/run/mysqld/mysqld.sock"),
}
PASSWORD = "s3cr3t-Wört/@%"


def admin_url(dialect: str) -> str:
    """An administrator's URL; skips without a server, or fails where CI asks for every service."""
    variable, default = ADMIN_URLS[dialect]
    url = os.environ.get(variable, default)
    try:
        connect(parse_url(url)[1]).close()
    except SQLAlchemyError as error:
        message = f"no {dialect} server; {variable} names one: {type(error).__name__}"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return url


def connect(url: URL) -> Connection:
    """A connection of an administrator's, outside of any transaction."""
    forced = forced_arguments(url)
    engine = create_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=forced
    )
    return engine.connect().execution_options(no_parameters=True)


def execute(connection: Connection, *statements: str) -> list[tuple[object, ...]]:
    """Run `statements` one by one; the rows of the last."""
    rows: list[tuple[object, ...]] = []
    for statement in statements:
        result = connection.exec_driver_sql(statement)
        rows = [tuple(row) for row in result] if result.returns_rows else []
    return rows


@dataclass
class TestServer:
    """A database of its own on a server, and roles with rights in it; all are dropped."""

    __test__ = False

    dialect: str
    admin: URL
    name: str
    roles: list[str] = field(default_factory=list)

    @property
    def inside(self) -> URL:
        return self.admin.set(database=self.name)

    @cached_property
    def _connection(self) -> Connection:
        return connect(self.inside)

    def run(self, *statements: str) -> list[tuple[object, ...]]:
        return execute(self._connection, *statements)

    def role(self, *rights: str, role: str = "") -> URL:
        """The URL of a new role with `rights`, where {role} and {db} are names."""
        name = role or f"{self.name}_{len(self.roles)}"
        self.roles.append(name)

        if self.dialect == "postgres":
            self.run(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        else:
            self.run(f"CREATE USER {name} IDENTIFIED BY '{PASSWORD}'")
        self.run(*(right.format(role=name, db=self.name) for right in rights))
        return self.inside.set(username=name, password=PASSWORD)

    def reader(self) -> URL:
        if self.dialect == "postgres":
            return self.role("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        return self.role("GRANT SELECT ON {db}.* TO {role}")

    def hang_up(self) -> None:
        """End every connection of the roles."""
        listed = ", ".join(f"'{role}'" for role in self.roles)
        if self.dialect == "postgres":
            self.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE usename IN ({listed})"
            )
            return
        asked = f"SELECT id FROM information_schema.processlist WHERE user IN ({listed})"
        self.run(*(f"KILL {number}" for (number,) in self.run(asked)))

    def drop(self, connection: Connection) -> None:
        self._connection.close()
        execute(connection, f"DROP DATABASE {self.name}")
        kind = "ROLE" if self.dialect == "postgres" else "USER"
        execute(connection, *(f"DROP {kind} {role}" for role in self.roles))


@contextmanager
def new_server(dialect: str) -> Iterator[TestServer]:
    """A new database on the server of `dialect`; skips where there is none."""
    admin = parse_url(admin_url(dialect))[1]
    server = TestServer(dialect, admin, f"sqlwright_test_{secrets.token_hex(4)}")
    with connect(admin) as connection:
        execute(connection, f"CREATE DATABASE {server.name}")
        try:
            if dialect == "postgres":
                server.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            yield server
        finally:
            server.drop(connection)
