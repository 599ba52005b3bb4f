"""Takes the noise of collecting off a question and off a gold query: text in, text out.

Each step is a function under the name that it is counted by. What is left of a query is still as
its author wrote it, comments and second statements included: judging them is others' work. Knows
nothing of schemas, databases or rows.
"""

import html
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice

from sqlglot import exp
from sqlglot.errors import SqlglotError

from eval.task.dialect import parse_statements
from eval.task.prompt import FENCE, STATEMENT
from eval.task.statement import MAX_SQL_BYTES, MAX_TOKENS

# Only entities that end in a semicolon: HTML also reads `&region` as `®ion`.
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
SQL_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#0*39|#0*34|#x27|#x22);", re.IGNORECASE)
MARKUP = re.compile(
    r"</?(?:b|i|u|p|br|em|strong|span|div|code|pre|s)\s*/?>|<\|[a-z_]{2,20}\|>|\[/?INST\]",
    re.IGNORECASE,
)
# Controls that are no white space, and halves of surrogate pairs, which UTF-8 can't hold.
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")
# Joiners are left between letters that are not ASCII: Persian and emoji are spelled with them.
INVISIBLE = re.compile(
    "[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e01ef]|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
QUESTION_PREFIX = re.compile(
    r"\A(?:#+ ?)?(?:question|q|input|user|human|instruction|nl)(?: ?\d{1,6})? ?[:\uff1a] ?(?=\S)",
    re.IGNORECASE,
)
SQL_PREFIX = re.compile(
    r"\A\s*(?:(?:#+[ \t]*)?(?:the )?"
    r"(?:sql(?:ite)?|sql query|query|answer|response|output|assistant|a)(?: is)?\s*[:\uff1a]"
    r"|(?:sqlite|mysql|sql|postgres)[>#])\s*",
    re.IGNORECASE,
)
QUOTE_PAIRS = ('""', "''", "``", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb")
TYPOGRAPHY = str.maketrans("\u2018\u2019\u201c\u201d\u00a0\u2009\u202f\u3000\u2212", "''\"\"    -")
QUOTED_OR_NOT = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|([^'"]+|['"])""")
MAX_CUTS = 16  # places that are tried for the end of a query
# What a statement can start with: text after such a word is SQL, not prose.
STATEMENT_WORDS = frozenset(
    """
    alter analyze attach begin call commit copy create delete detach do drop exec execute explain
    grant insert kill load lock merge pragma reindex release rename replace reset revoke rollback
    savepoint select set show shutdown truncate update use vacuum values waitfor with
    """.split()
)
# What a query can go on with after a blank line.
CLAUSE_WORDS = STATEMENT_WORDS | frozenset(
    """
    and as case cross else end except fetch from full group having inner intersect join left limit
    natural not offset on or order outer right then union using when where window
    """.split()
)


def clean_question(text: str) -> tuple[str, list[str]]:
    """`text` without noise, and the names of the steps that changed it."""
    changed = []
    for name, step in QUESTION_STEPS:
        before, text = text, step(text)
        if text != before:
            changed.append(name)
    return text, changed


def clean_sql(text: str, dialect: str = "sqlite") -> tuple[str, list[str]]:
    """The statements in `text`, as they were written, and the names of the steps that changed it.

    A step that cuts off words is tried only where the text is not a query as it stands, so that
    a query is never taken for prose. Comments stay. Text too long for any check stays as it is.
    """
    changed: list[str] = []
    if len(text) > MAX_SQL_BYTES:
        return text, changed
    for name, step in SQL_STEPS:
        before, text = text, step(text, dialect)
        if text != before:
            changed.append(name)
    return text, changed


@lru_cache(maxsize=4096)
def is_query(text: str, dialect: str) -> bool:
    """True if `text` is exactly one query. `hello world` parses too, but is none."""
    limits = {"max_bytes": MAX_SQL_BYTES, "max_tokens": MAX_TOKENS}
    try:
        found = parse_statements(text, dialect, **limits)
    except SqlglotError:
        return False
    return len(found) == 1 and isinstance(found[0], exp.Query) and bool(found[0].selects)


def first_word(text: str) -> str:
    """The first word of `text` in lower case, brackets before it passed over; "" if none is."""
    found = re.match(r"[\s(]*([A-Za-z]+)\b", text)
    return found[1].lower() if found else ""


def _without_entities(text: str) -> str:
    return MARKUP.sub(" ", ENTITY.sub(lambda found: html.unescape(found[0]), text))


def _without_quotes(text: str) -> str:
    inner = text[1:-1]
    is_quoted = text[:1] + text[-1:] in QUOTE_PAIRS and inner.strip()
    return inner.strip() if is_quoted and not {text[0], text[-1]} & set(inner) else text


QUESTION_STEPS: Sequence[tuple[str, Callable[[str], str]]] = (
    ("question_markup", _without_entities),
    ("question_control", lambda text: CONTROL.sub("", text)),
    ("question_invisible", lambda text: INVISIBLE.sub("", text)),
    ("question_whitespace", lambda text: " ".join(text.split())),
    ("question_prefix", lambda text: QUESTION_PREFIX.sub("", text)),
    ("question_quotes", _without_quotes),
)


def _sql_markup(text: str, dialect: str) -> str:
    if is_query(text, dialect):
        return text  # what looks like markup stands in a value
    return MARKUP.sub(" ", SQL_ENTITY.sub(lambda found: html.unescape(found[0]), text))


def _visible(text: str, _: str) -> str:
    return INVISIBLE.sub("", CONTROL.sub("", text))


def _out_of_fence(text: str, dialect: str) -> str:
    """The first fenced block that holds a query, else the first that holds anything."""
    blocks: list[str] = [block.strip() for block in FENCE.findall(text) if block.strip()]
    if not blocks or is_query(text, dialect):
        return text
    return next((block for block in blocks if STATEMENT.search(block)), blocks[0])


def _without_prefix(text: str, _: str) -> str:
    return SQL_PREFIX.sub("", text)


def _plain_characters(text: str, dialect: str) -> str:
    """Typewriter quotes and spaces outside quoted text, where a query stands or comes of it."""
    tried = QUOTED_OR_NOT.sub(lambda found: found[1] or found[2].translate(TYPOGRAPHY), text)
    return tried if is_query(tried, dialect) else text


def _unescaped(text: str, dialect: str) -> str:
    """Line breaks for `\n` and quotes for `\"`, where that makes a query of it."""
    tried = text.replace("\\r", "").replace("\\n", "\n").replace("\\t", " ").replace('\\"', '"')
    return tried if not is_query(text, dialect) and is_query(tried, dialect) else text


def _out_of_quotes(text: str, dialect: str) -> str:
    tried = text.strip().rstrip(";").rstrip()
    is_wrapped = len(tried) > 2 and tried[0] + tried[-1] in QUOTE_PAIRS
    return tried[1:-1] if is_wrapped and is_query(tried[1:-1], dialect) else text


def _without_prose(text: str, dialect: str) -> str:
    """The query between two stretches of prose, where there is just one place for it to be."""
    if is_query(text, dialect) or not text.strip():
        return text
    if first_word(text) not in STATEMENT_WORDS:
        text = _from_first_statement(text)
    return text if is_query(text, dialect) else _up_to_prose(text, dialect)


def _from_first_statement(text: str) -> str:
    """From the first line that starts with SELECT or WITH, else from the first such word that
    follows a colon."""
    line = re.search(r"^[ \t(]*(?:SELECT|WITH)\b", text, re.IGNORECASE | re.MULTILINE)
    after = re.search(r"[:\uff1a]\s*(?=(?:SELECT|WITH)\b)", text, re.IGNORECASE)
    start = line.start() if line else after.end() if after else 0
    return text[start:]


def _up_to_prose(text: str, dialect: str) -> str:
    """Up to a semicolon or a blank line that prose follows, if that is a query."""
    for end in islice(re.finditer(r";|\n[ \t]*\n", text), MAX_CUTS):
        rest = text[end.end() :]
        is_sql = first_word(rest) in CLAUSE_WORDS or ";" in rest or not first_word(rest)
        if not is_sql and is_query(text[: end.start()], dialect):
            return text[: end.start()]
    return text


def _without_semicolon(text: str, _: str) -> str:
    return text.strip("; \t\r\n")


SQL_STEPS: Sequence[tuple[str, Callable[[str, str], str]]] = (
    ("sql_markup", _sql_markup),
    ("sql_invisible", _visible),
    ("sql_fence", _out_of_fence),
    ("sql_prefix", _without_prefix),
    ("sql_characters", _plain_characters),
    ("sql_escapes", _unescaped),
    ("sql_quotes", _out_of_quotes),
    ("sql_prose", _without_prose),
    ("sql_semicolon", _without_semicolon),
)
