"""PostgreSQL and MariaDB as the judge reads them: right values, firm limits, no way to write."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from eval.execution import Database, Limits, open_database
from eval.live import mariadb, postgres, session
from eval.live import url as live_url
from eval.live.database import LiveDatabase, LiveDatabaseError, schema_of, url_of
from tests.unit.servers import PASSWORD, TestServer, new_server

QUICK = Limits(timeout_seconds=0.5, max_rows=1000, max_bytes=20_000_000)
SETUP = {
    "postgres": [
        "CREATE TABLE shops (id int PRIMARY KEY, city text)",
        "CREATE TABLE items (id int PRIMARY KEY, shop_id int REFERENCES shops, name varchar(40), "
        "price numeric(8, 2), sold date, at timestamp, ok boolean, raw bytea)",
        "INSERT INTO shops VALUES (1, 'Ulm')",
        "INSERT INTO items VALUES (1, 1, 'Anna', 1.50, '2024-01-31', '2024-01-31 10:00:00', true, "
        "'\\xff00'), (2, 1, 'béa 😀', 2.00, NULL, NULL, false, NULL), (3, 1, '100 %s', NULL, "
        "NULL, NULL, NULL, NULL)",
        "CREATE FUNCTION add_shop() RETURNS int LANGUAGE sql SECURITY DEFINER AS "
        "'INSERT INTO shops VALUES (9, ''x'') RETURNING id'",
        "CREATE SCHEMA other",
    ],
    "mysql": [
        "CREATE TABLE shops (id int PRIMARY KEY, city text) CHARACTER SET utf8mb4",
        "CREATE TABLE items (id int PRIMARY KEY, shop_id int, name varchar(40), "
        "price decimal(8, 2), sold date, at datetime, ok boolean, raw blob, "
        "FOREIGN KEY (shop_id) REFERENCES shops (id)) CHARACTER SET utf8mb4",
        "INSERT INTO shops VALUES (1, 'Ulm')",
        "INSERT INTO items VALUES (1, 1, 'Anna', 1.50, '2024-01-31', '2024-01-31 10:00:00', true, "
        "x'ff00'), (2, 1, 'béa 😀', 2.00, NULL, NULL, false, NULL), (3, 1, '100 %s', NULL, "
        "NULL, NULL, NULL, NULL)",
    ],
}


@dataclass
class Prepared:
    """A server with the tables of `SETUP`, and a role that may read them."""

    server: TestServer
    reader: URL


@pytest.fixture(scope="module")
def prepared() -> Iterator[Callable[[str], Prepared]]:
    with ExitStack() as stack:

        @cache
        def prepare(dialect: str) -> Prepared:
            server = stack.enter_context(new_server(dialect))
            server.run(*SETUP[dialect])
            return Prepared(server, server.reader())

        yield prepare


@pytest.fixture(params=["postgres", "mysql"])
def server(request: pytest.FixtureRequest, prepared: Callable[[str], Prepared]) -> TestServer:
    return prepared(request.param).server


@pytest.fixture
def reader(server: TestServer, prepared: Callable[[str], Prepared]) -> URL:
    return prepared(server.dialect).reader


@pytest.fixture
def database(reader: URL) -> Iterator[Database]:
    with closing(open_database(text(reader), QUICK)) as opened:
        yield opened


def text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def assert_unharmed(server: TestServer, database: Database) -> None:
    assert server.run("SELECT COUNT(*) FROM items") == [(3,)]
    assert server.run("SELECT COUNT(*) FROM shops") == [(1,)]
    assert database.run("SELECT COUNT(*) FROM items").rows == ((3,),)


def test_values_come_back_as_the_judge_compares_them(database: Database) -> None:
    answer = database.run("SELECT * FROM items ORDER BY id")
    assert answer.error is None
    assert answer.columns == ("id", "shop_id", "name", "price", "sold", "at", "ok", "raw")
    assert answer.rows == (
        (1, 1, "Anna", 1.5, "2024-01-31", "2024-01-31 10:00:00", 1, b"\xff\x00"),
        (2, 1, "béa 😀", 2, None, None, 0, None),
        (3, 1, "100 %s", None, None, None, None, None),
    )
    kinds = {type(value) for row in answer.rows for value in row}
    assert kinds == {int, float, str, bytes, type(None)}


def test_an_empty_answer_has_its_columns(database: Database) -> None:
    answer = database.run("SELECT id, name FROM items WHERE id = 7")
    assert (answer.rows, answer.columns, answer.error) == ((), ("id", "name"), None)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT id FROM items WHERE name LIKE '%nn%'", ((1,),)),
        ("SELECT '%s', '%(name)s', ':name', '?', '%%'", (("%s", "%(name)s", ":name", "?", "%%"),)),
        ("  /* a note */ -- and one\n (SELECT 1)", ((1,),)),
        ("WITH x AS (SELECT 2 AS n) SELECT n FROM x", ((2,),)),
        ("SELECT 'ß😀\u00a0'", (("ß😀\u00a0",),)),
        ("SELECT 1;", ((1,),)),
        ("SELECT COUNT(*), AVG(id), SUM(price) FROM items", ((3, 2, 3.5),)),
    ],
)
def test_the_text_of_a_query_is_taken_as_it_is(
    database: Database, sql: str, rows: tuple[tuple[object, ...], ...]
) -> None:
    assert database.run(sql).rows == rows


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "   ",
        "-- SELECT 1",
        "hello world",
        "SELECT",
        "SELECT * FROM nowhere",
        "SELECT nothing FROM items",
        "SELECT 1\0",
        "SELECT '\ud800'",
        "SELECT 'unclosed",
        "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
        "SELECT '" + "x" * 1_000_001 + "'",
    ],
)
def test_broken_sql_is_a_value(database: Database, server: TestServer, sql: str) -> None:
    answer = database.run(sql)
    assert answer.error
    assert answer.rows == ()
    assert_unharmed(server, database)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO shops VALUES (2, 'Rom')",
        "DELETE FROM items",
        "DROP TABLE items",
        "CREATE TABLE more (a int)",
        "CREATE TEMPORARY TABLE more (a int)",
        "SELECT 1; DELETE FROM items",
        "SELECT 1; COMMIT; DROP TABLE items",
        "COMMIT; DROP TABLE items",
        "COMMIT",
        "SET SESSION TRANSACTION READ WRITE",
        "SELECT * INTO copy FROM items",
        "SELECT * FROM items INTO OUTFILE '/tmp/sqlwright-test'",
        "WITH gone AS (DELETE FROM items RETURNING 1) SELECT * FROM gone",
        "WITH x AS (SELECT 1) DELETE FROM items",
        "SELECT * FROM items FOR UPDATE; DELETE FROM items",
        "BEGIN NOT ATOMIC COMMIT; DELETE FROM items; END",
        "/*! DELETE FROM items */",
        "/*!50000 DELETE */ /* SELECT */ FROM items",
        "/* /* */ SELECT */ DELETE FROM items",
        "(DELETE FROM items)",
        "EXPLAIN ANALYZE DELETE FROM items",
        "DO $$ BEGIN DELETE FROM items; END $$",
        "CALL nothing()",
        "COPY items TO PROGRAM 'cat'",
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE shops",
        "SELECT add_shop()",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
    ],
)
def test_nothing_can_be_written(database: Database, server: TestServer, sql: str) -> None:
    assert database.run(sql).error
    assert_unharmed(server, database)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO shops VALUES (2, 'Rom')",
        "DELETE FROM items",
        "DROP TABLE items",
        "CREATE TABLE more (a int)",
        "SELECT 1; DELETE FROM items",
        "SELECT 1; COMMIT; DROP TABLE items",
    ],
)
def test_the_session_alone_keeps_an_administrator_from_writing(
    server: TestServer, reader: URL, sql: str
) -> None:
    with closing(admin_session(server)) as opened:
        with pytest.raises(session.QueryFailed):
            opened.query(sql)
        opened.end()
        _, rows = opened.query("SELECT COUNT(*) FROM items")
        assert list(rows) == [(3,)]
        opened.end()


def admin_session(server: TestServer) -> session.Session:
    arguments = live_url.driver_arguments(server.inside)
    if server.dialect == "postgres":
        return postgres.PostgresSession(arguments, QUICK)
    return mariadb.MariaDbSession(arguments, QUICK)


RUNAWAY = {
    "postgres": [
        "SELECT pg_sleep(60)",
        "SELECT COUNT(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b",
        "SELECT set_config('statement_timeout', '0', false), pg_sleep(60)",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n FROM r) SELECT COUNT(*) FROM r",
    ],
    "mysql": [
        "SELECT SLEEP(60)",
        "SELECT COUNT(*) FROM seq_1_to_100000 a, seq_1_to_100000 b",
        "SELECT BENCHMARK(1000000000, MD5('x'))",
        "SELECT GET_LOCK('x', 60), SLEEP(60)",
    ],
}


@pytest.mark.parametrize(
    ("server", "sql"), [(d, sql) for d in RUNAWAY for sql in RUNAWAY[d]], indirect=["server"]
)
def test_a_runaway_query_is_stopped(database: Database, server: TestServer, sql: str) -> None:
    assert database.run(sql).error == "over 0.5 s"
    assert_unharmed(server, database)


def test_a_setting_made_by_a_query_does_not_outlive_it(
    database: Database, server: TestServer
) -> None:
    if server.dialect == "mysql":
        assert database.run("SET STATEMENT max_statement_time = 0 FOR SELECT SLEEP(60)").error
        return
    for setting, value in (("statement_timeout", "0"), ("search_path", "nowhere")):
        assert database.run(f"SELECT set_config('{setting}', '{value}', false)").error is None
    assert database.run("SELECT pg_sleep(60)").error == "over 0.5 s"
    assert_unharmed(server, database)


def test_an_answer_of_too_many_rows_is_an_error(database: Database, server: TestServer) -> None:
    numbers = {"postgres": "generate_series(1, {})", "mysql": "seq_1_to_{}"}[server.dialect]
    assert len(database.run(f"SELECT * FROM {numbers.format(1000)} AS n").rows) == 1000
    assert database.run(f"SELECT * FROM {numbers.format(1001)} AS n").error == "over 1000 rows"
    assert_unharmed(server, database)


LARGE_ROWS = {"postgres": "generate_series(1, 300) AS n", "mysql": "seq_1_to_300"}
LARGE_ROW = {
    "postgres": "SELECT REPEAT('x', 200000000)",
    "mysql": "SELECT " + ", ".join(["REPEAT('x', 15000000)"] * 12),
}


def test_an_answer_of_too_many_bytes_is_an_error_and_takes_no_memory(
    reader: URL, server: TestServer
) -> None:
    sql = f"SELECT REPEAT('x', 900000) FROM {LARGE_ROWS[server.dialect]}"
    assert refused_as_large(reader, server, sql) < 100_000_000


def test_a_row_too_large_is_an_error(reader: URL, server: TestServer) -> None:
    """PyMySQL is stopped in time; libpq may hold all of the row before it can be asked."""
    held_bytes = refused_as_large(reader, server, LARGE_ROW[server.dialect])
    assert server.dialect == "postgres" or held_bytes < 100_000_000


def refused_as_large(reader: URL, server: TestServer, sql: str) -> int:
    """How much the memory of this process grew while `sql` was refused for its bytes."""
    limits = Limits(timeout_seconds=60, max_bytes=20_000_000)
    with closing(LiveDatabase(text(reader), limits)) as opened:
        before = peak_bytes(reset=True)
        assert "20000000 bytes" in str(opened.run(sql).error)
        grown = peak_bytes() - before
        assert_unharmed(server, opened)
    return grown


def peak_bytes(*, reset: bool = False) -> int:
    """The most memory that this process held, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_a_connection_that_broke_is_opened_again(database: Database, server: TestServer) -> None:
    assert database.run("SELECT 1").rows == ((1,),)
    server.hang_up()
    assert_unharmed(server, database)


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_a_query_that_breaks_its_connection_is_a_value(
    database: Database, server: TestServer
) -> None:
    answer = database.run("SELECT pg_terminate_backend(pg_backend_pid())")
    assert answer.error == "the connection broke both times that the query ran"
    assert_unharmed(server, database)


