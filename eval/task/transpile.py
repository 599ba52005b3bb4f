"""From one dialect to another: what sqlglot leaves as it is though the engines differ.

`adapt` rewrites a checked tree so that it means the same in the dialect asked for, and says what it
can't: what would not run or give another answer is refused, what may differ on odd data or by the
settings of a server is noted. sqlglot itself sees to NULLS FIRST, LIMIT and TOP, NULLIF around a
divisor, types, string escapes and the names of functions. Truths and comparisons are in `truths`.
"""

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from eval.task import differences
from eval.task.adapting import Adapting, cast
from eval.task.aggregates import is_aggregate
from eval.task.columns import BARE_ORDER
from eval.task.differences import POSTGRES, Rewrite, is_akin
from eval.task.forms import MYSQL, holds_items
from eval.task.grouping import ANY_VALUE, KEY_DECIDES, grouped_by_all, loose_columns
from eval.task.kinds import NUMERIC
from eval.task.nodes import GROUPS_ALL, SEMI_JOINS
from eval.task.schema import Schema
from eval.task.scope import ALIAS_CLAUSES
from eval.task.truths import adapt_truths

# LIKE looks at no case: SQLite's for ASCII, the others' by their default collations.
CASELESS_LIKE = frozenset({"sqlite", "mysql", "tsql", "doris", "starrocks", "fabric"})
# A FROM item in brackets needs a name.
NEED_ALIAS = frozenset(
    "doris fabric materialize mysql postgres redshift risingwave starrocks tsql".split()
)
WHOLE_AVERAGE = frozenset({"tsql", "fabric", "redshift"})
TSQL = frozenset({"tsql", "fabric"})
# A text part is counted from the end where it starts before the text: SUBSTR(a, -3).
COUNT_BACK = frozenset(
    """
    athena bigquery clickhouse databricks duckdb hive mysql oracle presto snowflake spark spark2
    sqlite trino
    """.split()
)
# What expressions put in the place of aliases may add up to.
MAX_EXPANDED = 1_000
IGNORE_NULLS = frozenset({*POSTGRES, "redshift", "tsql"})


def adapt(tree: exp.Expr, schema: Schema, read: str, write: str) -> Adapting:
    """Rewrite `tree`, a checked query of dialect `read`, in place for dialect `write`."""
    work = Adapting(tree, schema, read, write)
    _expand_aliases(work)
    if work.lost:
        return work
    work.resolve()
    _complete_groups(work)
    adapt_truths(work)
    present = {type(node) for node in tree.walk()}
    for types, rewrite in (*REWRITES, *differences.REWRITES):
        if not any(issubclass(found, types) for found in present):
            continue
        work.kinds.forget()
        for node in list(tree.find_all(*types)):
            rewrite(work, node)
    return work


def name_derived(tree: exp.Expr, dialect: str) -> None:
    """Give the subqueries in FROM a name where the dialect asks for one."""
    if dialect not in NEED_ALIAS:
        return
    taken = {name.name.lower() for name in tree.find_all(exp.Identifier)}
    free = (f"derived_{number}" for number in range(1, 10_000))
    for derived in tree.find_all(exp.Subquery, exp.Values):
        is_source = isinstance(derived.parent, exp.From | exp.Join)
        is_query = isinstance(derived, exp.Values) or (
            isinstance(derived.this, exp.Query) and not holds_items(derived)
        )
        if is_source and not derived.alias and is_query:
            name = next(name for name in free if name not in taken)
            derived.set("alias", exp.TableAlias(this=exp.to_identifier(name)))


def _expand_aliases(work: Adapting) -> None:
    """Put the expression for an alias where `write` does not take aliases."""
    allowed, room = ALIAS_CLAUSES.get(work.write, set()), MAX_EXPANDED
    for column in list(work.tree.find_all(exp.Column)):
        item = work.names.aliases.get(id(column))
        clause = _clause(column) if item is not None else ""
        if clause == "order":
            is_kept = isinstance(column.parent, exp.Ordered) or work.write not in BARE_ORDER
        else:
            is_kept = clause in allowed
        if item is not None and not is_kept:
            # Each of `a || a AS b, b || b AS c, ...` doubles the one before.
            room -= sum(1 for _ in item.walk())
            if room < 0:
                return work.lose(column, f"aliases stand for over {MAX_EXPANDED} nodes")
            whole = item.unalias().copy()
            is_atom = isinstance(whole, exp.Column | exp.Func | exp.Literal)
            is_key = clause == "group" and isinstance(column.parent, exp.Group)
            column.replace(whole if is_atom or is_key else exp.Paren(this=whole))


