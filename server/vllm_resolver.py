"""A vLLM LoRA resolver plugin: `ALIAS@DIGEST12` means that version in the adapter store.

Runs inside the engine's process; the only module that imports vLLM. A name is never joined to a
path unchecked: it must match a fixed pattern, and the folder's digest must equal its name.
"""

import asyncio
import os
from pathlib import Path

from vllm.logger import init_logger
from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

from eval.task.bundle import VERSION_NAME, BundleError, read_version

logger = init_logger("vllm.sqlwright")


class StoreResolver(LoRAResolver):  # type: ignore[misc]  # untyped on vLLM's side
    """Looks versions up in the store at `store`."""

    def __init__(self, store: Path) -> None:
        self.store = store

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        match = VERSION_NAME.fullmatch(lora_name)
        if match is None:
            return None
        try:
            bundle = await asyncio.to_thread(read_version, self.store, match[2])
        except BundleError as error:
            logger.warning("sqlwright: version %s is refused: %s", match[2], error)
            return None
        # vLLM replaces the id by a counter of its own; it must only be positive.
        return LoRARequest(
            lora_name=lora_name,
            lora_int_id=int(bundle.digest[:7], 16) + 1,
            lora_path=str(bundle.folder),
        )


def register() -> None:
    """Entry point of the plugin group `vllm.general_plugins`; does nothing without a store."""
    if store := os.environ.get("SQLWRIGHT_STORE"):
        LoRAResolverRegistry.register_resolver("sqlwright", StoreResolver(Path(store)))
