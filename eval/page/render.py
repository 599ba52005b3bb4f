"""The page: a result, and a comparison where one was made, as one HTML text.

A function of the result's JSON alone: the same record gives the same page. Knows no files but its
own template, style sheet and script.
"""

import base64
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.comparison.compare import ComparisonRecord
from eval.page import plots, text
from eval.page.examples import FACETS, options, payload
from eval.page.wording import explain_class, explain_flag, explain_measure
from eval.queries.shape import HARDNESS, SHAPES
from eval.record import HEADLINE, Bin, Group, Record, RiskPoint

FOLDER = Path(__file__).parent
ORDERS = {"hardness": HARDNESS, "shape": SHAPES}
JUDGING = ("python", "sqlglot")  # the packages that bear on a verdict
COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)


def render(record: Record, comparison: ComparisonRecord | None = None) -> str:
    """The whole page. Nothing in it reaches for the network, and no text of the record is run."""
    style, script = _asset("report.css") + _asset("examples.css"), _asset("report.js")
    classes = record["error_classes"].values()
    template = _environment().get_template("report.html")
    return template.render(
        record=record,
        comparison=comparison,
        style=style,
        script=script,
        policy=_policy(style, script),
        favicon=base64.b64encode((FOLDER / "favicon.svg").read_bytes()).decode(),
        headline=HEADLINE,
        facets=FACETS,
        options=options(record, comparison),
        payload=payload(record, comparison),
        num_wrong=sum(classes) or 1,
        most_errors=max(classes, default=1) or 1,
        reach=_reach(comparison),
        judged_with=_judged_with(record),
        nbsp=text.SPACE,
    )


def write_page(record: Record, path: Path, comparison: ComparisonRecord | None = None) -> None:
    """Write the page to `path` in one step."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(render(record, comparison), encoding="utf-8")
    draft.replace(path)


def _asset(name: str) -> Markup:
    return Markup((FOLDER / name).read_text(encoding="utf-8"))


def _policy(style: str, script: str) -> str:
    """Only this style sheet and this script, no network, and no text made into code."""
    return (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; "
        f"script-src {_digest(script)}; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": text.percent,
        "bare": text.bare,
        "points": text.points,
        "span": text.span,
        "p_value": text.p_value,
        "count": text.count,
        "label": text.label,
        "plain": text.plain,
        "shown": text.shown,
        "sentence": text.sentence,
        "day": text.day,
        "tone": plots.tone_of,
        "ranked": _ranked,
        "by_count": lambda counts: sorted(counts.items(), key=lambda pair: -pair[1]),
        "at_round_coverage": _at_round_coverage,
        "mean_confidence": _mean_confidence,
    }
    environment.globals |= {
        "interval_plot": plots.interval_plot,
        "change_plot": plots.change_plot,
        "share_bar": plots.share_bar,
        "reliability_diagram": plots.reliability_diagram,
        "risk_diagram": plots.risk_diagram,
        "explain_measure": explain_measure,
        "explain_flag": explain_flag,
        "explain_class": explain_class,
    }
    return environment


def _finalize(value: Any) -> Any:
    """Text of the record is made visible before it is escaped; our own markup stays as it is."""
    return text.shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _ranked(groups: Mapping[str, Group], kind: str) -> list[tuple[str, Group]]:
    """Hardness and shape in their own order, other groups with the worst first."""
    order = ORDERS.get(kind, ())
    places = {name: place for place, name in enumerate(order)}
    return sorted(
        groups.items(),
        key=lambda pair: (places.get(pair[0], len(order)), _value(pair[1]), -pair[1]["n"], pair[0]),
    )


def _at_round_coverage(curve: list[RiskPoint]) -> list[RiskPoint]:
    """The first point at each of some round shares answered, for a table."""
    rows: list[RiskPoint] = []
    for share in COVERAGES:
        point = next((p for p in curve if p["coverage"] >= share - 1e-9), None)
        if point and point not in rows:
            rows.append(point)
    return rows


def _mean_confidence(bins: list[Bin]) -> float | None:
    n = sum(held["n"] for held in bins)
    return sum(held["n"] * held["confidence"] for held in bins) / n if n else None


def _judged_with(record: Record) -> str:
    """The versions of the judging machine: of answers in a file, those that only judged them."""
    versions = record["versions"]
    if record["api"] == "predictions":
        versions = {name: held for name, held in versions.items() if name in JUDGING}
    return ", ".join(
        filter(None, (text.plain(versions), text.plain(record["judge"].get("engine"))))
    )


def _value(group: Group) -> float:
    found = group["measures"].get(HEADLINE)
    return found["value"] if found and text.is_number(found["value"]) else 2.0


def _reach(comparison: ComparisonRecord | None) -> float:
    """The end of the scale of differences, in tenths: what the widest interval needs."""
    if comparison is None:
        return 1.0
    changes = comparison["measures"].values()
    ends = [abs(end) for c in changes for end in (c["difference"], *(c["interval"] or []))]
    return min(1.0, math.ceil(10 * max(filter(text.is_number, ends), default=1.0)) / 10 or 0.1)
