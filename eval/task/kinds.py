"""What sort of value an expression gives: a whole number, a real, text, a truth; as far as known.

By declared types, read with SQLite's rule of affinity, which fits other engines' names of types
too. SQLite's columns hold any value, so that this is what is meant and not what is there.
"""

from typing import Literal

from sqlglot import exp

from eval.task.names import Names
from eval.task.schema import Schema

Kind = Literal["int", "real", "number", "text", "truth", "time", ""]

# Parts of a declared type, in SQLite's order (sqlite.org/datatype3.html, section 3.1).
AFFINITIES: tuple[tuple[str, Kind], ...] = (
    ("int", "int"),
    ("char", "text"),
    ("clob", "text"),
    ("text", "text"),
    ("string", "text"),
    ("real", "real"),
    ("floa", "real"),
    ("doub", "real"),
    ("dec", "number"),
    ("num", "number"),
    ("bool", "truth"),
    ("date", "time"),
    ("time", "time"),
)
WHOLE = (exp.Count, exp.Length, exp.RowNumber, exp.Rank, exp.DenseRank, exp.Ntile, exp.StrPosition)
REAL = (exp.Avg, exp.Sqrt, exp.Pow, exp.Ln, exp.Log, exp.Exp)
TEXT = (
    exp.Lower, exp.Upper, exp.Trim, exp.Substring, exp.Replace, exp.DPipe, exp.Concat,
    exp.GroupConcat, exp.Left, exp.Right,
)  # fmt: skip
TIME = (exp.CurrentDate, exp.CurrentTimestamp, exp.Date)
TRUTH = (exp.Predicate, exp.Connector, exp.Not, exp.Boolean)
# Their value is that of their argument.
SAME = (
    exp.Paren, exp.Alias, exp.Max, exp.Min, exp.Sum, exp.Abs, exp.Neg, exp.Window, exp.Distinct,
    exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue,
)  # fmt: skip
ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)
NUMERIC = frozenset({"int", "real", "number"})


FIXED: tuple[tuple[Kind, tuple[type[exp.Expr], ...]], ...] = (
    ("int", WHOLE), ("real", REAL), ("text", TEXT), ("time", TIME), ("truth", TRUTH),
)  # fmt: skip


class Kinds:
    """The kinds of the expressions of one tree, whose names are resolved."""

    def __init__(self, names: Names, schema: Schema) -> None:
        self.origins = names.origins
        self.schema = schema
        self.columns: dict[str, Kind] = {}
        self.sums: dict[int, tuple[exp.Expr, Kind]] = {}

    def forget(self) -> None:
        """The tree was changed: what was found of its parts may not hold."""
        self.sums.clear()

    def of(self, node: exp.Expr | None) -> Kind:
        """The kind of `node`; empty where it is not known."""
        if node is None:
            return ""
        if isinstance(node, exp.Column):
            return self._column(node)
        if isinstance(node, exp.Literal):
            return "text" if node.is_string else "int" if node.name.isdigit() else "real"
        if isinstance(node, exp.Cast):
            return declared(node.to.sql())
        if isinstance(node, SAME):
            return self.of(node.expressions[0] if isinstance(node, exp.Distinct) else node.this)
        if isinstance(node, ARITHMETIC):
            return self._arithmetic(node)
        fixed = (kind for kind, types in FIXED if isinstance(node, types))
        return next(fixed, "") or self._choice(node)

    def _column(self, column: exp.Expr) -> Kind:
        origin = self.origins.get(id(column))
        if origin is None:
            return ""
        if origin not in self.columns:
            self.columns[origin] = self._declared(origin)
        return self.columns[origin]

    def _declared(self, origin: str) -> Kind:
        for table in self.schema.tables:
            if origin.startswith(f"{table.name}."):
                for found in table.columns:
                    if f"{table.name}.{found.name}" == origin:
                        return declared(found.type)
        return ""

    def _arithmetic(self, node: exp.Expr) -> Kind:
        known = self.sums.get(id(node))
        if known is not None and known[0] is node:
            return known[1]
        kinds = {self.of(node.this), self.of(node.expression)}
        kind: Kind = "real" if "real" in kinds else "number" if kinds <= NUMERIC else ""
        kind = "int" if kinds == {"int"} else kind
        self.sums[id(node)] = node, kind
        return kind

    def _choice(self, node: exp.Expr) -> Kind:
        """CASE, COALESCE, IIF and subqueries: the kind that all of their results have."""
        results: list[exp.Expr | None] = []
        if isinstance(node, exp.Case):
            results = [part.args.get("true") for part in node.args["ifs"]]
            results += [node.args["default"]] if node.args.get("default") else []
        elif isinstance(node, exp.If):
            results = [part for part in (node.args.get("true"), node.args.get("false")) if part]
        elif isinstance(node, exp.Coalesce):
            results = [node.this, *node.expressions]
        elif isinstance(node, exp.Nullif):
            results = [node.this]
        elif isinstance(node, exp.Subquery | exp.Select) and len(node.selects) == 1:
            results = [node.selects[0]]
        kinds = {self.of(part) for part in results if not isinstance(part, exp.Null)}
        return kinds.pop() if len(kinds) == 1 else ""


def declared(text: str) -> Kind:
    """The kind of a column's declared type."""
    lower = text.lower()
    if "interval" in lower or "point" in lower:
        return ""
    return next((kind for part, kind in AFFINITIES if part in lower), "")
