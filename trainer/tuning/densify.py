"""The last steps of a run on the weights that will be served, instead of the quantised ones.

An NF4 base differs from the dense one by a rounding error that the adapter learns to live with; at
serving the error is gone. Where the base is held dequantised, its frozen weights can be replaced
in mid-training by a copy of tensors: the adapter, the optimiser's state and compiled layers stay.
"""

from pathlib import Path
from typing import Any

from trainer.config import RecipeError
from trainer.tuning.generate import causal_lm

# What PEFT puts into the name of a weight that an adapter lies on.
WRAPPED = ".base_layer."


def densify(model: Any, base: Path | str) -> int:
    """Copy the dense weights of `base` over those of `model`, in place; how many differed.

    `model` is one of transformers or PEFT. Only frozen weights are written, never an adapter's; the
    dense ones are read on the CPU and take its memory for so long.

    Raises:
        RecipeError: the model holds 4-bit weights, or `base` is another model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    inner = causal_lm(model)
    _expect_plain(inner)
    dtype = inner.get_input_embeddings().weight.dtype
    dense = dict(AutoModelForCausalLM.from_pretrained(base, dtype=dtype).named_parameters())
    num_changed = 0
    with torch.no_grad():
        for name, weight in inner.named_parameters():
            if ".lora_" in name or weight.requires_grad:
                continue
            wanted = dense.get(name.replace(WRAPPED, "."))
            if wanted is None or wanted.shape != weight.shape:
                raise RecipeError(f"dense_share: {base} has no weight like {name}")
            wanted = wanted.to(weight.device, weight.dtype)
            num_changed += not torch.equal(weight, wanted)
            weight.copy_(wanted)
    return num_changed


def _expect_plain(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "quant_state"):
            raise RecipeError(
                f"dense_share: {name} is held in 4 bits; set dequantise: always, or dense_share: 0"
            )


def first_dense_step(share: float, max_steps: int) -> int:
    """How many steps run on the quantised weights: all but the last `share`, at least one of it."""
    return max_steps - min(max_steps, max(1, round(share * max_steps)))


def dense_tail(share: float, base: Path | str) -> Any:
    """A callback of transformers' Trainer: the last `share` (0 to 1) of the steps runs on the dense
    weights of `base`. A run that goes on after that point has them from its first step.

    A function, because importing transformers takes seconds.

    Raises:
        RecipeError: `share` is not above 0 and at most 1; in training, as `densify`.
    """
    from transformers import TrainerCallback

    if not 0 < share <= 1:
        raise RecipeError(f"dense_share: must be above 0 and at most 1, is {share:g}")

    class DenseTail(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.num_changed: int | None = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            _expect_plain(causal_lm(parts["model"]))
            self._densify_from(state, parts["model"])

        def on_step_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            self._densify_from(state, parts["model"])

        def _densify_from(self, state: Any, model: Any) -> None:
            is_due = state.global_step >= first_dense_step(share, state.max_steps)
            if is_due and self.num_changed is None:
                self.num_changed = densify(model, base)

    return DenseTail()
