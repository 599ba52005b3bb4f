"""SQL dialects: their names, and parsing under them that can't be made slow or overflow a stack.

Every alias of a name maps explicitly, and an unknown one is an error: a silent default here once
switched a rival's guard off (SQLBot, `pg` against `postgresql`). All SQL that comes from a model or
a user is parsed by `parse_statements`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect, Dialects
from sqlglot.errors import ErrorLevel, ParseError, SqlglotError
from sqlglot.generator import Generator
from sqlglot.tokenizer_core import Token, TokenType

from eval.task.limits import TooComplexError, guard, guard_twice

# PRQL and DAX are other languages, not dialects of SQL that a database runs.
DIALECTS = frozenset(d.value for d in Dialects) - {"", "prql", "dax"}

ALIASES = {
    "pg": "postgres",
    "psql": "postgres",
    "postgresql": "postgres",
    "pgsql": "postgres",
    "cockroach": "postgres",
    "cockroachdb": "postgres",
    "greenplum": "postgres",
    "timescaledb": "postgres",
    "yugabytedb": "postgres",
    "sqlite3": "sqlite",
    "libsql": "sqlite",
    "mariadb": "mysql",
    "percona": "mysql",
    "tidb": "mysql",
    "mssql": "tsql",
    "sqlserver": "tsql",
    "sql-server": "tsql",
    "sql server": "tsql",
    "t-sql": "tsql",
    "azuresql": "tsql",
    "synapse": "tsql",
    "bq": "bigquery",
    "googlesql": "bigquery",
    "ch": "clickhouse",
    "clickhousedb": "clickhouse",
    "motherduck": "duckdb",
    "oracledb": "oracle",
    "plsql": "oracle",
    "awsathena": "athena",
    "prestodb": "presto",
    "prestosql": "trino",
    "sparksql": "spark",
    "spark3": "spark",
    "pyspark": "spark",
    "teradatasql": "teradata",
    "exa": "exasol",
}

# As SQLAlchemy writes a dialect in a URL: what stands behind the + is a Python package.
WITH_DRIVER = re.compile(r"([a-z0-9]+)\+[a-z0-9_]+")

# Before a bracket these double the work or the tree, as do all names of types: the parser tries a
# type first, then a function.
TWICE = frozenset({"DIV0", "DIV0NULL", "NULLIFZERO", "SORT_ARRAY", "ZEROIFNULL"})


# Dialects in which `E'...'` is a string.
ESCAPE_STRINGS = frozenset({"duckdb", "postgres"})


class DialectError(ValueError):
    """A dialect that nobody here knows; the message lists those that are."""


def resolve_dialect(name: str) -> str:
    """Return sqlglot's name of the dialect `name` (any case, common aliases).

    The name of a SQLAlchemy driver is passed over: `postgresql+psycopg` is `postgresql`.

    Raises:
        DialectError: the name is not known.
    """
    key = name.strip().lower()
    if match := WITH_DRIVER.fullmatch(key):
        key = match[1]
    key = ALIASES.get(key, key)
    if key not in DIALECTS:
        known = ", ".join(sorted(DIALECTS | ALIASES.keys()))
        raise DialectError(f"unknown dialect {name[:64]!r}; known: {known}")
    return key


def parse_statements(text: str, dialect: str, *, max_bytes: int, max_tokens: int) -> list[exp.Expr]:
    """The statements of `text`, empty ones left out.

    Raises:
        TooComplexError: a guard refuses it.
        SqlglotError: it is not SQL of the dialect; nothing else is ever raised.
        DialectError: the dialect is unknown.
    """
    tokens = read_tokens(text, dialect, max_bytes=max_bytes, max_tokens=max_tokens)
    return parse_tokens(tokens, text, dialect)


def read_tokens(text: str, dialect: str, *, max_bytes: int, max_tokens: int) -> list[Token]:
    """The tokens of `text`, which a guard has looked at. Raises as `parse_statements`."""
    if len(text.encode("utf-8", "surrogatepass")) > max_bytes:
        raise TooComplexError(f"over {max_bytes} bytes")
    reader = Dialect.get_or_raise(resolve_dialect(dialect))
    with _sqlglot_errors_only():
        tokens = reader.tokenize(text)
        words = [text[t.start : t.end + 1].upper() for t in tokens]
        types = reader.parser_class.TYPE_TOKENS
        is_type = [token.token_type in types for token in tokens]
        guard(_with_brackets_told(words, is_type), max_tokens)
        guard_twice(words, [t or word in TWICE for t, word in zip(is_type, words, strict=True)])
    return tokens


def _with_brackets_told(words: list[str], is_type: list[bool]) -> list[str]:
    """`words` with another word for each `<` that is a comparison."""
    if "<" not in words:
        return words
    behind = [False, *is_type]
    return ["<<" if w == "<" and not t else w for w, t in zip(words, behind, strict=False)]


def parse_tokens(tokens: list[Token], text: str, dialect: str) -> list[exp.Expr]:
    """The statements of `text` from its tokens. Raises as `parse_statements`."""
    dialect = resolve_dialect(dialect)
    with _sqlglot_errors_only():
        found = Dialect.get_or_raise(dialect).parser().parse(tokens, text)
    if dialect in ESCAPE_STRINGS and any(t.token_type == TokenType.BYTE_STRING for t in tokens):
        found = [_with_plain_strings(statement) for statement in found]
    return [s for s in found if s is not None and not isinstance(s, exp.Semicolon)]


def _with_plain_strings(statement: exp.Expr | None) -> exp.Expr | None:
    """`statement` with what `E'...'` stands for, which sqlglot takes for bytes."""
    for node in list(statement.find_all(exp.ByteString)) if statement else ():
        node.replace(exp.Literal.string(node.name))
    return statement


def write_tree(tree: exp.Expr, dialect: str, read: str = "") -> str:
    """`tree` as text of `dialect` without comments; the tree itself may change. `read`: the dialect
    that it was written in.

    Raises:
        UnsupportedError: sqlglot knows no form of it in the dialect.
    """
    writer = Dialect.get_or_raise(dialect).generator(
        comments=False, unsupported_level=ErrorLevel.RAISE
    )
    own = OWN_WAYS.get(dialect, {}) | ({exp.Cast: _cast} if dialect == read == "sqlite" else {})
    if own:
        # sqlglot's compiled generators can't be subclassed, so one instance is told otherwise.
        writer._dispatch = {**writer._dispatch, **own}
    return writer.generate(tree, copy=False)


def _cast(writer: Generator, node: exp.Cast) -> str:
    """SQLite makes a number of what is cast to one of its types that it does not know."""
    if isinstance(node, exp.TryCast) or node.to.this not in NUMERIC_TYPES:
        return writer.cast_sql(node)
    return f"CAST({writer.sql(node.this)} AS NUMERIC)"


def _string(writer: Generator, node: exp.Literal) -> str:
    """A backslash as `E'...'` has it: there it is the same whatever `standard_conforming_strings`
    is, elsewhere it may end the string one quote later."""
    if not node.is_string or "\\" not in node.name:
        return writer.literal_sql(node)
    escaped = node.name.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def _infix_regexp(writer: Generator, node: exp.RegexpLike) -> str:
    """`a REGEXP b`: binds as `=` does, so what binds no tighter goes into brackets."""
    if node.args.get("flag"):
        return writer.function_fallback_sql(node)
    sides = [_bracketed(writer.sql(side), side) for side in (node.this, node.expression)]
    text = " REGEXP ".join(sides)
    is_bare = not isinstance(node.parent, exp.Binary | exp.Unary | exp.Predicate)
    is_bare = is_bare or isinstance(node.parent, exp.Connector | exp.Not | exp.Paren)
    return text if is_bare else f"({text})"


def _bracketed(text: str, node: exp.Expr) -> str:
    is_atom = isinstance(node, exp.Column | exp.Func | exp.Literal | exp.Paren | exp.Subquery)
    return text if is_atom and not isinstance(node, exp.Binary) else f"({text})"


@contextmanager
def _sqlglot_errors_only() -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise TooComplexError("nested too deeply to be parsed") from error
    except SqlglotError:
        raise
    except Exception as error:  # sqlglot's compiled parser raises TypeError and more on broken SQL
        raise ParseError(f"can't be parsed ({type(error).__name__})") from error


# Types of SQLite's numeric affinity. sqlglot makes REAL or INTEGER of some and calls DATE() for
# others.
NUMERIC_TYPES = frozenset(
    {
        exp.DType.BOOLEAN, exp.DType.DATE, exp.DType.DATETIME, exp.DType.DECIMAL, exp.DType.TIME,
        exp.DType.TIMESTAMP, exp.DType.TIMESTAMPNTZ,
    }
)  # fmt: skip
# How an engine asks for what sqlglot writes in a way that it does not read, or not safely. MariaDB
# has no REGEXP_LIKE.
OWN_WAYS: dict[str, dict[type[exp.Expr], Callable[..., str]]] = {
    "mysql": {exp.RegexpLike: _infix_regexp},
    "postgres": {exp.Literal: _string},
}
