"""Builds the grammar of the queries that a schema allows, as text for llguidance."""

from functools import lru_cache

from eval.task.dialect import resolve_dialect
from eval.task.schema import Schema
from server.grammar.budget import budget_of
from server.grammar.clauses import add_clauses
from server.grammar.ground import Ground
from server.grammar.joins import add_joins
from server.grammar.options import Names, Options
from server.grammar.select import add_select
from server.grammar.spelling import spelling_of
from server.grammar.state import BUDGET, DEPTH, ITEMS
from server.grammar.terminals import add_terminals

MAX_CACHED = 64  # of about 2 KB a table


def grammar_of(
    schema: Schema,
    dialect: str = "sqlite",
    *,
    names: Names = "qualified",
    max_tokens: int = 256,
    max_tables: int = 4,
    max_depth: int = 2,
    max_string: int = 40,
    values: tuple[str, ...] = (),
) -> str:
    """The Lark grammar of the queries over `schema`, which holds what the caller may read.

    Every name is one of the schema, every column belongs to a table of its FROM, and every table in
    a SELECT list is joined, on foreign keys or what looks like one, in the spelling that adapters
    are trained on: `names` says whether each column stands after its table (qualified), or may
    stand alone where there is but one table (full). A query has about `max_tokens` tokens at most,
    `max_tables` tables in one FROM, `max_depth` queries around one, strings of `max_string`
    characters; where `values` are given, strings are among them but for patterns of LIKE. The same
    is built once: the last 64 are kept.

    Raises:
        DialectError: the dialect is unknown.
        GrammarError: there is none for this dialect, schema or option.
    """
    options = Options(names, max_tokens, max_tables, max_depth, max_string, values)
    return _kept(schema, resolve_dialect(dialect), options)


def build(schema: Schema, dialect: str, options: Options) -> str:
    """As `grammar_of`, anew."""
    spelling = spelling_of(dialect)
    ground = Ground.of(schema, spelling, options)
    units, one = budget_of(ground.sources, spelling, options.max_tokens), ITEMS.value(1)
    derived = BUDGET.value(units // 2) | one | DEPTH.value(1) if spelling.has_bare_derived else 0
    ground.rules.start("query", BUDGET.value(units) | one)
    add_select(ground)
    add_joins(ground, derived)
    add_clauses(ground)
    add_terminals(ground)
    return ground.rules.text()


_kept = lru_cache(maxsize=MAX_CACHED)(build)
