"""How many adapters, and of which rank, the engine must have room for: read from the store."""

from collections.abc import Iterator
from pathlib import Path

import structlog

from eval.task.bundle import MANIFEST, BundleError, read_json
from eval.task.store import Alias, read_aliases
from server.settings import RANKS, Settings

log = structlog.get_logger()
MIN_SLOTS, MIN_RANK = 16, 32


def fitted(settings: Settings) -> Settings:
    """`settings` with room for what the store's aliases name, as far as they leave that open; says
    what does not fit where they don't."""
    try:
        aliases = list(read_aliases(settings.store).values())
    except (BundleError, OSError):
        aliases = []  # said by whoever follows the store
    needed = len({version for entry in aliases for version in entry.versions})
    rank = max([MIN_RANK, *_ranks(settings.store, aliases)])
    slots = settings.max_cpu_loras or max(MIN_SLOTS, settings.max_loras, needed)
    if slots < needed:
        log.warning(
            "adapters_over_slots", slots=slots, versions=needed,
            hint=f"versions will be loaded again and again; set SQLWRIGHT_MAX_CPU_LORAS={needed}",
        )  # fmt: skip
    if settings.max_lora_rank and settings.max_lora_rank < rank > MIN_RANK:
        log.warning(
            "rank_over_limit", limit=settings.max_lora_rank, rank=rank,
            hint=f"adapters will be refused; set SQLWRIGHT_MAX_LORA_RANK={_served(rank)}",
        )  # fmt: skip
    chosen = settings.max_lora_rank or _served(rank)
    return settings.model_copy(update={"max_cpu_loras": slots, "max_lora_rank": chosen})


def _ranks(store: Path, aliases: list[Alias]) -> Iterator[int]:
    """The ranks of the versions that may be asked; of those that can't be read, none."""
    for version in {v for entry in aliases for v in entry.versions}:
        try:
            rank = read_json(store / version / MANIFEST).get("rank")
        except (BundleError, OSError):
            continue
        if isinstance(rank, int) and 0 < rank <= max(RANKS):
            yield rank


def _served(rank: int) -> int:
    """The least rank that vLLM can be told which holds `rank`."""
    return next(known for known in RANKS if known >= rank)
