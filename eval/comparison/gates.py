"""Gates: conditions on a comparison that a candidate must meet, as `execution_accuracy>=-1`.

Knows nothing of files or of how a comparison is shown.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eval.stats import Paired

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}
# What of a measure a gate looks at, in percent or percentage points.
CHANGE, LOW, HIGH, VALUE = "change", "low", "high", "value"
PATTERN = re.compile(
    r"\s*([A-Za-z]\w*)(?:\.(low|high|value))?\s*(>=|<=|>|<)\s*([+-]?[0-9]+(?:\.[0-9]+)?)\s*"
)
GRAMMAR = (
    "a gate is MEASURE[.low|.high|.value] with >=, >, <= or < and a number: "
    "'execution_accuracy>=-1' lets the score fall by one percentage point"
)
# Digits of a percentage that count: without, -7 points would be -7.000000000000001.
DIGITS = 9


class GateError(ValueError):
    """A gate that can't be checked; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Gate:
    """`subject` is CHANGE (B - A), LOW or HIGH (ends of its 95 % interval) or VALUE (of B)."""

    text: str
    measure: str
    subject: str
    operator: str
    number: float


@dataclass(frozen=True, slots=True)
class GateResult:
    """`found` is what the gate looked at, in percent or percentage points."""

    gate: Gate
    found: float
    passed: bool


def parse_gate(text: str) -> Gate:
    """Read `MEASURE[.low|.high|.value] OP NUMBER`, the number in percent or percentage points.

    Raises:
        GateError: it is none, or asks of a value to be above a share as of 0.4 percent.
    """
    match = PATTERN.fullmatch(text)
    if not match:
        raise GateError(f"gate {text!r}: {GRAMMAR}")
    measure, subject, comparison, digits = match.groups()
    number = float(digits)
    if subject == VALUE and comparison in (">", ">=") and 0 < number < 1:
        raise GateError(f"gate {text!r}: numbers are percent; write {number * 100:g} for {number}")
    return Gate(text.strip(), measure, subject or CHANGE, comparison, number)


def check_gate(gate: Gate, measures: Mapping[str, Paired]) -> GateResult:
    """Hold `gate` against the compared `measures`.

    Raises:
        GateError: the measure was not compared, or its change has no interval.
    """
    if gate.measure not in measures:
        known = ", ".join(sorted(measures))
        raise GateError(f"gate {gate.text!r}: no measure {gate.measure!r} compared; there: {known}")
    found = round(100 * _subject(gate, measures[gate.measure]), DIGITS)
    return GateResult(gate, found, OPERATORS[gate.operator](found, gate.number))


def _subject(gate: Gate, change: Paired) -> float:
    if gate.subject == VALUE:
        return change.b
    if gate.subject == CHANGE:
        return change.difference.value
    if change.difference.interval is None:
        raise GateError(f"gate {gate.text!r}: one item alone has no interval")
    low, high = change.difference.interval
    return low if gate.subject == LOW else high