def _clause(column: exp.Expr) -> str:
    """The clause of its SELECT that a column stands in."""
    node = column
    while node.parent is not None and not isinstance(node.parent, exp.Select | exp.Join):
        node = node.parent
    return "on" if isinstance(node.parent, exp.Join) else str(node.arg_key or "")


def _complete_groups(work: Adapting) -> None:
    """Add to GROUP BY the columns that it decides by keys and joins: no group is split, and
    engines ask for them."""
    _name_groups(work)
    if work.write in ANY_VALUE:
        return
    seen = (work.tree, work.names, work.schema, work.read)
    knows_keys = work.write in KEY_DECIDES
    loose = {id(c) for _, c in loose_columns(*seen, key_decides=True, joins_decide=True)}
    for select, column in list(loose_columns(*seen, key_decides=knows_keys)):
        group = select.args.get("group")
        if group and id(column) not in loose and column not in group.expressions:
            group.append("expressions", column.copy())


def _name_groups(work: Adapting) -> None:
    """Write out GROUP BY ALL where `write` does not have it."""
    for group in work.tree.find_all(exp.Group) if work.write not in GROUPS_ALL else ():
        if group.args.get("all") and group.parent:
            keys = [key.copy() for key in grouped_by_all(group.parent, work.read)]
            group.set("all", None)
            group.set("expressions", keys)
            if not keys:
                group.pop()


def _like(work: Adapting, node: exp.Expr) -> None:
    pattern = node.expression
    if isinstance(pattern, exp.Literal) and pattern.name.lower() == pattern.name.upper():
        return
    was_caseless = isinstance(node, exp.ILike) or work.read in CASELESS_LIKE
    if was_caseless and work.write not in CASELESS_LIKE:
        node.replace(exp.ILike(**node.args))
    elif isinstance(node, exp.ILike) and work.write in CASELESS_LIKE:
        node.replace(exp.Like(**node.args))
    elif not was_caseless and work.write in CASELESS_LIKE:
        work.note(f"LIKE looks at no case in {work.write}")
    if work.write in CASELESS_LIKE - {"sqlite"}:
        work.note(f"LIKE goes by the collation of the column in {work.write}")


def _division(work: Adapting, node: exp.Expr) -> None:
    """Whole numbers: some engines drop the rest, some do not."""
    read, write = Dialect.get_or_raise(work.read), Dialect.get_or_raise(work.write)
    if not read.TYPED_DIVISION or write.TYPED_DIVISION:
        return
    kinds = {work.kinds.of(node.this), work.kinds.of(node.expression)}
    if kinds == {"int"}:
        divisor = node.expression
        if read.SAFE_DIVISION and not write.SAFE_DIVISION:
            divisor = exp.Nullif(this=divisor, expression=exp.Literal.number(0))
        node.replace(exp.IntDiv(this=node.this, expression=divisor))
    elif "real" not in kinds:
        work.note(f"/ of two whole numbers drops the rest in {work.read}, not in {work.write}")


def _concatenation(work: Adapting, node: exp.Expr) -> None:
    """Elsewhere than in SQLite || may want text, or in T-SQL mean a sum."""
    if work.write in MYSQL or work.write == "sqlite":
        return
    for side in (node.this, node.expression):
        kind = work.kinds.of(side)
        if kind in NUMERIC or (kind != "text" and work.write in TSQL):
            cast(side, "VARCHAR(MAX)" if work.write in TSQL else "TEXT", work.write)


def _rounding(work: Adapting, node: exp.Expr) -> None:
    """PostgreSQL rounds no real to decimals, and a half to the even number."""
    is_real = work.kinds.of(node.this) not in ("int", "number")
    if work.write in POSTGRES and is_real:
        cast(node.this, "DECIMAL", work.write)


def _average(work: Adapting, node: exp.Expr) -> None:
    value = node.this.expressions[0] if isinstance(node.this, exp.Distinct) else node.this
    may_be_whole = work.kinds.of(value) in ("int", "")
    if may_be_whole and work.write in WHOLE_AVERAGE - {work.read}:
        cast(value, "DOUBLE", "sqlite")
    elif may_be_whole and work.read in WHOLE_AVERAGE:
        work.note(f"AVG of whole numbers drops the rest in {work.read}, not in {work.write}")


def _joined_text(work: Adapting, node: exp.Expr) -> None:
    value = node.this.expressions[0] if isinstance(node.this, exp.Distinct) else node.this
    if work.write in IGNORE_NULLS | {"bigquery"} and work.kinds.of(value) != "text":
        cast(value, "TEXT", "postgres")


