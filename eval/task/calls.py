"""The calls in a text of SQL as its tokens show them: the last gate before a query is handed out.

Whatever the tree says, each name that stands before a bracket must be in the list of
`functions.NAMED`. Here too: how many arguments a function of SQLite takes, and how much one call
may ask for (`REPEAT('x', 1000000000)`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from eval.task.dialect import parse_statements, write_tree
from eval.task.functions import named
from eval.task.violation import Violation, span

# Words that stand before a bracket and call nothing. Types are among them, for they have sizes.
SYNTAX = frozenset(
    """
    all and any apply as between binary bit by case char cross cube datetime datetime2 datetime64
    decimal distinct div double else end escape except exclude exists fetch filter float from full
    glob group having ilike in inner int intersect interval is join lateral like limit natural nchar
    not nullable number numeric nvarchar offset on or order outer over overlaps partition percent
    qualify recursive regexp rename rlike rollup select sets similar some string then time timestamp
    to top union using values varbinary varchar varchar2 when where window with xor
    """.split()
)
# SQLite's functions: the least and the most arguments. Those left out take any number.
ARITY = {
    name: (int(least), int(most))
    for least, most, names in (
        ("0", "0", "cume_dist dense_rank percent_rank pi rank row_number"),
        ("0", "1", "count"),
        ("1", "1", """abs acos acosh asin asinh atan atanh avg ceil ceiling cos cosh degrees exp
            first_value floor hex last_value length likely ln log10 log2 lower ntile quote radians
            sign sin sinh sqrt sum tan tanh total trunc typeof unicode unlikely upper"""),
        ("1", "2", "group_concat json_array_length json_type log ltrim round rtrim trim"),
        ("1", "3", "lag lead"),
        ("1", "99", "json_extract max min printf format"),
        ("2", "2", "atan2 glob ifnull instr likelihood mod nth_value nullif pow power"),
        ("2", "3", "like substr substring"),
        ("2", "99", "coalesce"),
        ("3", "3", "iif replace"),
    )
    for name in names.split()
}  # fmt: skip

# Words that sqlglot takes for types of text, bytes or whole numbers. SQLite goes by parts of words
# (sqlite.org/datatype3.html, section 3.1), and finds none of its own in these.
NUMBERS_TO_SQLITE = frozenset("binary byte bytea long short str string varbinary".split())
# Dialects in which a string may be an alias; sqlglot joins two in a row.
ALIAS_STRINGS = frozenset({"sqlite", "tsql"})
# Words behind which a comma parts no arguments: `STRING_AGG(a, ',' ORDER BY b, c)`.
BEHIND_ARGUMENTS = re.compile(r"order(\s+by)?|separator")
# What a function may be called with; of some only text or numbers make a call.
PROBES = ("argument_{}_", "'argument_{}_'", "'i'", "7")
MAX_PROBED = 8

MAX_LENGTH = 1000
# In the format of PRINTF and its like: a width or precision of four digits, or one from a value.
WIDE_FORMAT = re.compile(r"\d{4,}|\*")
# Matching takes time in proportion to text and pattern, or worse.
PATTERNS = (
    exp.Like, exp.ILike, exp.Glob, exp.SimilarTo, exp.RegexpLike, exp.RegexpILike,
    exp.JSONExtract, exp.JSONExtractScalar, exp.JSONBExtract, exp.JSONBExtractScalar,
)  # fmt: skip
QUOTES = frozenset('"`[')
FORMATTERS = frozenset({"format", "printf"})


@dataclass(slots=True)
class Call:
    """A name before a bracket as it is written, in lower case."""

    name: str
    start: int
    end: int
    num_args: int = 0
    is_star: bool = False
    is_distinct: bool = False
    is_listing: bool = True
    cast_to: str = ""


def read_calls(tokens: Sequence[Token], text: str) -> list[Call]:
    """The calls of `text`, in the order of their names."""
    words = ["", "", *(text[t.start : t.end + 1].lower() for t in tokens), ""]
    found: list[Call] = []
    open_calls: list[Call] = []
    for place, word in enumerate(words[2:-1]):
        if word == "(":
            before, name, after = words[place], words[place + 1], words[place + 3]
            call = _opened(name, after, tokens[max(place - 1, 0)])
            open_calls.append(call)
            if before != "as" and _is_name(name):
                found.append(call)
        elif word == "," and open_calls and open_calls[-1].is_listing:
            open_calls[-1].num_args += 1
        elif open_calls and BEHIND_ARGUMENTS.fullmatch(word):
            open_calls[-1].is_listing = False
        elif word == ")" and open_calls:
            open_calls.pop()
        elif word == "as" and open_calls and open_calls[-1].name == "cast":
            open_calls[-1].cast_to = words[place + 3]
    return found


def _opened(name: str, after: str, token: Token) -> Call:
    call = Call(name, token.start, token.end + 1, num_args=int(after != ")"), is_star=after == "*")
    call.is_distinct = after == "distinct"
    return call


def misread_calls(
    tokens: Sequence[Token], text: str, tree: exp.Expr, dialect: str
) -> Iterator[Violation]:
    """The calls in `text` that sqlglot takes for others without a word: of `MOD(a, b, c)` it makes
    `a % b`, of SQLite's `CAST(a AS STRING)`, a number, a text. `tree` is `text` parsed."""
    known, lists = named(dialect), _column_lists(tree)
    if dialect in ALIAS_STRINGS:
        yield from _strings_in_a_row(tokens)
    for call in read_calls(tokens, text):
        is_call = call.name in known and call.name not in lists
        if dialect == "sqlite" and call.cast_to in NUMBERS_TO_SQLITE:
            message = f"{call.cast_to.upper()} is a number to SQLite"
            yield Violation("wrong_arguments", message, "cast", start=call.start, end=call.end)
        elif is_call and _loses_one(call.name, min(call.num_args, MAX_PROBED), dialect):
            message = f"{call.name.upper()} does not take {call.num_args} arguments in {dialect}"
            yield Violation("wrong_arguments", message, call.name, start=call.start, end=call.end)


