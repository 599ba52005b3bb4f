"""The constructs that a query may be made of: nodes of the tree, and what each may hold.

An allow-list in both: each dialect has its own ways to run a script (`TRANSFORM ... USING`), to
lock (`WITH (TABLOCKX)`), to take hints (`SELECT SQL_NO_CACHE`) or to write a file (`FORMAT`). What
is in no list is refused, so that a new version of the parser lets nothing new through. Functions
are in `functions`.
"""

import re
from collections.abc import Iterator

from sqlglot import exp

from eval.task.violation import Violation, span

# Node: the arguments that may be filled. Left out on purpose, among others: hint, into, locks,
# operation_modifiers, settings, format, sample, version, when, pivots, connect, kind of a SELECT.
NODES = {
    name: frozenset(rest.split())
    for name, _, rest in (
        line.strip().partition(":")
        for line in """
    add: this expression
    alias: this alias
    all: this
    any: this
    attimezone: this zone
    between: this low high symmetric
    bitwiseand: this expression
    bitwiseleftshift: this expression
    bitwisenot: this
    bitwiseor: this expression
    bitwiserightshift: this expression
    bitwisexor: this expression
    boolean: this
    bracket: this expressions offset safe
    column: this table db catalog
    cte: this alias materialized
    cube: expressions
    datatype: this expressions nested nullable
    datatypeparam: this
    distinct: expressions on
    div: this expression typed safe
    dpipe: this expression safe
    eq: this expression
    escape: this expression
    except: with_ this expression distinct order limit offset
    fetch: direction count limit_options
    filter: this expression
    from: this
    glob: this expression
    group: expressions grouping_sets cube rollup all
    groupingsets: expressions
    gt: this expression
    gte: this expression
    having: this
    hexstring: this is_integer
    identifier: this quoted
    ignorenulls: this
    ilike: this expression negate
    in: this expressions query unnest
    intdiv: this expression
    intersect: with_ this expression distinct order limit offset
    interval: this unit
    intervalspan: this expression
    is: this expression negate
    join: this on side kind using method
    jsonkeyvalue: this expression
    jsonpath: expressions
    jsonpathkey: this quoted
    jsonpathroot:
    jsonpathsubscript: this
    jsonpathwildcard:
    jsonvalue: this path
    lateral: this alias cross_apply
    like: this expression negate
    limit: this expression offset limit_options
    limitoptions: percent rows with_ties
    literal: this is_string
    lt: this expression
    lte: this expression
    mod: this expression
    mul: this expression
    national: this
    neg: this
    neq: this expression
    not: this
    null:
    nullsafeeq: this expression
    nullsafeneq: this expression
    offset: this expression
    order: this expressions
    ordered: this desc nulls_first
    overlaps: this expression
    paren: this
    pseudocolumn: this
    qualify: this
    rawstring: this
    respectnulls: this
    rollup: expressions
    select: with_ expressions distinct from_ joins laterals where group having qualify windows
        order limit offset
    similarto: this expression
    slice: this expression
    star: except_ replace rename
    sub: this expression
    subquery: this alias with_ joins order limit offset
    table: this alias db catalog joins
    tablealias: this columns
    tuple: expressions
    union: with_ this expression distinct order limit offset
    values: expressions alias
    var: this
    where: this
    window: this partition_by order spec alias over
    windowspec: kind start start_side end end_side exclude
    with: expressions
    withingroup: this expression
    """.replace("\n        ", " ")
        .strip()
        .splitlines()
    )
}

# What SQLite does not read; glob is SQLite's own, ROWNUM Oracle's.
NOT_IN_SQLITE = frozenset(
    """
    all any attimezone bracket cube groupingsets intdiv interval intervalspan lateral national
    overlaps qualify rollup similarto slice withingroup
    """.split()
)
GLOB_DIALECTS = frozenset({"sqlite", "duckdb"})

