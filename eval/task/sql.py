"""The check: is this text exactly one read-only query over the given schema?

"It parses" is not "valid SQL": `hello world` parses, as do fenced queries, `SELECT ... INTO` and a
CTE that deletes. What passes is returned regenerated from the tree, so that comments (MySQL runs
some of them) never survive, and what was regenerated is read and checked again: it is what runs.
The rules are those of `faults` 9 to 17 in the project's fault list.

What the check does not do: bound the time or memory that a query takes. A join of thirty large
tables is a valid query; whoever runs it sets the limits.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from sqlglot import exp
from sqlglot.errors import UnsupportedError
from sqlglot.tokenizer_core import Token

from eval.task.aggregates import misplaced_functions
from eval.task.calls import denied_calls, misread_calls, oversized_calls
from eval.task.dialect import parse_tokens, read_tokens, resolve_dialect, write_tree
from eval.task.forms import misshapen
from eval.task.functions import denied_functions
from eval.task.grants import Grants
from eval.task.grouping import ungrouped_columns
from eval.task.names import Names, resolve_names
from eval.task.nodes import UNSAFE, denied_nodes
from eval.task.reserved import quote_reserved
from eval.task.schema import Schema
from eval.task.scope import CASELESS
from eval.task.statement import (
    MAX_SQL_BYTES,
    MAX_TOKENS,
    SQLGLOT_FAILURES,
    failure_of,
    parse_one,
)
from eval.task.transpile import adapt, name_derived
from eval.task.violation import CODES, Violation, span

__all__ = ["CODES", "SqlCheck", "Violation", "check_sql"]

# SQLite's limit of SELECTs in one UNION, and of tables in one join.
MAX_SELECTS = 500
MAX_TABLES = 64
MAX_VIOLATIONS = 20
# What was regenerated may be longer than the text, but not by much.
GENERATED = {"max_bytes": 8 * MAX_SQL_BYTES, "max_tokens": 8 * MAX_TOKENS}


@dataclass(frozen=True, slots=True)
class SqlCheck:
    """The verdict on one text.

    `sql` is regenerated where the text passed, else the text as it came. `tables` and `columns`
    (`table.column`) are those that it reads, as the schema spells them. `notes` say what may mean
    something else in the dialect asked for, though the query passed.
    """

    sql: str
    violations: tuple[Violation, ...] = ()
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        return not self.violations


def check_sql(
    text: str,
    schema: Schema,
    read: str = "sqlite",
    write: str | None = None,
    *,
    grants: Grants | None = None,
) -> SqlCheck:
    """Check `text`, written in dialect `read`, against `schema`; regenerate it in dialect `write`.

    With `grants` only what they name may be read; `schema` stays the whole one. Codes of
    violations: `CODES`.

    Raises:
        DialectError: a dialect is unknown.
    """
    read = resolve_dialect(read)
    write = resolve_dialect(write) if write else read
    parsed = parse_one(text, read)
    if isinstance(parsed, Violation):
        return SqlCheck(text, (parsed,))
    try:
        return _check_tree(*parsed, text, schema, read, write, grants)
    except SQLGLOT_FAILURES as error:
        return SqlCheck(text, (failure_of(error),))


def _check_tree(
    tree: exp.Expr,
    tokens: list[Token],
    text: str,
    schema: Schema,
    read: str,
    write: str,
    grants: Grants | None,
) -> SqlCheck:
    if not isinstance(tree, exp.Query):
        first = tokens[0]
        word = text[first.start : first.end + 1][:64]
        is_statement = not isinstance(tree, exp.Command | exp.Condition | exp.Alias)
        what = f"is {tree.key.upper()}" if is_statement else f"begins with {word!r}"
        return SqlCheck(text, (Violation("not_a_query", f"only a query may run; this {what}"),))
    if problem := UNSAFE.search(text):
        message = f"the character U+{ord(problem[0]):04X} may not stand in SQL"
        start, end = problem.span()
        return SqlCheck(text, (Violation("unparsable", message, start=start, end=end),))
    violations, names = _violations(tree, schema, read, grants)
    violations = violations or tuple(islice(misread_calls(tokens, text, tree, read), 1))
    if violations:
        return SqlCheck(text, violations, *_read_by(names))
    work = adapt(tree, schema, read, write) if read != write else None
    if work and work.lost:
        return SqlCheck(text, tuple(work.lost[:MAX_VIOLATIONS]), *_read_by(names))
    kept = work.names if work else names
    if work or write not in CASELESS:
        kept.spell()
    sql, violations = _regenerated(tree, kept, schema, write, grants, is_checked=work is None)
    if violations:
        found = violations if work is None else tuple(_lost(v, read, write) for v in violations)
        return SqlCheck(text, found, *_read_by(names))
    return SqlCheck(sql, (), *_read_by(names), notes=tuple(work.notes) if work else ())


def _lost(violation: Violation, read: str, write: str) -> Violation:
    """What speaks against the text in the dialect asked for, not against what was written."""
    message = f"{violation.name!r} of {read} has no known form in {write}: {violation.message}"
    return replace(violation, code="not_transpilable", message=message[:300], suggestions=())


def _violations(
    tree: exp.Expr, schema: Schema, dialect: str, grants: Grants | None
) -> tuple[tuple[Violation, ...], Names]:
    """What speaks against a tree: first what it is made of, then its names, then their use."""
    found = list(islice(_unique(v for rule in RULES for v in rule(tree, dialect)), MAX_VIOLATIONS))
    if found:
        return tuple(found), Names()
    names = resolve_names(tree, schema, dialect, grants)
    if names.unknown:
        return tuple(unknown.violation() for unknown in names.unknown[:MAX_VIOLATIONS]), names
    used = chain(
        misplaced_functions(tree, names, dialect),
        ungrouped_columns(tree, names, schema, dialect),
    )
    return tuple(islice(used, MAX_VIOLATIONS)), names


def _unique(violations: Iterable[Violation]) -> Iterator[Violation]:
    seen = set()
    for violation in violations:
        if violation not in seen:
            seen.add(violation)
            yield violation


def _read_by(names: Names) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(sorted(names.tables)), tuple(sorted(names.columns))


def _too_large(tree: exp.Expr, dialect: str) -> Iterator[Violation]:
    for key, nodes, most in (
        ("SELECTs", exp.Select, MAX_SELECTS),
        ("tables", exp.Table, MAX_TABLES),
    ):
        if sum(1 for _ in tree.find_all(nodes)) > most:
            yield Violation("too_complex", f"over {most} {key}")


RULES: tuple[Callable[[exp.Expr, str], Iterator[Violation]], ...] = (
    denied_nodes,
    denied_functions,
    misshapen,
    oversized_calls,
    _too_large,
)


def _regenerated(
    tree: exp.Expr,
    names: Names,
    schema: Schema,
    dialect: str,
    grants: Grants | None,
    *,
    is_checked: bool,
) -> tuple[str, tuple[Violation, ...]]:
    """`tree` as text, and what speaks against that text when it is read again.

    `is_checked`: the tree passed in this dialect, so that reading the same tree again is enough.
    """
    quote_reserved(tree, dialect)
    name_derived(tree, dialect)
    try:
        sql = write_tree(tree, dialect, dialect if is_checked else "")
    except UnsupportedError as error:
        return "", (Violation("not_transpilable", str(error)[:200]),)
    tokens = read_tokens(sql, dialect, **GENERATED)
    found = parse_tokens(tokens, sql, dialect)
    if len(found) != 1:
        return sql, (Violation("not_one_statement", f"regenerated as {len(found)} statements"),)
    if any(token.comments for token in tokens):
        return sql, (Violation("unparsable", "regenerated with a comment"),)
    again = found[0]
    denied = {(v.code, v.name): v for v in denied_calls(tokens, sql, again, dialect)}
    if denied:
        return sql, _located(list(denied.values())[:MAX_VIOLATIONS], tree, dialect)
    if is_checked and again == tree:
        return sql, ()
    violations, other = _violations(again, schema, dialect, grants)
    if not violations and (other.tables, other.columns) != (names.tables, names.columns):
        message = "the query reads other tables or columns once it is regenerated"
        violations = (Violation("unparsable", message),)
    return sql, violations


def _located(violations: list[Violation], tree: exp.Expr, dialect: str) -> tuple[Violation, ...]:
    """`violations` of calls in the regenerated text, as the functions that were written."""
    functions = [f for f in tree.find_all(exp.Func) if not isinstance(f, exp.Connector)]
    written = [(f, f.sql(dialect, copy=False).lower()) for f in functions]
    found = []
    for violation in violations:
        calls = [f for f, text in written if f"{violation.name}(" in text]
        found.append(_renamed(violation, calls[-1]) if calls else violation)  # the innermost
    return tuple(found)


def _renamed(violation: Violation, function: exp.Func) -> Violation:
    name = function.name if isinstance(function, exp.Anonymous) else function.sql_name()
    start, end = span(function)
    message = violation.message.replace(repr(violation.name), repr(name))
    return replace(violation, message=message, name=name, start=start, end=end)
