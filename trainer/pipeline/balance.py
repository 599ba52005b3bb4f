"""Balance: rare shapes of query more often, common ones less, and no database above its share.

A shape says how many tables a query joins, whether it nests, aggregates or groups, and whether it
is a set operation. Looks at SQL and database ids only: knows no schema and no question.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, repeat
from typing import Any

from sqlglot import exp

from eval.task.dialect import DialectError, parse_statements
from eval.task.statement import MAX_SQL_BYTES, MAX_TOKENS, SQLGLOT_FAILURES
from trainer.pipeline.corpus import Ids
from trainer.pipeline.row import Dropped, Outcome, Row, Tick

MAX_COPIES = 3
UNREAD = "not read"
# Keeps a sum of weights below the whole number that it must not pass, however floats round.
MARGIN = 1e-6
NUM_SHOWN = 10  # of the largest databases, in the report


@dataclass(frozen=True)
class Balance:
    """A shape with n of all N rows comes to have a share in proportion to n ** (1 - strength):
    0 leaves all as it is, 1 gives every shape the same. The number of rows stays about N.

    That is how multilingual models weight their languages (Conneau et al. 2020, "Unsupervised
    Cross-lingual Representation Learning at Scale", section 3.1). No row comes more than
    `MAX_COPIES` times; what a rare shape can't fill, the others share. `max_per_database` thins
    what is above it, 0 is no limit.

    Raises:
        ValueError: an option is out of its range.
    """

    strength: float = 0.5
    max_per_database: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"balance: strength must be between 0 and 1, is {self.strength}")
        if self.max_per_database < 0:
            raise ValueError("balance: max_per_database must not be negative; 0 is no limit")

    @property
    def name(self) -> str:
        return "balance"

    @property
    def options(self) -> Mapping[str, Any]:
        return asdict(self)

    def __call__(self, rows: list[Row], tick: Tick) -> Outcome:
        shapes = [_ticked(shape(row.sql, row.dialect), tick) for row in rows]
        copies = self.copies(rows, shapes)
        outcome = Outcome([])
        ids = Ids("#", {row.id for row in rows})
        for row, kind, num in zip(rows, shapes, copies, strict=True):
            outcome.rows += _copies_of(row, num, ids)
            if not num:
                outcome.dropped.append(Dropped(row.id, "thinned", kind))
            elif num > 1:
                outcome.changed["repeated"] += num - 1
        made = chain.from_iterable(map(repeat, shapes, copies))
        before, after = (Counter(row.db_id for row in held) for held in (rows, outcome.rows))
        outcome.facts = {
            **_compared("shapes", Counter(shapes), Counter(made), len(shapes)),
            **_compared("largest_databases", before, after, NUM_SHOWN),
        }
        return outcome

    def copies(self, rows: Sequence[Row], shapes: Sequence[str]) -> list[int]:
        """How often each row comes, by systematic sampling of its weight.

        Rows of one database and shape lie together, in random order, and a copy is taken at every
        whole step of the summed weights: each such group gets its due but for one row.
        """
        weights = self._weights(rows, shapes)
        draws = [random.Random(f"{self.seed}:{row.id}:balance").random() for row in rows]
        copies = [0] * len(rows)
        reached = random.Random(f"{self.seed}::balance").random()
        for i in sorted(range(len(rows)), key=lambda i: (rows[i].db_id, shapes[i], draws[i])):
            before, reached = reached, reached + weights[i]
            copies[i] = min(MAX_COPIES, math.floor(reached) - math.floor(before))
        return copies

    def _weights(self, rows: Sequence[Row], shapes: Sequence[str]) -> list[float]:
        """The number of copies to be expected of each row."""
        databases = [row.db_id for row in rows]
        shares = _limited([1.0] * len(rows), databases, self.max_per_database)
        sums = _sums(shares, shapes)
        targets = _targets(sums, self.strength)
        weights = [w * targets[kind] / sums[kind] for w, kind in zip(shares, shapes, strict=True)]
        return _limited(weights, databases, self.max_per_database)


def _ticked(kind: str, tick: Tick) -> str:
    tick(1)
    return kind


def _copies_of(row: Row, num: int, ids: Ids) -> Iterator[Row]:
    """`row` itself, then copies with ids of their own: `num` in all."""
    if num:
        yield row
    made_by = f"{row.made_by},repeat".lstrip(",")
    for _ in range(num - 1):
        own_id = ids.own(row.id)
        yield row.with_(id=own_id, origin=row.origin or row.id, made_by=made_by)


def _sums(weights: Sequence[float], groups: Sequence[str]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for weight, group in zip(weights, groups, strict=True):
        sums[group] += weight
    return sums


def _limited(weights: Sequence[float], groups: Sequence[str], limit: int) -> list[float]:
    """`weights`, scaled down in each group whose sum is above `limit` (0: none is)."""
    sums = _sums(weights, groups) if limit else {}
    scales = {group: min(1.0, (limit - MARGIN) / total) for group, total in sums.items()}
    return [weight * scales.get(group, 1.0) for weight, group in zip(weights, groups, strict=True)]


def _targets(sums: Mapping[str, float], strength: float) -> dict[str, float]:
    """What each shape's weights are to add up to: together as much as before."""
    capped: dict[str, float] = {}
    while True:
        free = {kind: n ** (1 - strength) for kind, n in sums.items() if kind not in capped}
        # Exact: Python 3.12 rounds `sum` otherwise than 3.11.
        left = math.fsum(sums.values()) - math.fsum(capped.values())
        scale = left / (math.fsum(free.values()) or 1)
        wanted = {kind: scale * share for kind, share in free.items()}
        over = {kind: MAX_COPIES * sums[kind] for kind in free}
        over = {kind: most for kind, most in over.items() if wanted[kind] > most}
        if not over:
            return wanted | capped
        capped |= over


def _compared(
    what: str, before: Counter[str], after: Counter[str], most: int
) -> dict[str, dict[str, int]]:
    """Both counts of the commonest names of either, those of `before` first; ties by name."""

    def commonest(counts: Counter[str]) -> list[str]:
        return sorted(counts, key=lambda name: (-counts[name], name))[:most]

    names = dict.fromkeys(commonest(before) + commonest(after))
    return {
        f"{what}_before": {name: before[name] for name in names},
        f"{what}_after": {name: after[name] for name in names},
    }


def shape(sql: str, dialect: str = "sqlite") -> str:
    """The shape of a query in words, as "1 join, grouped"; `UNREAD` where it can't be parsed."""
    limits = {"max_bytes": MAX_SQL_BYTES, "max_tokens": MAX_TOKENS}
    try:
        (tree,) = parse_statements(sql, dialect, **limits)
        return ", ".join(_parts(tree))
    except (*SQLGLOT_FAILURES, DialectError):
        return UNREAD


def _parts(tree: exp.Expr) -> Iterator[str]:
    selects = list(tree.find_all(exp.Select))
    num_joins = max((len(select.args.get("joins") or ()) for select in selects), default=0)
    yield ("no join", "1 join", "2+ joins")[min(num_joins, 2)]
    if tree.find(exp.Group):
        yield "grouped"
    elif tree.find(exp.AggFunc):
        yield "aggregated"
    if len(selects) > _num_members(tree):
        yield "nested"
    if tree.find(exp.SetOperation):
        yield "set operation"


def _num_members(tree: exp.Expr) -> int:
    """The queries that the outermost set operation is made of: 1 where it is a plain query."""
    waiting: list[exp.Expr] = [tree]
    num = 0
    while waiting:
        query = waiting.pop().unnest()
        if isinstance(query, exp.SetOperation):
            waiting += [query.left, query.right]
        else:
            num += 1
    return num