# Types that a value may be cast to: no type of the user's, no XML (its parser reads files), no
# name of an object (`'t'::regclass`).
TYPES = frozenset(
    """
    ARRAY BIGDECIMAL BIGINT BINARY BIT BLOB BOOLEAN BPCHAR CHAR DATE DATE32 DATETIME DATETIME2
    DATETIME64 DECIMAL DECIMAL32 DECIMAL64 DECIMAL128 DECFLOAT DOUBLE FLOAT INT INT128 INTERVAL
    JSON JSONB LONGTEXT MEDIUMINT MEDIUMTEXT MONEY NCHAR NVARCHAR SMALLDATETIME SMALLINT
    SMALLMONEY STRUCT TEXT TIME TIMETZ TIMESTAMP TIMESTAMPNTZ TIMESTAMPLTZ TIMESTAMPTZ
    TIMESTAMP_S TIMESTAMP_MS TIMESTAMP_NS TINYINT TINYTEXT UBIGINT UINT UMEDIUMINT USMALLINT
    UTINYINT UUID VARBINARY VARCHAR VARIANT YEAR
    """.split()
)
# Engines with GROUP BY ALL: all of the select list that holds no aggregate.
GROUPS_ALL = frozenset("bigquery databricks duckdb redshift snowflake spark".split())
# Engines in which nothing of the right side of a SEMI or ANTI JOIN is seen behind it.
SEMI_JOINS = frozenset("databricks duckdb hive spark spark2".split())
# What a window's frame may leave out.
EXCLUDED = frozenset({"CURRENT ROW", "GROUP", "NO OTHERS", "TIES"})
JOIN_WORDS = {
    "side": frozenset({"", "LEFT", "RIGHT", "FULL"}),
    "kind": frozenset({"", "INNER", "OUTER", "CROSS"}),
    "method": frozenset({"", "NATURAL"}),
}
MAX_TYPE_SIZE = 8000
# Words that stand for no name: units of time, and what some functions have in their place. The
# parser makes such a word of any column there, so that one that is not known here may be one.
WORDS = frozenset(
    """
    ascii binary c centuries century d date datetime day day_hour day_microsecond day_minute
    day_of_month day_of_week day_of_year day_second dayofmonth dayofweek dayofweekiso dayofyear days
    dd decade decades dow dowiso doy dw dy epoch epoch_second friday h hh hour hour_microsecond
    hour_minute hour_second hours hr hrs iso_week iso_year isodow isoweek isowk isoww isoyear j
    julian latin1 m max mcs mi microsecond microseconds mil millennia millennium millisecond
    milliseconds min mins minute minute_microsecond minute_second minutes mm mon monday mons month
    months ms n nanosecond nanoseconds nchar_cs ns q qq qtr quarter quarters s saturday sec second
    second_microsecond seconds secs sql_tsi_day sql_tsi_hour sql_tsi_minute sql_tsi_month
    sql_tsi_quarter sql_tsi_second sql_tsi_week sql_tsi_year ss sunday thursday time timezone
    timezone_hour timezone_minute tuesday tzh tzm tzoffset us usec utf8 utf8mb3 utf8mb4 w wednesday
    week weekday weekiso weekofyear weeks wk ww y year year_month year_of_week yearofweek
    yearofweekiso years yr yrs yy yyyy
    """.split()
)

# Dialects in which a backslash within a string is known to be regenerated as the engine reads it.
BACKSLASH_DIALECTS = frozenset(
    """
    athena bigquery clickhouse databricks duckdb hive mysql oracle postgres presto redshift
    snowflake spark spark2 sqlite trino tsql
    """.split()
)
# Dialects in which a quote within a quoted name is doubled, and nothing else is special.
DOUBLING_DIALECTS = frozenset(
    """
    databricks duckdb hive mysql postgres presto redshift snowflake spark sqlite trino tsql
    """.split()
)
QUOTES = frozenset("\"'`[]")
NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Ends a text for some drivers, or can't be sent to any.
UNSAFE = re.compile("[\x00\ud800-\udfff]")
# All of Unicode's control and format characters that could end a line or a text.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


def denied_nodes(tree: exp.Expr, dialect: str) -> Iterator[Violation]:
    """What of `tree` is in no allow-list: nodes, their arguments, types, names that can't be
    written safely."""
    for node in tree.walk():
        if isinstance(node, exp.Func):
            if problem := _function(node):
                yield _denied(node, node.key, problem)
            continue
        allowed = NODES.get(node.key)
        if allowed is None or _is_missing(node.key, dialect):
            yield _denied(node, node.key)
            continue
        for name, value in node.args.items():
            if value and name not in allowed and not _is_reported(value):
                yield _denied(node, name.rstrip("_"))
            elif isinstance(value, str) and UNSAFE.search(value):
                yield _denied(node, node.key, "a character in it may not stand in SQL")
        check = CHECKS.get(node.key)
        if check and (problem := check(node, dialect)):
            yield _denied(node, node.key, problem)


