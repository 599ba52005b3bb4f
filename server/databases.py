"""The registered databases, and the schemas that come in requests, parsed once by digest."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from eval.task.dialect import DialectError, resolve_dialect
from eval.task.grants import Grants, GrantsError
from eval.task.samples import sample_names, sample_schema
from eval.task.schema import DdlError, Schema, parse_ddl
from server.errors import DatabaseNotFound, InvalidDdl, UnknownDialect

MAX_CACHED = 1024
MAX_CACHED_BYTES = 8 << 20  # of DDL; the schemas of it take about five times as much memory
# Longer DDL is parsed in a thread: 16 KiB take about 40 ms.
MAX_INLINE = 16 * 1024
EVERYONE = "*"


@dataclass(frozen=True)
class Database:
    """A schema under a name, with the dialect that its owner writes.

    `source` says where it came from, without user and password. `grants` holds what callers may
    read, as `table` or `table.column`, by the id of their API key (see `key_id`) or "*".
    """

    name: str
    schema: Schema
    dialect: str = "sqlite"
    source: str = ""
    grants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def grants_for(self, key: str | None) -> Grants | None:
        """What the caller with the API key `key` may read; None where there are no limits.

        A caller's own grants stand in place of everyone's. Where the database has grants but none
        for this caller, nothing may be read. A key that was not checked is no key: pass None.
        """
        if not self.grants:
            return None
        own = None if key is None else self.grants.get(key_id(key))
        return Grants.parse(self.grants.get(EVERYONE, ()) if own is None else own)


def key_id(key: str) -> str:
    """What stands for an API key in files: the first 12 hex digits of its sha256."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def expect_grants(database: Database) -> None:
    """Check that the grants of `database` can be read and name what it has.

    Raises:
        GrantsError: one of them does not.
    """
    for who, texts in database.grants.items():
        if missing := Grants.parse(texts).missing(database.schema):
            raise GrantsError(f"the grant of {missing[0][:80]!r} to {who} names nothing there")


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
    """Registered databases by name, and a bounded cache of schemas from requests.

    `rescan` gives what is registered by now; `watch` asks it.
    """

    def __init__(
        self,
        registered: dict[str, Database],
        default: str,
        rescan: Callable[[], dict[str, Database]] | None = None,
    ) -> None:
        if default not in registered:
            known = ", ".join(sorted(registered))
            raise ValueError(f"default_database: {default!r} is not registered; known: {known}")
        self.registered = registered
        self.default = default
        self._rescan = rescan
        self._parsed: OrderedDict[str, tuple[Schema, int]] = OrderedDict()
        self._cached_bytes = 0
        self._parsing: dict[str, asyncio.Task[Schema]] = {}
        # One thread: many long DDLs at once would slow every other request down.
        self._parser = ThreadPoolExecutor(1, "ddl")

    def find(self, name: str | None) -> Database:
        """The database `name`, or the default.

        Raises:
            DatabaseNotFound: there is none of that name.
        """
        wanted = self.default if name is None else name
        database = self.registered.get(wanted)
        if database is None:
            known = ", ".join(sorted(self.registered))
            raise DatabaseNotFound(
                f"no database {wanted!r}", param="database", hint=f"registered: {known}"
            )
        return database

    async def watch(self, rescan_seconds: float) -> None:
        """Take what is registered from the rescan again and again; runs until cancelled."""
        while self._rescan:
            await asyncio.sleep(rescan_seconds)
            self.registered = await asyncio.to_thread(self._rescan)

    async def read_ddl(self, ddl: str, dialect: str) -> Database:
        """The schema of a request's DDL; long DDL is parsed in a thread, once for all who ask.

        Raises:
            InvalidDdl: it can't be used as a schema.
        """
        key = hashlib.sha256(f"{dialect}\0{ddl}".encode("utf-8", "surrogatepass")).hexdigest()
        if cached := self._parsed.get(key):
            self._parsed.move_to_end(key)
            schema, _ = cached
        elif len(ddl) <= MAX_INLINE:
            schema = _schema_of(ddl, dialect)
            self._keep(key, schema, len(ddl))
        else:
            # Shielded: who leaves early must not take the schema from the others.
            schema = await asyncio.shield(self._task(key, ddl, dialect))
        return Database("ddl", schema, dialect)

    def _task(self, key: str, ddl: str, dialect: str) -> asyncio.Task[Schema]:
        """The one that parses this DDL now, or a new one."""

        async def parse() -> Schema:
            loop = asyncio.get_running_loop()
            schema = await loop.run_in_executor(self._parser, _schema_of, ddl, dialect)
            self._keep(key, schema, len(ddl))
            return schema

        def end(done: asyncio.Task[Schema]) -> None:
            del self._parsing[key]
            if not done.cancelled():
                done.exception()  # else asyncio complains where everybody who waited has left

        if key not in self._parsing:
            self._parsing[key] = asyncio.create_task(parse())
            self._parsing[key].add_done_callback(end)
        return self._parsing[key]

    def _keep(self, key: str, schema: Schema, size: int) -> None:
        self._parsed[key] = schema, size
        self._cached_bytes += size
        while len(self._parsed) > MAX_CACHED or self._cached_bytes > MAX_CACHED_BYTES:
            _, (_, dropped) = self._parsed.popitem(last=False)
            self._cached_bytes -= dropped


def _schema_of(ddl: str, dialect: str) -> Schema:
    try:
        return parse_ddl(ddl, dialect)
    except DdlError as error:
        hint = "send CREATE TABLE statements only, and name their `dialect`"
        raise InvalidDdl(str(error), param="ddl", hint=hint) from error
