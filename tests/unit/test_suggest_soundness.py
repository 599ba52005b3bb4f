"""Rewrites that are called equivalent give the same rows on databases that people filled.

Gold queries are clean, so that each is also muddled: DISTINCT and joins that nobody needs are put
in, ranges of dates written as functions. What the suggestions make of it is run on the sample
databases, whose rows no generator has seen.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlglot import exp

from eval.task.dialect import parse_statements
from eval.task.ordering import is_ordered
from eval.task.rows import same_rows
from eval.task.samples import build_databases, sample_examples, sample_names, sample_schema
from eval.task.schema import Schema
from eval.task.sqlite_judge import open_readonly, run_query
from server.suggest import Proof, suggest

BUDGET_MS = 20_000
EVERY = 5


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, sqlite3.Connection]]:
    folder: Path = tmp_path_factory.mktemp("samples")
    build_databases(folder)
    opened = {name: open_readonly(folder / f"{name}.sqlite") for name in sample_names()}
    yield opened
    for db in opened.values():
        db.close()


def muddled(sql: str, schema: Schema) -> Iterator[str]:
    """`sql` in forms that cost more, some of which mean something else."""
    (tree,) = parse_statements(sql, "sqlite", max_bytes=100_000, max_tokens=10_000)
    if not isinstance(tree, exp.Select):
        return
    yield tree.copy().distinct().sql("sqlite")
    origin = tree.args["from_"].this
    table = schema.find(origin.name)
    for key in table.foreign_keys if table and not tree.args.get("joins") else ():
        on = f"{origin.alias_or_name}.{key.columns[0]} = p.{key.references[0]}"
        for kind in ("JOIN", "LEFT JOIN"):
            copy = tree.copy()
            for column in copy.find_all(exp.Column):
                if column.find_ancestor(exp.Select) is copy and not column.table:
                    column.set("table", exp.to_identifier(origin.alias_or_name))
            yield copy.join(f"{kind} {key.table} AS p ON {on}", dialect="sqlite").sql("sqlite")
    yield from _recomputed(tree)


def _recomputed(tree: exp.Select) -> Iterator[str]:
    """Comparisons of a column with a constant as ones of something made of the column."""
    copy, changed = tree.copy(), False
    for node in list(copy.find_all(exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE)):
        if not isinstance(node.this, exp.Column) or node.expression.find(exp.Column, exp.Query):
            continue
        if isinstance(node.expression, exp.Literal) and node.expression.is_int:
            node.set("this", exp.paren(node.this + 2))
            changed = True
        elif node.expression.find(exp.Date) or "date(" in node.expression.sql("sqlite").lower():
            node.set("this", exp.func("DATE", node.this))
            changed = True
    if changed:
        yield copy.sql("sqlite")


def test_equivalent_rewrites_give_the_same_rows_on_the_sample_databases(
    databases: dict[str, sqlite3.Connection],
) -> None:
    proved, wrong = 0, []
    for example in [*sample_examples("train"), *sample_examples("test")][::EVERY]:
        schema, db = sample_schema(example.db_id), databases[example.db_id]
        for sql in [example.sql, *muddled(example.sql, schema)]:
            answer = run_query(db, sql)
            if answer.error is not None:
                continue  # a muddle that is no query
            for found in suggest(sql, schema, budget_ms=BUDGET_MS):
                if found.proof is Proof.EQUIVALENT and found.rewrite is not None:
                    proved += 1
                    other = run_query(db, found.rewrite)
                    ordered = is_ordered(sql)
                    if not same_rows(answer.rows, other.rows, ordered=ordered):
                        wrong.append((sql, found.rewrite))
    assert wrong == []
    assert proved >= 80


def test_databases_are_built_from_scripts_that_a_guarded_connection_would_refuse(
    databases: dict[str, sqlite3.Connection],
) -> None:
    with closing(databases["shop"].cursor()) as cursor, pytest.raises(sqlite3.DatabaseError):
        cursor.execute("DELETE FROM users")
