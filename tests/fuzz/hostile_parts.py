"""Pieces of SQL that a guard must stop, by where they stand in a query. Data only."""

from collections.abc import Mapping

Parts = Mapping[str, tuple[str, ...]]

# In place of a value.
EXPRESSIONS: Parts = {
    "all": (
        "evil(name)", "evil('x')", "(SELECT MAX(token) FROM secrets)", "secrets.token", "password",
        "users.password", "(DELETE FROM users RETURNING 1)", "1; DROP TABLE users", "other.evil(1)",
        "CURRENT_USER", "version()", "user()", "@@version", "@x", ":x", "?", "$1", "nextval('s')",
        "LOAD_FILE('x')", "getenv('HOME')", "(TABLE secrets)", "EXISTS (SELECT 1 FROM secrets)",
        "'x' /* y", "'\\'", "\"evil\"(1)", "1 /*! + evil('x') */", "stoc\u212a", "'a\0b'", "*",
        "COUNT(secrets.*)", "users", "users.*", "{fn evil('x')}", "'x'::regclass", "U&'\\0061'",
    ),
    "postgres": (
        "pg_sleep(9)", "pg_read_file('/etc/passwd')", "setval('s', 7)", "pg_advisory_lock(1)",
        "lo_from_bytea(0, 'x')", "set_config('work_mem', '1MB', false)", "pg_notify('a', 'b')",
        "query_to_xml('DELETE FROM users', true, true, '')", "(users).email", "to_json(users)",
        "pg_catalog.setval('s', 8)", "\"setval\"('s', 9)", "E'\\'' || evil('x') || ''", "\"Email\"",
        "ARRAY(SELECT token FROM secrets)", "CAST('s' AS regclass)", "$$x$$", "$a$;DROP$a$",
        "ROW(evil('x'), 1)", "CASE WHEN evil('x') = 1 THEN 1 END", "ctid", "users.evil",
        "lo_creat(-1)", "currval('s')", "current_setting('port')", "U&\"n\\0061me\"",
    ),
    "mysql": (
        "SLEEP(9)", "BENCHMARK(1, 1)", "GET_LOCK('x', 1)", "NEXT VALUE FOR s", "SETVAL(s, 7)",
        "@x := 1", "LAST_INSERT_ID(7)", "@@datadir", "NEXTVAL(s)", "IF(evil('x'), 1, 0)",
        "EXTRACTVALUE(1, evil('x'))", "\"x\\\"\"", "_utf8mb4'x'", "/*M! evil('x') */", "0x61 --1",
    ),
    "sqlite": (
        "load_extension('x')", "randomblob(9)", "zeroblob(9)", "readfile('x')", "writefile('x', 1)",
        "fts3_tokenizer('simple')", "last_insert_rowid()", "changes()", "sqlite_version()",
        "[secrets].[token]", "`evil`('x')", "RAISE(IGNORE)", "users.rowid", "\"secret\"",
    ),
}  # fmt: skip

# In place of a table.
SOURCES: Parts = {
    "all": (
        "secrets", "secrets AS users", "other.users", "information_schema.tables", "\"Users\"",
        "(SELECT * FROM secrets) AS q", "evil('x')", "LATERAL (SELECT * FROM secrets) AS q",
        "users@remote", "a..users", "'/etc/passwd'", "u\u0455ers", "(secrets)", "#t", "@t",
        "users FOR UPDATE", "(DELETE FROM users RETURNING *) AS q", "users TABLESAMPLE (1)",
    ),
    "postgres": (
        "pg_shadow", "pg_ls_dir('/')", "generate_series(1, 9)", "ONLY secrets",
        "pg_catalog.pg_class",
        "ROWS FROM (evil('x')) AS q", "dblink('x', 'y') AS q(a int)", "evil('x') WITH ORDINALITY",
        "json_populate_recordset(NULL::secrets, '[{}]') AS q", "XMLTABLE('/a' PASSING '<a/>') AS q",
    ),
    "mysql": (
        "mysql.user", "seq_1_to_9", "users PARTITION (p0)", "users FOR SYSTEM_TIME ALL",
        "`mysql`.user",
        "JSON_TABLE('[]', '$[*]' COLUMNS (a INT PATH '$')) AS q", "users USE INDEX ()",
        "DUAL, secrets",
    ),
    "sqlite": (
        "sqlite_master", "sqlite_schema", "pragma_table_info('users')", "pragma_database_list",
        "main.secrets", "temp.x", "json_each('[1]')", "generate_series(1, 9)", "dbstat",
        "users INDEXED BY i", "users NOT INDEXED",
    ),
}  # fmt: skip

