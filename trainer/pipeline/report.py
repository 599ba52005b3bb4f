"""What each stage did, as text for a terminal and as a page.

A function of the reports alone: facts are shown by their form, whatever stage they are of. The page
is one file that reaches for no network and runs no script.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from trainer.pipeline.corpus import Corpus, DroppedRow, StageReport

FOLDER = Path(__file__).parent
BEFORE, AFTER = "_before", "_after"
MAX_ROWS, MAX_ITEMS = 50, 10  # of a table, of a list in a cell
PLOT_WIDTH, PLOT_HEIGHT = 640, 160

# What a browser or a terminal would not show, or would let reorder the text around it.
UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2000-\u200f"
    "\u2028-\u202f\u205f-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\uffff\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)


@dataclass(frozen=True)
class Report:
    """The report of one corpus: `print` it, `save` it as a page, or let a notebook show it."""

    corpus: Corpus

    def __str__(self) -> str:
        return report_text(self.corpus)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def save(self, path: Path | str) -> Path:
        """Write the page to `path` and return it."""
        write_report(self.corpus, Path(path))
        return Path(path)


def report_text(corpus: Corpus) -> str:
    """A table with a row for each stage, and under it one for each reason and change."""
    lines: list[tuple[str, ...]] = [("stage", "rows in", "left", "dropped", "seconds")]
    for stage in corpus.stages:
        seconds = "cached" if stage.cached else f"{stage.seconds:.1f}"
        counts = (stage.rows_in, stage.rows_out, stage.dropped.total())
        lines.append((stage.name, *(f"{num:,}" for num in counts), seconds))
        lines += [(f"  {name}", "", "", f"{n:,}", "") for name, n in stage.dropped.most_common()]
        lines += [(f"  + {name}", "", f"{n:,}", "", "") for name, n in stage.changed.most_common()]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    table = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    ]
    return shown("\n".join([*table, "", corpus.summary()]))


def write_report(corpus: Corpus, path: Path) -> None:
    """Write the page to `path` in one step."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(render(corpus), encoding="utf-8")
    draft.replace(path)


def render(corpus: Corpus) -> str:
    """The whole page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: shown(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[[Any], object]] = {
        "count": lambda number: f"{number:,}",
        "label": _label,
        "plain": _plain,
        "blocks": lambda facts: list(_blocks(facts)),
        "by_reason": _by_reason,
    }
    environment.filters |= filters
    return environment.get_template("report.html").render(corpus=corpus)


def shown(text: str) -> str:
    """`text` with every character that could not be seen written as its escape."""
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _label(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _plain(value: object) -> str:
    """A value for people, "–" for nothing."""
    match value:
        case None | "":
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4g}"
        case Mapping():
            return ", ".join(f"{name} {_plain(held)}" for name, held in value.items()) or "–"
        case list() | tuple():
            more = [f"{len(value) - MAX_ITEMS:,} more"] if len(value) > MAX_ITEMS else []
            return ", ".join([*map(_plain, value[:MAX_ITEMS]), *more]) or "–"
    return str(value)


def _by_reason(stage: StageReport) -> list[tuple[str, list[DroppedRow]]]:
    """The examples of dropped rows under their reasons, the commonest first."""
    shown_under: dict[str, list[DroppedRow]] = {}
    for row in stage.examples:
        shown_under.setdefault(row.reason, []).append(row)
    return sorted(shown_under.items(), key=lambda pair: -stage.dropped[pair[0]])


@dataclass(frozen=True)
class Block:
    """A fact in the form in which it is shown: `kind` is "value", "table" or "histogram".

    A table's first column names its rows, its value is the number of rows left out; `most` is the
    largest number in it, for bars.
    """

    kind: str
    title: str
    value: Any = None
    head: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    most: float = 0.0


def _blocks(facts: Mapping[str, Any]) -> Iterator[Block]:
    if "histogram" in facts:
        yield _histogram(**{name: facts[name] for name in ("histogram", "bin_width", "max_length")})
    for name, value in facts.items():
        whole = name.removesuffix(BEFORE)
        if name.endswith(BEFORE) and whole + AFTER in facts:
            yield _comparison(whole, value, facts[whole + AFTER])
        elif name in ("histogram", "bin_width") or _is_second(name, facts):
            continue
        elif _is_counts(value):
            rows = tuple(value.items())[:MAX_ROWS]
            yield Block("table", name, len(value) - len(rows), ("", "number"), rows)
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            head = tuple(dict.fromkeys(key for one in value for key in one))
            rows = tuple(tuple(one.get(key) for key in head) for one in value[:MAX_ROWS])
            yield Block("table", name, len(value) - len(rows), head, rows)
        else:
            yield Block("value", name, value)


def _is_second(name: str, facts: Mapping[str, Any]) -> bool:
    return name.endswith(AFTER) and name.removesuffix(AFTER) + BEFORE in facts


def _is_counts(value: object) -> bool:
    return isinstance(value, Mapping) and all(type(num) in (int, float) for num in value.values())


def _comparison(name: str, before: Mapping[str, int], after: Mapping[str, int]) -> Block:
    names = dict.fromkeys((*before, *after))
    rows = tuple((one, before.get(one, 0), after.get(one, 0)) for one in names)
    most = max((num for _, *nums in rows for num in nums), default=0)
    return Block("table", name, 0, ("", "before", "after"), rows, most)


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram in the units of its plot, and what it says."""

    x: float
    y: float
    width: float
    height: float
    tone: str
    title: str


def _histogram(histogram: Sequence[int], bin_width: int, max_length: int) -> Block:
    step = PLOT_WIDTH / len(histogram)
    most = max(histogram)
    bars = []
    for place, num in enumerate(histogram):
        start = place * bin_width
        height = PLOT_HEIGHT * num / most
        tone = "over" if start > max_length else "bar"
        title = f"{start} to {start + bin_width - 1} tokens: {num:,} rows"
        bars.append(Bar(place * step, PLOT_HEIGHT - height, step - 1, height, tone, title))
    limit = max_length / bin_width * step
    value = {
        "bars": bars,
        "width": PLOT_WIDTH,
        "height": PLOT_HEIGHT,
        "limit": limit if limit <= PLOT_WIDTH else None,
        "max_length": max_length,
        "end": len(histogram) * bin_width,
        "most": most,
    }
    return Block("histogram", "lengths", value)
