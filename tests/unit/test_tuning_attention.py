"""Packed rows against the same examples one by one: the same logits, the same gradients."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from trainer.tuning.attention import PACKED, packed_attention, register
from trainer.tuning.packing import Packer

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
EXAMPLES = [[5, 6, 7, 8, 9, 10], [11, 12, 13], [14] * 9]


def made(model: Any, config: Any) -> Any:
    torch.manual_seed(1)
    return model(config(**SIZES, attn_implementation=register()))


def packed_batch() -> tuple[dict[str, Any], torch.Tensor]:
    packer = Packer(capacity=32, max_length=16, max_examples=4, pad_id=0)
    rows = [{"input_ids": e, "completion_mask": [0] * (len(e) - 2) + [1] * 2} for e in EXAMPLES]
    batch = packer(rows)
    return batch, batch.pop("labels")


@pytest.mark.parametrize(
    ("model", "config"), [(LlamaForCausalLM, LlamaConfig), (Qwen2ForCausalLM, Qwen2Config)]
)
def test_a_packed_row_gives_the_logits_of_each_example_alone(model, config):
    model = made(model, config)
    batch, _ = packed_batch()
    packed = model(**batch, max_seq_len=16, use_cache=False).logits[0]
    model.set_attn_implementation("eager")
    alone = [model(torch.tensor([e])).logits[0, -3:-1] for e in EXAMPLES]
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_gradients_are_those_of_the_examples_alone():
    model = made(LlamaForCausalLM, LlamaConfig)
    batch, labels = packed_batch()
    logits = model(**batch, max_seq_len=16, use_cache=False).logits[0]
    torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
    packed = model.model.layers[0].self_attn.k_proj.weight.grad.clone()
    model.zero_grad()
    model.set_attn_implementation("eager")
    for one in EXAMPLES:
        logits = model(torch.tensor([one])).logits[0, -3:-1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(one[-2:]), reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(
        model.model.layers[0].self_attn.k_proj.weight.grad, packed, atol=1e-5, rtol=1e-4
    )


def test_attention_dropout_is_refused_not_ignored():
    q = torch.zeros(1, 2, 4, 8)
    borders = torch.tensor([0, 4], dtype=torch.int32)
    with pytest.raises(ValueError, match="attention dropout is not supported"):
        packed_attention(None, q, q, q, None, cu_seq_lens=borders, max_seq_len=4, dropout=0.1)


def test_the_implementation_is_known_to_transformers_by_name():
    assert register() == PACKED
    model = made(LlamaForCausalLM, LlamaConfig)
    assert model.config._attn_implementation == PACKED
