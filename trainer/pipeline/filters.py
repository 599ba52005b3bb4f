"""The stages that refuse rows: what no model can learn from, and what rows say twice or against
each other. They mend nothing; run `Clean` before them.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlglot import exp
from sqlglot.errors import SqlglotError

from eval.task.dialect import DialectError, parse_statements, resolve_dialect
from eval.task.ordering import is_ordered
from eval.task.schema import Schema
from eval.task.sql import check_sql
from eval.task.statement import SQLGLOT_FAILURES
from trainer.pipeline.execution import Databases, can_run, same_answers
from trainer.pipeline.row import Drop, Dropped, Outcome, Row, Tick, each, load_schema
from trainer.pipeline.spelling import parse_one, spell_names, turn_strings

NO_TABLES = Schema(())
# Violations that mean nothing where no schema is known.
NEED_SCHEMA = frozenset({"unknown_table", "unknown_column", "ambiguous_column"})
MAX_QUESTION_TOKENS = 400
# In a question, what English does not have: `SELECT names FROM singers` is both.
SQL_MARKS = re.compile(r"[*=;]|\b(?:count|avg|sum|min|max)\s*\(|\w\.\w+\s*[,=<>]", re.IGNORECASE)
SQL_START = re.compile(
    r"\s*(?:select|with|insert|update|delete|drop|create|alter)\b", re.IGNORECASE
)
WORD = re.compile(r"\d+(?:[.,]\d+)*|\w+|[^\w\s]")
PUNCTUATION = frozenset("?!.,;:'\"`\u2018\u2019\u201c\u201d\u2026\u00b4")


@dataclass(frozen=True)
class Filter:
    """Refuses rows for the first reason that holds: `empty_question`, `no_letters`,
    `question_is_sql`, `too_long`, a code of `eval.task.sql.check_sql` (`empty`, `not_a_query`,
    `unparsable`, `unknown_table`, `unknown_column`, …), or `reads_no_table`.

    Where a row has no schema, names are not checked.
    """

    max_question_chars: int = 2000
    max_sql_chars: int = 4000

    @property
    def name(self) -> str:
        return "filter"

    @property
    def options(self) -> Mapping[str, Any]:
        return {
            "max_question_chars": self.max_question_chars,
            "max_sql_chars": self.max_sql_chars,
        }

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        return each(rows, self._judge, tick)

    def _judge(self, row: Row) -> Row | Drop:
        return self._question_fault(row) or self._sql_fault(row) or row

    def _question_fault(self, row: Row) -> Drop | None:
        if not row.question.strip():
            return Drop("empty_question")
        if not any(character.isalpha() for character in row.question):
            return Drop("no_letters", row.question[:80])
        if len(row.question) > self.max_question_chars:
            return Drop("too_long", f"a question of {len(row.question)} characters")
        if is_sql(row.question, row):
            return Drop("question_is_sql", row.question[:80])
        return None

    def _sql_fault(self, row: Row) -> Drop | None:
        if len(row.sql) > self.max_sql_chars:
            return Drop("too_long", f"a query of {len(row.sql)} characters")
        schema = row.schema
        try:
            check = check_sql(row.sql, schema or NO_TABLES, row.dialect)
        except DialectError as error:
            return Drop("unknown_dialect", str(error)[:80])
        passed_over = NEED_SCHEMA if schema is None else frozenset()
        for violation in check.violations:
            if violation.code not in passed_over:
                return Drop(violation.code, violation.message)
        if schema is not None and not check.tables:
            return Drop("reads_no_table", row.sql[:80])
        return None


def is_sql(question: str, row: Row) -> bool:
    """True if `question` is SQL: it parses, and is the gold query, passes the check over the
    schema, or has marks that English has not."""
    if not SQL_START.match(question):
        return False
    try:
        found = parse_statements(question, row.dialect, max_bytes=4000, max_tokens=400)
    except (SqlglotError, DialectError):
        return False
    if len(found) != 1 or found[0].find(exp.Table) is None:
        return False
    if SQL_MARKS.search(question) or not isinstance(found[0], exp.Query):
        return True
    golds = (query_key(sql, row.schema_json, row.dialect) for sql in (question, row.sql))
    if len(set(golds)) == 1:
        return True
    return row.schema is not None and check_sql(question, row.schema, row.dialect).valid


def question_key(question: str) -> str:
    """What two spellings of one question share: its words and signs in lower case, punctuation
    left out. `age > 5` and `age < 5` stay apart, as do `3.5` and `35`."""
    text = unicodedata.normalize("NFKC", question).casefold()
    return " ".join(word for word in WORD.findall(text) if word not in PUNCTUATION) or text.strip()


@lru_cache(maxsize=16384)
def query_key(sql: str, schema_json: str, dialect: str) -> str:
    """What two spellings of one query share: the canonical form with names in lower case.

    Without a schema only bare names in joins are not resolved. Where it can't be parsed, the text
    with white space collapsed.
    """
    try:
        tree = parse_one(sql, dialect)
        schema = load_schema(schema_json) if schema_json else NO_TABLES
        if schema_json:
            turn_strings(tree, sql, schema, dialect)
        for names in ("qualified", "full"):  # the first resolves what the second can't
            spell_names(tree, schema, names)
        for identifier in tree.find_all(exp.Identifier):
            identifier.set("this", identifier.name.lower())
            identifier.set("quoted", False)
        return tree.sql(resolve_dialect(dialect), comments=False, normalize_functions="upper")
    except SQLGLOT_FAILURES:
        return " ".join(sql.split())


@dataclass(frozen=True)
class Duplicates:
    """Drops what rows say twice (`duplicate`, the first stays) or against each other.

    Rows are compared that ask the same question (`question_key`) of equal schemas; without a
    schema, of one `db_id`. Queries that differ (`query_key`) are duplicates if both give the same
    rows on the database, and not none at all, which any two queries could. Otherwise none of the
    rows can be trusted, and all go: `contradictory`.
    """

    @property
    def name(self) -> str:
        return "duplicates"

    @property
    def options(self) -> Mapping[str, Any]:
        return {}

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        asked: dict[tuple[str, str], list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            asked[row.schema_json or f"db_id {row.db_id}", question_key(row.question)].append(place)
            tick(1)
        drops: dict[int, Drop] = {}
        with Databases() as databases:
            for places in asked.values():
                found = _compare([rows[place] for place in places], databases)
                drops.update((places[number], drop) for number, drop in found.items())
        return _split(rows, drops)


def _split(rows: list[Row], drops: Mapping[int, Drop]) -> Outcome:
    kept = [row for place, row in enumerate(rows) if place not in drops]
    dropped = [
        Dropped(row.id, drops[place].reason, drops[place].detail)
        for place, row in enumerate(rows)
        if place in drops
    ]
    return Outcome(kept, dropped)


def _compare(rows: Sequence[Row], databases: Databases) -> dict[int, Drop]:
    """Which of the rows that ask one question are to go, by number."""
    if len(rows) == 1:
        return {}
    firsts: dict[str, int] = {}
    drops: dict[int, Drop] = {}
    for number, row in enumerate(rows):
        first = firsts.setdefault(query_key(row.sql, row.schema_json, row.dialect), number)
        if first != number:
            drops[number] = Drop("duplicate", f"of {rows[first].id}")
    differing = [rows[number] for number in firsts.values()]
    if len(differing) == 1:
        return drops
    if _agree(differing, databases):
        twins = list(firsts.values())[1:]
        return drops | {n: Drop("duplicate", f"of {rows[0].id}, by its answer") for n in twins}
    return {
        number: Drop("contradictory", f"to {_names(rows, row)}") for number, row in enumerate(rows)
    }


def _agree(rows: Sequence[Row], databases: Databases) -> bool:
    """True if all queries give the same rows, at least one, on the database of the first."""
    first, *others = rows
    if not all(can_run(row) for row in rows):
        return False
    gold = databases.run(first.database, first.sql)
    if not gold.rows:
        return False
    for other in others:
        answer = databases.run(first.database, other.sql)
        both = first.sql if is_ordered(other.sql) else other.sql
        if not same_answers(gold, answer, both):
            return False
    return True


def _names(rows: Sequence[Row], row: Row) -> str:
    others = [other.id for other in rows if other is not row]
    return ", ".join(others[:8]) + (f" and {len(others) - 8} more" if len(others) > 8 else "")
