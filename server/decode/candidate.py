"""What is asked of the engine for one question, and a completion with the verdict on its SQL."""

import math
from dataclasses import dataclass

import structlog

from eval.task.grants import Grants
from eval.task.prompt import extract_sql
from eval.task.schema import Schema
from eval.task.sql import SqlCheck, Violation, check_sql
from server.adapters.served import Served
from server.completions import Completion
from server.databases import Database
from server.decode.options import Decoding
from server.prompts import written_dialect

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Asked:
    """One question as the decoder sees it.

    Answers are checked against `schema` and `grants`, and come back in `dialect`. Of the schema
    only `readable` is granted to the asker, and of that `shown` fits into prompt and grammar.
    """

    served: Served
    prompt: str
    schema: Schema
    readable: Schema
    shown: Schema
    database: Database
    dialect: str
    grants: Grants | None
    max_tokens: int

    @property
    def written(self) -> str:
        """The dialect that the model writes."""
        return written_dialect(self.served)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completion and the check of its SQL.

    `masked_nats` is the sum over its tokens of masked minus own log-probability: minus the
    logarithm of the probability that the grammar's mask kept. 0 where nothing was masked.
    """

    completion: Completion
    check: SqlCheck
    decoding: Decoding
    masked_nats: float = 0.0

    @property
    def valid(self) -> bool:
        return self.check.valid

    @property
    def masked_mass(self) -> float:
        """The probability, in [0, 1], that the mask took from what the model would have written."""
        return -math.expm1(-self.masked_nats)


def judged(completion: Completion, asked: Asked, decoding: Decoding) -> Candidate:
    """The completion with the check of its SQL; one that was cut off is never valid."""
    text = extract_sql(completion.text)
    if completion.is_cut:
        message = f"the model had not finished after {len(completion.token_ids)} tokens"
        return Candidate(completion, SqlCheck(text, (Violation("truncated", message),)), decoding)
    return Candidate(completion, _checked(text, asked), decoding)


def _checked(text: str, asked: Asked) -> SqlCheck:
    try:
        return check_sql(text, asked.schema, asked.written, asked.dialect, grants=asked.grants)
    except Exception:  # a text that trips the check up is no valid query, and no fault of ours
        log.exception("check_failed", dialect=asked.dialect)
        return SqlCheck(text, (Violation("unparsable", "the check can't read this text"),))
