"""Training speed and memory at a model's shape: random weights, quantised as they are made.

The weights are nobody's: speed and memory depend on sizes only. Training is this project's own, on
rows of random tokens. Knows nothing of figures.

Model FLOPs, the forward and the backward pass without what is worked out twice, of N parameters
that multiply (all but the input embedding), attention's own products left out:

* full training, 6 N a token: 2 N forward, 2 N for the inputs' gradients, 2 N for the weights'
  (Kaplan et al. 2020, section 2.1). Comparable with others' figures, but more than LoRA computes;
* LoRA, 4 N + 6 A a token: frozen weights have no gradient; A are the adapter's parameters.
"""

import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trainer.config import TrainConfig
from trainer.speed.clock import Peak, forget, peak, step_clock
from trainer.tuning.memory import fits, shape_of

RANK, ALPHA, TARGETS = 16, 32, ("q_proj", "v_proj")
# Tokens that each variant is timed on, at least; and the fewest and most steps for that.
TIMED_TOKENS = 32_768
LEAST_STEPS, MOST_STEPS = 2, 8
WARM_UP_STEPS = 2
# A larger batch is tried as long as the last one gained so much.
WORTH_WHILE = 1.03


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to train, by the tokens of a step and three choices of the recipe."""

    tokens: int
    is_compiled: bool = False
    is_dequantised: bool = False
    is_checkpointed: bool = True

    @property
    def num_steps(self) -> int:
        return WARM_UP_STEPS + min(MOST_STEPS, max(LEAST_STEPS, TIMED_TOKENS // self.tokens))

    def config(self, length: int) -> TrainConfig:
        """The recipe, on rows of `length` tokens."""
        return TrainConfig(
            alias="shape",
            rank=RANK,
            alpha=ALPHA,
            target_modules=TARGETS,
            max_length=length,
            batch_tokens=self.tokens,
            device_tokens=self.tokens,
            epochs=1.0,
            dequantise=_always(self.is_dequantised),
            gradient_checkpointing=_always(self.is_checkpointed),
            compile=_always(self.is_compiled),
            save_share=1.0,
        )


def _always(yes: bool) -> Literal["always", "never"]:
    return "always" if yes else "never"


@dataclass(frozen=True, slots=True)
class Speed:
    """What a variant reached; `error` is what stopped it, "" where nothing did."""

    variant: Variant
    rate: float = 0.0
    peak: Peak | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Flops:
    """Model FLOPs a token, both ways to count."""

    full: int
    lora: int


class NoTokenizer:
    """Stands in for a tokenizer where the tokens are random numbers."""

    pad_token_id = 0

    def save_pretrained(self, *_: Any, **__: Any) -> tuple[str, ...]:
        return ()


def llama_config(*, layers: int, hidden: int, max_length: int) -> Any:
    """Llama-2-7B's config (layers 32, hidden 4096), or a smaller one of the same proportions."""
    from transformers import LlamaConfig

    heads = max(1, hidden // 128)
    return LlamaConfig(
        vocab_size=32_000,
        hidden_size=hidden,
        intermediate_size=hidden * 11_008 // 4096,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max(max_length, 4096),
        use_cache=False,
    )


def random_base(model_config: Any) -> Any:
    """A model of random weights on this process's device, its layers' matrices in NF4 with double
    quantisation. At no time is more than one matrix there in 16 bits."""
    import torch
    from transformers import AutoModelForCausalLM

    from trainer.tuning.attention import register
    from trainer.tuning.model import compute_dtype, device

    torch.manual_seed(0)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            model_config, dtype=compute_dtype(), attn_implementation=register()
        )
    place = torch.device(device())
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and module is not head:
            model.set_submodule(name, _random_nf4(module.in_features, module.out_features, place))
        else:
            _fill(module, place)
    rotary = model.model.rotary_emb
    model.model.rotary_emb = type(rotary)(model.config).to(place)
    model.is_loaded_in_4bit = True  # PEFT asks for it
    return model


def _random_nf4(inputs: int, outputs: int, place: Any) -> Any:
    import bitsandbytes as bnb
    import torch

    from trainer.tuning.model import compute_dtype

    layer = bnb.nn.LinearNF4(
        inputs, outputs, bias=False, compute_dtype=compute_dtype(), device="meta"
    )
    weight = torch.empty(outputs, inputs, dtype=compute_dtype(), device=place).normal_(std=0.02)
    layer.weight = bnb.nn.Params4bit(
        weight, requires_grad=False, quant_type="nf4", compress_statistics=True, module=layer
    ).to(place)
    return layer


