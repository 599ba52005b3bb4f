"""Where two dialects give another answer to the same words: whole numbers from casts, formats and
texts of dates, logarithms, what is left out of an aggregate. For `transpile`, which see.
"""

import re
from collections.abc import Callable

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from eval.task.adapting import Adapting, cast
from eval.task.dialect import NUMERIC_TYPES
from eval.task.forms import MYSQL
from eval.task.truths import CASELESS_TEXT, STRICT, note_case

# A cast to a whole number rounds. Elsewhere, and in SQLite, it drops the rest.
ROUNDING = frozenset(
    """
    athena bigquery doris duckdb materialize mysql oracle postgres presto risingwave snowflake
    starrocks trino
    """.split()
)
POSTGRES = frozenset({"postgres", "materialize", "risingwave"})
# Dialects whose functions of one name are the same.
FAMILIES = (
    POSTGRES | {"redshift"},
    MYSQL,
    frozenset({"fabric", "tsql"}),
    frozenset({"databricks", "hive", "spark", "spark2"}),
    frozenset({"athena", "presto", "trino"}),
)
# DECIMAL alone holds no part of a whole, or but three digits of it.
SCALE_ZERO = frozenset(
    """
    athena databricks doris duckdb fabric hive mysql presto snowflake spark spark2 starrocks trino
    tsql
    """.split()
)
# Parts of a date's format, as strftime has them, that mean the same in every dialect, and those
# that do in a few more. Others have letters for them, so that no letter may stand beside them.
FORMAT = re.compile("%-?.?")
FORMATS = frozenset({"%Y", "%m", "%d", "%H", "%M", "%S", "%j"})
NAMES = frozenset({"%A", "%B", "%a", "%b", "%y"})
MORE_FORMATS = {
    "duckdb": NAMES | {"%w", "%W"}, "mysql": NAMES | {"%w"}, "postgres": NAMES, "sqlite": {"%w"},
}  # fmt: skip
BY_PERCENT = frozenset(
    "athena bigquery clickhouse doris duckdb mysql presto sqlite starrocks trino".split()
)
UNITS = frozenset({"YEAR", "QUARTER", "MONTH", "DAY", "HOUR", "MINUTE"})
# Where a date and a whole number add up to a date, and two dates are some days apart.
DATES_ARE_DAYS = frozenset(
    {"duckdb", "materialize", "oracle", "postgres", "redshift", "risingwave"}
)
# How text is put in order by default: elsewhere by bytes.
ORDERS = dict.fromkeys(CASELESS_TEXT, "caseless") | dict.fromkeys(POSTGRES, "by locale")
NO_ARRAYS = MYSQL | {"fabric", "oracle", "sqlite", "tsql"}
NO_JSON_TYPE = MYSQL | {"fabric", "oracle", "sqlite", "tsql"}
QUALIFY = frozenset("bigquery clickhouse databricks duckdb redshift snowflake spark".split())
STAR_LISTS = frozenset("bigquery clickhouse databricks duckdb snowflake".split())
PERCENT = frozenset({"duckdb", "oracle", "tsql"})
WITH_ROLLUP = MYSQL | {"fabric", "spark", "spark2", "hive", "databricks", "tsql"}
# Where aggregates have no FILTER, and sqlglot thinks they do.
NO_FILTER = MYSQL


def is_akin(work: Adapting) -> bool:
    """True where both dialects have their functions from one engine."""
    return any(work.read in family and work.write in family for family in FAMILIES)


def cast_of(work: Adapting, node: exp.Expr) -> None:
    """SQLite makes numbers of most types; to a whole number some round and some do not."""
    to = node.args["to"]
    kind = to.this
    if work.read == "sqlite" and kind in NUMERIC_TYPES - {exp.DType.DECIMAL}:
        work.note(f"CAST to {to.sql()} gives a number in sqlite, not in {work.write}")
    elif kind == exp.DType.DECIMAL and not to.expressions and work.write in SCALE_ZERO:
        to.replace(exp.DataType.build("double", dialect="duckdb"))
    elif kind == exp.DType.DECIMAL and to.expressions and work.write == "sqlite":
        work.note("CAST does not round to decimals in sqlite")
    elif kind in (exp.DType.JSON, exp.DType.JSONB) and work.write in NO_JSON_TYPE:
        work.lose(node, "there is no type for JSON")
    elif kind in exp.DataType.INTEGER_TYPES and (work.read in ROUNDING) != (work.write in ROUNDING):
        _whole_number(work, node.this)


