"""Names that may not stand where they do, and what is said of them."""

import difflib
from dataclasses import dataclass

from eval.task.violation import Violation

MESSAGES = {
    "too_complex": "{name}",
    "denied_node": "RECURSIVE is not allowed in a query",
    "not_granted": "{name!r} is not granted to this caller",
    "out_of_range": "there is no column number {name}",
    "unequal_columns": "{name} columns where as many must stand",
    "unparsable": "{name} stands where it means nothing",
    # The words are SQLite's and sqlglot's: `eval.queries.diagnose` knows them.
    "repeated_table": "Alias already used: {name}",
}


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that may not stand where it does, with what would have been possible."""

    code: str
    name: str
    candidates: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None

    def violation(self) -> Violation:
        """The violation, with close names."""
        close = tuple(_did_you_mean(self.name, self.candidates))
        message = MESSAGES.get(self.code, "{kind} {name!r}").format(
            kind=self.code.replace("_", " "), name=self.name
        )
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        return Violation(self.code, message + hint, self.name, close, self.start, self.end)


def _did_you_mean(name: str, candidates: tuple[str, ...]) -> list[str]:
    spellings = {c.lower(): c for c in candidates if c != name}
    return [spellings[m] for m in difflib.get_close_matches(name.lower(), spellings, n=3)]
