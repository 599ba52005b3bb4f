"""Writes a query as text in which what makes no difference is left out or put in order.

Every rule is sound: two queries with one text have the same answer. Knows which queries it may not
reorder from `eval.canonical.determinism`.
"""

from collections.abc import Iterator

from sqlglot import exp

from eval.canonical.determinism import aggregates, leaves_no_ties
from eval.canonical.expressions import ExpressionWriter, Place
from eval.canonical.labels import UnclearError, column_label, labellings
from eval.canonical.predicates import Clauses, normal_form, written
from eval.queries.clauses import Scope, joins, scope_of, sources

CONDITIONS = (exp.Where, exp.Having)
# Of labelling tables that occur twice: such queries, nested, multiply the ways.
MAX_TRIES = 64


class Writer(ExpressionWriter):
    """Writes a tree as text; `is_free` where rows, conditions and tables may be reordered.

    The role of a query is "top", "rows" (a FROM, the member of UNION ALL), "set" (duplicates do
    not matter), "exists" or "value".
    """

    def query(self, node: exp.Expr, outer: Scope | None, role: str) -> str:
        query = node.unnest()
        if isinstance(query, exp.SetOperation):
            return self.set_operation(query, outer, role)
        if not isinstance(query, exp.Select):
            raise UnclearError(query.key)
        return self.select(query, outer, role)

    def set_operation(self, node: exp.SetOperation, outer: Scope | None, role: str) -> str:
        is_distinct = bool(node.args.get("distinct"))
        inner = "set" if is_distinct else "rows"
        sides = [self.query(side, outer, inner) for side in (node.this, node.expression)]
        # Only at the top: what compares with its rows goes by the types of the left side.
        if self.is_free and role == "top" and not isinstance(node, exp.Except):
            sides.sort()
        keys = self.output_keys(node)
        order = [f"{place}{direction}" for place, direction in keys]
        is_total = len({place for place, _ in keys}) == len(node.selects)
        end = self.tail(node, order, role, is_total=is_total)
        return f"{node.key}{'' if is_distinct else ' all'}({', '.join(sides)}){end}"

    def output_keys(self, node: exp.SetOperation) -> list[tuple[int, str]]:
        """The ORDER BY of a set operation, whose keys are numbers or names of outputs."""
        names = [name.lower() for name in node.named_selects]
        keys = []
        for key in _keys(node):
            word = key.this.name.lower()
            if word.isdigit() and 0 < int(word) <= len(names):
                place = int(word) - 1
            elif _is_name(key.this) and names.count(word) == 1:
                place = names.index(word)
            else:
                raise UnclearError(f"ORDER BY {word}")
            keys.append((place, _direction(key)))
        return keys

    def tail(self, node: exp.Expr, order: list[str], role: str, *, is_total: bool) -> str:
        """ORDER BY and LIMIT, where they matter: at the top, and below with a LIMIT."""
        args = node.args
        limits = [self.generic(args[k], None) for k in ("limit", "offset", "fetch") if args.get(k)]
        if (limits or (order and role == "top")) and not is_total:
            self.depends_on_plan = True
        if not limits and role != "top" and self.is_free:
            return ""
        shown = list(dict.fromkeys(order))
        return (f" order {', '.join(shown)}" if shown else "") + "".join(f" {x}" for x in limits)

    def select(self, node: exp.Select, outer: Scope | None, role: str) -> str:
        scope = scope_of(node, self.schema, outer)
        aliases = [source.alias for source in scope.sources]
        if len(set(aliases)) < len(aliases):
            raise UnclearError("two sources of one name")
        is_fixed = not self.is_free or any(map(_is_fixed, joins(node)))
        texts = []
        for labels in labellings(scope, is_fixed=is_fixed):
            texts.append(self.labelled(node, scope.relabelled(labels), role, is_fixed=is_fixed))
            self.num_tries += 1
            if self.num_tries > MAX_TRIES:
                break
        return min(texts)

    def labelled(self, node: exp.Select, scope: Scope, role: str, *, is_fixed: bool) -> str:
        is_merging = any(join.args.get("using") or join.method for join in joins(node))
        if is_merging and any(join.side in ("RIGHT", "FULL") for join in joins(node)):
            raise UnclearError("a merged column that may be of either side")
        place = Place(scope, is_merging=is_merging)
        is_single = not node.args.get("group") and aggregates(node)
        if is_single or node.args.get("group"):
            self.grouped |= {source.label for source in scope.sources}
        items = tuple(text for item in node.expressions for text in self.items(item, place))
        aliases = tuple(
            (i.alias.lower(), self.text(i.this, place)) for i in node.selects if i.alias
        )
        place = Place(scope, items, aliases, is_merging)
        keys = self.group_keys(node, place)
        if keys is not None or is_single:
            self.check_bare(node, place, keys or [])
        return self.assemble(node, place, role, keys, is_single=is_single, is_fixed=is_fixed)

    def assemble(
        self,
        node: exp.Select,
        place: Place,
        role: str,
        keys: list[str] | None,
        *,
        is_single: bool,
        is_fixed: bool,
    ) -> str:
        tables, clauses = self.tables(node, place, is_fixed=is_fixed)
        where = self.conditions(node.args.get("where"), place, clauses)
        having = self.conditions(node.args.get("having"), place)
        is_distinct = bool(node.args.get("distinct"))
        items = place.items
        if self.is_free and keys is not None and not having and set(keys) == set(items):
            keys, is_distinct = None, True
        elif self.is_free and (is_single or (keys is not None and set(keys) <= set(items))):
            is_distinct = False
        order = [(self.key(key.this, place), _direction(key)) for key in _keys(node)]
        by = {text for text, _ in order}
        is_total = is_single or leaves_no_ties(by, set(items), keys, is_distinct=is_distinct)
        end = self.tail(node, ["".join(key) for key in order], role, is_total=is_total)
        if not end and role in ("set", "exists") and self.is_free:
            is_distinct = False
        if not end and role == "exists" and self.is_free and keys is None and not is_single:
            items = ()
        # One row, also of an empty table, may show in ORDER BY only.
        group = " single" * is_single if keys is None else f" group {keys}"
        return (
            f"select {'distinct ' if is_distinct else ''}{list(items)} from {tables}"
            f" where {where}{group} having {having}{end}"
        )

    def items(self, item: exp.Expr, place: Place) -> Iterator[str]:
        """The texts of a select item: of all columns where it is a star."""
        if not item.is_star or isinstance(item, exp.Count):
            yield self.text(item.unalias(), place)
            return
        if place.is_merging or item.args.get("except_") or item.args.get("replace"):
            raise UnclearError("a star over merged columns")
        table = item.text("table").lower()
        for source in place.scope.sources:
            if table in ("", source.alias):
                if not source.columns or "*" in source.columns:
                    raise UnclearError("a star over unknown columns")
                yield from (column_label(source, name) for name in source.columns)

    def group_keys(self, node: exp.Select, place: Place) -> list[str] | None:
        group = node.args.get("group")
        if group is None:
            return None
        found = dict.fromkeys(self.key(key, place, is_group=True) for key in group.expressions)
        return sorted(found) if self.is_free else list(found)

    def key(self, node: exp.Expr, place: Place, *, is_group: bool = False) -> str:
        """A key of ORDER BY, where an output's name comes first, or of GROUP BY."""
        node = node.unnest()
        if isinstance(node, exp.Literal) and node.is_int:
            number = int(node.name)
            if not 0 < number <= len(place.items):
                raise UnclearError(f"position {number}")
            return place.items[number - 1]
        if not is_group and _is_name(node):
            return place.of_alias(node.name) or self.text(node, place)
        return self.text(node, place)

    def tables(
        self, node: exp.Select, place: Place, *, is_fixed: bool
    ) -> tuple[list[str], list[exp.Expr]]:
        """The FROM as texts, and conditions of it that may as well stand in WHERE."""
        named = zip(sources(node), place.scope.sources, strict=True)
        texts = [f"{source.label}={self.table(item, place.scope)}" for item, source in named]
        if not is_fixed:
            return sorted(texts), [j.args["on"] for j in joins(node) if j.args.get("on")]
        start = 1 if node.args.get("from_") else 0
        for number, join in enumerate(joins(node), start):
            using = [name.name.lower() for name in join.args.get("using") or ()]
            on = self.conditions(join.args.get("on"), place)
            kind = (
                f"{join.method} {join.side} {'' if join.kind in ('INNER', 'OUTER') else join.kind}"
            )
            texts[number] = f"{kind} {texts[number]} {using} {on}"
        return texts, []

    def table(self, item: exp.Expr, scope: Scope) -> str:
        if isinstance(item, exp.Table):
            if self.schema.find(item.name) is None:
                raise UnclearError(f"table {item.name}")
            return item.name.lower()
        return self.query(item, scope.outer, "rows")

    def conditions(
        self, clause: exp.Expr | None, place: Place, more: list[exp.Expr] | None = None
    ) -> str:
        found = [clause.this if isinstance(clause, CONDITIONS) else clause] if clause else []
        found += more or []
        if not self.is_free:
            return " and ".join(self.text(node, place) for node in found)
        clauses: Clauses = frozenset()
        for node in found:
            clauses |= normal_form(node, lambda n: self.text(n, place))
        return written(clauses)

    def check_bare(self, node: exp.Select, place: Place, keys: list[str]) -> None:
        """Note a column beside aggregates that is no key: any row of its group may answer."""
        parts = [item.unalias() for item in node.expressions]
        parts += [key.this for key in _keys(node)]
        having = node.args.get("having")
        parts += [having.this] if having else []
        if any(self.is_bare(part, place, keys) for part in parts):
            self.depends_on_plan = True


def _keys(node: exp.Expr) -> list[exp.Expr]:
    order = node.args.get("order")
    return order.expressions if order else []


def _is_name(node: exp.Expr) -> bool:
    return isinstance(node, exp.Column) and not node.table


def _direction(key: exp.Expr) -> str:
    word = " desc" if key.args.get("desc") else ""
    return f"{word} nulls {'first' if key.args.get('nulls_first') else 'last'}"


def _is_fixed(join: exp.Join) -> bool:
    """True for what is not an inner join with a plain condition."""
    is_inner = not join.side and not join.method and join.kind in ("", "INNER", "CROSS")
    return not is_inner or bool(join.args.get("using"))
