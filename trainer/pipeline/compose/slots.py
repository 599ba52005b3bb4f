"""Which binder fills which slot of a pattern: "show A", "end top A", "where A", "count"."""

from collections.abc import Callable

from trainer.pipeline.compose import columns, conditions
from trainer.pipeline.compose.catalogue import Entity
from trainer.pipeline.compose.draw import Bound, Draw, Source

ENTITY_BINDERS: dict[str, Callable[[Draw, Entity], Bound]] = {
    "aggregate": columns.bind_aggregate,
    "beats": conditions.bind_beats,
    "both": conditions.bind_both,
    "compared": conditions.bind_compared,
    "count": columns.bind_count,
    "direction": columns.bind_direction,
    "extreme": conditions.bind_extreme,
    "group": columns.bind_group,
    "having": columns.bind_having,
    "label": columns.bind_label,
    "limit": conditions.bind_limit,
    "local": conditions.bind_local,
    "most": columns.bind_most,
    "name": columns.bind_name,
    "naming": conditions.bind_naming,
    "ordering": columns.bind_ordering,
    "own": columns.bind_own_name,
    "show": columns.bind_show,
    "top": columns.bind_top,
    "total": columns.bind_ranked_aggregate,
}
SOURCE_BINDERS: dict[str, Callable[[Draw, Source], Bound]] = {
    "maybe": conditions.bind_maybe,
    "pathed": conditions.bind_pathed,
    "where": conditions.bind_where,
}


def bind(draw: Draw, spec: str, source: Source) -> Bound:
    """Fill the slot that `spec` describes: a kind, `end` before it for the end of the path.

    Raises:
        NoFit: the schema has nothing for it.
        KeyError: there is no such kind.
    """
    words = spec.removesuffix(" A").split()
    if words[-1] in SOURCE_BINDERS:
        return SOURCE_BINDERS[words[-1]](draw, source)
    return ENTITY_BINDERS[words[-1]](draw, source.end if "end" in words else source.start)
