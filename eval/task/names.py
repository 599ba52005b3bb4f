"""Resolves the tables and columns of a query against a schema, SELECT by SELECT.

sqlglot's own scopes follow no engine where it matters to a guard: they take a name for a CTE though
its quotes make it another, and `qualify` accepts an unknown table and is super-linear. This walk is
linear in the query. What a name may mean is in `scope`, FROM in `from_items`.
"""

from sqlglot import exp

from eval.task.columns import Names, alias_of, is_named, named_sources, written
from eval.task.forms import holds_items
from eval.task.from_items import FromReader
from eval.task.grants import Grants
from eval.task.joins import MAX_SHOWN
from eval.task.schema import Schema
from eval.task.scope import (
    ROW_IDS,
    SAYS_RECURSIVE,
    Chain,
    Cte,
    Ctes,
    Level,
    Output,
    Outputs,
    lower,
)
from eval.task.unknown import Unknown

__all__ = ["ROW_IDS", "Names", "resolve_names"]


def resolve_names(
    tree: exp.Expr, schema: Schema, dialect: str = "sqlite", grants: Grants | None = None
) -> Names:
    """Resolve every table and column of `tree` (a query) against `schema`, as far as `grants`
    allow; `None` allows all."""
    resolver = _Resolver(schema, dialect, grants, tree)
    resolver.query(tree, {}, ())
    firsts: dict[tuple[str, str], Unknown] = {}
    for unknown in resolver.names.unknown:
        firsts.setdefault((unknown.code, unknown.name), unknown)
    resolver.names.unknown = list(firsts.values())
    return resolver.names


