"""Conditions on the year, month or day of a column as ranges of the column itself."""

from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta
from re import fullmatch

from sqlglot import exp

# Constants as first day and the day after the last, as SQL.
Span = tuple[exp.Expr, exp.Expr]

FORMATS = {"%Y": "year", "%Y-%m": "month", "%Y-%m-%d": "day"}
PREFIXES = {4: "year", 7: "month", 10: "day"}
SHAPES = {"year": r"[12]\d{3}", "month": r"[12]\d{3}-\d\d", "day": r"[12]\d{3}-\d\d-\d\d"}
# SQLite's modifiers that go to the first day of a period, and on to the next period.
STARTS = {"year": ("start of year",), "month": ("start of month",), "day": ()}


@dataclass(frozen=True, slots=True)
class Period:
    """The `unit` ("year", "month" or "day") in which `column` lies, read as a number or as text;
    `is_start`: as the period's first day."""

    column: exp.Column
    unit: str
    is_number: bool = False
    is_start: bool = False


def period_of(node: exp.Expr) -> Period | None:
    """The period that `node` reads from one column."""
    if isinstance(node, exp.Cast) and node.is_type("int"):
        inner = period_of(node.this)
        is_year = inner is not None and inner.unit == "year" and not inner.is_number
        return Period(inner.column, "year", is_number=True) if inner and is_year else None
    if isinstance(node, exp.Year | exp.Extract):
        unit = "year" if isinstance(node, exp.Year) else node.name.lower()
        column = _column(node.expression if isinstance(node, exp.Extract) else node.this)
        return Period(column, "year", is_number=True) if column and unit == "year" else None
    return _text_period(node)


def _text_period(node: exp.Expr) -> Period | None:
    if isinstance(node, exp.TimestampTrunc | exp.DateTrunc):
        unit = node.args["unit"].name.lower()
        column = _column(node.this)
        return Period(column, unit, is_start=True) if column and unit in SHAPES else None
    found = _unit(node)
    column = _column(node.this) if found else None
    return Period(column, found) if column and found else None


def _unit(node: exp.Expr) -> str | None:
    """The period that `node` cuts out of its first argument as text."""
    if isinstance(node, exp.TimeToStr):
        return FORMATS.get(node.args["format"].name)
    if isinstance(node, exp.Date | exp.TsOrDsToDate):
        return "day" if len(list(node.iter_expressions())) == 1 else None
    if isinstance(node, exp.Substring) and node.args["start"].name == "1":
        length = node.args.get("length")
        return PREFIXES.get(int(length.name)) if length is not None and length.is_int else None
    return "day" if isinstance(node, exp.Cast) and node.is_type("date") else None


def _column(node: exp.Expr) -> exp.Column | None:
    if isinstance(node, exp.TsOrDsToTimestamp | exp.TsOrDsToDate):
        node = node.this
    return node if isinstance(node, exp.Column) else None


def span(period: Period, constant: exp.Expr, dialect: str) -> Span | None:
    """The days that `constant`, compared with `period`, stands for; None where that isn't sure."""
    if isinstance(constant, exp.Literal):
        return _literal_span(period, constant)
    if dialect == "sqlite" and not period.is_number and not constant.find(exp.Column, exp.Query):
        return _relative_span(period, constant)
    return None


def _literal_span(period: Period, constant: exp.Literal) -> Span | None:
    text = constant.name
    shape = "day" if period.is_start else period.unit
    if constant.is_string == period.is_number or not fullmatch(SHAPES[shape], text):
        return None
    try:
        first = date.fromisoformat((text + "-01-01")[:10])
    except ValueError:
        return None
    start = first.replace(day=1) if period.unit != "day" else first
    start = start.replace(month=1) if period.unit == "year" else start
    if start != first:  # the first day of a period is never another day
        return None
    return _day(first), _day(_next(first, period.unit))


def _next(first: date, unit: str) -> date:
    days = {"year": 366 if monthrange(first.year, 2)[1] == 29 else 365, "day": 1}
    return first + timedelta(days=days.get(unit) or monthrange(first.year, first.month)[1])


def _day(day: date) -> exp.Expr:
    return exp.Literal.string(day.isoformat())


def _relative_span(period: Period, constant: exp.Expr) -> Span | None:
    """For `strftime('%Y', 'now', …)` and `date('now', …)` of SQLite."""
    arguments = _arguments(constant)
    if arguments is None or arguments[0] != period.unit:
        return None
    _, moment, *modifiers = arguments
    first = [moment, *modifiers, *STARTS[period.unit]]
    return _date(first), _date([*first, f"+1 {period.unit}"])


def _arguments(node: exp.Expr) -> list[str] | None:
    """The unit that a call reads from a literal moment, the moment and its modifiers."""
    name = node.name.upper() if isinstance(node, exp.Anonymous) else ""
    form, parts = "%Y-%m-%d", node.expressions
    if isinstance(node, exp.CurrentDate):
        parts = [exp.Literal.string("now")]
    elif isinstance(node, exp.Date):
        parts = [node.this]
    elif isinstance(node, exp.TimeToStr) and isinstance(node.this, exp.TsOrDsToTimestamp):
        form, parts = node.args["format"].name, [node.this.this]
    elif name == "STRFTIME" and parts:
        form, parts = parts[0].name, parts[1:]
    elif name != "DATE":
        return None
    is_literal = all(isinstance(part, exp.Literal) and part.is_string for part in parts)
    known = is_literal and parts and form in FORMATS
    return [FORMATS[form], *(part.name for part in parts)] if known else None


def _date(arguments: list[str]) -> exp.Expr:
    return exp.Anonymous(this="DATE", expressions=[exp.Literal.string(a) for a in arguments])
