"""Conditions that no index on their column can serve, and what they say of the column itself.

"Sargable": a search argument, `column operator constant` (Selinger et al., SIGMOD 1979).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from re import fullmatch

from sqlglot import exp

from eval.task.synthesis.profile import affinity
from eval.task.trees import Edit, edited
from server.suggest.atoms import MIRRORED, Atom, atoms
from server.suggest.periods import Period, period_of, span
from server.suggest.suggestion import Draft, Kind, Known

READERS = (exp.Func, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.DPipe, exp.Neg)
# Where LIKE tells upper from lower case, as = does.
CASE_SENSITIVE = frozenset({"postgres", "redshift", "duckdb", "oracle", "snowflake", "bigquery"})
# Where a day in quotes compares with a date whatever the settings.
TAKES_ISO_DAYS = frozenset(
    {"sqlite", "postgres", "redshift", "mysql", "tsql", "duckdb", "snowflake", "bigquery", "spark"}
)
UNITS = {4: "year", 7: "month", 10: "day"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with an atom, and the condition that may stand for it."""

    message: str
    instead: exp.Expr | None = None
    assumes: tuple[str, ...] = ()


def non_sargable(tree: exp.Query, known: Known) -> Iterator[Draft]:
    for atom in atoms(tree, known):
        if finding := _judge(atom, known.dialect):
            rewrite = None
            if finding.instead is not None:
                rewrite = edited(tree, atom.node, _becomes(finding.instead))
            yield Draft(Kind.NON_SARGABLE, finding.message, atom.node, rewrite, finding.assumes)


def _becomes(new: exp.Expr) -> Edit:
    def edit(twin: exp.Expr) -> None:
        is_inner = isinstance(twin.parent, exp.Condition) and not isinstance(twin.parent, exp.And)
        is_open = is_inner and isinstance(new, exp.And) and not isinstance(twin.parent, exp.Paren)
        twin.replace(exp.paren(new) if is_open else new)

    return edit


def _judge(atom: Atom, dialect: str) -> Finding | None:
    if atom.is_like:
        return _pattern(atom, dialect) if isinstance(atom.reader, exp.Column) else None
    if isinstance(atom.reader, exp.Column):
        return _cast(atom, dialect)
    if not isinstance(atom.reader, READERS):
        return None
    for attempt in (_period, _shifted, _prefix, _default):
        if found := attempt(atom, dialect):
            return found
    written = atom.reader.sql(dialect, comments=False)[:80]
    return Finding(
        f"An index on {atom.place} can't be used where {written} is compared; "
        "compare the column itself, or index the expression."
    )


def _pattern(atom: Atom, dialect: str) -> Finding | None:
    (pattern,) = atom.constants
    if not isinstance(pattern, exp.Literal):
        return None
    if pattern.name.startswith(("%", "_")):
        return Finding(
            f"A pattern that begins with a wildcard reads every row of {atom.table.name}: no "
            f"ordinary index on {atom.place} can serve it, a full-text or trigram index can."
        )
    shape = fullmatch(r"([12]\d{3}(?:-\d\d){0,2})-?%", pattern.name)
    if not shape or not atom.holds_days:
        return None
    period = Period(atom.column, UNITS[len(shape[1])])
    return _range(atom, period, (exp.Literal.string(shape[1]),), dialect)


def _cast(atom: Atom, dialect: str) -> Finding | None:
    """A column compared with a constant of another type."""
    literals = [c for c in atom.constants if isinstance(c, exp.Literal)]
    if len(literals) < len(atom.constants):
        return None
    kind = affinity(atom.type)
    if kind == "INT" and all(c.is_string and _is_whole(c.name) for c in literals):
        new = atom.with_constants([exp.Literal.number(c.name) for c in literals])
        return Finding(f"{atom.place} is a number and is compared with text.", new)
    if kind == "TEXT" and not any(c.is_string for c in literals):
        return _as_text(atom, literals, dialect)
    return None


def _as_text(atom: Atom, literals: list[exp.Literal], dialect: str) -> Finding:
    message = f"{atom.place} is text and is compared with a number"
    if dialect != "sqlite":
        return Finding(f"{message}: each row has to be converted, or the query fails.")
    if atom.operator is not exp.EQ:
        return Finding(
            f"{message}, as text: '10' comes before '9'. CAST it where numbers are meant."
        )
    new = atom.with_constants([exp.Literal.string(c.name) for c in literals])
    return Finding(f"{message}.", new)


def _is_whole(text: str) -> bool:
    return bool(fullmatch(r"0|[1-9]\d{0,14}", text))


def _period(atom: Atom, dialect: str) -> Finding | None:
    period = period_of(atom.reader)
    # Text that begins so may be anything; what a function of dates reads has to be a date.
    is_cut = isinstance(atom.reader, exp.Substring)
    if period is None or not (atom.holds_days if is_cut else atom.may_hold_days):
        return None
    return _range(atom, period, atom.constants, dialect)


