"""Whether a query orders its rows, and by what.

Asked of the tree, not of the text: an ORDER BY in a subquery, a window or a string orders nothing.
Knows nothing of answers or databases.
"""

from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import SqlglotError

from eval.task.dialect import parse_statements
from eval.task.statement import SQLGLOT_FAILURES

MAX_SQL_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Keyed:
    """A query whose rows end in `num_added` sort keys; `places` are those of all keys in a row,
    counted from the end where negative."""

    sql: str
    num_added: int
    places: tuple[int, ...]


def is_ordered(sql: str, dialect: str = "sqlite") -> bool:
    """True if the outermost query has an ORDER BY; False where it can't be parsed."""
    query = _query(sql, dialect)
    return query is not None and query.args.get("order") is not None


@lru_cache(maxsize=256)
def with_sort_keys(sql: str, dialect: str = "sqlite") -> Keyed | None:
    """`sql` with its sort keys as further columns, so that one can see which rows tie.

    None where there is no top-level ORDER BY, or where a key can't be added without a change of
    meaning: to a DISTINCT or a UNION, or if its name is also that of an output column. The caller
    compares the other columns with the answer of `sql` itself.
    """
    query = _query(sql, dialect)
    if query is None or query.args.get("order") is None:
        return None
    try:
        return _add_keys(query.copy(), dialect)
    except SQLGLOT_FAILURES:
        return None


@lru_cache(maxsize=256)
def without_limit(sql: str, dialect: str = "sqlite") -> tuple[str, range] | None:
    """`sql` without its top-level LIMIT, and which of the rows the LIMIT lets through.

    None where there is none, or it is no whole number.
    """
    query = _query(sql, dialect)
    limit = query and query.args.get("limit")
    if query is None or not isinstance(limit, exp.Limit):
        return None
    offset = query.args.get("offset")
    count = _whole(limit.expression)
    start = 0 if offset is None else _whole(offset.expression)
    if count is None or start is None:
        return None
    rest = query.copy()
    rest.set("limit", None)
    rest.set("offset", None)
    try:
        return rest.sql(dialect=dialect), range(start, start + count)
    except SQLGLOT_FAILURES:
        return None


def _whole(number: exp.Expr | None) -> int | None:
    return int(number.this) if isinstance(number, exp.Literal) and number.is_int else None


@lru_cache(maxsize=1024)
def _query(sql: str, dialect: str) -> exp.Query | None:
    """The outermost query that may have an ORDER BY: brackets around it removed."""
    try:
        found = parse_statements(sql, dialect, max_bytes=MAX_SQL_BYTES, max_tokens=MAX_SQL_BYTES)
    except SqlglotError:
        return None
    query = found[0] if len(found) == 1 else None
    while isinstance(query, exp.Subquery) and query.args.get("order") is None:
        query = query.this
    return query if isinstance(query, exp.Query) else None


def _add_keys(query: exp.Query, dialect: str) -> Keyed | None:
    outputs = query.selects
    keys = [ordered.this for ordered in query.args["order"].expressions]
    places = [_place(key, outputs) for key in keys]
    added = [key for key, place in zip(keys, places, strict=True) if place is None]
    if added and not _may_add(query, added):
        return None
    if isinstance(query, exp.Select):
        for number, key in enumerate(added):
            query.select(exp.alias_(key.copy(), f"sort_key_{number}"), copy=False)
    behind = iter(range(-len(added), 0))
    return Keyed(
        query.sql(dialect=dialect),
        len(added),
        tuple(next(behind) if place is None else place for place in places),
    )


def _place(key: exp.Expr, outputs: list[exp.Expr]) -> int | None:
    """Where among `outputs` a sort key stands; None if it does not, or behind a star."""
    if (ordinal := _whole(key)) is not None:
        return ordinal - 1
    if any(output.is_star for output in outputs):
        return None
    if isinstance(key, exp.Column) and not key.table:
        named = [i for i, output in enumerate(outputs) if _is_named(output, key.name)]
        if named:  # an alias outranks the name of a column
            return next((i for i in named if outputs[i].alias), named[0])
    same = [i for i, output in enumerate(outputs) if output.unalias() == key]
    return same[0] if same else None


def _is_named(output: exp.Expr, name: str) -> bool:
    """True for an alias or a column; sqlglot has names for `'a'` and `CAST(a AS REAL)` too."""
    has_name = isinstance(output, exp.Alias | exp.Column)
    return has_name and output.output_name.lower() == name.lower()


def _may_add(query: exp.Query, keys: list[exp.Expr]) -> bool:
    """False where a further column changes the rows, or where a name would mean something else."""
    if not isinstance(query, exp.Select) or query.args.get("distinct"):
        return False
    aliases = {output.alias.lower() for output in query.selects if output.alias}
    columns = (column for key in keys for column in key.find_all(exp.Column))
    names = {column.name.lower() for column in columns if not column.table}
    return not aliases & names
