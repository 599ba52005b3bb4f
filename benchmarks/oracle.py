"""Whether SQL that the guard let pass is harmless: two judges that share nothing with the guard.

`why_harmful` reads the text by itself: what stands outside of quotes, under the quoting rules of
the dialect. `why_sqlite_refuses` asks SQLite's authorizer what the query would touch. Both give a
reason or "". Neither parses SQL; both may overlook harm that another sees.
"""

import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing

# In strings of these dialects a backslash escapes; in the others it stands for itself.
BACKSLASH = frozenset(
    """
    bigquery clickhouse databricks doris hive mysql redshift snowflake spark spark2 starrocks
    """.split()
)
BACK_QUOTED = BACKSLASH - {"redshift", "snowflake"} | {"athena", "drill", "solr", "sqlite"}
BRACKETED = frozenset({"exasol", "fabric", "sqlite", "tableau", "tsql"})
# There a double-quoted text is a string.
DOUBLE_QUOTED_STRINGS = BACK_QUOTED & BACKSLASH - {"clickhouse"}
COMMENTS = {d: "#" for d in ("bigquery", "clickhouse", "doris", "mysql", "starrocks")} | {
    "dremio": "//",
    "snowflake": "//",
}

# There `$tag$` opens and closes a string; elsewhere a name may look so.
DOLLAR_QUOTED = frozenset(
    "clickhouse duckdb materialize postgres redshift risingwave snowflake".split()
)
# A name may hold `$` and `@`, but not begin with them.
DOLLAR_QUOTE = re.compile(r"(?<![\w$])\$\w*\$")
HARMFUL_MARKS = re.compile(r";|--|/\*|\\|(?<![\w$#@])@|[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
# After AS such a word is but a name, which engines take or refuse.
HARMFUL_WORDS = re.compile(
    r"""(?<!\bas\s)\b(insert|update|delete|merge|into|outfile|dumpfile|drop|alter|create|truncate|grant|revoke
    |exec|execute|call|pragma|attach|detach|vacuum|copy|unload|handler|transform|settings|format
    |sql_calc_found_rows|information_schema)\b(?!\s*\()""",
    re.IGNORECASE | re.VERBOSE,
)
# In brackets after a table's alias too, where other dialects have the names of columns.
LOCKING = frozenset({"fabric", "tsql"})
LOCKS = re.compile(r"\b(tablockx?|updlock|holdlock|xlock|paglock|rowlock|nolock)\b", re.IGNORECASE)
# `AS name(...)` names columns.
HARMFUL_CALLS = re.compile(
    r"""(?<!\bas\s)\b(pg_\w+|lo_\w+|loread|lowrite|dblink\w*|crosstab|query_to_\w+|table_to_\w+|\w*_to_xml\w*
    |database_to_\w+|ts_stat|nextval|currval|setval|set_config|current_setting|version|inet_\w+
    |has_\w+_privilege|to_reg\w+|row_to_json|to_json\w*|xp_\w+|sp_\w+|fn_\w+|sys\w*|utl_\w+|dbms_\w+
    |load_\w+|loadfile|read_?\w*|write_?\w*|sleep\w*|benchmark|get_lock|release_\w+|is_\w+_lock
    |getenv|getvariable|evil|edit|fts3_tokenizer|pragma_\w+|randomblob|zeroblob|openrowset
    |openquery|opendatasource|file|url|s3|remote|mysql|postgresql|jdbc|executable|numbers
    |generate_series|glob|reflect|java_method|try_reflect|error|raise|user|session_user|database
    |connection_id|last_insert_\w+|found_rows|row_count|updatexml|extractvalue|benchmark|identifier
    |external_query|result_scan|generator|query|query_table|changes|total_changes)\s*\(""",
    re.IGNORECASE | re.VERBOSE,
)
FIRST_WORDS = re.compile(r"[\s(]*(select|with|values|from)\b", re.IGNORECASE)

# What a query on SQLite may call: written by hand, from SQLite's own list of pure functions.
SAFE_FUNCTIONS = frozenset(
    """
    abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat concat_ws cos
    cosh count cume_dist date datetime degrees dense_rank exp first_value floor format glob
    group_concat hex ifnull iif instr json json_array json_array_length json_extract json_object
    json_type json_valid julianday lag last_value lead length like ln log log10 log2 lower ltrim max
    median min mod nth_value ntile nullif octet_length percent_rank pi pow power printf quote
    radians rank replace round row_number rtrim sign sin sinh soundex sqrt strftime string_agg
    substr substring subtype sum tan tanh time timediff total trim trunc typeof unhex unicode
    unixepoch upper -> ->> json_each json_tree json_group_array json_group_object likely unlikely
    current_date current_time current_timestamp stddev variance if
    """.split()
)


def bare_text(sql: str, dialect: str) -> str | None:
    """`sql` with `''` for each quoted piece; None where a quote stays open."""
    bare: list[str] = []
    place = 0
    while place < len(sql):
        closing_mark = _closing(sql[place], dialect)
        if not closing_mark:
            bare.append(sql[place])
            place += 1
            continue
        end = _end_of_quoted(sql, place, closing_mark, dialect)
        if end is None:
            return None
        bare.append("''")
        place = end
    return "".join(bare)


def _closing(mark: str, dialect: str) -> str:
    if mark == "[":
        return "]" if dialect in BRACKETED else ""
    if mark == "`":
        return "`" if dialect in BACK_QUOTED else ""
    return mark if mark in "'\"" else ""


def _end_of_quoted(sql: str, start: int, closing_mark: str, dialect: str) -> int | None:
    is_string = closing_mark == "'" or (closing_mark == '"' and dialect in DOUBLE_QUOTED_STRINGS)
    by_backslash = dialect in BACKSLASH if is_string else dialect in ("bigquery", "clickhouse")
    can_double = is_string or not (dialect == "sqlite" and closing_mark == "]")
    place = start + 1
    while place < len(sql):
        if by_backslash and sql[place] == "\\":
            place += 2
        elif sql[place] != closing_mark:
            place += 1
        elif can_double and sql[place + 1 : place + 2] == closing_mark:
            place += 2
        else:
            return place + 1
    return None


def why_harmful(sql: str, dialect: str) -> str:
    """Why `sql`, as it would be sent to an engine of `dialect`, does more than read; "" if not.

    `dialect` is sqlglot's name. Comments, a second statement, a verb that writes, a call that
    reaches out: each anywhere outside of quotes.
    """
    bare = bare_text(sql, dialect)
    if bare is None:
        return "a quote stays open"
    if not FIRST_WORDS.match(bare):
        return "does not start as a query"
    if dialect in COMMENTS and COMMENTS[dialect] in bare:
        return f"a comment: {COMMENTS[dialect]}"
    if dialect in DOLLAR_QUOTED and DOLLAR_QUOTE.search(bare):
        return "a dollar quote"
    if dialect in LOCKING and (found := LOCKS.search(bare)):
        return f"a lock: {found[0]!r}"
    for what, pattern in (
        ("mark", HARMFUL_MARKS),
        ("word", HARMFUL_WORDS),
        ("call", HARMFUL_CALLS),
    ):
        if found := pattern.search(bare):
            return f"a {what}: {found[0]!r}"
    return "NUL or surrogate in a quote" if re.search(r"[\x00\ud800-\udfff]", sql) else ""


def why_sqlite_refuses(
    database: sqlite3.Connection, sql: str, allowed: Mapping[str, Iterable[str] | None]
) -> str:
    """What SQLite would touch beyond `allowed` (table in lower case: columns, None for all).

    `database` holds the schema and hidden tables. The query is compiled, never run. "" also for
    what SQLite can't compile: that does no harm.
    """
    refused: list[str] = []

    def authorise(action: int, first: str | None, second: str | None, *_: object) -> int:
        reason = _refusal(action, first or "", second or "", allowed)
        refused.extend([reason] if reason else [])
        return sqlite3.SQLITE_DENY if reason else sqlite3.SQLITE_OK

    database.set_authorizer(authorise)
    try:
        with closing(database.execute(f"EXPLAIN {sql}")):
            pass
    except (sqlite3.Error, sqlite3.Warning, ValueError):
        pass
    finally:
        database.set_authorizer(None)
    return refused[0] if refused else ""


def _refusal(
    action: int, first: str, second: str, allowed: Mapping[str, Iterable[str] | None]
) -> str:
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
        return ""
    if action == sqlite3.SQLITE_FUNCTION:
        return "" if second.lower() in SAFE_FUNCTIONS else f"calls {second}"
    if action != sqlite3.SQLITE_READ:
        return f"does action {action} on {first} {second}"
    if first.lower() not in allowed:
        return f"reads table {first}"
    columns = allowed[first.lower()]
    if columns is None or not second or second.lower() in {column.lower() for column in columns}:
        return ""
    return f"reads column {first}.{second}"