class _Resolver(FromReader):
    """Walks the tree from the outside in. `outer` are the enclosing SELECTs, nearest first."""

    def query(self, node: exp.Expr, ctes: Ctes, outer: Chain) -> Outputs | None:
        """Resolve a query; return the columns that it puts out, None where they can't be known."""
        if isinstance(node, exp.SetOperation):
            return self.set_operation(node, ctes, outer)
        if isinstance(node, exp.Select):
            return self.select(node, ctes, outer)
        if isinstance(node, exp.Subquery) and not holds_items(node) and not node.args.get("joins"):
            return self.bracketed(node, ctes, outer)
        if isinstance(node, exp.Values):
            return self.values(node, ctes, outer)
        self.report("unsupported_source", written(node), node)
        return None

    def bracketed(self, node: exp.Expr, ctes: Ctes, outer: Chain) -> Outputs | None:
        outputs = self.query(node.this, self.with_(node, ctes, outer), outer)
        self.tail(node, outputs, [node.this])
        return outputs

    def with_(self, query: exp.Expr, ctes: Ctes, outer: Chain) -> Ctes:
        """`ctes` with those that `query` defines."""
        clause = query.args.get("with_")
        if clause is None:
            return ctes
        found, own = dict(ctes), set()
        for number, cte in enumerate(clause.expressions):
            name, key = cte.args["alias"].this, lower(cte.alias)
            if key in own:
                self.report("repeated_table", cte.alias, name)
            own.add(key)
            inside = found | self.open_ctes(clause.expressions[number:])
            outputs = self.query(cte.this, inside, outer)
            found[key] = Cte(name, self.renamed(outputs, cte.args["alias"]))
        return found

    def open_ctes(self, ctes: list[exp.Expr]) -> Ctes:
        """Of a CTE and those behind it, the ones that it may read. SQLite lets it read all."""
        if self.dialect in SAYS_RECURSIVE:
            return {}
        seen = ctes if self.dialect == "sqlite" else ctes[:1]
        return {lower(c.alias): Cte(c.args["alias"].this, None, is_open=True) for c in seen}

    def set_operation(self, node: exp.Expr, ctes: Ctes, outer: Chain) -> Outputs | None:
        spine: list[tuple[exp.Expr, Ctes]] = []
        while isinstance(node, exp.SetOperation):
            ctes = self.with_(node, ctes, outer)
            spine.append((node, ctes))
            node = node.this
        outputs, arms = self.query(node, ctes, outer), [node]
        for operation, inside in reversed(spine):
            arm = operation.expression
            right = self.query(arm, inside, outer)
            arms.append(arm)
            if outputs is not None and right is not None and len(outputs) != len(right):
                self.report("unequal_columns", f"{len(outputs)} and {len(right)}", operation)
            self.tail(operation, outputs, arms)
        return outputs

    def tail(self, query: exp.Expr, outputs: Outputs | None, arms: list[exp.Expr]) -> None:
        """ORDER BY and LIMIT of a set operation: they see its columns only."""
        order = query.args.get("order")
        for key in order.expressions if order else ():
            self.output_key(key.this, outputs, arms)
        for name in ("limit", "offset"):
            if part := query.args.get(name):
                self.constant(part)

    def output_key(self, key: exp.Expr, outputs: Outputs | None, arms: list[exp.Expr]) -> None:
        if self.is_ordinal(key, outputs) or outputs is None:
            return self.constant(key) if outputs is None else None
        known = {lower(output.name) for output in outputs}
        if self.dialect == "sqlite":  # it looks at each arm
            items = [item for arm in arms for item in getattr(arm.unnest(), "selects", ())]
            known |= {lower(item.output_name) for item in items}
            if any(key == item.unalias() for item in items):
                return None
        if not (isinstance(key, exp.Column) and not key.table and lower(key.name) in known):
            if queries := list(key.find_all(exp.Query)):
                self.report("unsupported_source", written(queries[0]), key)
            else:
                self.report("unknown_column", written(key), key, [o.name for o in outputs])
        return None

    def constant(self, part: exp.Expr) -> None:
        """A clause that sees no column and reads nothing."""
        for node in part.find_all(exp.Query, exp.Column, exp.Table):
            is_column = isinstance(node, exp.Column)
            code = "unknown_column" if is_column else "unsupported_source"
            self.report(code, written(node), node)

    def is_ordinal(self, key: exp.Expr, outputs: Outputs | None) -> bool:
        """True for the `2` of ORDER BY 2; reports one that is out of range."""
        if not isinstance(key, exp.Literal) or key.is_string or not key.name.isdigit():
            return False
        if outputs is not None and not 1 <= int(key.name) <= len(outputs):
            self.report("out_of_range", key.name, key)
        return True

    def select(self, node: exp.Expr, ctes: Ctes, outer: Chain) -> Outputs | None:
        ctes = self.with_(node, ctes, outer)
        level = Level(node)
        chain = (level, *outer)
        level.aliases = {lower(item.alias): item for item in node.expressions if is_named(item)}
        self.from_(node, chain, ctes)
        level.windows = {lower(w.name) for w in node.args.get("windows") or ()}
        level.clause = "select"
        for item in node.expressions:
            if item.is_star and isinstance(item, exp.Star | exp.Column):
                self.star(item, chain, ctes)
            else:
                self.walk(item, chain, ctes)
        outputs = self.outputs(node, level)
        for clause in ("where", "group", "having", "qualify", "windows", "distinct", "order"):
            level.clause = clause
            for part in _listed(node.args.get(clause)):
                self.clause(part, chain, ctes, outputs)
        level.clause = "limit"
        for clause in ("limit", "offset"):
            for part in _listed(node.args.get(clause)):
                self.walk(part, (Level(node),), ctes)
        return outputs

    def clause(self, part: exp.Expr, chain: Chain, ctes: Ctes, outputs: Outputs | None) -> None:
        """A clause behind FROM; of ORDER BY and GROUP BY each key."""
        keys = part.expressions if isinstance(part, exp.Order | exp.Group) else []
        for key in keys:
            self.is_ordinal(key.this if isinstance(key, exp.Ordered) else key, outputs)
        self.walk(part, chain, ctes)

    def outputs(self, query: exp.Expr, level: Level) -> Outputs | None:
        found: Outputs = []
        for item in query.expressions if self.num_shown <= MAX_SHOWN else ():
            if item.is_star and isinstance(item, exp.Star | exp.Column):
                shown = _starred(item, level)
                if shown is None:
                    return None
                found += shown
            else:
                found.append(self.output(item))
        return found

    def output(self, item: exp.Expr) -> Output:
        inner = item.unalias()
        origin = self.names.origins.get(id(inner))
        if is_named(item):
            name = alias_of(item)
        elif isinstance(inner, exp.Column):
            name = inner.this
        else:
            return Output("", origin, quoted=False)
        return Output(name.name, origin, quoted=bool(name.args.get("quoted")))

    def star(self, item: exp.Expr, chain: Chain, ctes: Ctes) -> None:
        """`*` and `t.*`: all that stands there is read."""
        level, sources = chain[0], list(chain[0].sources.values())
        if isinstance(item, exp.Column) and item.table:
            named = self.level_of(item.args["table"], chain[:1])
            if named is None:
                self.report("unknown_table", item.table, item.args["table"], named_sources(level))
            sources = [level.sources[lower(item.table)]] if named else []
        elif not sources:
            self.report("unparsable", "*", item)
        if not self.affords(sum(len(source.outputs or ()) for source in sources)):
            return
        self.whole([output for source in sources for output in source.outputs or ()], item)
        for part in ("replace", "except_", "rename"):
            star = item.this if isinstance(item, exp.Column) else item
            for node in _listed(star.args.get(part)):
                self.walk(node, chain, ctes)

    def walk(self, part: exp.Expr, chain: Chain, ctes: Ctes) -> None:
        """An expression: its columns, and the queries within."""
        stack = [part]
        while stack:
            node = stack.pop()
            if isinstance(node, exp.Query):
                self.subquery(node, chain, ctes)
            elif isinstance(node, exp.Column):
                self.column(node, chain)
            elif isinstance(node, exp.Unnest | exp.Values) and isinstance(node.parent, exp.In):
                stack.extend(node.expressions)
            elif isinstance(node, exp.Table | exp.UDTF):
                self.report("unsupported_source", written(node), node)
            else:
                if isinstance(node, exp.Window):
                    self.window(node, chain[0])
                stack.extend(node.iter_expressions(reverse=True))

    def window(self, node: exp.Expr, level: Level) -> None:
        name = node.args.get("alias")
        if name and lower(name.name) not in level.windows:
            self.report("unknown_column", name.name, name)

    def subquery(self, node: exp.Expr, chain: Chain, ctes: Ctes) -> None:
        outputs = self.query(node, ctes, chain)
        width = _expected_width(node)
        if outputs is not None and width and len(outputs) != width:
            self.report("unequal_columns", f"{len(outputs)} and {width}", node)


