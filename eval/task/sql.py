"""The check: is this text exactly one read-only query over the given schema?

"It parses" is not "valid SQL": `hello world` parses, as do fenced queries, `SELECT … INTO` and a
CTE that deletes. What passes is returned regenerated from the tree, so that comments (MySQL runs
some of them) never survive. The rules are those of `faults` 9 to 17 in the project's fault list.
"""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from eval.task.dialect import TooComplexError, parse_statements, resolve_dialect
from eval.task.functions import is_allowed_function
from eval.task.names import Names, Unknown, resolve_names
from eval.task.schema import Schema

MAX_SQL_BYTES = 16 * 1024
MAX_TOKENS = 2000

# Keys of the nodes that a query may be made of besides functions. An allow-list: each dialect has
# its own ways to run a script (`TRANSFORM … USING`), to lock (`WITH (TABLOCKX)`) or to take hints.
ALLOWED_NODES = frozenset(
    """
    add alias all any attimezone between bitwiseand bitwiseleftshift bitwisenot bitwiseor
    bitwiserightshift bitwisexor boolean bracket collate column cte cube datatype datatypeparam
    distinct div dpipe eq escape except fetch filter from glob group groupingsets gt gte having
    hexstring identifier ignorenulls ilike in intdiv intersect interval intervalspan is join
    jsonpath jsonpathkey jsonpathroot jsonpathsubscript jsonpathwildcard lateral like limit
    limitoptions literal lt lte mod mul national neg neq not null nullsafeeq nullsafeneq offset
    order ordered paren qualify rawstring respectnulls rollup safedpipe select similarto slice star
    sub subquery table tablealias tuple union values var where window windowspec with withingroup
    """.split()
)
# Those of them that SQLite does not read.
NOT_IN_SQLITE = frozenset(
    """
    all any attimezone bracket cube groupingsets interval intervalspan lateral qualify rollup
    similarto slice withingroup
    """.split()
)

# What sqlglot's walks and generators raise on odd trees (seen: `CAST(id AS int):text` to Exasol).
SQLGLOT_FAILURES = (SqlglotError, RecursionError, TypeError, ValueError, AttributeError, KeyError)


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
    except SQLGLOT_FAILURES as error:
        return SqlCheck(text, (_parse_failure(error),))


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


def _parse(text: str, read: str) -> exp.Expr | Violation:
    if not text.strip():
        return Violation("empty", "the model wrote no SQL")
    try:
        found = parse_statements(text, read, max_bytes=MAX_SQL_BYTES, max_tokens=MAX_TOKENS)
    except SqlglotError as error:
        return _parse_failure(error)
    if len(found) != 1:
        return Violation("not_one_statement", f"{len(found)} statements; exactly one may run")
    return found[0]


def _parse_failure(error: BaseException) -> Violation:
    if isinstance(error, TooComplexError | RecursionError):
        return Violation("too_complex", str(error)[:200])
    detail = (str(error).splitlines() or ["unknown"])[0][:200]
    return Violation("unparsable", f"not SQL of this dialect: {detail}")


def _check_tree(tree: exp.Expr, text: str, schema: Schema, read: str, write: str) -> SqlCheck:
    if not isinstance(tree, exp.Query) or isinstance(tree, exp.Table):
        message = f"only a query may run; this is {tree.key.upper()}"
        return SqlCheck(text, (Violation("not_a_query", message),))
    violations = [v for rule in RULES for v in rule(tree, read)]
    names = Names() if violations else resolve_names(tree, schema, read)
    violations += [_name_violation(unknown) for unknown in names.unknown]
    sql, failure = _regenerate(tree, read, write)
    if not violations and failure:
        violations.append(failure)
    return SqlCheck(
        sql, tuple(violations), tuple(sorted(names.tables)), tuple(sorted(names.columns))
    )


def _denied_nodes(tree: exp.Expr, read: str) -> Iterator[Violation]:
    allowed = ALLOWED_NODES - NOT_IN_SQLITE if read == "sqlite" else ALLOWED_NODES
    for node in tree.walk():
        if not isinstance(node, exp.Func) and node.key not in allowed:
            message = f"{node.key.upper()} is not allowed in a query"
            yield Violation("denied_node", message, node.key)


def _holes(tree: exp.Expr, read: str) -> Iterator[Violation]:
    """`SELECT FROM t`, `GROUP BY` of nothing, `COUNT(DISTINCT)`, `(*)`: sqlglot reads them."""
    for node in tree.find_all(exp.Select, exp.Group, exp.Distinct, exp.Paren):
        if isinstance(node, exp.Distinct) and isinstance(node.parent, exp.Query):
            continue
        filled = node.expressions if isinstance(node, exp.Select) else any(node.args.values())
        if not filled or isinstance(node.this, exp.Star):
            yield Violation("unparsable", f"{node.key.upper()} of nothing")


def _denied_functions(tree: exp.Expr, read: str) -> Iterator[Violation]:
    for function in tree.find_all(exp.Func):
        if not is_allowed_function(function, read):
            name = function.name if isinstance(function, exp.Anonymous) else function.sql_name()
            message = f"function {name[:64]!r} is not in the allow-list of {read}"
            yield Violation("denied_function", message, name[:64])


RULES: tuple[Callable[[exp.Expr, str], Iterator[Violation]], ...] = (
    _denied_nodes,
    _denied_functions,
    _holes,
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
    """`tree` in dialect `write`, and why that is not the same query where it is not."""
    try:
        sql = tree.sql(write, comments=False, unsupported_level=ErrorLevel.RAISE)
        lost = "" if read == write else _lost(tree, sql, write)
    except (SqlglotError, TypeError, ValueError) as error:
        sql = tree.sql(read, comments=False, unsupported_level=ErrorLevel.IGNORE)
        return sql, Violation("not_transpilable", str(error)[:200])
    if lost:
        message = f"{lost!r} of {read} has no known form in {write}"
        return sql, Violation("not_transpilable", message, lost)
    return sql, None


def _lost(tree: exp.Expr, sql: str, write: str) -> str:
    """The first thing in `tree`, or in the text generated from it, that `write` does not have."""
    for function in tree.find_all(exp.Anonymous):
        if not is_allowed_function(function, write):
            return function.name
    limits = {"max_bytes": 4 * MAX_SQL_BYTES, "max_tokens": 4 * MAX_TOKENS}
    (written,) = parse_statements(sql, write, **limits)
    return next((v.name or v.code for rule in RULES for v in rule(written, write)), "")
