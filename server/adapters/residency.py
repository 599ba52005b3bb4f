"""Which adapter versions the engine has loaded, as far as their use tells.

vLLM keeps as many as it has slots for and drops the one that was used longest ago; it says so to
nobody. The same order is kept here, to warn of an engine that loads all the time, to use pinned
versions before they would be dropped, and to warm up the right ones after a restart.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection

import structlog

from server.metrics import Metrics

log = structlog.get_logger()
WARN_SECONDS = 60.0


class Residency:
    """Names by last use; `slots` of them are loaded."""

    def __init__(
        self, slots: int, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.slots = slots
        self.metrics = metrics
        self._clock = clock
        self._warned = -WARN_SECONDS
        self._order: OrderedDict[str, None] = OrderedDict()

    def use(self, name: str) -> None:
        """`name` is asked now."""
        self._order[name] = None
        self._order.move_to_end(name)
        self.metrics.by_version.resident(name, True)
        if len(self._order) > self.slots:
            self._drop_oldest()

    def recent(self) -> list[str]:
        """The names that are loaded, the one used last first."""
        return list(reversed(self._order))

    def due(self, pinned: Collection[str]) -> list[str]:
        """Of `pinned`, those that the engine drops before long unless they are used."""
        if len(self._order) < self.slots:
            return []
        safe = self.recent()[: max(1, self.slots // 2)]
        return [name for name in pinned if name not in safe]

    def forget(self, name: str) -> None:
        """`name` is served no longer."""
        self._order.pop(name, None)

    def clear(self) -> None:
        """The engine has started anew."""
        for name in self._order:
            self.metrics.by_version.resident(name, False)
        self._order.clear()

    def _drop_oldest(self) -> None:
        name, _ = self._order.popitem(last=False)
        self.metrics.by_version.resident(name, False)
        self.metrics.adapter_evictions.inc()
        if self._clock() - self._warned >= WARN_SECONDS:
            self._warned = self._clock()
            log.warning(
                "adapters_over_slots", slots=self.slots, dropped=name,
                hint="more adapters are in use than it keeps; raise SQLWRIGHT_MAX_CPU_LORAS",
            )  # fmt: skip
