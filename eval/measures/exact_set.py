"""Spider's exact set match: clauses compared as sets, values ignored.

Follows the published `evaluation.py` of Spider on sqlglot's tree, its rules for nested queries
included. Where that script can't parse a query (LEFT JOIN, functions, brackets around OR, INNER
JOIN, select aliases) it scores 0; here the clauses are compared all the same.
"""

from collections import Counter
from collections.abc import Iterable

from eval.measures.context import Context
from eval.queries.blocks import Block, Condition, read_block
from eval.task.schema import Schema


def exact_set_match(predicted: str, gold: str, context: Context) -> float | None:
    """1.0 if all clauses of both queries agree as sets, as Spider's exact set match.

    "Exact Matching" of Yu et al., "Spider" (EMNLP 2018), section 6, in the form of the official
    `evaluation.py`: literals are ignored, and so is DISTINCT outside nested queries; columns that
    a foreign key joins are one column; ON conditions count only by their keywords; aliases are
    resolved. None where the gold query can't be parsed.
    """
    question = context.question
    return match_sets(predicted, gold, question.schema, dialect=question.dialect)


def match_sets(
    predicted: str, gold: str, schema: Schema, *, dialect: str = "sqlite"
) -> float | None:
    """`exact_set_match` of two texts over `schema`."""
    expected = read_block(gold, schema, dialect)
    if expected is None:
        return None
    found = read_block(predicted, schema, dialect)
    return float(found is not None and _same(found, expected))


def _same(found: Block, gold: Block) -> bool:
    """Compare as the official script does: clause by clause, nested queries as they are."""
    return (
        _bag(found.select) == _bag(gold.select)
        and _bag(_conditions(found.where)) == _bag(_conditions(gold.where))
        and set(_words(found.where)) == set(_words(gold.where))
        and found.group == gold.group
        and (found.having == gold.having or not gold.group)
        and (found.order, found.direction) == (gold.order, gold.direction)
        and _keywords(found) == _keywords(gold)
        and _bag(found.tables) == _bag(gold.tables)
        and len(found.rest) == len(gold.rest)
        and all(_same(a, b) for (_, a), (_, b) in zip(found.rest, gold.rest, strict=True))
    )


def _bag(parts: Iterable[object]) -> Counter[object]:
    return Counter(parts)


def _conditions(parts: Iterable[Condition | str]) -> list[Condition]:
    return [part for part in parts if isinstance(part, Condition)]


def _words(parts: Iterable[Condition | str]) -> list[str]:
    return [part for part in parts if isinstance(part, str)]


def _keywords(block: Block) -> set[str]:
    parts = (*block.on, *block.where, *block.having)
    used = set(_words(parts)) & {"or"}
    for condition in _conditions(parts):
        used |= {"not"} if condition.is_negated else set()
        used |= {condition.operator} & {"in", "like"}
    used |= {word.removesuffix(" all") for word, _ in block.rest}
    clauses = {"where": block.where, "having": block.having, "limit": block.limit}
    return used | {name for name, clause in clauses.items() if clause}
