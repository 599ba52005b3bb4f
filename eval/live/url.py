"""The URL of a database on a server: what it names, and what may be said of it.

A password never gets into a message, whole or in part. Opens no connection.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

CONNECT_SECONDS = 5
REMEDIES = (
    (r"access denied|password|authentication", "check the user and the password of the URL"),
    (r"role .* does not exist", "check the user of the URL"),
    (r"unknown database|database .* does not exist", "check the database of the URL"),
    (r"option|argument", "check what follows the ? of the URL"),
    (r"max_statement_time", "MySQL can't be read here, only MariaDB"),
    (r"", "check that the server runs, and host and port of the URL"),
)


class LiveDatabaseError(ValueError):
    """A server can't be reached or read safely; one line that names the remedy, never a secret."""


@dataclass(frozen=True)
class Server:
    """A kind of server: sqlglot's name of its dialect, SQLAlchemy's of its driver."""

    name: str
    dialect: str
    driver: str


POSTGRES = Server("PostgreSQL", "postgres", "postgresql+psycopg")
MARIADB = Server("MariaDB", "mysql", "mysql+pymysql")
SERVERS = {
    "postgres": POSTGRES,
    "postgresql": POSTGRES,
    "postgresql+psycopg": POSTGRES,
    "mysql": MARIADB,
    "mysql+pymysql": MARIADB,
    "mariadb": MARIADB,
    "mariadb+pymysql": MARIADB,
}


def url_of(template: str, db_id: str) -> str:
    """The URL of one database: `template` with `{db_id}` put in, escaped as a URL needs it."""
    return template.replace("{db_id}", quote(db_id, safe=""))


def parse_url(url: str) -> tuple[Server, URL]:
    """The kind of server that `url` names, and the URL with the driver used here.

    Raises:
        LiveDatabaseError: it is no URL of a server that can be read.
    """
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        raise LiveDatabaseError(
            "not the URL of a database: write SCHEME://USER:PASSWORD@HOST:PORT/DATABASE, "
            "special characters of the password as %XX"
        ) from None
    if "@" in (parsed.host or ""):
        raise LiveDatabaseError("the URL holds more than one @: write %40 for those of a password")
    server = SERVERS.get(parsed.drivername)
    if server is None:
        known = ", ".join(sorted(name for name in SERVERS if "+" not in name))
        raise LiveDatabaseError(
            f"databases of scheme {parsed.drivername[:32]!r} can't be read; known: {known}"
        )
    return server, parsed.set(drivername=server.driver)


def driver_arguments(url: URL) -> dict[str, Any]:
    """What the driver is called with to reach `url`."""
    _, arguments = url.get_dialect()().create_connect_args(url)
    return dict(arguments) | forced_arguments(url)


def forced_arguments(url: URL) -> dict[str, Any]:
    """What the driver is told whatever the URL says. PyMySQL takes text for Latin-1."""
    forced: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
    if url.password and url.drivername == MARIADB.driver:
        forced["password"] = str(url.password).encode()
    return forced


def describe(url: URL) -> str:
    """Which database `url` is, without its user's secrets."""
    port = f":{url.port}" if url.port else ""
    host = f"{url.host}{port}" if url.host else "the local socket"
    return f"database {url.database or ''!r} at {host}"


def without_secrets(text: str, url: URL) -> str:
    """`text` without any secret of `url`."""
    hidden = [str(value) for key, value in url.query.items() if "pass" in key.lower()]
    for secret in (str(url.password or ""), *hidden):
        text = text.replace(secret, "***") if secret else text
    return text


def remedy(message: str) -> str:
    """What to do about a driver's message."""
    return next(hint for pattern, hint in REMEDIES if re.search(pattern, message, re.IGNORECASE))
