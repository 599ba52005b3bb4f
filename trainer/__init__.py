"""Data set in, adapter bundle out: QLoRA fine-tuning of text-to-SQL adapters.

from trainer import SQLDataPipeline, train_lora_model
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.api import train_lora_model
    from trainer.pipeline.api import SQLDataPipeline

__all__ = ["SQLDataPipeline", "train_lora_model"]


def __getattr__(name: str) -> Any:
    """The two public names, imported when they are asked for."""
    if name == "SQLDataPipeline":
        from trainer.pipeline.api import SQLDataPipeline

        return SQLDataPipeline
    if name == "train_lora_model":
        from trainer.api import train_lora_model

        return train_lora_model
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")