def _starred(item: exp.Expr, level: Level) -> Outputs | None:
    """The columns that `*` or `t.*` stands for."""
    table = lower(item.table) if isinstance(item, exp.Column) else ""
    sources = [s for a, s in level.sources.items() if table in ("", a)]
    found: Outputs = []
    for source in sources:
        if source.outputs is None:
            return None
        merged = set() if table else source.merged
        found += [o for o in source.outputs if lower(o.name) not in merged]
    star = item.this if isinstance(item, exp.Column) else item
    left_out = {lower(node.name) for node in _listed(star.args.get("except_"))}
    new = {lower(r.this.name): r.alias for r in _listed(star.args.get("rename"))}
    return [
        Output(new.get(lower(o.name), o.name), o.origin)
        for o in found
        if lower(o.name) not in left_out
    ]


def _expected_width(query: exp.Expr) -> int:
    """How many columns the place of a subquery asks for; 0 where any number will do."""
    node, parent = query, query.parent
    while isinstance(parent, exp.Paren | exp.Subquery | exp.Any | exp.All):
        node, parent = parent, parent.parent
    if isinstance(parent, exp.Exists):
        return 0
    other = None
    if isinstance(parent, exp.In):
        other = parent.this
    elif isinstance(parent, exp.Predicate | exp.Binary):
        other = parent.args.get("expression" if node.arg_key == "this" else "this")
    if isinstance(other, exp.Subquery):
        return 0  # two subqueries may be rows of any width
    return len(other.expressions) if isinstance(other, exp.Tuple) else 1


def _listed(value: object) -> list[exp.Expr]:
    return value if isinstance(value, list) else [value] if isinstance(value, exp.Expr) else []