def _function(node: exp.Expr) -> str:
    """What a function holds beside its arguments is written as it is."""
    held = [v for k, v in node.args.items() if isinstance(v, str) and (v and k != "this")]
    odd = [word for word in held if not WORD.fullmatch(word)]
    unit = node.args.get("unit")
    if isinstance(unit, exp.Literal) and unit.name.lower() not in WORDS:
        odd.append(unit.name)
    return f"{odd[0][:64]!r} may not stand in a function" if odd else ""


def _is_missing(key: str, dialect: str) -> bool:
    if key == "glob":
        return dialect not in GLOB_DIALECTS
    if key == "pseudocolumn":
        return dialect != "oracle"
    return dialect == "sqlite" and key in NOT_IN_SQLITE


def _is_reported(value: object) -> bool:
    """True where the node in this argument is refused itself."""
    first = value[0] if isinstance(value, list) else value
    return isinstance(first, exp.Expr) and first.key not in NODES


def _denied(node: exp.Expr, name: str, problem: str = "") -> Violation:
    start, end = span(node)
    message = problem or f"{name.upper()} is not allowed in a query"
    return Violation("denied_node", message, name, start=start, end=end)


def _identifier(node: exp.Expr, dialect: str) -> str:
    name = node.name
    if CONTROL.search(name):
        return "a name holds a control character"
    if node.args.get("quoted"):
        odd = "\\" in name or (dialect not in DOUBLING_DIALECTS and not QUOTES.isdisjoint(name))
        return f"the name {name[:64]!r} can't be quoted safely" if odd or not name else ""
    plain = name.replace("$", "_").isidentifier()
    return "" if plain else f"the name {name[:64]!r} must be quoted"


def _literal(node: exp.Expr, dialect: str) -> str:
    if not node.is_string:
        return "" if NUMBER.fullmatch(node.name) else f"{node.name[:64]!r} is no plain number"
    if "\\" in node.name and dialect not in BACKSLASH_DIALECTS:
        return f"a backslash in a string is not sure to mean itself in {dialect}"
    return ""


def _data_type(node: exp.Expr, dialect: str) -> str:
    kind = node.this.name if isinstance(node.this, exp.DataType.Type) else ""
    if kind not in TYPES:
        return f"type {node.sql(dialect)[:64]!r} is not allowed in a cast"
    sizes = [p.name for p in node.expressions if isinstance(p, exp.DataTypeParam)]
    too_big = any(size.isdigit() and int(size) > MAX_TYPE_SIZE for size in sizes)
    return f"a type of over {MAX_TYPE_SIZE} characters" if too_big else ""


def _join(node: exp.Expr, dialect: str) -> str:
    for name, words in JOIN_WORDS.items():
        word = str(node.args.get(name) or "").upper()
        is_semi = word in ("ANTI", "SEMI") and dialect in SEMI_JOINS
        if word not in words and not is_semi:
            return f"{word} JOIN is not allowed in a query"
    if node.args.get("method") and (node.args.get("on") or node.args.get("using")):
        return "a NATURAL JOIN has no ON or USING"
    return ""


def _var(node: exp.Expr, _: str) -> str:
    is_known = node.name.lower() in WORDS
    is_known |= isinstance(node.parent, exp.WindowSpec) and node.name.upper() in EXCLUDED
    is_collation = isinstance(node.parent, exp.Collate) and WORD.fullmatch(node.name)
    return "" if is_known or is_collation else f"the word {node.name[:64]!r} is not allowed"


def _group(node: exp.Expr, dialect: str) -> str:
    is_known = not node.args.get("all") or dialect in GROUPS_ALL
    return "" if is_known else f"GROUP BY ALL is not known in {dialect}"


def _pseudocolumn(node: exp.Expr, _: str) -> str:
    return "" if node.name.upper() == "ROWNUM" else f"{node.name[:64]} is not allowed in a query"


CHECKS = {
    "identifier": _identifier,
    "literal": _literal,
    "datatype": _data_type,
    "group": _group,
    "join": _join,
    "var": _var,
    "pseudocolumn": _pseudocolumn,
}
