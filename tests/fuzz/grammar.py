"""Random queries over the sample database `shop`: about half of them plain, the others with one or
two hostile pieces somewhere. Every choice comes from a `random.Random`, so a seed writes the same
query again."""

from dataclasses import dataclass
from random import Random

from tests.fuzz.hostile_parts import EXPRESSIONS, FRAMES, SIGNS, SOURCES, parts

NUMBERS = {
    "users": ("id",), "categories": ("id", "parent_id"), "reviews": ("id", "rating", "user_id"),
    "products": ("id", "price", "stock", "category_id"), "orders": ("id", "user_id",
    "shipping_cost"),
    "order_items": ("order_id", "product_id", "quantity", "unit_price"),
}  # fmt: skip
TEXTS = {
    "users": ("name", "email", "city", "country"), "categories": ("name",), "reviews": ("comment",),
    "products": ("name",), "orders": ("status", "coupon_code"), "order_items": (),
}  # fmt: skip
DATES = {
    "users": ("signup_date",), "categories": (), "reviews": ("review_date",),
    "products": ("added_on",),
    "orders": ("order_date",), "order_items": (),
}  # fmt: skip
LITERALS = (
    "'x'",
    "'O''Brien'",
    "''",
    "'a;b'",
    "'--'",
    "'/*'",
    "'DROP TABLE users'",
    "'Zoë 😀'",
    "'%'",
)
NUMERIC = ("1", "0", "-3", "2.5", "1e3", "100")
HARM_SHARE = 0.5
# How likely a place takes a hostile piece, in a query that is to hold some.
PIECE_SHARE = 0.08


@dataclass(frozen=True, slots=True)
class From:
    """A FROM item: its alias with the numbers and texts that it offers."""

    alias: str
    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    dates: tuple[str, ...] = ()


