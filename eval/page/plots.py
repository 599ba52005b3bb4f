"""Plots as SVG: positions in percent or in a fixed box, colours by class name from the style sheet.

Written by hand, not by a plotting library: the page's Content-Security-Policy allows no inline
style, and colours have to follow the reader's light or dark scheme. Knows shares, not records.
"""

from collections.abc import Sequence

from markupsafe import Markup

from eval.page.text import is_number, percent
from eval.record import Bin, RiskPoint

TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
BOX, LEFT, TOP = 280, 44, 32  # the square plot area of the two diagrams, and where it begins
COUNTS = 44  # height of the strip of bin counts
MIN_GAP = 24  # two counts closer than this would overlap


def interval_plot(
    value: float | None,
    interval: Sequence[float] | None,
    *,
    scale: tuple[float, float] = (0.0, 1.0),
    ticks: Sequence[float] = TICKS,
    tone: str = "",
) -> Markup:
    """A dot with its interval on `scale`. The numbers stand beside it, so readers aloud skip it."""
    marks = [_upright(_place(tick, scale), "tick") for tick in ticks]
    if interval and all(map(is_number, interval)):
        low, high = (_place(end, scale) for end in interval)
        marks.append(_level(low, high, "range"))
    if is_number(value):
        marks.append(_dot(_place(value, scale), "dot"))
    return _strip(marks, tone)


def change_plot(a: float, b: float) -> Markup:
    """From A, a ring, to B, a dot, on 0..1."""
    tone = "good" if b > a else "bad" if b < a else ""
    marks = [_upright(tick * 100, "tick") for tick in TICKS]
    marks += [_level(a * 100, b * 100, "range"), _dot(a * 100, "ring"), _dot(b * 100, "dot")]
    return _strip(marks, tone)


def share_bar(share: float) -> Markup:
    """A bar over `share` of the width."""
    return Markup(
        '<svg class="bar" aria-hidden="true">'
        '<rect class="fill" width="{:.2f}%" height="100%" rx="3"/></svg>'
    ).format(100 * share)


def tone_of(interval: Sequence[float] | None) -> str:
    """Whether a difference is told from zero: "good", "bad", or "" for neither."""
    if not interval:
        return ""
    low, high = interval
    return "good" if low > 0 else "bad" if high < 0 else ""


def reliability_diagram(bins: Sequence[Bin]) -> Markup:
    """Accuracy against confidence, each bin's distance from the diagonal, and its count below."""
    marks = [_axes("confidence", "share right"), _line((0, 0), (1, 1), "ideal")]
    for held in bins:
        at = held["confidence"]
        marks.append(_line((at, at), (at, held["accuracy"]), "gap"))
    marks += [_point(held["confidence"], held["accuracy"]) for held in bins]
    marks.append(_bin_counts(bins))
    name = f"Reliability diagram of {len(bins)} bins: share right against confidence"
    return _figure(marks, name, TOP + BOX + 44 + COUNTS)


def risk_diagram(curve: Sequence[RiskPoint]) -> Markup:
    """Share wrong among the answered, against the share answered; the surest come first."""
    top = max((point["risk"] for point in curve), default=0) or 1.0
    places = [(point["coverage"], point["risk"] / top) for point in curve]
    marks = [_axes("share answered, surest first", "share wrong of these", top=top)]
    marks.append(_path(places))
    marks += [_point(x, y) for x, y in places[-1:]]
    name = "Risk and coverage: share wrong among the answered, against the share answered"
    return _figure(marks, name, TOP + BOX + 44)


def _place(value: float, scale: tuple[float, float]) -> float:
    low, high = scale
    return 100 * (min(max(value, low), high) - low) / (high - low)


def _strip(marks: Sequence[Markup], tone: str) -> Markup:
    return Markup('<svg class="strip {}" aria-hidden="true">{}</svg>').format(
        tone, Markup("").join(marks)
    )


def _upright(at: float, name: str) -> Markup:
    return Markup('<line class="{1}" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="100%"/>').format(
        at, name
    )


def _level(low: float, high: float, name: str) -> Markup:
    return Markup('<line class="{2}" x1="{0:.2f}%" x2="{1:.2f}%" y1="50%" y2="50%"/>').format(
        low, high, name
    )


def _dot(at: float, name: str) -> Markup:
    return Markup('<circle class="{1}" cx="{0:.2f}%" cy="50%" r="4.5"/>').format(at, name)


def _x(share: float) -> float:
    return LEFT + BOX * share


def _y(share: float) -> float:
    return TOP + BOX * (1 - share)


def _line(start: tuple[float, float], end: tuple[float, float], name: str) -> Markup:
    (x1, y1), (x2, y2) = start, end
    return Markup('<line class="{4}" x1="{0:.1f}" y1="{1:.1f}" x2="{2:.1f}" y2="{3:.1f}"/>').format(
        _x(x1), _y(y1), _x(x2), _y(y2), name
    )


def _point(x: float, y: float) -> Markup:
    return Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(_x(x), _y(y))


def _path(points: Sequence[tuple[float, float]]) -> Markup:
    places = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return Markup('<polyline class="curve" points="{}"/>').format(places)


def _text(x: float, y: float, text: str, name: str) -> Markup:
    return Markup('<text class="{2}" x="{0:.1f}" y="{1:.1f}">{3}</text>').format(x, y, name, text)


def _axes(across: str, upward: str, *, top: float = 1.0) -> Markup:
    """Both axes with names and ticks; the upward one ends at `top`."""
    marks = [
        _text(LEFT + BOX / 2, TOP + BOX + 38, across, "axis middle"),
        _text(0, TOP - 18, upward, "axis"),
    ]
    digits = 0 if top >= 0.2 else 1
    for tick in (0.0, 0.5, 1.0):
        marks += [_line((0, tick), (1, tick), "tick"), _line((tick, 0), (tick, 1), "tick")]
        marks.append(_text(_x(tick), TOP + BOX + 18, percent(tick, 0), "axis middle"))
        marks.append(_text(LEFT - 6, _y(tick) + 4, percent(tick * top, digits), "axis end"))
    return Markup("").join(marks)


def _bin_counts(bins: Sequence[Bin]) -> Markup:
    """A bar per bin, as high as it is full; its number where there is room."""
    most = max((held["n"] for held in bins), default=1)
    floor, last, marks = TOP + BOX + 44 + COUNTS, float("-inf"), []
    for held in bins:
        x, height = _x(held["confidence"]), (COUNTS - 16) * held["n"] / most
        marks.append(
            Markup('<rect class="fill" x="{:.1f}" y="{:.1f}" width="6" height="{:.1f}"/>').format(
                x - 3, floor - height, height
            )
        )
        if x - last >= MIN_GAP:
            marks.append(_text(x, floor - height - 4, f"{held['n']:,}", "axis middle"))
            last = x
    return Markup("").join(marks)


def _figure(marks: Sequence[Markup], name: str, height: int) -> Markup:
    return Markup(
        '<svg class="diagram" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(LEFT + BOX + 20, height, name, Markup("").join(marks))
