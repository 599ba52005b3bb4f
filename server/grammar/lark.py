"""Writes the text of a Lark grammar as llguidance reads it; knows nothing of SQL.

Rules carry a 64-bit parameter, whose bits each rule hands on changed: `NAME::STEP` refers to a
rule, `%if CONDITION` says for which parameters an alternative stands. So the parameter is a small
memory of what the text holds so far. A rule that is empty under a condition (a guard) is that
condition by a short name: in a row all must hold. To read a grammar takes time by its length.
https://github.com/guidance-ai/llguidance/blob/main/docs/parametric.md
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

SAME = "_"
# llguidance 1.7 fails on an alternative that is nothing but a rule with a changed parameter, where
# that rule is being read itself: an empty rule before it makes two of the one.
EMPTY = "nil"
# An optimisation of llguidance drops what it knows to be true; this it does not know.
ALWAYS = "ge(_,0)"


def literal(text: str) -> str:
    """`text` as a string of the grammar, with nothing left that could end it."""
    return json.dumps(text)


def choice(texts: Iterable[str]) -> str:
    """Any one of `texts`, for the body of a terminal."""
    return "|".join(map(literal, texts))


def every(*conditions: str) -> str:
    """All of `conditions`; an empty one says nothing."""
    return _nested("and", [c for c in conditions if c])


def some(*conditions: str) -> str:
    """At least one of `conditions`, of which there must be one."""
    return _nested("or", list(conditions))


def _nested(operator: str, conditions: list[str]) -> str:
    """Nested evenly: llguidance walks a condition by recursion, and takes two at a time."""
    if len(conditions) < 2:
        return "".join(conditions)
    half = len(conditions) // 2
    left, right = (_nested(operator, part) for part in (conditions[:half], conditions[half:]))
    return f"{operator}({left},{right})"


@dataclass(frozen=True, slots=True)
class Field:
    """The bits of a rule's parameter from `start` to before `end`, read as an unsigned number."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"[{self.start}:{self.end}]"

    @property
    def mask(self) -> int:
        return self.value((1 << self.end - self.start) - 1)

    def value(self, number: int) -> int:
        """The parameter that has `number` here and nothing else."""
        return number << self.start

    def equals(self, number: int) -> str:
        return f"eq({self},{number})"

    def differs(self, number: int) -> str:
        return f"ne({self},{number})"

    def at_least(self, number: int) -> str:
        return f"ge({self},{number})"

    def at_most(self, number: int) -> str:
        return f"le({self},{number})"

    def down(self, amount: int = 1) -> str:
        """The step that takes `amount`, a power of two, off; only where it is at least that."""
        return f"decr([{self.start + amount.bit_length() - 1}:{self.end}])"

    @property
    def up(self) -> str:
        """The step that adds one, up to the greatest number that fits."""
        return f"incr({self})"


def put(parameter: int) -> str:
    """The step that sets the bits of `parameter`."""
    return f"bit_or({parameter})"


def keep(mask: int) -> str:
    """The step that clears all bits but those of `mask`."""
    return f"bit_and({mask})"


def row(*parts: str) -> str:
    """An alternative of `parts`, one after the other; empty ones are left out."""
    return " ".join(part for part in parts if part)


def ref(rule: str, step: str = SAME) -> str:
    """A reference to `rule` whose parameter is changed by `step`."""
    return f"{rule}::{step}"


def jump(rule: str, step: str) -> str:
    """An alternative, or its last part, that is `rule` under a changed parameter."""
    return f"{EMPTY} {rule}::{step}"


def when(parts: str, condition: str) -> str:
    """An alternative that stands where `condition` holds."""
    return f"{parts} %if {condition}" if condition else parts


@dataclass(slots=True)
class Rules:
    """The lines of a grammar, in the order in which they were added."""

    lines: list[str] = field(default_factory=list)

    def start(self, rule: str, parameter: int) -> None:
        """Texts of the grammar are those of `rule` with this parameter."""
        self.lines.append(f"start:{rule}::{parameter}")

    def terminal(self, name: str, body: str) -> None:
        """Add a terminal, or a rule without a parameter."""
        self.lines.append(f"{name}:{body}")

    def add(self, name: str, *alternatives: str) -> None:
        """Add a rule with a parameter; alternatives that are empty are left out."""
        found = [a for a in alternatives if a]
        if len(found) == 1 and "%if" not in found[0]:
            found = [f"{found[0]} %if {ALWAYS}"]
        self.lines.append(f"{name}::_:" + "\n|".join(found))

    def guard(self, name: str, condition: str) -> None:
        """Add a rule that is empty where `condition` holds, and is not there where it does not."""
        self.lines.append(f'{name}::_:""%if {condition}')

    def text(self) -> str:
        return "\n".join([*self.lines, f'{EMPTY}:""?', ""])
