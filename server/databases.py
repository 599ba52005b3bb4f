"""The registered databases, and the schemas that come in requests, parsed once by digest."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from eval.task.dialect import DialectError, resolve_dialect
from eval.task.samples import sample_names, sample_schema
from eval.task.schema import DdlError, Schema, parse_ddl
from server.errors import DatabaseNotFound, InvalidDdl, UnknownDialect

MAX_CACHED = 1024


@dataclass(frozen=True)
class Database:
    """A schema under a name, with the dialect that its owner writes."""

    name: str
    schema: Schema
    dialect: str = "sqlite"


def sample_databases() -> dict[str, Database]:
    return {name: Database(name, sample_schema(name)) for name in sample_names()}


def check_dialect(name: str) -> str:
    """sqlglot's name of the dialect.

    Raises:
        UnknownDialect: nobody knows it.
    """
    try:
        return resolve_dialect(name)
    except DialectError as error:
        hint = "use a dialect's name or a common alias, such as postgres, pg, mysql, tsql"
        raise UnknownDialect(str(error), param="dialect", hint=hint) from error


class Databases:
    """Registered databases by name, and a bounded cache of schemas from requests."""

    def __init__(self, registered: dict[str, Database], default: str) -> None:
        if default not in registered:
            known = ", ".join(sorted(registered))
            raise ValueError(f"default_database: {default!r} is not registered; known: {known}")
        self.registered = registered
        self.default = default
        self._parsed: OrderedDict[str, Schema] = OrderedDict()

    def find(self, name: str | None) -> Database:
        """The database `name`, or the default.

        Raises:
            DatabaseNotFound: there is none of that name.
        """
        database = self.registered.get(self.default if name is None else name)
        if database is None:
            known = ", ".join(sorted(self.registered))
            raise DatabaseNotFound(
                f"no database {str(name)!r}", param="database", hint=f"registered: {known}"
            )
        return database

    def from_ddl(self, ddl: str, dialect: str) -> Database:
        """The schema of a request's DDL.

        Raises:
            InvalidDdl: it can't be used as a schema.
        """
        key = hashlib.sha256(f"{dialect}\0{ddl}".encode()).hexdigest()
        schema = self._parsed.get(key)
        if schema is None:
            try:
                schema = parse_ddl(ddl, dialect)
            except DdlError as error:
                hint = "send CREATE TABLE statements only, and name their `dialect`"
                raise InvalidDdl(str(error), param="ddl", hint=hint) from error
            self._parsed[key] = schema
            if len(self._parsed) > MAX_CACHED:
                self._parsed.popitem(last=False)
        self._parsed.move_to_end(key)
        return Database("ddl", schema, dialect)