class Proxy:
    """Passes bytes on to a server until told to be silent."""

    def __init__(self, target: URL) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def be_silent(self) -> None:
        self._open.clear()

    def close(self) -> None:
        self._open.clear()
        for opened in (self._listener, *self._sockets):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                upstream = connected(self._target)
                self._sockets += [client, upstream]
                for pair in ((client, upstream), (upstream, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._open.is_set():
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)


def connected(url: URL) -> socket.socket:
    """A plain connection to the server of `url`."""
    default = "/var/run/postgresql" if "postgres" in url.drivername else ""
    folder = str(url.query.get("host", "")) or ("" if url.host else default)
    path = str(url.query.get("unix_socket", "")) or (folder and f"{folder}/.s.PGSQL.5432")
    if not path:
        port = url.port or (5432 if "postgres" in url.drivername else 3306)
        return socket.create_connection((url.host or "127.0.0.1", port))
    opened = socket.socket(socket.AF_UNIX)
    opened.connect(path)
    return opened


def test_a_server_that_went_silent_does_not_hold_the_caller(
    server: TestServer, reader: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (postgres, mariadb):
        monkeypatch.setattr(module, "GRACE_SECONDS", 0.2)
    with closing(Proxy(server.admin)) as proxy:
        through = reader.set(host="127.0.0.1", port=proxy.port, query={"sslmode": "disable"})
        if server.dialect == "mysql":
            through = through.set(query={})
        with closing(LiveDatabase(text(through), QUICK)) as opened:
            assert opened.run("SELECT 1").rows == ((1,),)
            proxy.be_silent()
            monkeypatch.setattr(live_url, "CONNECT_SECONDS", 1)
            assert opened.run("SELECT 1").error == "over 0.5 s"
            proxy.close()
            with pytest.raises(LiveDatabaseError, match="check that the server runs"):
                opened.run("SELECT 1")


WRITERS = {
    "postgres": [
        ("ALTER ROLE {role} SUPERUSER", "is a superuser"),
        ("ALTER ROLE {role} CREATEDB", "has CREATEDB"),
        ("ALTER ROLE {role} CREATEROLE", "has CREATEDB, CREATEROLE"),
        ("GRANT INSERT ON items TO {role}", "may change public.items"),
        ("GRANT UPDATE (city) ON shops TO {role}", "may change public.shops"),
        ("GRANT TRUNCATE ON items TO {role}", "may change public.items"),
        ("GRANT CREATE ON SCHEMA other TO {role}", "has CREATE on schema other"),
        ("GRANT CREATE ON DATABASE {db} TO {role}", "has CREATE on the database {db}"),
        ("GRANT pg_read_server_files TO {role}", "is a member of pg_read_server_files"),
        ("GRANT pg_write_all_data TO {role}", "is a member of pg_write_all_data"),
        ("GRANT pg_execute_server_program TO {role}", "is a member of pg_execute"),
        ("ALTER SCHEMA other OWNER TO {role}", "has CREATE on schema other"),
    ],
    "mysql": [
        ("GRANT ALL ON *.* TO {role}", "has ALL PRIVILEGES on *.*"),
        ("GRANT FILE ON *.* TO {role}", "has FILE on *.*"),
        ("GRANT SUPER ON *.* TO {role}", "has SUPER on *.*"),
        ("GRANT INSERT ON {db}.* TO {role}", "has INSERT on `{db}`.*"),
        ("GRANT SELECT, DELETE ON {db}.items TO {role}", "has DELETE on `{db}`.`items`"),
        ("GRANT UPDATE (city, id) ON {db}.shops TO {role}", "has UPDATE on `{db}`.`shops`"),
        ("GRANT CREATE ON {db}.* TO {role}", "has CREATE on `{db}`.*"),
        ("GRANT DROP ON {db}.* TO {role}", "has DROP on `{db}`.*"),
        ("GRANT SELECT ON {db}.* TO {role} WITH GRANT OPTION", "may pass on its rights"),
    ],
}


@pytest.mark.parametrize(
    ("server", "right", "reason"),
    [(dialect, *case) for dialect in WRITERS for case in WRITERS[dialect]],
    indirect=["server"],
)
def test_a_role_that_may_write_is_refused_with_the_remedy(
    server: TestServer, right: str, reason: str
) -> None:
    url = server.reader()
    role = str(url.username)
    server.run(right.format(role=role, db=server.name))
    try:
        message = refusal(url)
    finally:
        if right.startswith("ALTER SCHEMA"):
            server.run("ALTER SCHEMA other OWNER TO CURRENT_USER")
        if server.dialect == "postgres":
            server.run(f"DROP OWNED BY {role}")
    assert f"the role {role!r} {reason.format(db=server.name)}" in message
    assert "GRANT SELECT" in message
    assert server.name in message


def refusal(url: URL) -> str:
    """What is said when `url` is opened: one line, without the password or parts of it."""
    with pytest.raises(LiveDatabaseError) as caught:
        LiveDatabase(text(url), QUICK)
    message = str(caught.value)
    assert "\n" not in message
    for secret in (PASSWORD, "s3cr3t", "W%C3%B6rt", "Wört"):
        assert secret not in message
    assert caught.value.__cause__ is None
    return message


def test_the_suggested_statements_make_a_role_that_is_accepted(server: TestServer) -> None:
    role = server.role()
    writer = server.role("GRANT INSERT ON {db}.items TO {role}" if server.dialect == "mysql" else
                         "GRANT INSERT ON items TO {role}")  # fmt: skip
    grants = refusal(writer).split("that may only read: ")[1].split("; ")
    name = str(role.username)
    for statement in grants:
        if not statement.startswith("CREATE"):
            server.run(statement.replace("sqlwright_reader", name))
    with closing(LiveDatabase(text(role), QUICK)) as opened:
        assert opened.run("SELECT COUNT(*) FROM items").rows == ((3,),)
    if server.dialect == "postgres":
        server.run(f"DROP OWNED BY {name}", f"DROP OWNED BY {writer.username}")


@pytest.mark.parametrize("server", ["mysql"], indirect=True)
def test_what_a_role_of_mariadb_may_by_another_role_counts(server: TestServer) -> None:
    group = f"{server.name}_group"
    url = server.reader()
    server.run(f"CREATE ROLE {group}", f"GRANT INSERT ON {server.name}.* TO {group}")
    try:
        server.run(f"GRANT {group} TO {url.username}")
        assert "has INSERT" in refusal(url)
    finally:
        server.run(f"DROP ROLE {group}")


def test_what_can_not_be_reached_is_said_in_a_line(server: TestServer, reader: URL) -> None:
    gone = reader.set(host="127.0.0.1", port=1, query={})
    assert "host and port of the URL" in refusal(gone)
    assert "check the database" in refusal(server.admin.set(database="no_such_database"))
    odd = reader.update_query_dict({"nonsense": PASSWORD})
    assert "check what follows the ?" in refusal(odd)


@pytest.mark.parametrize("server", ["mysql"], indirect=True)
def test_a_wrong_password_is_said_and_not_shown(server: TestServer, reader: URL) -> None:
    wrong = reader.set(password="s3cr3t-wrong")
    assert "check the user and the password" in refusal(wrong)


@pytest.mark.parametrize(
    "url",
    [
        "s3cr3t",
        "",
        "postgresql",
        "postgresql://user:s3cr3t@@host/db",
        "postgresql://user:@s3cr3t@host/db",
        "postgresql://user@host:s3cr3t/db",
        "postgresql://user:s3cr3t",
        "oracle://user:s3cr3t@host/db",
        "postgresql+asyncpg://user:s3cr3t@host/db",
        "sqlite:///s3cr3t.sqlite",
        "mysql+s3cr3t+s3cr3t+s3cr3t",
    ],
)
def test_a_url_of_nothing_known_is_refused_without_a_secret(url: str) -> None:
    with pytest.raises(LiveDatabaseError) as caught:
        LiveDatabase(url, QUICK)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("template", "db_id", "url"),
    [
        ("mysql://reader@localhost/{db_id}", "shop", "mysql://reader@localhost/shop"),
        ("mysql://reader@localhost/{db_id}", "a/b ?", "mysql://reader@localhost/a%2Fb%20%3F"),
        (
            "postgresql:///x?options=-csearch_path%3D{db_id}",
            "s",
            "postgresql:///x?options=-csearch_path%3Ds",
        ),
        ("postgresql:///all", "shop", "postgresql:///all"),
    ],
)
def test_a_template_names_the_database_of_a_question(template: str, db_id: str, url: str) -> None:
    assert url_of(template, db_id) == url


def test_the_schema_is_read_with_types_and_keys(server: TestServer, reader: URL) -> None:
    ddl, schema = schema_of(text(reader))
    assert ddl.count("CREATE TABLE") == 2
    items, shops = schema.find("items"), schema.find("shops")
    assert items is not None
    assert shops is not None
    assert items.column_names == ("id", "shop_id", "name", "price", "sold", "at", "ok", "raw")
    assert items.primary_key == shops.primary_key == ("id",)
    assert [(k.columns, k.table, k.references) for k in items.foreign_keys] == [
        (("shop_id",), "shops", ("id",))
    ]
    assert dict(zip(items.column_names, [c.type for c in items.columns], strict=True))[
        "name"
    ].startswith("varchar(40)")


def test_a_database_without_tables_has_no_schema(server: TestServer) -> None:
    refused = pytest.raises(LiveDatabaseError, match="no tables that its role can see")
    with new_server(server.dialect) as empty, refused:
        schema_of(text(empty.inside))
