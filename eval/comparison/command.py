"""The `compare` command: two result files and gates in; tables, a record and a verdict out.

Knows nothing of the command line: it neither prints nor writes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from eval.comparison.compare import Comparison, compare, comparison_record
from eval.comparison.gates import VALUE, GateResult, check_gate, parse_gate
from eval.comparison.pairing import CompareError
from eval.record import HEADLINE, load_record
from eval.stats import Interval, Paired
from eval.task.figure import Figure, write_figure


@dataclass(frozen=True)
class Verdict:
    """A comparison and what its gates say."""

    comparison: Comparison
    gates: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """True where every gate holds, also where none was set."""
        return all(result.passed for result in self.gates)

    def record(self) -> dict[str, Any]:
        """`ComparisonRecord` with `gates` and `passed`, as `--output` holds it."""
        gates = [asdict(result) for result in self.gates]
        return {**comparison_record(self.comparison), "gates": gates, "passed": self.passed}

    def render(self) -> RenderableType:
        """The table of measures, the gates where there are any, and the notes."""
        parts: list[RenderableType] = [_measure_table(self.comparison)]
        if self.gates:
            parts.append(_gate_table(self.gates))
        return Group(*parts, *(Text(f"note: {note}") for note in self.comparison.notes))

    def summary(self) -> str:
        """One line: execution accuracy, what moved, how sure that is, and the gates."""
        found = self.comparison.measures[HEADLINE]
        tests = f"by database p{_p(found.p_clusters)}"
        if found.p_mcnemar is not None:
            tests = f"McNemar p{_p(found.p_mcnemar)}, {tests}"
        parts = [
            f"{HEADLINE} {_percent(found.a)} → {_percent(found.b)} % ({_points(found)} points)",
            f"fixed {found.fixed}, broke {found.broke} of {found.difference.n:,}; {tests}",
        ]
        if reduction := self.comparison.error_reduction:
            ends = f" {_ends(reduction.interval)}" if reduction.interval else ""
            parts.append(f"error reduction {_percent(reduction.value)} %{ends}")
        if self.gates:
            held = sum(result.passed for result in self.gates)
            parts.append(f"gates: {held} of {len(self.gates)} hold")
        return " · ".join(parts)


def compare_command(a: Path, b: Path, gates: Sequence[str] = ()) -> Verdict:
    """Compare the result files `a` (reference) and `b` (candidate) and check each gate.

    Gates are read first, so that a slip there is told before files are read.

    Raises:
        RecordError: a file can't be read or is no result.
        CompareError: the two can't be compared.
        GateError: a gate can't be checked.
    """
    parsed = [parse_gate(text) for text in gates]
    comparison = compare(load_record(a), load_record(b), names=(f"A ({a.name})", f"B ({b.name})"))
    return Verdict(comparison, tuple(check_gate(gate, comparison.measures) for gate in parsed))


def write_comparison_figure(comparison: Comparison, name: str) -> Path:
    """Write the error reduction in execution accuracy as the figure `name`: numbers only.

    Raises:
        CompareError: A makes no error, so that there is none to reduce.
    """
    reduction = comparison.error_reduction
    if reduction is None:
        raise CompareError("no figure: A makes no error that B could do without")
    record = comparison_record(comparison)
    found = comparison.measures[HEADLINE]
    return write_figure(
        Figure(
            name,
            value=reduction.value,
            unit=f"(B - A) / (1 - A) in {HEADLINE}",
            n=found.difference.n,
            interval=reduction.interval,
            notes=f"A {record['a']['model']} → B {record['b']['model']} on "
            f"{record['a']['data']['name']}; interval: databases resampled; "
            + "; ".join(record["notes"]),
            rows=[{"measure": key, **change} for key, change in record["measures"].items()],
        )
    )


def _measure_table(comparison: Comparison) -> Table:
    title = f"A {comparison.a['model']} → B {comparison.b['model']}, percent"
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("measure", no_wrap=True)
    for heading in ("A", "B", "B - A [95 %]", "fixed", "broke", "p McNemar", "p by database"):
        table.add_column(heading, justify="right")
    for name, found in comparison.measures.items():
        table.add_row(
            name,
            _percent(found.a),
            _percent(found.b),
            escape(_points(found)),
            str(found.fixed),
            str(found.broke),
            "" if found.p_mcnemar is None else _p(found.p_mcnemar).lstrip("="),
            _p(found.p_clusters).lstrip("="),
        )
    headline = comparison.measures[HEADLINE].difference
    table.caption = (
        f"{headline.n:,} items; intervals clustered by database ({headline.num_clusters})"
        if headline.is_clustered
        else f"{headline.n:,} items on one database: intervals take them as independent"
    )
    return table


def _gate_table(gates: Sequence[GateResult]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("gate", no_wrap=True)
    table.add_column("found", justify="right")
    table.add_column("verdict")
    for result in gates:
        unit = "%" if result.gate.subject == VALUE else "points"
        sign = "" if result.gate.subject == VALUE else "+"
        verdict = Text("holds", "green") if result.passed else Text("fails", "bold red")
        table.add_row(escape(result.gate.text), f"{result.found:{sign}.2f} {unit}", verdict)
    return table


def _points(found: Paired) -> str:
    difference = found.difference
    ends = f" {_ends(difference.interval, sign='+')}" if difference.interval else ""
    return f"{100 * difference.value:+.1f}{ends}"


def _ends(interval: Interval, *, sign: str = "") -> str:
    low, high = interval
    return f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"={p:.3f}"