def _strings_in_a_row(tokens: Sequence[Token]) -> Iterator[Violation]:
    for first, second in pairwise(tokens):
        if first.token_type == second.token_type == TokenType.STRING:
            message = "a string right behind another names it"
            yield Violation("unparsable", message, start=second.start, end=second.end + 1)


@lru_cache(maxsize=4096)
def _loses_one(name: str, num_args: int, dialect: str) -> bool:
    """True if whatever `num_args` arguments `name` is called with, not all are written again."""
    found = [_is_kept(name, [probe.format(n) for n in range(num_args)], dialect)
             for probe in PROBES]  # fmt: skip
    return False in found and True not in found


def _is_kept(name: str, arguments: list[str], dialect: str) -> bool | None:
    """Whether all `arguments` are written again; None where they make no call."""
    call = f"SELECT {name}({', '.join(arguments)})"
    try:
        tree = parse_statements(call, dialect, max_bytes=1000, max_tokens=100)[0]
        text = write_tree(tree, dialect).lower()
    except SqlglotError:
        return None
    return all(text.count(argument) >= arguments.count(argument) for argument in arguments)


def _column_lists(tree: exp.Expr) -> set[str]:
    """What stands before a bracket and is a name with its columns: `WITH t(a, b) AS`."""
    return {a.name.lower() for a in tree.find_all(exp.TableAlias) if a.columns}


def denied_calls(
    tokens: Sequence[Token], text: str, tree: exp.Expr, dialect: str
) -> Iterator[Violation]:
    """The calls in `text` that `dialect` does not have or that are not allowed; `tree` is `text`
    parsed."""
    known, lists = named(dialect), _column_lists(tree)
    for call in read_calls(tokens, text):
        if call.name not in known:
            if call.name.strip('"`[]') not in lists:
                message = f"function {call.name[:64]!r} is not in the allow-list of {dialect}"
                yield Violation("denied_function", message, call.name[:64])
        elif problem := _misuse(call, dialect):
            yield Violation("wrong_arguments", f"{call.name.upper()} {problem}", call.name)


def _is_name(word: str) -> bool:
    return word not in SYNTAX and (word.isidentifier() or word[:1] in QUOTES)


def _misuse(call: Call, dialect: str) -> str:
    if call.is_star and call.name not in ("count", "count_big") and call.num_args == 1:
        return "takes no star"
    if dialect != "sqlite":
        return ""
    if call.is_distinct and call.num_args > 1:
        return "takes one argument with DISTINCT"
    least, most = ARITY.get(call.name, (0, 99))
    if not least <= call.num_args <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        return f"takes {wanted} arguments, not {call.num_args}"
    return ""


def oversized_calls(tree: exp.Expr, dialect: str) -> Iterator[Violation]:
    """Calls of `tree` that make a text as long as they like, and patterns that take as long."""
    for pattern in tree.find_all(*PATTERNS):
        if _length(pattern.expression) > MAX_LENGTH:
            start, end = span(pattern.expression)
            message = f"a pattern or path of over {MAX_LENGTH} characters"
            yield Violation("too_complex", message, pattern.key, start=start, end=end)
    for call in tree.find_all(exp.Repeat, exp.Pad, exp.Space, exp.Format, exp.Anonymous):
        if problem := _oversized(call, dialect):
            start, end = span(call)
            yield Violation("wrong_arguments", problem, call.key, start=start, end=end)


def _length(pattern: exp.Expr) -> int:
    if isinstance(pattern, exp.JSONPath):
        return 10 * len(pattern.expressions)
    return len(pattern.name) if isinstance(pattern, exp.Literal) else 0


def _oversized(call: exp.Expr, dialect: str) -> str:
    if isinstance(call, exp.Format | exp.Anonymous):
        return _wide_format(call, dialect)
    length = {"repeat": "times", "pad": "expression", "space": "this"}[call.key]
    size = call.args.get(length)
    is_small = (
        isinstance(size, exp.Literal) and size.name.isdigit() and int(size.name) <= MAX_LENGTH
    )
    return "" if is_small else f"{call.key.upper()} takes a plain number up to {MAX_LENGTH}"


def _wide_format(call: exp.Expr, dialect: str) -> str:
    is_formatter = isinstance(call, exp.Format) or call.name.lower() in FORMATTERS
    if not is_formatter or dialect in ("mysql", "tsql"):  # there it formats a number
        return ""
    pattern = call.this if isinstance(call, exp.Format) else next(iter(call.expressions), None)
    if not isinstance(pattern, exp.Literal):
        return "the format must be a plain text"
    return (
        "a format with widths from values or over 999" if WIDE_FORMAT.search(pattern.name) else ""
    )