def _whole_number(work: Adapting, value: exp.Expr) -> None:
    kind = work.kinds.of(value)
    if kind in ("real", "number") and work.write in ROUNDING:
        decimals = exp.Literal.number(0) if work.write in MYSQL else None
        holder = exp.Trunc(this=exp.Null(), decimals=decimals)
        value.replace(holder)
        holder.set("this", value)
    elif kind not in ("int", "truth") and not isinstance(value, exp.TimeToStr):
        rounding, other = sorted((work.read, work.write), key=lambda d: d not in ROUNDING)
        work.note(f"CAST to a whole number rounds in {rounding} and drops the rest in {other}")


def format_of(work: Adapting, node: exp.Expr) -> None:
    """What sqlglot knows no form for it leaves as it is."""
    pattern = node.args.get("format")
    if is_akin(work) or (isinstance(pattern, exp.Literal) and _is_known(work, pattern.name)):
        return
    work.lose(node, "this format of a date has no known form")


def _is_known(work: Adapting, pattern: str) -> bool:
    found = set(FORMAT.findall(pattern))
    letters = any(letter.isalpha() for letter in FORMAT.sub("", pattern))
    if letters and not {work.read, work.write} <= BY_PERCENT:
        return False
    return bool(found) and found <= FORMATS | MORE_FORMATS.get(work.write, frozenset())


def unit_of(work: Adapting, node: exp.Expr) -> None:
    """Weeks, and days of them, are counted in more than one way."""
    is_known = isinstance(node, exp.Extract) and node.name.upper() in UNITS
    if not is_known and not is_akin(work):
        work.lose(node, f"this part of a date is not known to be the same as {work.read} has it")


def difference_of(work: Adapting, node: exp.Expr) -> None:
    if node.text("unit").upper() not in ("", "DAY") and not is_akin(work):
        work.note(f"{work.read} and {work.write} may count whole units, or where they begin")


def days_of(work: Adapting, node: exp.Expr) -> None:
    """A date with a number, or another date, added or taken away."""
    kinds = {work.kinds.of(node.this), work.kinds.of(node.expression)}
    is_date = "time" in kinds and kinds <= {"time", "int"}
    if is_date and not {work.read, work.write} <= DATES_ARE_DAYS:
        work.lose(node, "a date is no number of days")


def pattern_of(work: Adapting, node: exp.Expr) -> None:
    start = node.args.get("start")
    if isinstance(start, exp.Literal) and start.is_string and not is_akin(work):
        work.lose(node, "SUBSTRING by a pattern has no known form")


def case_of(work: Adapting, node: exp.Expr) -> None:
    """What is looked for in a text: MySQL and T-SQL look at no case."""
    note_case(work)
    if node.args.get("modifiers") and work.write in MYSQL:
        work.lose(node, "a regular expression has no flags")


def lost_of(work: Adapting, node: exp.Expr) -> None:
    if not is_akin(work):
        work.lose(node, f"{node.key.upper()} of {work.read} has no known form")


def array_of(work: Adapting, node: exp.Expr) -> None:
    if work.write in NO_ARRAYS:
        work.lose(node, "there are no arrays")


def group_of(work: Adapting, node: exp.Expr) -> None:
    """`GROUP BY a WITH ROLLUP`."""
    is_behind = any(not rollup.expressions for rollup in node.args.get("rollup") or ())
    if is_behind and work.write not in WITH_ROLLUP:
        work.lose(node, "there is no WITH ROLLUP")


def rows_of(work: Adapting, node: exp.Expr) -> None:
    """`COUNT(DISTINCT (a, b))`."""
    if any(isinstance(item, exp.Tuple) for item in node.expressions) and work.write in NO_ARRAYS:
        work.lose(node, "a row is no value")


def bits_of(work: Adapting, node: exp.Expr) -> None:
    if work.write == "sqlite":
        work.lose(node, "there is no exclusive or")
    elif (work.read in MYSQL) != (work.write in MYSQL):
        work.note("^ gives no negative number in mysql")


def length_of(work: Adapting, node: exp.Expr) -> None:
    if node.args.get("binary") and work.write == "sqlite":
        work.note(f"LENGTH counts bytes in {work.read}, characters in {work.write}")


def text_of(work: Adapting, node: exp.Expr) -> None:
    """A function of text that is given a date or a number."""
    if work.write in STRICT and work.kinds.of(node.this) in ("time", "int"):
        cast(node.this, "TEXT", "postgres")


def qualify_of(work: Adapting, node: exp.Expr) -> None:
    """sqlglot puts the query into another one, with one column more, which filters last."""
    query = node.parent
    if work.write in QUALIFY or query is None:
        return
    has_more = any(query.args.get(name) for name in ("order", "limit", "offset", "distinct"))
    if has_more or query.is_star:
        work.lose(node, "there is no QUALIFY")


