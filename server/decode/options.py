"""The choices that a request or the server's settings make about decoding."""

from dataclasses import dataclass
from typing import Literal

Wanted = Literal["free", "constrained", "auto"]
RepairName = Literal["constrained", "continue", "agree", "execute", "none"]
# What won: the greedy answer, one under the grammar, one with other names, a sample.
Decoding = Literal["free", "constrained", "continued", "sampled"]
Agreement = Literal["execution", "text"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one question is to be decoded; more than one sample are put to the vote."""

    wanted: Wanted = "auto"
    repair: RepairName = "constrained"
    num_samples: int = 1


@dataclass(frozen=True, slots=True)
class Options:
    """`num_samples` at `temperature` for repairs that sample; `agree_by`: what a vote compares.

    `may_run`: queries that passed the check may run on the SQLite file of a registered database.
    """

    temperature: float = 0.7
    num_samples: int = 8
    agree_by: Agreement = "execution"
    may_run: bool = False