# Before, after or around a whole query; `{}` stands for it.
FRAMES: Parts = {
    "all": (
        "{}; DROP TABLE users", "EXPLAIN ANALYZE {}", "{} FOR UPDATE", "INSERT INTO users {}",
        "CREATE TABLE gone AS {}", "{} INTO gone", "WITH d AS (DELETE FROM users RETURNING *) {}",
        "WITH d AS (UPDATE users SET name = 'x' RETURNING 1) {}", "{};\nCOMMIT;\nDELETE FROM users",
        "{} -- x\n; DELETE FROM users", "{} /* x */; DELETE FROM orders; --", "EXPLAIN {}",
        "{} UNION ALL SELECT token FROM secrets", "SELECT * FROM ({} FOR UPDATE) AS q", "({}",
        "WITH secrets AS (SELECT * FROM secrets) {}", "{} UNION SELECT evil('x')", "{})", "{};--",
        "DELETE FROM users WHERE id IN ({})", "UPDATE users SET name = ({})", "{} {}", "{}\0",
        "DO {}", "CALL evil('x'); {}", "{} RETURNING *", "{} OPTION (RECOMPILE)",
        "{} SETTINGS x = 1",
        "WITH x AS ({}) DELETE FROM users", "SELECT * INTO gone FROM ({}) AS q", "{} FORMAT CSV",
        "{} ORDER BY evil('x')", "{} LIMIT (SELECT COUNT(*) FROM secrets)",
        "{}\nGO\nDROP TABLE users",
        "{} /*! ; DROP TABLE users */", "PREPARE p AS {}", "{} # x", "{}; {}",
    ),
    "postgres": (
        "COPY ({}) TO PROGRAM 'id'", "DECLARE c CURSOR WITH HOLD FOR {}", "{} \\gexec",
        "WITH d AS MATERIALIZED (DELETE FROM users RETURNING 1) {}", "{} FOR SHARE SKIP LOCKED",
        "EXPLAIN (ANALYZE) WITH d AS (DELETE FROM users) {}", "CREATE MATERIALIZED VIEW gone AS {}",
        "WITH Secrets AS (SELECT 1 AS x) SELECT * FROM \"Secrets\", ({}) AS q", "LISTEN x; {}",
    ),
    "mysql": (
        "{} INTO OUTFILE '/tmp/sqlwright-guard'", "{} INTO @x", "{} LOCK IN SHARE MODE",
        "{} PROCEDURE ANALYSE()", "REPLACE INTO users {}", "CREATE TEMPORARY TABLE gone {}",
        "SET STATEMENT max_statement_time = 0 FOR {}", "ANALYZE {}", "HANDLER users OPEN; {}",
    ),
    "sqlite": (
        "ATTACH 'x.db' AS x; {}", "PRAGMA writable_schema = 1; {}", "EXPLAIN QUERY PLAN {}",
        "CREATE TEMP VIEW gone AS {}", "VACUUM INTO 'x.db'; {}", "REPLACE INTO users {}",
    ),
}  # fmt: skip

# Single words and signs, to be put between any two tokens.
SIGNS = (
    ";", "--", "/*", "*/", "#", "'", '"', "`", "[", "]", "(", ")",
    "\\", "\\'", "''", "$$", "@", "@@",
    ":", "::", "?", "{", "}", "INTO", "FOR UPDATE", "UNION", "DELETE", "DROP", "AS", "FROM",
    "LATERAL",
    "TABLE", "VALUES", "RETURNING", "EXEC", "/*!", "/*!50000", "/*M!", "\0", "\u2028", "\u00a0",
    "\r",
    "\ufeff", ".", "..", "->", "->>", "=>", ":=", "||", "E'", "N'", "U&'",
    'U&"', "q'[", "x'", "0x41",
    "NATURAL", "USING", "ONLY", "WITH", "RECURSIVE", "INTERVAL", "NOT", "CASE", "END", "OVER", "GO",
    "SET", "CALL", "COPY", "PIVOT", "QUALIFY", "TOP", "LIMIT", "ALL", "ANY", "secrets", "evil(",
)  # fmt: skip


def parts(kind: Parts, dialect: str) -> tuple[str, ...]:
    """The pieces of `kind` that any dialect has, and those of this one."""
    return kind["all"] + kind.get(dialect, ())
