"""What may be asked of a grammar besides its schema and dialect."""

from dataclasses import dataclass
from typing import Literal

Names = Literal["qualified", "full"]
# (least, most): what the fields of the parameter hold (see `state.py`), and llguidance can bear.
BOUNDS = {
    "max_tokens": (64, 4096),
    "max_tables": (1, 6),
    "max_depth": (0, 2),
    "max_string": (17, 200),
}


class GrammarError(ValueError):
    """There is no grammar for a schema, dialect or option; the message says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """See `grammar_of`."""

    names: Names = "qualified"
    max_tokens: int = 256
    max_tables: int = 4
    max_depth: int = 2
    max_string: int = 40
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.names not in ("qualified", "full"):
            raise GrammarError(f"names: {self.names!r} is neither 'qualified' nor 'full'")
        for name, (least, most) in BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise GrammarError(f"{name}: must be from {least} to {most}")
