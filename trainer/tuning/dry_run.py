"""What a run will do, cost and take, said before any of it: no weights are loaded.

Parameters are counted on a model without storage, steps by the very plan that training follows.
Knows nothing of files but a former run's `result.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.faults import expect_targets
from trainer.tuning.memory import (
    GIB,
    estimate,
    fits,
    is_checkpointed,
    is_dequantised,
    remedy,
    shape_of,
)
from trainer.tuning.model import compute_dtype, lora_config
from trainer.tuning.packing import Plan
from trainer.tuning.sft import is_compiled, num_devices, plan_of

RESULT = "result.json"

# Tokens of an example's prompt and of its completion.
Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Parameters:
    """How many parameters the base has, and the adapter on it, which are those trained."""

    base: int
    adapter: int

    @property
    def adapter_bytes(self) -> int:
        """The size of the adapter's file, in bfloat16."""
        return 2 * self.adapter


def describe(
    config: TrainConfig,
    model_config: Any,
    sizes: Sequence[Size],
    *,
    total_bytes: int,
    run: Path | None = None,
) -> str:
    """A line each on base, adapter, examples, steps, memory and time.

    `model_config` is the base's transformers config, `sizes` are those of the tokenised examples,
    `total_bytes` is the memory of one device. With `run`, the folder of this recipe's run, the time
    is told from the tokens a second of its last result.

    Raises:
        RecipeError: the effective batch can't be shared out over the devices.
        ValueError: an example is longer than `device_tokens`, or there is none.
    """
    plan = plan_of([sum(size) for size in sizes], config)
    lines = (
        _model(config, model_config, total_bytes),
        _data(sizes),
        _steps(config, plan, sizes),
        _memory(config, model_config, plan, sizes, total_bytes),
        _time(plan, sizes, tokens_per_second(run) if run else None),
    )
    return "\n".join(lines)


def sizes_of(dataset: Any) -> list[Size]:
    """The sizes of the rows of `trainer.pipeline.tokens.tokenise`."""
    masks = dataset["completion_mask"]
    return [(len(mask) - sum(mask), sum(mask)) for mask in masks]


def count_parameters(config: TrainConfig, model_config: Any) -> Parameters:
    """Counted on the model itself, built without storage.

    Raises:
        RecipeError: one of `target_modules` is not in the model.
    """
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
        base = model.num_parameters()
        expect_targets(model, config)
        adapted = get_peft_model(model, lora_config(config))
    return Parameters(base, sum(p.numel() for p in adapted.parameters() if p.requires_grad))


def tokens_per_second(run: Path) -> float | None:
    """What the last result in `run` says; None where there is none that can be read."""
    try:
        found = json.loads((run / RESULT).read_text(encoding="utf-8"))["tokens_per_second"]
        return float(found) if float(found) > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _model(config: TrainConfig, model_config: Any, total_bytes: int) -> str:
    found = count_parameters(config, model_config)
    is_plain = is_dequantised(config, shape_of(model_config), total_bytes)
    held = str(compute_dtype()).removeprefix("torch.") if is_plain else "4 bits"
    return (
        f"base: {config.base_model}, {found.base:,} parameters, held in {held}\n"
        f"adapter: {found.adapter:,} parameters ({found.adapter / found.base:.2%}), rank "
        f"{config.rank} on {', '.join(config.target_modules)}; {found.adapter_bytes / 1e6:.1f} MB "
        "as bfloat16"
    )


def _data(sizes: Sequence[Size]) -> str:
    prompts, completions = (sum(size[part] for size in sizes) for part in (0, 1))
    totals = [sum(size) for size in sizes]
    return (
        f"data: {len(sizes):,} examples of {min(totals)} to {max(totals)} tokens; an epoch has "
        f"{sum(totals):,} tokens, {prompts:,} of prompts and {completions:,} of completions"
    )


def _steps(config: TrainConfig, plan: Plan, sizes: Sequence[Size]) -> str:
    used = num_examples(plan)
    split = plan.per_step // num_devices()
    return (
        f"steps: {plan.num_steps:,} of {config.batch_tokens:,} tokens, {used / plan.num_steps:.1f} "
        f"examples a step on average, {used / len(sizes):.3g} epochs; "
        f"{num_devices()} x {split} x {config.device_tokens:,} tokens (devices, accumulation, pass)"
    )


def _memory(
    config: TrainConfig, model_config: Any, plan: Plan, sizes: Sequence[Size], total_bytes: int
) -> str:
    shape = shape_of(model_config)
    needed = estimate(
        config,
        shape,
        total_bytes,
        is_compiled=is_compiled(config, plan),
        completion_share=sum(size[1] for size in sizes) / sum(map(sum, sizes)),
    )
    how = ", gradient checkpointing" if is_checkpointed(config, shape, total_bytes) else ""
    line = f"memory: about {needed.total / GIB:.1f} GiB of {total_bytes / GIB:.1f} ({needed}{how})"
    if fits(config, shape, total_bytes):
        return line
    what = remedy(config, shape, total_bytes) or "a smaller base_model"
    return f"{line}\nmemory: TOO LITTLE; set {what}"


def _time(plan: Plan, sizes: Sequence[Size], rate: float | None) -> str:
    tokens = sum(sum(sizes[number]) for batch in plan.batches for number in batch)
    if rate is None:
        return f"time: {tokens:,} tokens; unknown speed, since this recipe has no result yet"
    seconds = round(tokens / rate)
    return (
        f"time: {tokens:,} tokens; about {seconds // 60} min {seconds % 60:02} s at the last run's "
        f"{rate:,.0f} tokens/s"
    )


def num_examples(plan: Plan) -> int:
    """How many examples the run sees, each as often as it is seen."""
    return sum(map(len, plan.batches))
