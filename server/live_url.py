"""The URL of a live database: what it names, how its driver is told to read, and what may be said.

A password never gets into a message or a file. Opens no connection.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from eval.task.tables import one_line

CONNECT_SECONDS = 5
READ_SECONDS = 120  # above any limit that a statement has
# SQLAlchemy's name of a kind of database: sqlglot's dialect, and the driver.
KINDS = {
    "postgresql": ("postgres", "psycopg"),
    "postgres": ("postgres", "psycopg"),
    "mysql": ("mysql", "pymysql"),
    "mariadb": ("mysql", "pymysql"),
    "sqlite": ("sqlite", "pysqlite"),
}
# What to do about a driver's message.
REMEDIES = (
    (r"show view", "GRANT SELECT, SHOW VIEW to the role"),
    (r"access denied|password|authentication", "check the user and the password of the URL"),
    (r"role .* does not exist", "check the user of the URL"),
    (r"unknown database|database .* does not exist", "check the database of the URL"),
    (r"", "check host, port and database of the URL"),
)


class IntrospectError(ValueError):
    """A database that can't be read; one line that names the remedy, never a secret."""


def parse_url(url: str) -> tuple[str, URL]:
    """sqlglot's dialect of the database at `url`, and the URL with the driver that is used here.

    Raises:
        IntrospectError: it is no URL of a database that can be read.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise IntrospectError(
            "not the URL of a database: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
            "mysql://... or sqlite:///FILE, special characters of the password as %XX"
        ) from None
    kind, _, driver = parsed.drivername.partition("+")
    if kind not in KINDS or driver not in ("", KINDS[kind][1]):
        known = ", ".join(KINDS)
        raise IntrospectError(
            f"databases of scheme {parsed.drivername[:32]!r} can't be read; known: {known}"
        )
    if "@" in (parsed.host or ""):
        raise IntrospectError("the URL holds more than one @: write %40 for those of a password")
    dialect, driver = KINDS[kind]
    if dialect == "sqlite" and not Path(parsed.database or "").is_file():
        raise IntrospectError(f"there is no SQLite file {parsed.database or ''!r}")
    name = "postgresql" if dialect == "postgres" else kind
    return dialect, parsed.set(drivername=f"{name}+{driver}")


def reading_url(url: URL) -> URL:
    """SQLite takes the read-only mode in the URL; servers are told in the session."""
    if url.get_backend_name() != "sqlite":
        return url
    file = Path(str(url.database)).absolute().as_uri()
    return URL.create(url.drivername, database=file, query={"mode": "ro", "uri": "true"})


def driver_arguments(url: URL) -> dict[str, Any]:
    """What the driver is told whatever the URL says."""
    if url.get_backend_name() == "sqlite":
        return {"timeout": CONNECT_SECONDS}
    told: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
    if url.get_driver_name() == "pymysql":
        told |= {"read_timeout": READ_SECONDS, "local_infile": False}
        if url.password:  # PyMySQL takes text for Latin-1
            told["password"] = str(url.password).encode()
    return told


def public_name(url: URL) -> str:
    """A public name made of the database's: lower case, other characters as -."""
    stem = Path(url.database or "").stem.lower()
    return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")


def source_of(url: URL, schema: str | None = None) -> str:
    """Which database `url` is, without user, password and options, of which some are secrets."""
    kept = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    return one_line(kept.render_as_string() + (f" (schema {schema})" if schema else ""))


def complaint_of(error: Exception, url: URL) -> str:
    """What went wrong and what to do, in one line without a secret of `url`."""
    message = first_line(error)
    secrets = (str(url.password or ""), *_option_values(url))
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        message = message.replace(secret, "***")
    remedy = next(hint for pattern, hint in REMEDIES if re.search(pattern, message, re.IGNORECASE))
    return f"{source_of(url)}: {message}; {remedy}"


def _option_values(url: URL) -> Collection[str]:
    return [str(value) for key, value in url.query.items() if "pass" in key.lower()]


def first_line(error: BaseException) -> str:
    """What a driver says, without its codes and hints."""
    told = getattr(error, "orig", None) or error  # SQLAlchemy wraps the driver's
    text = str(told.args[-1]) if told.args else ""
    return (text.strip().splitlines() or [type(told).__name__])[0][:200]
