"""SQL dialects: their names, and parsing under them that can't be made slow or overflow a stack.

Every alias of a name maps explicitly, and an unknown one is an error: a silent default here once
switched a rival's guard off (SQLBot, `pg` against `postgresql`). All SQL that comes from a model or
a user is parsed by `parse_statements`.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect, Dialects
from sqlglot.errors import ErrorLevel, ParseError, SqlglotError
from sqlglot.generator import Generator
from sqlglot.tokenizer_core import Token

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

# Guards before parsing. A parser goes one call deeper for each of these, or tries twice as much.
MAX_DEPTH = 32
MAX_PREFIX_RUN = 64
MAX_OPEN_JOINS = 8
MAX_DOTTED = 8
MAX_REPEATS = 100
MAX_IFS = 16
MAX_TRIED_TWICE = 3

OPENING = {"(": ")", "[": "]", "{": "}", "<": ">"}
CLOSING = frozenset({")", "]", "}"})
BRACKETS = frozenset({"(", "["})
PREFIXES = frozenset({"NOT", "-", "+", "~", "CASE"})
# Words that real queries repeat without nesting; literals and quoted names aren't counted either.
REPEATABLE = frozenset({".", "(", ")", "=", "AND", "OR"})
QUOTES = frozenset("'\"`")
# Before a bracket these double the work or the tree, as do all names of types: the parser tries a
# type first, then a function.
TWICE = frozenset({"DIV0", "DIV0NULL", "NULLIFZERO", "SORT_ARRAY", "ZEROIFNULL"})


class DialectError(ValueError):
    """A dialect that nobody here knows; the message lists those that are."""


class TooComplexError(SqlglotError):
    """SQL that is too long or nests too deeply to be parsed; the message says which."""


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
        _guard(words, max_tokens)
        types = reader.parser_class.TYPE_TOKENS
        twice = [t.token_type in types or w in TWICE for t, w in zip(tokens, words, strict=True)]
        if _depth_of_marked(words, twice) > MAX_TRIED_TWICE:
            raise TooComplexError(f"types or functions nest deeper than {MAX_TRIED_TWICE}")
    return tokens


def parse_tokens(tokens: list[Token], text: str, dialect: str) -> list[exp.Expr]:
    """The statements of `text` from its tokens. Raises as `parse_statements`."""
    with _sqlglot_errors_only():
        found = Dialect.get_or_raise(resolve_dialect(dialect)).parser().parse(tokens, text)
    return [s for s in found if s is not None and not isinstance(s, exp.Semicolon)]


def write_tree(tree: exp.Expr, dialect: str) -> str:
    """`tree` as text of `dialect` without comments; the tree itself may change.

    Raises:
        UnsupportedError: sqlglot knows no form of it in the dialect.
    """
    writer = Dialect.get_or_raise(dialect).generator(
        comments=False, unsupported_level=ErrorLevel.RAISE
    )
    if dialect == "mysql":
        # sqlglot writes REGEXP_LIKE, which MariaDB has not. Its compiled generators can't be
        # subclassed, so one instance is told otherwise.
        writer._dispatch = {**writer._dispatch, exp.RegexpLike: _infix_regexp}
    return writer.generate(tree, copy=False)


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


def _guard(words: list[str], max_tokens: int) -> None:
    """Raise TooComplexError for words (tokens as written, upper case) that nest or branch a lot."""
    if len(words) > max_tokens:
        raise TooComplexError(f"over {max_tokens} tokens")
    depth, joins = _depth_and_open_joins(words)
    if depth > MAX_DEPTH:
        raise TooComplexError(f"brackets nest deeper than {MAX_DEPTH}")
    if joins > MAX_OPEN_JOINS:
        raise TooComplexError(f"over {MAX_OPEN_JOINS} JOINs without ON or USING")
    if _longest_prefix_run(words) > MAX_PREFIX_RUN:
        raise TooComplexError(f"over {MAX_PREFIX_RUN} prefix operators or CASEs")
    if _longest_dotted(words) > MAX_DOTTED:
        raise TooComplexError(f"a name of over {MAX_DOTTED} parts")
    _guard_repeats(words)


def _depth_and_open_joins(words: list[str]) -> tuple[int, int]:
    """How deep brackets nest, and how many JOINs wait for their ON at most: the parser tries
    2 ** that many ways. An ON counts for the bracket that it stands in only."""
    closers, waiting, total, deepest, most = [""], [0], 0, 0, 0
    for word in words:
        if closer := OPENING.get(word):
            closers.append(closer)
            waiting.append(0)
        elif word == ">" == closers[-1] or (word in CLOSING and word in closers):
            level = len(closers) - closers[::-1].index(word) - 1
            total -= sum(waiting[level:])
            del closers[level:], waiting[level:]
        elif word == "JOIN":
            waiting[-1] += 1
            total += 1
        elif word in ("ON", "USING") and waiting[-1]:
            waiting[-1] -= 1
            total -= 1
        deepest, most = max(deepest, len(closers) - 1), max(most, total)
    return deepest, most


def _depth_of_marked(words: list[str], is_marked: list[bool]) -> int:
    """How deep those brackets nest that stand behind a marked word."""
    closers: list[tuple[str, bool]] = []
    depth = deepest = 0
    for word, behind in zip(words, [False, *is_marked], strict=False):
        if word in BRACKETS:
            closers.append((OPENING[word], behind))
            depth += behind
            deepest = max(deepest, depth)
        elif closers and word == closers[-1][0]:
            depth -= closers.pop()[1]
    return deepest


def _longest_prefix_run(words: list[str]) -> int:
    """Prefix operators in a row, and CASEs in all: either nests once for each."""
    run = longest = 0
    for word in words:
        run = run + 1 if word in PREFIXES else 0
        longest = max(longest, run)
    return max(longest, words.count("CASE"))


def _longest_dotted(words: list[str]) -> int:
    """The most dots in one name: every second word of it is one."""
    run = longest = 0
    for before, word in zip(["", "", *words], words, strict=False):
        if word == ".":
            run = run + 1 if before == "." else 1
            longest = max(longest, run)
    return longest


def _guard_repeats(words: list[str]) -> None:
    """Raise TooComplexError where a word stands too often between two commas: `ANY ANY ANY …`."""
    counts: Counter[str] = Counter()
    for word in words:
        if word in (",", ";"):
            counts.clear()
        elif word not in REPEATABLE and not (word[:1].isdigit() or word[:1] in QUOTES):
            counts[word] += 1
            if counts[word] > (MAX_IFS if word == "IF" else MAX_REPEATS):
                raise TooComplexError(f"{word[:32]} stands there over {counts[word] - 1} times")
