"""What `LiveDatabase` asks of a server's session, and the ways in which a query can end badly.

Knows no server: see `postgres.py` and `mariadb.py`.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Protocol

from eval.task.rows import Row

# How much longer than the server's own timeout the client waits before it hangs up.
GRACE_SECONDS = 2.0

Columns = tuple[str, ...]


class QueryFailed(Exception):
    """The server refused the query; the message is the server's."""


class QueryTimeout(Exception):
    """The query took longer than it may."""


class RowTooLarge(Exception):
    """One row alone is larger than an answer may be."""


class ConnectionLost(Exception):
    """The connection broke; the session is of no more use."""


class CannotConnect(Exception):
    """No session could be opened; the message is one line of the driver's."""


class Session(Protocol):
    """One connection to a server, its role and limits set; a query runs in a transaction of its
    own, which may only read and is always rolled back."""

    def query(self, sql: str) -> tuple[Columns, Iterator[Row]]:
        """The columns of `sql` and its rows, as they come. Raises this module's exceptions, as
        does reading the rows; `end` must follow in any case."""
        ...

    def end(self) -> None:
        """Stop the query where it still runs, and roll back. Raises ConnectionLost."""
        ...

    def close(self) -> None: ...

    def write_right(self) -> str | None:
        """The first right found by which the session's role may write or reach files.
        Raises CannotConnect, as does `grants`."""
        ...

    def grants(self) -> str:
        """Statements that make a role which may only read what this one reads."""
        ...


def number(text: str | bytes) -> int | float:
    """A server's decimal as SQLite would hold it: whole and within 64 bits is int, else float."""
    value = Decimal(text if isinstance(text, str) else text.decode())
    if value.is_finite() and value == value.to_integral_value() and abs(value) < 2**63:
        return int(value)
    return float(value)


def first_line(error: BaseException) -> str:
    """What a driver says, without its codes and hints."""
    text = str(error.args[-1]) if error.args else ""
    return (text.strip().splitlines() or [type(error).__name__])[0]