def star_of(work: Adapting, node: exp.Expr) -> None:
    if work.write not in STAR_LISTS and any(node.args.values()):
        work.lose(node, "* takes no list of columns")


def count_of(_: Adapting, node: exp.Expr) -> None:
    if node.args.get("this") is None:
        node.set("this", exp.Star())


def limit_of(work: Adapting, node: exp.Expr) -> None:
    options = node.args.get("limit_options")
    if options and options.args.get("percent") and work.write not in PERCENT:
        work.lose(node, "LIMIT takes no percentage")
    if isinstance(node.args.get("expression"), exp.Neg):
        work.lose(node, "LIMIT takes no negative number")


def list_of(work: Adapting, node: exp.Expr) -> None:
    if not any(node.args.get(name) for name in ("expressions", "query", "unnest")):
        work.lose(node, "there is no empty list")


def values_of(work: Adapting, node: exp.Expr) -> None:
    """The columns of VALUES without names: `column1` and so on, in some."""
    alias = node.args.get("alias")
    is_named = alias is not None and alias.args.get("columns")
    is_source = isinstance(node.parent, exp.From | exp.Join)
    if is_source and not is_named and work.write not in POSTGRES | {"sqlite", "snowflake"}:
        work.lose(node, "the columns of VALUES have no names that are known")


def logarithm_of(work: Adapting, node: exp.Expr) -> None:
    """That of ten, which is another's natural one."""
    takes_one = work.write not in ("oracle", "snowflake")
    is_same = not Dialect.get_or_raise(work.write).parser_class.LOG_DEFAULTS_TO_LN
    if node.args.get("expression") is None and not (takes_one and is_same):
        node.set("expression", node.this)
        node.set("this", exp.Literal.number(10))


def filter_of(work: Adapting, node: exp.Expr) -> None:
    """An aggregate of `CASE WHEN` where there is no FILTER."""
    function, condition = node.this, node.expression
    if work.write not in NO_FILTER:
        return
    value = function.this
    if isinstance(value, exp.Distinct) or not isinstance(function, exp.AggFunc):
        return work.lose(node, "FILTER has no known form")
    shown = exp.Literal.number(1) if isinstance(value, exp.Star) else value.copy()
    function.set("this", exp.Case(ifs=[exp.If(this=condition.this.copy(), true=shown)]))
    node.replace(function)
    return None


def negated_bits_of(work: Adapting, node: exp.Expr) -> None:
    if (work.write in MYSQL) != (work.read in MYSQL):
        work.lose(node, "~ of mysql, which gives no negative number, has no known form")


def order_of(work: Adapting, node: exp.Expr) -> None:
    is_same = ORDERS.get(work.read) == ORDERS.get(work.write)
    if work.kinds.of(node.this) == "text" and not is_same:
        work.note(f"text is put in order by the collation of {work.write}")


Rewrite = Callable[[Adapting, exp.Expr], None]
TEXT_FUNCTIONS = (
    exp.Substring, exp.Left, exp.Right, exp.Lower, exp.Upper, exp.Trim, exp.Replace, exp.Length,
    exp.StrPosition, exp.Like, exp.ILike, exp.Pad, exp.Reverse,
)  # fmt: skip
REWRITES: tuple[tuple[tuple[type[exp.Expr], ...], Rewrite], ...] = (
    ((exp.Cast,), cast_of),
    ((exp.TimeToStr, exp.StrToTime, exp.StrToDate, exp.ToChar), format_of),
    ((exp.Extract, exp.Week, exp.DayOfWeek), unit_of),
    ((exp.DateDiff, exp.TimestampDiff, exp.DatetimeDiff, exp.TsOrDsDiff), difference_of),
    ((exp.Add, exp.Sub), days_of),
    ((exp.Substring,), pattern_of),
    ((exp.StrPosition, exp.RegexpLike, exp.RegexpReplace, exp.RegexpExtract), case_of),
    ((exp.SimilarTo, exp.Format, exp.Timestamp, exp.Overlaps), lost_of),
    ((exp.Qualify,), qualify_of),
    ((exp.Star,), star_of),
    ((exp.Count,), count_of),
    ((exp.ArrayAgg, exp.Array), array_of),
    ((exp.Group,), group_of),
    ((exp.Distinct,), rows_of),
    ((exp.BitwiseXor,), bits_of),
    ((exp.Length,), length_of),
    (TEXT_FUNCTIONS, text_of),
    ((exp.Limit, exp.Fetch), limit_of),
    ((exp.In,), list_of),
    ((exp.Values,), values_of),
    ((exp.Log,), logarithm_of),
    ((exp.Filter,), filter_of),
    ((exp.BitwiseNot,), negated_bits_of),
    ((exp.Ordered,), order_of),
)
