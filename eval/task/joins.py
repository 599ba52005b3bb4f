"""How FROM items come together: their names, JOINs with USING and NATURAL, what each shows."""

from dataclasses import dataclass

from sqlglot import exp

from eval.task.columns import ColumnReader
from eval.task.scope import CASELESS, Chain, Ctes, Level, Output, Source, lower

# In all FROM items and for all stars together. More is no query but `SELECT *, *` over itself
# again and again.
MAX_SHOWN = 20_000


@dataclass(slots=True)
class Place:
    """Where a FROM item stands: what its own tree of JOINs shows, what the trees around that one
    show, the SELECTs further out, the CTEs in sight. `late`: conditions that are read at the end,
    with all FROM items in sight."""

    level: Level
    around: Chain
    outer: Chain
    ctes: Ctes
    late: list[tuple[exp.Expr, Chain]]

    @property
    def lateral(self) -> Chain:
        return (self.level, *self.around, *self.outer)

    def within(self) -> "Place":
        """The place of a tree of JOINs of its own."""
        query = self.level.query
        inner = Level(query, aliases=self.level.aliases, clause="on")
        return Place(inner, (self.level, *self.around), self.outer, self.ctes, self.late)


class JoinReader(ColumnReader):
    """Puts FROM items into the level of a SELECT."""

    num_shown = 0

    def affords(self, number: int) -> bool:
        """Count columns that are shown once more; False, and reported, where they are too many."""
        self.num_shown += number
        if self.num_shown > MAX_SHOWN:
            self.report("too_complex", f"over {MAX_SHOWN} columns", self.tree)
        return self.num_shown <= MAX_SHOWN

    def add(
        self,
        source: Source,
        name: exp.Expr | None,
        place: Place,
        join: exp.Expr | None,
        spelling: str | None = None,
    ) -> None:
        """Put a FROM item under its name in sight of the nearest SELECT."""
        outputs = source.outputs or []
        if not self.affords(len(outputs)):
            source.outputs, outputs = None, []
        key = lower(name.name) if name else f"\0{self.num_shown}"
        if name:
            quoted = bool(name.args.get("quoted")) if spelling is None else None
            own, written = (place.level, *place.around), (spelling or name.name, quoted)
            is_repeated = any(key in level.sources for level in own)
            if is_repeated or self.has_twin(key, written, source, place.outer):
                self.report("repeated_table", name.name, name)
            place.level.written[key] = written
        shown: dict[str, list[Output]] = {}
        for output in outputs:
            shown.setdefault(lower(output.name), []).append(output._replace(source=key))
        self.attach({key: source}, shown, place.level, join)

    def absorb(self, own: Place, place: Place, join: exp.Expr | None) -> None:
        """Put what a tree of JOINs shows where the tree stands."""
        place.level.written.update(own.level.written)
        self.attach(own.level.sources, own.level.visible, place.level, join)

    def attach(
        self,
        sources: dict[str, Source],
        shown: dict[str, list[Output]],
        level: Level,
        join: exp.Expr | None,
    ) -> None:
        """Put FROM items and the columns that they show into `level`."""
        merged: set[str] = set()
        if join is not None:
            is_open = any(source.outputs is None for source in sources.values())
            merged = self.merged(shown, level, join, is_open=is_open)
            for source in sources.values():
                source.merged |= merged & source.columns.keys()
        level.sources.update(sources)
        for column, outputs in shown.items():
            if column not in merged:
                level.visible.setdefault(column, []).extend(outputs)

    def has_twin(
        self, key: str, written: tuple[str, bool | None], source: Source, outer: Chain
    ) -> bool:
        """True where an engine that tells `X` from `x` may look further out for the other one."""
        if self.dialect in CASELESS:
            return False
        return any(
            level.written[key] != written
            and (source.table is None or level.sources[key].table is not source.table)
            for level in outer
            if key in level.written
        )

    def merged(
        self, shown: dict[str, list[Output]], level: Level, join: exp.Expr, *, is_open: bool
    ) -> set[str]:
        """The columns that USING or NATURAL make one with a column further left: both are read."""
        named = join.args.get("using") or []
        is_natural = str(join.args.get("method") or "").upper() == "NATURAL"
        found = {column for column in shown if column in level.visible} if is_natural else set()
        # SQLite takes the first of several, but for RIGHT and FULL joins.
        sides = {j.args.get("side") for j in level.query.args.get("joins") or ()}
        is_first = self.dialect == "sqlite" and sides <= {None, "", "LEFT"}
        nodes = {column: join for column in found} | {lower(n.name): n for n in named}
        for column, node in nodes.items():
            left, right = level.visible.get(column, []), shown.get(column, [])
            if (not right and is_open) or (not left and level.is_open):
                continue
            if not right or not left:
                known = [o for outputs in shown.values() for o in self.readable(outputs)]
                known += self.readable_lists(level)
                self.report("unknown_column", column, node, [o.name for o in known])
                continue
            if len(right) > 1 or (len(left) > 1 and not is_first):
                self.report("ambiguous_column", column, node)
            found.add(column)
            self.read(left[0], node)
            self.read(right[0], node)
        return found
