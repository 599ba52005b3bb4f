"""Goes on from the last good token: the text before the first wrong name is kept, the name is
chosen among those that may stand there, and the rest is decoded freely again.

Greedy decoding under the grammar keeps the good start too, token for token, so to begin it there
would only save time. What it can't see is the FROM clause further on, which says whose columns may
stand in the SELECT list. Here the free answer has already written it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from eval.task.dialect import parse_statements
from eval.task.prompt import extract_sql, quote
from eval.task.schema import Table
from eval.task.statement import MAX_SQL_BYTES, MAX_TOKENS, SQLGLOT_FAILURES
from server.decode.candidate import Asked, Candidate, judged
from server.decode.decoder import Decoder

MAX_ROUNDS = 4
# Violations in place of which another name may stand.
WRONG_NAMES = frozenset({"unknown_table", "unknown_column", "ambiguous_column", "not_granted"})
# One of the names, then whatever does not make it longer.
GRAMMAR = "start: NAME REST\nNAME: {names}\nREST: /(?s:(\\W.*)?)/\n"


@dataclass(frozen=True, slots=True)
class Hole:
    """A wrong name at `start` of the completion's text; the tokens before `num_kept` are good.

    `names` may stand in its place, each with the text between these tokens and `start`.
    """

    start: int
    num_kept: int
    names: tuple[str, ...]

    @property
    def grammar(self) -> str:
        literals = (json.dumps(name, ensure_ascii=False) for name in self.names)
        return GRAMMAR.format(names=" | ".join(literals))


async def resumed(first: Candidate, decoder: Decoder) -> Candidate | None:
    """`first` with its wrong names replaced one after the other; None where that is no way."""
    candidate, place = first, -1
    for _ in range(MAX_ROUNDS):
        hole = find_hole(candidate, decoder.asked)
        if hole is None or hole.start <= place:
            return None
        place = hole.start
        completion = await decoder.follow(candidate.completion, hole.num_kept, hole.grammar)
        if completion is None:
            return None
        candidate = judged(completion, decoder.asked, "continued")
        if candidate.valid:
            return candidate
    return None


def find_hole(candidate: Candidate, asked: Asked) -> Hole | None:
    """The first violation, if that is a wrong name whose place in the tokens is known."""
    found = min(candidate.check.violations, key=lambda v: -1 if v.start is None else v.start)
    if found.start is None or found.code not in WRONG_NAMES:
        return None
    completion = candidate.completion
    sql = extract_sql(completion.text)
    node = _node_at(sql, found.start, asked.written)
    if node is None:
        return None
    start = completion.text.find(sql) + _start(node)
    num_kept, kept = 0, ""
    for token in completion.tokens:
        if len(kept + token) > start:
            break
        num_kept, kept = num_kept + 1, kept + token
    lead = completion.text[len(kept) : start]
    names = tuple(dict.fromkeys(lead + name for name in _names(node, asked)))
    return Hole(start, num_kept, names) if names and completion.text.startswith(kept) else None


def _node_at(sql: str, start: int, dialect: str) -> exp.Expr | None:
    """The column or table whose name was written at `start`."""
    try:
        (tree,) = parse_statements(sql, dialect, max_bytes=MAX_SQL_BYTES, max_tokens=MAX_TOKENS)
    except (*SQLGLOT_FAILURES, ValueError):
        return None
    for node in tree.find_all(exp.Identifier):
        if node.meta.get("start", -1) <= start <= node.meta.get("end", -1):
            return node.find_ancestor(exp.Column, exp.Table)
    return None


def _start(node: exp.Expr) -> int:
    """Where the name was written, its qualifier included."""
    starts = (part.meta["start"] for part in node.find_all(exp.Identifier) if part.meta)
    return int(min(starts))


def _names(node: exp.Expr, asked: Asked) -> Iterator[str]:
    """The tables that may stand for a table; for a column those of the tables in scope."""
    if isinstance(node, exp.Table):
        yield from (quote(table.name) for table in asked.shown.tables)
        return
    in_scope = list(_in_scope(node, asked))
    columns = [name for _, table in in_scope for name in table.column_names]
    for alias, table in in_scope:
        for name in table.column_names:
            is_unique = columns.count(name) == 1
            if isinstance(node, exp.Column) and not node.table and is_unique:
                yield quote(name)
            else:
                yield f"{quote(alias)}.{quote(name)}"


def _in_scope(node: exp.Expr, asked: Asked) -> Iterator[tuple[str, Table]]:
    """The tables of the SELECT around `node` and of those around that, by alias as written."""
    select = node.find_ancestor(exp.Select)
    while select is not None:
        for source in select.find_all(exp.Table):
            table = asked.shown.find(source.name)
            if table and source.find_ancestor(exp.Select) is select:
                yield source.alias_or_name, table
        select = select.find_ancestor(exp.Select)