def _fill(module: Any, place: Any) -> None:
    """Random numbers for the parameters that `module` itself has."""
    import torch

    for name, parameter in list(module.named_parameters(recurse=False)):
        data = torch.empty(parameter.shape, dtype=parameter.dtype, device=place)
        data = data.normal_(std=0.02) if parameter.dim() > 1 else data.fill_(1.0)
        setattr(module, name, torch.nn.Parameter(data, requires_grad=False))


def flops_of(model_config: Any) -> Flops:
    """Model FLOPs a token of a model of this shape."""
    shape = shape_of(model_config)
    multiplied = shape.num_linear + shape.vocab * shape.hidden
    adapter = shape.num_adapter(Variant(1024).config(1024))
    return Flops(6 * multiplied, 4 * multiplied + 6 * adapter)


def sweep(
    model: Any,
    sizes: tuple[int, ...],
    *,
    length: int,
    compiles: bool,
    memory_bytes: int,
    is_late: Callable[[], bool],
) -> Iterator[Speed]:
    """Speeds as they are measured: ever larger batches as long as that pays, then `further` ways.
    None is begun when it is late, but for the first. `model` is dequantised in the end."""
    from trainer.tuning.model import dequantise

    done: list[Speed] = []
    for tokens in sorted(sizes):
        if done and is_late():
            return
        last = max((speed.rate for speed in done), default=0.0)
        done.append(measure(model, Variant(tokens), length))
        yield done[-1]
        if done[-1].rate < WORTH_WHILE * last:
            break
    best = max(done, key=lambda speed: speed.rate).variant.tokens
    for variant in further(model.config, best, tuple(sorted(sizes)), compiles, memory_bytes):
        if is_late():
            return
        if variant.is_dequantised:
            dequantise(model)
        yield measure(model, variant, length)


def further(
    model_config: Any, best: int, sizes: tuple[int, ...], compiles: bool, memory_bytes: int
) -> list[Variant]:
    """The best batch and the smallest compiled; then what memory to spare buys: activations kept,
    where the estimate says that they fit, and the base held dequantised too."""
    variants = [Variant(tokens, is_compiled=True) for tokens in dict.fromkeys((best, sizes[0]))]
    kept = [Variant(n, compiles, is_checkpointed=False) for n in sizes if n <= best]
    rich = [replace(variant, is_dequantised=True) for variant in kept]

    def has_room(variant: Variant) -> bool:
        config, shape = variant.config(length=sizes[0]), shape_of(model_config)
        return fits(config, shape, memory_bytes, completion_share=1.0)

    fitting = [list(filter(has_room, ways)) for ways in (kept, rich)]
    return variants * compiles + [variant for ways in fitting for variant in ways[-1:]]


def measure(model: Any, variant: Variant, length: int) -> Speed:
    """Train for some steps and take the adapter off again; an error is part of the result."""
    import torch

    forget()
    try:
        rate = _train(model, variant, length)
        return Speed(variant, rate, peak())
    except RuntimeError as error:  # out of memory, or a compiler that gives up
        return Speed(variant, error=f"{type(error).__name__}: {str(error).strip()[:200]}")
    finally:
        _strip(model)
        if variant.is_compiled:
            torch._dynamo.reset()


def _train(model: Any, variant: Variant, length: int) -> float:
    from trainer.tuning.sft import train

    rows = random_rows(variant.num_steps * (variant.tokens // length), length, model.config)
    clock = step_clock(WARM_UP_STEPS)
    with tempfile.TemporaryDirectory(prefix="sqlwright-speed-") as folder:
        train(
            model,
            NoTokenizer(),
            rows,
            variant.config(length),
            Path(folder),
            say=lambda _: None,
            callbacks=[clock],
        )
    timed = variant.num_steps - WARM_UP_STEPS
    return float(timed * (variant.tokens // length) * length / clock.steady_seconds)


def random_rows(count: int, length: int, model_config: Any) -> Any:
    """`count` rows of `length` random tokens, all of them but the first with a loss."""
    from datasets import Dataset

    rng = random.Random("rows")
    ids = [rng.choices(range(model_config.vocab_size), k=length) for _ in range(count)]
    mask = [0] + [1] * (length - 1)
    return Dataset.from_dict({"input_ids": ids, "completion_mask": [mask] * count})


def _strip(model: Any) -> None:
    """`model` as it was before training, also where that broke off."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            model.set_submodule(name, module.get_base_layer())
        module._compiled_call_impl = None
    if hasattr(model, "peft_config"):
        del model.peft_config