def _range(
    atom: Atom, period: Period, constants: tuple[exp.Expr, ...], dialect: str
) -> Finding | None:
    """The range of the column that lies in the period of one constant, or between those of two."""
    spans = [s for c in constants if (s := span(period, c, dialect))]
    if dialect not in TAKES_ISO_DAYS or len(spans) < len(constants):
        return None
    low, after = spans[0][0], spans[-1][1]
    bounds: list[exp.Expr] = []
    if atom.operator not in (exp.LT, exp.LTE):
        start = after if atom.operator is exp.GT else low
        bounds.append(exp.GTE(this=atom.column.copy(), expression=start))
    if atom.operator not in (exp.GT, exp.GTE):
        end = low if atom.operator is exp.LT else after
        bounds.append(exp.LT(this=atom.column.copy(), expression=end))
    message = (
        f"The {period.unit} of {atom.place} is computed for each row; "
        "a range of the column itself can use an index."
    )
    iso = f"{atom.place} holds ISO dates (YYYY-MM-DD, with or without a time)"
    return Finding(message, exp.and_(*bounds), (iso,) if dialect == "sqlite" else ())


def _shifted(atom: Atom, _: str) -> Finding | None:
    """`x + 3 > 10` says `x > 7` of whole numbers, and `x * 3 > 10` says `x > 3`."""
    reader = atom.reader
    values = [_whole(constant) for constant in atom.constants]
    if affinity(atom.type) != "INT" or not isinstance(reader, exp.Add | exp.Sub | exp.Mul):
        return None
    is_left = isinstance(reader.left.unnest(), exp.Column)
    factor = _whole(reader.right if is_left else reader.left)
    is_plain = isinstance((reader.left if is_left else reader.right).unnest(), exp.Column)
    if factor is None or None in values or not is_plain:
        return None
    solved = _solve(atom, factor, [v for v in values if v is not None], is_left=is_left)
    if solved is None:
        return None
    message = f"Arithmetic on {atom.place} is done for each row; the constant can take it."
    return Finding(message, solved, (f"{atom.place} holds whole numbers only",))


def _solve(atom: Atom, factor: int, values: list[int], *, is_left: bool) -> exp.Expr | None:
    operator = atom.operator
    if isinstance(atom.reader, exp.Mul):
        if factor <= 0 or (operator is exp.EQ and values[0] % factor):
            return None
        # x * 3 >= 10 and x * 3 < 10 go by the next whole number up, > and <= by that below.
        first = -(-values[0] // factor) if _goes_up(operator) else values[0] // factor
        return atom.with_constants(_numbers([first, *(v // factor for v in values[1:])]))
    if isinstance(atom.reader, exp.Add):
        return atom.with_constants(_numbers([v - factor for v in values]))
    if is_left:
        return atom.with_constants(_numbers([v + factor for v in values]))
    if operator is exp.Between:
        low, high = _numbers([factor - v for v in reversed(values)])
        return exp.Between(this=atom.column.copy(), low=low, high=high)
    (number,) = _numbers([factor - values[0]])
    return MIRRORED[operator](this=atom.column.copy(), expression=number)


def _goes_up(operator: type[exp.Expr]) -> bool:
    return operator in (exp.GTE, exp.LT, exp.Between)


def _whole(node: exp.Expr) -> int | None:
    if isinstance(node, exp.Neg):
        inner = _whole(node.this)
        return None if inner is None else -inner
    is_whole = isinstance(node, exp.Literal) and not node.is_string and _is_whole(node.name)
    return int(node.name) if is_whole else None


def _numbers(values: list[int]) -> list[exp.Expr]:
    return [exp.Literal.number(value) for value in values]


def _prefix(atom: Atom, dialect: str) -> Finding | None:
    """`substr(a, 1, 3) = 'abc'` is a pattern that an index can serve."""
    reader, constant = atom.reader, atom.constants[0]
    if isinstance(reader, exp.Substring) and reader.args["start"].name == "1":
        length = reader.args.get("length")
    else:
        length = reader.expression if isinstance(reader, exp.Left) else None
    is_text = isinstance(constant, exp.Literal) and constant.is_string
    if length is None or atom.operator is not exp.EQ or not is_text:
        return None
    is_plain = fullmatch(r"[\w .,:-]+", constant.name) and "_" not in constant.name
    if affinity(atom.type) != "TEXT" or not is_plain or length.name != str(len(constant.name)):
        return None
    message = f"The first letters of {atom.place} are cut out for each row; a pattern finds them."
    if dialect == "sqlite":
        pattern = exp.Literal.string(f"{constant.name}*")
        return Finding(message, exp.Glob(this=atom.column.copy(), expression=pattern))
    if dialect not in CASE_SENSITIVE:
        return Finding(message)
    pattern = exp.Literal.string(f"{constant.name}%")
    return Finding(message, exp.Like(this=atom.column.copy(), expression=pattern))


def _default(atom: Atom, _: str) -> Finding | None:
    """`coalesce(x, 0) = 5` is met by no NULL, so it is `x = 5` where a row has to meet it."""
    reader, constant = atom.reader, atom.constants[0]
    if not isinstance(reader, exp.Coalesce) or atom.operator is not exp.EQ or not atom.is_conjunct:
        return None
    parts = [*reader.expressions, constant]
    is_literal = all(isinstance(part, exp.Literal) for part in parts) and len(parts) == 2
    if not is_literal or parts[0].is_string != parts[1].is_string or parts[0] == parts[1]:
        return None
    message = f"COALESCE hides {atom.place} from its index; NULL could not meet the condition."
    return Finding(message, atom.with_constants([constant.copy()]))
