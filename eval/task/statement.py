"""A text as one statement of a dialect: parsed within limits, or why it can't be."""

import re
from typing import Any

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token

from eval.task.dialect import parse_statements, parse_tokens, read_tokens, resolve_dialect
from eval.task.forms import crossed, unbracketed, unqualified
from eval.task.limits import TooComplexError
from eval.task.violation import Span, Violation

MAX_SQL_BYTES = 16 * 1024
MAX_TOKENS = 2000
# What sqlglot's walks and generators raise on odd trees (seen: `CAST(id AS int):text` to Exasol).
SQLGLOT_FAILURES = (SqlglotError, RecursionError, TypeError, ValueError, AttributeError, KeyError)
# What sqlglot's messages show of Python.
TOKEN = re.compile(r"<Token token_type: .*?, text: (.*?), line: .*?>")
CLASS = re.compile(r"<class '[\w.]*?(\w+)'>")


def parse_one(text: str, read: str) -> tuple[exp.Expr, list[Token]] | Violation:
    """The statement that `text` is, with its tokens, or what speaks against it. Brackets and
    schemas' names that mean nothing are gone."""
    if not text.strip():
        return Violation("empty", "the model wrote no SQL")
    try:
        tokens = read_tokens(text, read, max_bytes=MAX_SQL_BYTES, max_tokens=MAX_TOKENS)
        found = parse_tokens(tokens, text, read)
    except SqlglotError as error:
        return failure_of(error, text)
    if len(found) != 1:
        return Violation("not_one_statement", f"{len(found)} statements; exactly one may run")
    return crossed(unqualified(unbracketed(found[0]), read), read), tokens


def failure_of(error: BaseException, text: str = "") -> Violation:
    """An error of sqlglot's as a violation; with `text` also where it stands."""
    if isinstance(error, TooComplexError | RecursionError):
        return Violation("too_complex", str(error)[:200])
    detail = CLASS.sub(r"\1", (str(error).splitlines() or ["unknown"])[0])
    detail = TOKEN.sub(r"\1", detail).replace("SENTINEL", "the end")
    start, end = _place(error, text)
    message = f"not SQL of this dialect: {detail[:200]}"
    return Violation("unparsable", message, start=start, end=end)


def _place(error: BaseException, text: str) -> Span:
    """Where the parser stumbled, from the line and the column that it names."""
    found: dict[str, Any] = next(iter(getattr(error, "errors", ())), {})
    word = found.get("highlight")
    if not word:
        return None, None
    before = text.split("\n")[: found["line"] - 1]
    end = sum(len(line) + 1 for line in before) + found["col"]
    is_there = text[end - len(word) : end] == word
    return (end - len(word), end) if is_there else (None, None)


def normalize_sql(sql: str, dialect: str = "sqlite") -> str:
    """`sql` in canonical spelling for exact match: parsed, lower-case names, no comments.

    Returns the text with white space collapsed where it can't be parsed or is not one statement.
    """
    dialect = resolve_dialect(dialect)
    try:
        found = parse_statements(sql, dialect, max_bytes=MAX_SQL_BYTES, max_tokens=MAX_TOKENS)
        if len(found) != 1:
            return " ".join(sql.split())
        for identifier in found[0].find_all(exp.Identifier):
            identifier.set("this", identifier.name.lower())
            identifier.set("quoted", False)
        return found[0].sql(dialect, comments=False, normalize_functions="upper")
    except SQLGLOT_FAILURES:
        return " ".join(sql.split())
