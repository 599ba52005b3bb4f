"""How names, values and functions are written in a dialect, in the one spelling that adapters are
trained on: that of sqlglot's generator."""

from dataclasses import dataclass
from functools import cache, lru_cache

from sqlglot import TokenType, exp, parse_one
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

from eval.task.dialect import resolve_dialect
from eval.task.prompt import quote
from eval.task.schema import Column, Schema, Table
from eval.task.sql import check_sql
from server.grammar.options import GrammarError

# Texts that open a call of one column, which `)` closes.
CALLS = ("LOWER(", "UPPER(", "LENGTH(", "ABS(", "ROUND(")
YEARS = ("EXTRACT(YEAR FROM ", "EXTRACT(MONTH FROM ")
OWN_CALLS = {
    "sqlite": (
        *("STRFTIME('%Y', ", "STRFTIME('%m', ", "STRFTIME('%d', ", "STRFTIME('%Y-%m', "),
        *("DATE(", "JULIANDAY("),
    ),
    "postgres": YEARS,
    "duckdb": YEARS,
    "mysql": ("YEAR(", "MONTH(", "DATE("),
}
# What gives the time, where it is not the usual functions.
OWN_NOW = {"sqlite": ("DATE('now')", "DATETIME('now')")}
# A derived table needs no alias here.
BARE_DERIVED = frozenset({"sqlite", "duckdb"})
# Invisible, but part of the spelling in Persian and Hindi.
JOINERS = {0x200C: None, 0x200D: None}
PROBE = Schema((Table("t", (Column("a"),)),))


@dataclass(frozen=True, slots=True)
class Spelling:
    """A dialect's way to write. `calls` open a call of one column; `doubles` says that a quote
    within a string is written twice."""

    dialect: str
    calls: tuple[str, ...]
    now: tuple[str, ...]
    set_operators: tuple[str, ...]
    doubles: bool

    @property
    def has_bare_derived(self) -> bool:
        return self.dialect in BARE_DERIVED

    def name(self, name: str) -> str:
        """`name` as the prompt shows it, or in this dialect's own quotes where it needs any; ""
        where the dialect has no way to write it."""
        return name if quote(name) == name else _quoted(name, self.dialect)

    def stands_alone(self, name: str) -> bool:
        """`name` is a column's wherever it stands, which `interval` is not."""
        return _stands_alone(self.name(name), self.dialect)

    def string(self, text: str) -> str:
        """`text` as a literal; "" where that would not be one that can be seen."""
        return exp.Literal.string(text).sql(self.dialect) if text.isprintable() else ""


@cache
def spelling_of(dialect: str) -> Spelling:
    """How `dialect`, or what it is an alias of, is written, as far as the guard lets it pass.

    Raises:
        DialectError: the dialect is unknown.
        GrammarError: it has no LIMIT, and what it has instead the grammar does not know.
    """
    name = resolve_dialect(dialect)
    one = exp.select("a").from_("t")
    if not one.limit(1).sql(name).endswith(" LIMIT 1"):
        raise GrammarError(f"dialect: {name} has no LIMIT, and no grammar; decode freely")
    select = one.sql(name)
    unions = (exp.union(one, one), exp.union(one, one, distinct=False))
    others = (exp.intersect(one, one), exp.except_(one, one))
    operators = (q.sql(name)[len(select) : -len(select)] for q in (*unions, *others))
    calls = CALLS + OWN_CALLS.get(name, ())
    usual = tuple(now.sql(name) for now in (exp.CurrentDate(), exp.CurrentTimestamp()))
    return Spelling(
        name,
        tuple(c for c in calls if _passes(f"SELECT {c}t.a) FROM t", name)),
        tuple(n for n in OWN_NOW.get(name, usual) if _passes(f"{select} WHERE t.a < {n}", name)),
        tuple(o for o in operators if _passes(f"{select}{o}{select}", name)),
        "'" in Dialect.get_or_raise(name).tokenizer_class.STRING_ESCAPES,
    )


def _passes(sql: str, dialect: str) -> bool:
    return check_sql(sql, PROBE, dialect).valid


@lru_cache(maxsize=4096)
def _stands_alone(written: str, dialect: str) -> bool:
    (token,) = Dialect.get_or_raise(dialect).tokenize(written)
    if token.token_type in (TokenType.VAR, TokenType.IDENTIFIER):
        return True
    try:
        item = parse_one(f"SELECT {written} + 1", dialect=dialect).expressions[0]
    except SqlglotError:
        return False
    return isinstance(item, exp.Add) and isinstance(item.this, exp.Column)


@lru_cache(maxsize=4096)
def _quoted(name: str, dialect: str) -> str:
    """`name` in quotes, if it can be seen and `dialect` reads it back as that one name."""
    if not (name.strip() and name.translate(JOINERS).isprintable()):
        return ""
    try:
        written = exp.to_identifier(name, quoted=True).sql(dialect)
        tokens = Dialect.get_or_raise(dialect).tokenize(written)
    except SqlglotError:
        return ""
    kinds = [token.token_type for token in tokens]
    return written if kinds == [TokenType.IDENTIFIER] and tokens[0].text == name else ""
