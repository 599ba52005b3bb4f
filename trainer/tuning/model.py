"""The base model as QLoRA trains on it: NF4 with double quantisation, and LoRA on top.

A small base is held *dequantised*: the very numbers that its 4-bit weights stand for, worked out
once instead of in every forward pass. Knows nothing of data.
"""

import os
from pathlib import Path
from typing import Any

from eval.task.base_model import BaseModelError
from trainer.config import ALL_LINEAR, TrainConfig
from trainer.tuning.memory import is_dequantised, shape_of


def compute_dtype() -> Any:
    """bfloat16 on a GPU; float32, as the engine computes, on a CPU: most CPUs emulate bfloat16, at
    a sixtieth of the speed where they lack AVX-512 (seen on AVX2, torch 2.13)."""
    import torch

    return torch.bfloat16 if torch.cuda.is_available() else torch.float32


def quantisation(config: TrainConfig) -> str:
    """In words, how this process holds the base and computes with it."""
    dtype = str(compute_dtype()).removeprefix("torch.")
    if config.quantisation == "nf4":
        return f"nf4, double quantisation, {dtype} compute"
    return f"none, {dtype}"


def device() -> str | int:
    """The device of this process: its GPU by `LOCAL_RANK`, else the CPU."""
    import torch

    return int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"


def load_base(base: Path | str, config: TrainConfig) -> tuple[Any, Any]:
    """The base model, quantised as the recipe says, and its tokenizer.

    Raises:
        BaseModelError: it lacks weights, which transformers would make up.
    """
    from transformers import AutoModelForCausalLM, set_seed

    from trainer.tuning.attention import register

    set_seed(config.seed)
    options = {**_loading(config, register()), "output_loading_info": True}
    model, found = AutoModelForCausalLM.from_pretrained(base, **options)
    if missing := sorted(found["missing_keys"]):
        raise BaseModelError(f"base_model: {base}: holds no weights of {missing[0]}")
    model.config.use_cache = False
    if config.quantisation == "nf4" and is_dequantised(
        config, shape_of(model.config), device_bytes()
    ):
        dequantise(model)
    return model, load_tokenizer(base)


def load_tokenizer(base: Path | str) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _loading(config: TrainConfig, attention: str) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    options: dict[str, Any] = {
        "dtype": compute_dtype(),
        "attn_implementation": attention,
        "device_map": {"": device()},
    }
    if config.quantisation == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype(),
        )
    return options


def device_bytes() -> int:
    """The memory of this process's device, or of the machine."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(device()).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def dequantise(model: Any) -> int:
    """Put a plain layer with the same weights in place of each 4-bit layer; how many.

    A 4-bit layer's forward pass dequantises to the compute dtype and multiplies: what is computed
    stays the same, bit for bit.
    """
    import bitsandbytes as bnb
    import torch

    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, bnb.nn.Linear4bit)]
    for name, layer in layers:
        weight = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        plain = torch.nn.Linear(1, 1, bias=False, device="meta")
        plain.in_features, plain.out_features = layer.in_features, layer.out_features
        plain.weight = torch.nn.Parameter(weight.to(layer.compute_dtype), requires_grad=False)
        plain.bias = layer.bias
        model.set_submodule(name, plain)
    _forget_quantisation(model)
    return len(layers)


def _forget_quantisation(model: Any) -> None:
    """Else transformers and PEFT take the model for a 4-bit one."""
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    model.is_loaded_in_4bit = model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def lora_config(config: TrainConfig) -> Any:
    """PEFT's config of the adapter, plain LoRA as the engine serves it."""
    from peft import LoraConfig

    targets = config.target_modules
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=ALL_LINEAR if targets == (ALL_LINEAR,) else list(targets),
        task_type="CAUSAL_LM",
    )