def _text_part(work: Adapting, node: exp.Expr) -> None:
    start = node.args.get("start")
    if not isinstance(start, exp.Neg) or work.write in COUNT_BACK:
        return
    if node.args.get("length") is None and isinstance(start.this, exp.Literal):
        node.replace(exp.Right(this=node.this, expression=start.this))
    else:
        work.lose(node, "SUBSTR does not count from the end")


def _unknown_function(work: Adapting, node: exp.Expr) -> None:
    """A function that sqlglot does not know may mean another thing under the same name."""
    if not is_akin(work):
        work.lose(node, f"{node.name[:64]!r} of {work.read} has no known form")


def _date(work: Adapting, node: exp.Expr) -> None:
    """SQLite's dates of `now`."""
    now = node.this
    is_now = isinstance(now, exp.Literal) and now.name.lower() == "now"
    if work.read == "sqlite" and is_now:
        is_whole = isinstance(node, exp.Date)
        (node if is_whole else now).replace(exp.CurrentDate() if is_whole else
                                            exp.CurrentTimestamp())  # fmt: skip


def _greatest(work: Adapting, node: exp.Expr) -> None:
    if work.read in ("sqlite", *MYSQL) and work.write in IGNORE_NULLS:
        work.note(f"{node.key.upper()} passes over NULL in {work.write}; in {work.read} it is NULL")


def _collation(work: Adapting, node: exp.Expr) -> None:
    work.lose(node, f"no collation {node.expression.name[:32]!r} is known")


def _unnested(work: Adapting, node: exp.Expr) -> None:
    """Each dialect names its rows and columns by rules of its own."""
    if not is_akin(work):
        work.lose(node, "UNNEST has no known form")


def _semi_join(work: Adapting, node: exp.Expr) -> None:
    kind = node.args.get("kind")
    if kind in ("ANTI", "SEMI") and work.write not in SEMI_JOINS:
        work.lose(node, f"there is no {kind} JOIN")


def _subquery(work: Adapting, node: exp.Expr) -> None:
    query = node.this
    if not isinstance(query, exp.Query) or isinstance(query, exp.Subquery):
        return
    has_limit = query.args.get("limit") or query.args.get("offset")
    is_list = isinstance(node.parent, exp.In)
    if is_list and has_limit and work.write in MYSQL:
        work.lose(node, "there is no LIMIT within IN")
    if work.write in TSQL and query.args.get("order") and not has_limit:
        query.set("order", None)  # where nothing is cut off, it says nothing
        work.resolve()
    if work.read == "sqlite" and _is_value(node) and not _is_one_row(query):
        node.set("this", query.limit(1, copy=False))


def _is_value(node: exp.Expr) -> bool:
    """True where a subquery stands for one value: SQLite takes that of the first row."""
    parent = node.parent
    while isinstance(parent, exp.Paren | exp.Subquery):
        parent = parent.parent
    others = (exp.From, exp.Join, exp.In, exp.Exists, exp.SetOperation, exp.CTE, exp.Any, exp.All)
    return parent is not None and not isinstance(parent, others)


def _is_one_row(query: exp.Expr) -> bool:
    """True for a query that gives one row at most."""
    limit = query.args.get("limit")
    if limit and limit.expression.name in ("0", "1"):
        return True
    if not isinstance(query, exp.Select) or query.args.get("group"):
        return False
    has_aggregate = any(
        is_aggregate(node, "sqlite") and node.find_ancestor(exp.Select) is query
        for item in query.expressions
        for node in item.walk()
    )
    return has_aggregate or not query.args.get("from_")


REWRITES: tuple[tuple[tuple[type[exp.Expr], ...], Rewrite], ...] = (
    ((exp.Like, exp.ILike), _like),
    ((exp.Div,), _division),
    ((exp.DPipe,), _concatenation),
    ((exp.Round,), _rounding),
    ((exp.Avg,), _average),
    ((exp.GroupConcat,), _joined_text),
    ((exp.Substring,), _text_part),
    ((exp.Greatest, exp.Least), _greatest),
    ((exp.Anonymous,), _unknown_function),
    ((exp.Date, exp.TsOrDsToTimestamp, exp.TsOrDsToDate), _date),
    ((exp.Collate,), _collation),
    ((exp.Unnest,), _unnested),
    ((exp.Join,), _semi_join),
    ((exp.Subquery,), _subquery),
)
