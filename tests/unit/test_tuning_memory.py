"""The estimate of memory against what was measured and what autograd keeps; the dry run."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import GPT2Config, LlamaConfig

from tests.unit.tiny import llama
from trainer.config import TrainConfig
from trainer.recipe import config_from
from trainer.tuning.attention import register
from trainer.tuning.dry_run import count_parameters, describe, sizes_of, tokens_per_second
from trainer.tuning.memory import (
    GIB,
    Shape,
    checkpointing_needed,
    estimate,
    fits,
    is_dequantised,
    layer_bytes,
    out_of_memory,
    remedy,
    shape_of,
)
from trainer.tuning.model import lora_config

H200 = 139 * GIB
T4 = round(14.7 * GIB)
SMOLLM2 = Shape(30, 576, 1536, 9, 3, 64, 49_152, True)
LLAMA2_7B = Shape(32, 4096, 11_008, 32, 32, 128, 32_000, False)
QV = ("q_proj", "v_proj")


def recipe(**changes: Any) -> TrainConfig:
    usual: dict[str, Any] = {"alias": "x", "rank": 24, "alpha": 48, "max_length": 1024}
    usual["gradient_checkpointing"] = "never"
    return TrainConfig(**usual | changes)


def batches(tokens: int, **changes: Any) -> TrainConfig:
    return recipe(batch_tokens=tokens, device_tokens=tokens, **changes)


@pytest.mark.parametrize(
    ("tokens", "is_compiled", "peak_gib"),
    [(16_384, True, 10.81), (65_536, True, 41.43), (16_384, False, 14.80)],
)
def test_the_estimate_is_near_what_an_h200_measured(tokens, is_compiled, peak_gib):
    found = estimate(batches(tokens), SMOLLM2, H200, is_compiled=is_compiled)
    assert found.total / GIB == pytest.approx(peak_gib, rel=0.1)


def kept_bytes(config: TrainConfig, tokens: int, layers: int = 2) -> int:
    """What autograd keeps of one forward pass, weights not counted."""
    sizes = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = llama(**sizes, **heads, attn_implementation=register()).to(torch.bfloat16)
    decoder = get_peft_model(model, lora_config(config)).train().base_model.model.model
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor, so that it stays there
        return tensor

    borders = torch.tensor([0, tokens], dtype=torch.int32)
    ids = torch.randint(0, 259, (1, tokens))
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        decoder(input_ids=ids, cu_seq_lens=borders, max_seq_len=tokens, use_cache=False)
    return sum(size for pointer, (size, _) in kept.items() if pointer not in weights)


@pytest.mark.parametrize("targets", [("all-linear",), QV, ("o_proj", "down_proj")])
def test_a_layers_activations_are_those_that_autograd_keeps(targets):
    config = recipe(rank=8, target_modules=targets)
    by_tokens = {(n, k): kept_bytes(config, n, k) for n in (16, 48) for k in (2, 3)}
    per_token = {k: (by_tokens[48, k] - by_tokens[16, k]) / 32 for k in (2, 3)}
    told = layer_bytes(
        config, Shape(1, 64, 160, 2, 2, 32, 259, False), is_compiled=False, is_plain=True
    )
    assert per_token[3] - per_token[2] == pytest.approx(told, rel=0.03)


@pytest.mark.parametrize("shape", [SMOLLM2, replace(LLAMA2_7B, layers=3)])
@pytest.mark.parametrize("targets", [("all-linear",), QV])
def test_parameters_are_those_of_the_model(shape, targets):
    model_config = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.is_tied,
    )
    config = recipe(target_modules=targets)
    assert shape_of(model_config) == shape
    found = count_parameters(config, model_config)
    assert (found.base, found.adapter) == (shape.num_parameters, shape.num_adapter(config))
    assert found.adapter_bytes == 2 * found.adapter


def test_a_decoder_of_other_names_comes_out_roughly():
    shape = shape_of(GPT2Config())
    assert shape.num_parameters == pytest.approx(124_439_808, rel=0.3)


def test_qlora_of_a_7b_model_fits_a_small_card_at_batch_1():
    config = batches(1024, rank=16, target_modules=QV, gradient_checkpointing="always")
    found = estimate(config, LLAMA2_7B, T4)
    assert found.weights / GIB == pytest.approx(3.6, abs=0.05)
    assert found.total < 6 * GIB
    assert fits(config, LLAMA2_7B, T4)


def test_a_base_is_held_dequantised_where_there_is_room_or_the_recipe_says_so():
    assert is_dequantised(recipe(), SMOLLM2, T4)
    assert not is_dequantised(recipe(), LLAMA2_7B, T4)
    assert is_dequantised(recipe(dequantise="always"), LLAMA2_7B, T4)
    assert not is_dequantised(recipe(dequantise="never"), SMOLLM2, T4)
    assert is_dequantised(recipe(quantisation="none", dequantise="never"), LLAMA2_7B, T4)


def test_checkpointing_is_asked_for_only_where_memory_would_be_short():
    auto = batches(16_384, gradient_checkpointing="auto")
    assert checkpointing_needed(auto, LLAMA2_7B, T4)
    assert not checkpointing_needed(auto, SMOLLM2, H200)
    never, always = (replace(auto, gradient_checkpointing=how) for how in ("never", "always"))
    assert estimate(auto, SMOLLM2, H200) == estimate(never, SMOLLM2, H200)
    assert estimate(auto, LLAMA2_7B, T4) == estimate(always, LLAMA2_7B, T4)


def parse(told: str) -> list[tuple[str, int | str]]:
    pairs = [pair.split("=") for pair in told.split()]
    return [(key, int(value) if value.isdigit() else value) for key, value in pairs]


@pytest.mark.parametrize("total", [3, 6, 10, 15, 40, 80])
@pytest.mark.parametrize("shape", [SMOLLM2, LLAMA2_7B])
def test_what_is_told_to_set_is_a_valid_recipe_that_fits(shape, total):
    config = batches(65_536, gradient_checkpointing="auto")
    told = remedy(config, shape, total * GIB)
    if not told:
        smallest = batches(256, max_length=256, rank=6, dequantise="never")
        assert not fits(replace(smallest, gradient_checkpointing="always"), shape, total * GIB)
        return
    assert fits(config_from({**asdict(config), **dict(parse(told))}), shape, total * GIB)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (batches(16_384), "device_tokens=8192"),
        (recipe(batch_tokens=3 * 1025, device_tokens=1025), "gradient_checkpointing=always"),
        (batches(1024), "gradient_checkpointing=always"),
        (batches(1024, gradient_checkpointing="always"), "dequantise=never"),
        (
            batches(1024, gradient_checkpointing="always", dequantise="never"),
            "device_tokens=512 max_length=512",
        ),
        (
            batches(256, max_length=256, gradient_checkpointing="always", dequantise="never"),
            "rank=12",
        ),
        (
            batches(
                256, max_length=256, rank=4, gradient_checkpointing="always", dequantise="never"
            ),
            "a smaller base_model",
        ),
    ],
)
def test_out_of_memory_names_the_next_knob_in_one_line(config, told):
    said = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity"
    assert out_of_memory(config, said) == f"out of memory (CUDA out of memory): set {told}"


def test_out_of_memory_asks_for_as_much_as_the_estimate_says():
    told = out_of_memory(batches(65_536), "no memory", SMOLLM2, 12 * GIB)
    assert told == "out of memory (no memory): set device_tokens=8192"
    assert fits(recipe(batch_tokens=65_536, device_tokens=8192), SMOLLM2, 12 * GIB)


SIZES = [(100 + number, 10 + number % 7) for number in range(200)]


def dry(config: TrainConfig, **options) -> dict[str, str]:
    model_config = LlamaConfig(
        vocab_size=259, hidden_size=64, intermediate_size=160, num_hidden_layers=2,
        num_attention_heads=2,
    )  # fmt: skip
    text = describe(config, model_config, SIZES, **{"total_bytes": GIB} | options)
    return dict(line.split(": ", 1) for line in text.splitlines())


def test_a_dry_run_counts_parameters_tokens_and_steps():
    told = dry(recipe(rank=4, alpha=8, batch_tokens=8192, device_tokens=4096, epochs=2))
    prompts, completions = (sum(size[part] for size in SIZES) for part in (0, 1))
    assert told["adapter"].startswith(f"{4 * 2 * (4 * 128 + 3 * 224):,} parameters")
    assert "0.0 MB as bfloat16" in told["adapter"]
    assert f"200 examples of 110 to {max(map(sum, SIZES))} tokens" in told["data"]
    assert f"{prompts:,} of prompts and {completions:,} of completions" in told["data"]
    assert told["steps"].startswith("11 of 8,192 tokens, 38.2 examples a step")
    assert "1 x 2 x 4,096 tokens" in told["steps"]
    assert "TOO LITTLE" not in told["memory"]


def test_a_dry_run_that_does_not_fit_names_the_knob():
    told = dry(recipe(), total_bytes=GIB // 8)
    assert told["memory"].startswith("TOO LITTLE; set device_tokens=")


def test_a_dry_run_tells_the_time_from_the_last_result(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"tokens_per_second": 1000.0}))
    tokens = 3 * sum(map(sum, SIZES))
    told = dry(recipe(), run=tmp_path)["time"]
    seconds = round(tokens / 1000)
    assert told.startswith(f"{tokens:,} tokens; about {seconds // 60} min {seconds % 60:02} s")


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"tokens_per_second": 0}'])
def test_a_result_that_says_no_speed_is_passed_over(tmp_path, text):
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    assert tokens_per_second(tmp_path) is None
    assert "unknown speed" in dry(recipe(), run=tmp_path)["time"]


def test_sizes_are_those_of_prompt_and_completion():
    rows = {"input_ids": [[5, 6, 7], [5, 6]], "completion_mask": [[0, 0, 1], [0, 1]]}
    assert sizes_of(rows) == [(2, 1), (1, 1)]