class Writer:
    """Writes one query; `is_hostile` says whether pieces may be put in."""

    def __init__(self, rng: Random, dialect: str) -> None:
        self.rng = rng
        self.dialect = dialect
        self.is_hostile = rng.random() < HARM_SHARE
        self._aliases = 0

    def write(self) -> str:
        sql = self._statement()
        if self.is_hostile and self._chance(0.4):
            frame = self._pick(parts(FRAMES, self.dialect))
            sql = frame.replace("{}", sql)
        if self.is_hostile and self._chance(0.15):
            sql = self._scarred(sql)
        return sql

    def _pick(self, options: tuple[str, ...]) -> str:
        return self.rng.choice(options)

    def _chance(self, share: float) -> bool:
        return self.rng.random() < share

    def _takes_piece(self) -> bool:
        return self.is_hostile and self._chance(PIECE_SHARE)

    def _alias(self) -> str:
        self._aliases += 1
        return f"t{self._aliases}"

    def _scarred(self, sql: str) -> str:
        words = sql.split(" ")
        words.insert(self.rng.randrange(len(words) + 1), self._pick(SIGNS))
        return " ".join(words)

    def _statement(self) -> str:
        kind = self.rng.randrange(6)
        if kind == 0:
            word = self._pick(("UNION", "UNION ALL", "INTERSECT", "EXCEPT"))
            return f"{self._single(1)} {word} {self._single(1)}"
        if kind == 1:
            name = f"c{self.rng.randrange(3)}"
            body = self._select(1, outputs=("n", "x"))
            return f"WITH {name} AS ({body}) SELECT {name}.n, x FROM {name}"
        if kind == 2:
            top = self.rng.randrange(2, 9)
            return (
                "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL "
                f"SELECT n + {self._pick(NUMERIC[:1])} FROM r WHERE n < {top}) SELECT n FROM r"
            )
        return self._select(2)

    def _single(self, depth: int) -> str:
        """A query with one column, a text."""
        table, source = self._table()
        column = self._text([source], depth)
        return f"SELECT {column} FROM {table}{self._where([source], depth)}"

    def _select(self, depth: int, outputs: tuple[str, ...] = ()) -> str:
        tables, sources = self._from(depth)
        if not outputs and self._chance(0.3):
            return self._grouped(tables, sources, depth)
        if outputs:
            shown = f"{self._number(sources, depth)} AS {outputs[0]}, "
            shown += f"{self._text(sources, depth)} AS {outputs[1]}"
        elif self._chance(0.15):
            shown = self._pick(("*", f"{sources[0].alias}.*"))
        else:
            count = self.rng.randrange(1, 4)
            shown = ", ".join(self._value(sources, depth) for _ in range(count))
        distinct = "DISTINCT " if self._chance(0.1) else ""
        order = (
            f" ORDER BY {self._number(sources, 0)}" if not distinct and self._chance(0.3) else ""
        )
        limit = f" LIMIT {self.rng.randrange(20)}" if self._chance(0.3) else ""
        return f"SELECT {distinct}{shown} FROM {tables}{self._where(sources, depth)}{order}{limit}"

    def _grouped(self, tables: str, sources: list[From], depth: int) -> str:
        key = self._text(sources, 0) if self._chance(0.5) else self._number(sources, 0)
        having = f" HAVING COUNT(*) > {self.rng.randrange(3)}" if self._chance(0.4) else ""
        return (
            f"SELECT {key}, {self._aggregate(sources, depth)} FROM {tables}"
            f"{self._where(sources, depth)} GROUP BY {key}{having}"
        )

    def _from(self, depth: int) -> tuple[str, list[From]]:
        text, first = self._source(depth)
        sources = [first]
        for _ in range(self.rng.randrange(3) if depth else 0):
            table, source = self._source(0)
            join = self._pick(("JOIN", "LEFT JOIN", "INNER JOIN", "CROSS JOIN"))
            sources.append(source)
            on = f" ON {self._number(sources[:1], 0)} = {self._number([source], 0)}"
            text += f" {join} {table}{'' if join == 'CROSS JOIN' else on}"
        return text, sources

    def _source(self, depth: int) -> tuple[str, From]:
        if depth and self._chance(0.2):
            alias = self._alias()
            body = self._select(depth - 1, outputs=("n", "x"))
            return f"({body}) AS {alias}", From(alias, ("n",), ("x",))
        return self._table()

    def _table(self) -> tuple[str, From]:
        name, alias = self._pick(tuple(NUMBERS)), self._alias()
        source = From(alias, NUMBERS[name], TEXTS[name], DATES[name])
        if self._takes_piece():
            return self._pick(parts(SOURCES, self.dialect)), source
        return f"{name} AS {alias}", source

    def _where(self, sources: list[From], depth: int) -> str:
        return f" WHERE {self._condition(sources, depth)}" if self._chance(0.5) else ""

    def _condition(self, sources: list[From], depth: int) -> str:
        number, text = self._number(sources, depth), self._text(sources, depth)
        comparison = self._pick(("=", "<", ">=", "<>"))
        inner = self._single(depth - 1) if depth else f"SELECT {text}"
        kinds = (
            f"{number} {comparison} {self._number(sources, 0)}",
            f"{text} LIKE {self._pick(LITERALS)}",
            f"{text} IN ({self._pick(LITERALS)}, {self._pick(LITERALS)})",
            f"{text} IS NOT NULL",
            f"{number} BETWEEN {self._pick(NUMERIC)} AND {self._pick(NUMERIC)}",
            f"{text} IN ({inner})",
            f"EXISTS ({inner})",
            f"NOT ({number} > 1 OR {text} = {self._pick(LITERALS)})",
        )
        return self._pick(kinds)

    def _value(self, sources: list[From], depth: int) -> str:
        kind = self.rng.randrange(8)
        if kind < 3:
            return self._text(sources, depth)
        dates = [f"{s.alias}.{c}" for s in sources for c in s.dates]
        if kind == 3 and dates:
            return self._pick(tuple(dates))
        if kind == 4:
            order = self._number(sources, 0)
            return f"ROW_NUMBER() OVER (PARTITION BY {self._text(sources, 0)} ORDER BY {order})"
        return self._number(sources, depth)

    def _number(self, sources: list[From], depth: int) -> str:
        if self._takes_piece():
            return self._pick(parts(EXPRESSIONS, self.dialect))
        column = self._column(sources, "numbers") or self._pick(NUMERIC)
        if not depth:
            return column
        kinds = (
            column, column, f"{column} * {self._pick(NUMERIC)}", f"ABS({column})",
            f"COALESCE({column}, 0)", f"CASE WHEN {column} > 1 THEN 1 ELSE 0 END",
            f"(SELECT COUNT(*) FROM {self._table()[0]})", f"LENGTH({self._text(sources, 0)})",
            f"CAST({column} AS {'SIGNED' if self.dialect == 'mysql' else 'INTEGER'})",
        )  # fmt: skip
        return self._pick(kinds)

    def _text(self, sources: list[From], depth: int) -> str:
        if self._takes_piece():
            return self._pick(parts(EXPRESSIONS, self.dialect))
        column = self._column(sources, "texts") or self._pick(LITERALS)
        if not depth:
            return column
        kinds = (
            column, column, f"UPPER({column})", f"LOWER({column})", self._pick(LITERALS),
            f"COALESCE({column}, {self._pick(LITERALS)})", f"TRIM({column})",
            f"REPLACE({column}, 'a', {self._pick(LITERALS)})", f"SUBSTR({column}, 1, 2)",
            f"CASE WHEN {column} = 'x' THEN 'y' ELSE {column} END",
        )  # fmt: skip
        return self._pick(kinds)

    def _column(self, sources: list[From], kind: str) -> str:
        found = [f"{s.alias}.{c}" for s in sources for c in getattr(s, kind)]
        return self._pick(tuple(found)) if found else ""

    def _aggregate(self, sources: list[From], depth: int) -> str:
        number = self._number(sources, depth)
        kinds = (
            "COUNT(*)", f"COUNT(DISTINCT {self._text(sources, 0)})", f"SUM({number})",
            f"MIN({number})", f"MAX({self._text(sources, 0)})", f"AVG({number})",
        )  # fmt: skip
        return self._pick(kinds)


def write_query(rng: Random, dialect: str) -> str:
    """One query in `dialect`, hostile or not."""
    return Writer(rng, dialect).write()


def mutate(rng: Random, statements: tuple[str, ...]) -> str:
    """Two of `statements` cut at white space and joined, or one with a sign somewhere."""
    first, second = (rng.choice(statements).split(" ") for _ in range(2))
    start, end = rng.randrange(len(first) + 1), rng.randrange(len(second) + 1)
    words = [*first[:start], *second[end:]] if rng.random() < 0.6 else first
    if rng.random() < 0.6:
        words.insert(rng.randrange(len(words) + 1), rng.choice(SIGNS))
    return " ".join(words)
