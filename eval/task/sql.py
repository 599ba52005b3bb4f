"""The check: is this text exactly one read-only query over the given schema?

"It parses" is not "valid SQL": `hello world` parses, as do fenced queries, `SELECT … INTO` and a
CTE that deletes. What passes is returned regenerated from the tree, so that comments (MySQL runs
some of them) never survive. The rules are those of `faults` 9 to 17 in the project's fault list.
"""

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError, UnsupportedError

from eval.task.dialect import resolve_dialect
from eval.task.functions import is_allowed_function
from eval.task.names import Names, Unknown, resolve_names
from eval.task.schema import Schema

# Guards before parsing: deep or long input is what makes a parser slow or overflow its stack.
MAX_SQL_BYTES = 16 * 1024
MAX_TOKENS = 2000
MAX_DEPTH = 32
MAX_PREFIX_RUN = 64

WORD = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\w+|[^\s\w]")
PREFIXES = frozenset({"NOT", "-", "+", "~", "CASE"})

DENIED_NODES = (
    exp.DML,
    exp.DDL,
    exp.Command,
    exp.Copy,
    exp.Into,
    exp.Set,
    exp.Pragma,
    exp.Attach,
    exp.Detach,
    exp.Lock,
    exp.Transaction,
    exp.Commit,
    exp.Rollback,
    exp.Use,
    exp.Describe,
    exp.Parameter,
    exp.Placeholder,
    exp.SessionParameter,
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One reason why a text is refused. `code` is one of a closed set (see `check_sql`)."""

    code: str
    message: str
    name: str = ""
    suggestions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SqlCheck:
    """The verdict on one text: `sql` is regenerated where it parsed, else the text as it came."""

    sql: str
    violations: tuple[Violation, ...] = ()
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        return not self.violations


def check_sql(
    text: str, schema: Schema, read: str = "sqlite", write: str | None = None
) -> SqlCheck:
    """Check `text`, written in dialect `read`, against `schema`; regenerate it in dialect `write`.

    Codes of violations: `empty`, `too_complex`, `unparsable`, `not_one_statement`, `not_a_query`,
    `denied_node`, `denied_function`, `unknown_table`, `unknown_column`, `ambiguous_column`,
    `unsupported_source`, `not_transpilable`.

    Raises:
        DialectError: a dialect is unknown.
    """
    read = resolve_dialect(read)
    write = resolve_dialect(write) if write else read
    tree = _parse(text, read)
    if isinstance(tree, Violation):
        return SqlCheck(text, (tree,))
    try:
        return _check_tree(tree, text, schema, read, write)
    except (SqlglotError, RecursionError) as error:
        return SqlCheck(text, (_parse_failure(error),))


def normalize_sql(sql: str, dialect: str = "sqlite") -> str:
    """`sql` in canonical spelling for exact match: parsed, lower-case names, no comments.

    Returns the text with white space collapsed where it can't be parsed.
    """
    try:
        tree = sqlglot.parse_one(sql, read=dialect)
        for identifier in tree.find_all(exp.Identifier):
            identifier.set("this", identifier.name.lower())
            identifier.set("quoted", False)
        return tree.sql(dialect, comments=False, normalize_functions="upper")
    except (SqlglotError, RecursionError):
        return " ".join(sql.split())


def _parse(text: str, read: str) -> exp.Expr | Violation:
    if not text.strip():
        return Violation("empty", "the model wrote no SQL")
    if reason := _complexity(text):
        return Violation("too_complex", reason)
    try:
        statements = [s for s in sqlglot.parse(text, read=read) if s is not None]
    except (SqlglotError, RecursionError) as error:
        return _parse_failure(error)
    if len(statements) != 1:
        return Violation("not_one_statement", f"{len(statements)} statements; exactly one may run")
    return statements[0]


def _parse_failure(error: BaseException) -> Violation:
    if isinstance(error, RecursionError):
        return Violation("too_complex", "nested too deeply to be parsed")
    detail = (str(error).splitlines() or ["unknown"])[0][:200]
    return Violation("unparsable", f"not SQL of this dialect: {detail}")


def _complexity(text: str) -> str | None:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_SQL_BYTES:
        return f"over {MAX_SQL_BYTES} bytes"
    words = [w.upper() for w in WORD.findall(text)]
    if len(words) > MAX_TOKENS:
        return f"over {MAX_TOKENS} tokens"
    if _depth(words) > MAX_DEPTH:
        return f"brackets nest deeper than {MAX_DEPTH}"
    if _longest_prefix_run(words) > MAX_PREFIX_RUN:
        return f"over {MAX_PREFIX_RUN} prefix operators or CASEs"
    return None


def _depth(words: list[str]) -> int:
    depth = deepest = 0
    for word in words:
        depth += (word in "([{") - (word in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _longest_prefix_run(words: list[str]) -> int:
    """Prefix operators in a row, and CASEs in all: either nests once for each."""
    run = longest = 0
    for word in words:
        run = run + 1 if word in PREFIXES else 0
        longest = max(longest, run)
    return max(longest, words.count("CASE"))


def _check_tree(tree: exp.Expr, text: str, schema: Schema, read: str, write: str) -> SqlCheck:
    if not isinstance(tree, exp.Query) or isinstance(tree, exp.Table):
        message = f"only a query may run; this is {tree.key.upper()}"
        return SqlCheck(text, (Violation("not_a_query", message),))
    violations = [v for rule in RULES for v in rule(tree, read)]
    names = Names() if violations else resolve_names(tree, schema)
    violations += [_name_violation(unknown) for unknown in names.unknown]
    sql, failure = _regenerate(tree, read, write)
    if not violations and failure:
        violations.append(failure)
    return SqlCheck(
        sql, tuple(violations), tuple(sorted(names.tables)), tuple(sorted(names.columns))
    )


def _denied_nodes(tree: exp.Expr, read: str) -> Iterator[Violation]:
    for node in tree.find_all(*DENIED_NODES):
        yield Violation("denied_node", f"{node.key.upper()} is not allowed in a query", node.key)


def _denied_functions(tree: exp.Expr, read: str) -> Iterator[Violation]:
    for function in tree.find_all(exp.Func):
        if not is_allowed_function(function, read):
            name = function.name if isinstance(function, exp.Anonymous) else function.sql_name()
            message = f"function {name[:64]!r} is not in the allow-list of {read}"
            yield Violation("denied_function", message, name[:64])


RULES: tuple[Callable[[exp.Expr, str], Iterator[Violation]], ...] = (
    _denied_nodes,
    _denied_functions,
)


def _name_violation(unknown: Unknown) -> Violation:
    close = tuple(_did_you_mean(unknown.name, unknown.candidates))
    kind = unknown.code.replace("_", " ")
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    return Violation(unknown.code, f"{kind} {unknown.name!r}{hint}", unknown.name, close)


def _did_you_mean(name: str, candidates: tuple[str, ...]) -> list[str]:
    spellings = {c.lower(): c for c in candidates}
    return [spellings[m] for m in difflib.get_close_matches(name.lower(), spellings, n=3)]


def _regenerate(tree: exp.Expr, read: str, write: str) -> tuple[str, Violation | None]:
    if read == write:
        return tree.sql(write, comments=False), None
    try:
        sql = tree.sql(write, comments=False, unsupported_level=ErrorLevel.RAISE)
    except UnsupportedError as error:
        return tree.sql(read, comments=False), Violation("not_transpilable", str(error)[:200])
    for function in tree.find_all(exp.Anonymous):
        if not is_allowed_function(function, write):
            message = f"function {function.name!r} of {read} has no known form in {write}"
            return sql, Violation("not_transpilable", message, function.name)
    return sql, None
