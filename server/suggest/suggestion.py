"""What may be said of a query that is valid: what it costs, and a form that costs less."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from sqlglot import exp

from eval.task.schema import Schema


class Kind(StrEnum):
    """What a suggestion is about; a closed set."""

    SELECT_STAR = "select_star"
    NON_SARGABLE = "non_sargable"
    MISSING_JOIN_CONDITION = "missing_join_condition"
    UNUSED_JOIN = "unused_join"
    DISTINCT_OVER_KEY = "distinct_over_key"
    COUNT_DISTINCT_KEY = "count_distinct_key"
    REDUNDANT_DISTINCT = "redundant_distinct"
    REDUNDANT_ORDER = "redundant_order"
    REDUNDANT_CONDITION = "redundant_condition"
    INDEX_HINT = "index_hint"


class Proof(StrEnum):
    """What is known of a rewrite; a closed set."""

    EQUIVALENT = "equivalent"
    UNPROVED = "unproved"
    CHANGES_RESULT = "changes_result"
    NO_REWRITE = "no_rewrite"


VERDICTS = {
    Proof.UNPROVED: "unproved",
    Proof.CHANGES_RESULT: "changes the result",
    Proof.NO_REWRITE: "no rewrite",
}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One suggestion; `clause` and `rewrite` (the whole query) are SQL of the query's dialect.

    `num_databases` generated databases gave the same rows for both queries where `proof` is
    "equivalent", as SQLite runs them; all of these databases have what the rewrite `assumes` of
    the data, so another database must have it too.
    """

    kind: Kind
    message: str
    clause: str
    rewrite: str | None = None
    proof: Proof = Proof.NO_REWRITE
    num_databases: int = 0
    assumes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The proof in words."""
        if self.proof is Proof.EQUIVALENT:
            given = ", given what it assumes" if self.assumes else ""
            return f"equivalent on {self.num_databases} generated databases{given}"
        return VERDICTS[self.proof]


@dataclass(frozen=True, slots=True)
class Draft:
    """What a rule found, before its rewrite is tried; `keeps_result`: the rewrite means to."""

    kind: Kind
    message: str
    clause: exp.Expr
    rewrite: exp.Expr | None = None
    assumes: tuple[str, ...] = ()
    keeps_result: bool = True


@dataclass(frozen=True, slots=True)
class Known:
    """What a rule may go by besides the query."""

    schema: Schema
    dialect: str


Rule = Callable[[exp.Query, Known], Iterator[Draft]]
