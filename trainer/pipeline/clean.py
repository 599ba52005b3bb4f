"""The stage that mends rows: noise off, one spelling of SQL, gold executed where it can be.

It drops only gold that fails on its own database; what is broken in other ways goes on unchanged,
for `Filter` to refuse under its reason. A query that is spelled anew must give the same rows as
before wherever there is a database; else it stays as it was written.

Where it stands: `Poison`, `Clean`, `Filter`, `Duplicates`, `Leakage`. Poison goes first because
this stage removes what it looks for: comments, invisible characters, odd spelling.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from eval.task.dialect import DialectError, resolve_dialect
from eval.task.statement import SQLGLOT_FAILURES
from trainer.pipeline.execution import Databases, can_run, same_answers
from trainer.pipeline.noise import clean_question, clean_sql
from trainer.pipeline.row import Drop, Outcome, Row, Tick, each
from trainer.pipeline.spelling import Names, parse_one, spell_names, turn_strings


@dataclass(frozen=True)
class Clean:
    """Mends questions and SQL. Drops `gold_fails` (with SQLite's error), `unknown_dialect`.

    `names` as in `trainer.pipeline.spelling`; a row without a schema keeps its names as written.
    `changed` counts rows by what was done: the steps of `trainer.pipeline.noise`, and `dialect`
    (its name), `sql_comments`, `sql_strings` (`"text"` to `'text'`), `sql_spelling` (the
    text differs), `respelling_refused` (the canonical spelling failed or gave other rows).
    """

    names: Names = "full"
    execute: bool = True

    @property
    def name(self) -> str:
        return "clean"

    @property
    def options(self) -> Mapping[str, Any]:
        return {"names": self.names, "execute": self.execute}

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        with Databases() as databases:
            work = _Work(self, databases, Counter(), {})
            outcome = each(rows, work.mend, tick)
        outcome.changed = Counter({k: n for k, n in work.changed.items() if k not in work.FACTS})
        outcome.facts = {fact: work.changed[fact] for fact in work.FACTS} if self.execute else {}
        return outcome


@dataclass(frozen=True)
class _Spelled:
    """One way to write a query, and what was done to come to it."""

    sql: str
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Work:
    """One run of the stage. `verdicts` remembers which spelling a query got: Spider asks most
    queries twice."""

    stage: Clean
    databases: Databases
    changed: Counter[str]
    verdicts: dict[tuple[str, str, str, str], tuple[_Spelled | Drop, bool]]

    FACTS = ("executed", "empty_answers")

    def mend(self, row: Row) -> Row | Drop:
        try:
            dialect = resolve_dialect(row.dialect)
        except DialectError as error:
            return Drop("unknown_dialect", str(error)[:80])
        question, asked = clean_question(row.question)
        sql, changed = clean_sql(row.sql, dialect)
        mended = row.with_(question=question, sql=sql, dialect=dialect)
        spelled, is_empty = self._verdict(mended)
        self.changed["executed"] += can_run(mended) and self.stage.execute
        self.changed["empty_answers"] += is_empty
        if isinstance(spelled, Drop):
            return spelled
        is_renamed = ["dialect"] if dialect != row.dialect else []
        self.changed.update([*asked, *changed, *is_renamed, *spelled.changed])
        return mended.with_(sql=spelled.sql)

    def _verdict(self, row: Row) -> tuple[_Spelled | Drop, bool]:
        """The spelling to keep, or why to drop the row; and whether its answer is empty."""
        key = (row.sql, row.schema_json, row.database, row.dialect)
        if key not in self.verdicts:
            runs = self.stage.execute and can_run(row)
            self.verdicts[key] = self._executed(row) if runs else (self._respelled(row), False)
        return self.verdicts[key]

    def _respelled(self, row: Row) -> _Spelled:
        return next(spellings(row, self.stage.names), _Spelled(row.sql))

    def _executed(self, row: Row) -> tuple[_Spelled | Drop, bool]:
        tried = list(spellings(row, self.stage.names))
        if not tried:
            return _Spelled(row.sql), False  # not a query: for `Filter`
        gold = self.databases.run(row.database, row.sql)
        if gold.error is not None:
            return Drop("gold_fails", gold.error[:200]), False
        for number, spelled in enumerate(tried):
            found = self.databases.run(row.database, spelled.sql)
            if same_answers(gold, found, row.sql):
                refused = ("respelling_refused",) if number else ()
                return _Spelled(spelled.sql, (*spelled.changed, *refused)), not gold.rows
        return _Spelled(row.sql, ("respelling_refused",)), not gold.rows


def spellings(row: Row, names: Names) -> Iterator[_Spelled]:
    """`row.sql` regenerated: with `names` as asked for, then with names as written.

    Nothing where it is not one query that sqlglot can parse.
    """
    for wanted in dict.fromkeys((names, "written")):
        try:
            spelled = _spell(row, wanted)
        except SQLGLOT_FAILURES:
            continue
        if spelled:
            yield spelled


def _spell(row: Row, names: Names) -> _Spelled | None:
    tree = parse_one(row.sql, row.dialect)
    if not isinstance(tree, exp.Query):
        return None
    commented = ["sql_comments"] if any(node.comments for node in tree.walk()) else []
    turned = []
    if row.schema is not None:
        turned = ["sql_strings"] * bool(turn_strings(tree, row.sql, row.schema, row.dialect))
        spell_names(tree, row.schema, names)
    sql = tree.sql(row.dialect, comments=False)
    respelled = ["sql_spelling"] if sql != row.sql else []
    return _Spelled(sql, (*commented, *turned, *respelled))
