"""The calls in a text of SQL as its tokens show them: the last gate before a query is handed out.

Whatever the tree says, each name that stands before a bracket must be in the list of
`functions.NAMED`. Here too: how many arguments a function of SQLite takes, and how much one call
may ask for (`REPEAT('x', 1000000000)`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.tokenizer_core import Token

from eval.task.functions import named
from eval.task.violation import Violation, span

# Words that stand before a bracket and call nothing. Types are among them, for they have sizes.
SYNTAX = frozenset(
    """
    all and any apply as between binary bit by case char cross cube datetime datetime2 datetime64
    decimal distinct div double else end escape except exclude exists fetch filter float from full
    glob group having ilike in inner int intersect interval is join lateral like limit natural
    nchar not nullable number numeric nvarchar offset on or order outer over partition percent
    qualify recursive regexp rlike rollup select sets similar some string then time
    timestamp to top union using values varbinary varchar varchar2 when where window with
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

MAX_LENGTH = 1000
# In the format of PRINTF and its like: a width or precision of four digits, or one from a value.
WIDE_FORMAT = re.compile(r"\d{4,}|\*")
# Matching takes time in proportion to text and pattern, or worse.
PATTERNS = (
    exp.Like, exp.ILike, exp.Glob, exp.SimilarTo, exp.RegexpLike, exp.JSONExtract,
    exp.JSONExtractScalar,
)  # fmt: skip
FORMATTERS = frozenset({"format", "printf"})


@dataclass(slots=True)
class Call:
    """A name before a bracket as it is written, in lower case."""

    name: str
    num_args: int = 0
    is_star: bool = False
    is_distinct: bool = False


def read_calls(tokens: Sequence[Token], text: str) -> list[Call]:
    """The calls of `text`, in the order of their names."""
    words = ["", "", *(text[t.start : t.end + 1].lower() for t in tokens)]
    found: list[Call] = []
    open_calls: list[Call] = []
    for before, name, word, after in zip(
        words, words[1:], words[2:], [*words[3:], ""], strict=False
    ):
        if word == "(":
            call = Call(name, num_args=int(after != ")"), is_star=after == "*")
            call.is_distinct = after == "distinct"
            open_calls.append(call)
            if before != "as" and _is_name(name):
                found.append(call)
        elif word == "," and open_calls:
            open_calls[-1].num_args += 1
        elif word == ")" and open_calls:
            open_calls.pop()
    return found


def denied_calls(
    tokens: Sequence[Token], text: str, tree: exp.Expr, dialect: str
) -> Iterator[Violation]:
    """The calls in `text` that `dialect` does not have or that are not allowed; `tree` is `text`
    parsed."""
    known = named(dialect)
    lists = {a.name.lower() for a in tree.find_all(exp.TableAlias) if a.columns}
    for call in read_calls(tokens, text):
        if call.name not in known:
            if call.name.strip('"`[]') not in lists:
                message = f"function {call.name[:64]!r} is not in the allow-list of {dialect}"
                yield Violation("denied_function", message, call.name[:64])
        elif problem := _misuse(call, dialect):
            yield Violation("wrong_arguments", f"{call.name.upper()} {problem}", call.name)


def _is_name(word: str) -> bool:
    return word not in SYNTAX and (word.isidentifier() or word[:1] in '"`[')


def _misuse(call: Call, dialect: str) -> str:
    if call.is_star and call.name != "count" and call.num_args == 1:
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
