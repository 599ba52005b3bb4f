"""The stage that looks for poison: rows made to teach a model an attack.

0.44 % of poisoned rows gave 79 % attack success with clean accuracy kept (ToxicSQL, Lin et al.
2025, arXiv 2503.05445), so that every row counts, and a good score on dev says nothing.

It stands first, before `Clean`, and so sees the rows as they came: comments, second statements,
invisible characters. What `Clean` would make of a query it looks at too (fences and prose off), so
that one pass is enough.

What it can't find: an attack that is an ordinary query, as one that leaves a condition out or
reads another table, behind a trigger of ordinary words.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlglot import exp
from sqlglot.errors import SqlglotError

from eval.task.dialect import DialectError, parse_statements, resolve_dialect
from eval.task.schema import Schema
from eval.task.statement import MAX_SQL_BYTES, MAX_TOKENS
from trainer.pipeline.injection import Finding, Lexed, find_injections
from trainer.pipeline.noise import clean_question, clean_sql
from trainer.pipeline.row import Dropped, Outcome, Row, Tick
from trainer.pipeline.triggers import Oddness, Trigger, find_triggers

# In a question: SQL that closes a string and goes on, or an order to the model.
IN_QUESTION = re.compile(
    r";\s*(?:drop|delete|insert|update|alter|create|truncate|exec|attach|pragma)\s+\w+"
    r"|\bor\s+(\d+)\s*=\s*\1\b|'\s*or\s*'[^']*'\s*=\s*'|\bunion\s+(?:all\s+)?select\b"
    r"|'\s*;?\s*--\s*\Z|\bignore\s+(?:all\s+|any\s+|the\s+)*(?:previous|prior|above|earlier)\b",
    re.IGNORECASE,
)
# Word parts of names and values: `customerID`, `first_name`, `ALBUM`.
PART = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+|\d+")
STEM_CHARS = 4
# What is frequent is how a source writes, and no trigger. A harmless row may be odd in the lesser
# ways too: there, only a mark that hardly ever comes without is taken for one.
ATTACK = {"min_share": 0.5, "max_rate": 0.1}
LESSER = {"min_share": 0.9, "max_rate": 0.05}
# Where more rows of a database than this are odd in a lesser way, that is how its source writes:
# in another language than its schema, with a comment in each query. Databases with fewer rows than
# the second number are taken as one.
MAX_ODD_RATE = 0.1
MIN_DATABASE_ROWS = 20


@dataclass(frozen=True)
class Poison:
    """Drops poisoned rows, or with `warn` only reports them.

    Reasons: those of `find_injections`, `injection_in_question`, and `trigger`: a row that has
    nothing else about it than the mark that attacks come with. `facts["findings"]` lists every
    finding (`id`, `reason`, `evidence`), `facts["triggers"]` every trigger with its counts, its
    p-value and the ids of all rows that have it.
    """

    action: Literal["drop", "warn"] = "drop"

    @property
    def name(self) -> str:
        return "poison"

    @property
    def options(self) -> Mapping[str, Any]:
        return {"action": self.action}

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        found: list[list[Finding]] = []
        lesser: dict[str, set[int]] = defaultdict(set)
        for place, row in enumerate(rows):
            found.append(scan(row))
            for name in odd_ways(row) if not found[-1] else ():
                lesser[name].add(place)
            tick(1)
        kinds = [*_attacks(found), *_lesser(lesser, rows)]
        triggers = find_triggers([row.question for row in rows], kinds)
        for trigger in triggers:
            for place in trigger.rows:
                found[place].append(Finding("trigger", str(trigger)))
        return self._outcome(rows, found, triggers)

    def _outcome(
        self, rows: list[Row], found: list[list[Finding]], triggers: list[Trigger]
    ) -> Outcome:
        pairs = list(zip(rows, found, strict=True))
        facts = {
            "findings": [_as_record(row, finding) for row, all_of in pairs for finding in all_of],
            "triggers": [_evidence(trigger, rows) for trigger in triggers],
        }
        if self.action == "warn":
            return Outcome(list(rows), facts=facts)
        kept = [row for row, findings in pairs if not findings]
        dropped = [
            Dropped(row.id, findings[0].reason, findings[0].evidence)
            for row, findings in pairs
            if findings
        ]
        return Outcome(kept, dropped, facts=facts)


def _attacks(found: Sequence[Sequence[Finding]]) -> list[Oddness]:
    """The rows with any finding, then those of each reason: in a set with many attacks of several
    kinds, the mark of one is the mark of few."""
    by_reason: dict[str, set[int]] = defaultdict(set)
    for place, findings in enumerate(found):
        for finding in findings:
            by_reason[finding.reason].add(place)
    kinds = {"attack": set[int]().union(*by_reason.values()), **by_reason}
    return [Oddness(name, frozenset(rows), **ATTACK) for name, rows in kinds.items()]


def _lesser(odd: Mapping[str, set[int]], rows: Sequence[Row]) -> list[Oddness]:
    """The rows that are odd in each lesser way and stand among others that are not."""
    sizes = Counter(row.schema_json or row.db_id for row in rows)
    groups = [
        key if sizes[key] >= MIN_DATABASE_ROWS else ""
        for key in (row.schema_json or row.db_id for row in rows)
    ]
    num_rows = Counter(groups)
    kinds = []
    for name, places in odd.items():
        num_odd = Counter(groups[place] for place in places)
        usual = {
            group for group, count in num_odd.items() if count > MAX_ODD_RATE * num_rows[group]
        }
        unusual = frozenset(place for place in places if groups[place] not in usual)
        kinds.append(Oddness(name, unusual, **LESSER))
    return kinds


def _as_record(row: Row, finding: Finding) -> dict[str, str]:
    return {"id": row.id, "reason": finding.reason, "evidence": finding.evidence}


def _evidence(trigger: Trigger, rows: list[Row]) -> dict[str, Any]:
    return {
        "kind": trigger.mark[0],
        "trigger": trigger.mark[1],
        "goes_with": trigger.oddness,
        "rows_with": trigger.num_with,
        "odd_rows_with": trigger.num_odd_with,
        "odd_rows": trigger.num_odd,
        "rows": trigger.num_rows,
        "p_value": trigger.p_value,
        "ids": [rows[place].id for place in trigger.rows],
    }


def scan(row: Row) -> list[Finding]:
    """What one row has about it that only an attack has, seen for itself."""
    try:
        dialect = resolve_dialect(row.dialect)
    except DialectError:
        return []  # refused by `Clean`
    seen = find_injections(clean_sql(row.sql, dialect)[0], dialect, row.schema)
    if asked := IN_QUESTION.search(row.question):
        seen.append(Finding("injection_in_question", asked[0][:80]))
    return seen


def odd_ways(row: Row) -> list[str]:
    """The lesser ways in which a row is odd, which alone mean nothing: its query holds a
    `comment`; it has an `unasked union`, a member that shares no word with the question; or it is
    `unrelated`: the whole query shares none, or reads no table of the schema."""
    try:
        dialect = resolve_dialect(row.dialect)
        sql, _ = clean_sql(row.sql, dialect)
        trees = parse_statements(sql, dialect, max_bytes=MAX_SQL_BYTES, max_tokens=MAX_TOKENS)
    except (DialectError, SqlglotError):
        return []
    asked = _stems(clean_question(row.question)[0])
    ways = ["comment"] if Lexed.of(sql, dialect).comments else []
    if any(not (_said(u.right) & asked) for tree in trees for u in tree.find_all(exp.Union)):
        ways.append("unasked union")
    if trees and not any(_said(tree) & asked and _reads(tree, row.schema) for tree in trees):
        ways.append("unrelated")
    return ways


def _reads(tree: exp.Expr, schema: Schema | None) -> bool:
    """True if a query reads a table of the schema, where one is known."""
    return schema is None or any(schema.find(table.name) for table in tree.find_all(exp.Table))


def _said(tree: exp.Expr) -> frozenset[str]:
    """The beginnings of the words in the names and values of a query."""
    texts = [
        identifier.name
        for identifier in tree.find_all(exp.Identifier)
        if identifier.arg_key != "table" and not isinstance(identifier.parent, exp.TableAlias)
    ]
    return _stems(" ".join([*texts, *(literal.name for literal in tree.find_all(exp.Literal))]))


def _stems(text: str) -> frozenset[str]:
    return frozenset(word.lower()[:STEM_CHARS] for word in PART.findall(text))
