"""Answers of a model in the middle of training: right, in order, and nothing of it changed."""

from typing import Any

import pytest
import torch
from transformers import AttentionInterface, GenerationConfig

from tests.unit.tiny import EOS, byte_tokenizer, llama, lora
from trainer.tuning import generate as module
from trainer.tuning.generate import GenerationError, generate, merged

TOKENIZER = byte_tokenizer()
PROMPTS = ["Who?", "How many pets has Zoë's shop in the city of Ulm?", "All names", "a"]


@pytest.fixture(scope="module")
def tuned() -> Any:
    return lora()


def alone(model: Any, prompt: str, num_tokens: int) -> str:
    """The greedy answer by one forward pass over the whole text for each token, without cache."""
    ids = TOKENIZER(prompt)["input_ids"]
    written: list[int] = []
    model.eval()
    with torch.no_grad():
        while len(written) < num_tokens and EOS not in written:
            logits = model(input_ids=torch.tensor([ids + written]), use_cache=False).logits
            written.append(int(logits[0, -1].argmax()))
    return str(TOKENIZER.decode([t for t in written if t != EOS], skip_special_tokens=True))


def test_a_batch_answers_as_each_prompt_alone(tuned):
    found = generate(tuned, TOKENIZER, PROMPTS, max_new_tokens=12)
    assert found == [[alone(tuned, prompt, 12)] for prompt in PROMPTS]
    assert len({text for (text,) in found}) > 1


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("round_tokens", [1, 5, 12])
def test_batches_and_rounds_change_no_answer(tuned, monkeypatch, batch_size, round_tokens):
    whole = generate(tuned, TOKENIZER, PROMPTS, max_new_tokens=12)
    monkeypatch.setattr(module, "ROUND_TOKENS", round_tokens)
    assert generate(tuned, TOKENIZER, PROMPTS, max_new_tokens=12, batch_size=batch_size) == whole


class Script:
    """Stands for `model.generate`: writes on what each prompt's first letter says, then pads."""

    def __init__(self, model: Any, monkeypatch: Any, memory: int = 99) -> None:
        self.shapes: list[tuple[int, int]] = []
        self.memory = memory
        monkeypatch.setattr(model, "generate", self)

    def __call__(self, *, input_ids: Any, attention_mask: Any, max_new_tokens: int) -> Any:
        self.shapes.append((len(input_ids), max_new_tokens))
        if len(input_ids) > self.memory:
            raise torch.OutOfMemoryError("too much")
        pairs = zip(input_ids, attention_mask, strict=True)
        rows = [self._row(ids[mask.bool()], max_new_tokens) for ids, mask in pairs]
        return torch.cat([input_ids, torch.tensor(rows)], dim=1)

    @staticmethod
    def _row(ids: Any, num_tokens: int) -> list[int]:
        text = TOKENIZER.decode(ids)
        left = int(text.split(":")[0]) - text.count("x")
        letters = [TOKENIZER("x")["input_ids"][0]] * left
        return (letters + [EOS] * num_tokens)[:num_tokens]


def test_who_has_not_ended_goes_on_in_one_batch(monkeypatch):
    model = llama()
    script = Script(model, monkeypatch)
    monkeypatch.setattr(module, "ROUND_TOKENS", 10)
    prompts = ["3:", "12:", "2:", "25:", "0:", "11:", "99:"]
    found = generate(model, TOKENIZER, prompts, max_new_tokens=28, batch_size=4)
    assert [len(text) for (text,) in found] == [3, 12, 2, 25, 0, 11, 28]
    assert script.shapes == [(4, 10), (3, 10), (4, 10), (2, 8)]


def test_too_much_memory_halves_the_batch(monkeypatch):
    model = llama()
    script = Script(model, monkeypatch, memory=2)
    found = generate(model, TOKENIZER, ["1:", "2:", "3:", "4:", "5:"], max_new_tokens=8)
    assert [len(text) for (text,) in found] == [1, 2, 3, 4, 5]
    assert [size for size, _ in script.shapes] == [5, 2, 3, 1, 2]


def test_one_sequence_that_does_not_fit_the_memory_is_an_error(monkeypatch):
    model = llama()
    Script(model, monkeypatch, memory=0)
    with pytest.raises(torch.OutOfMemoryError):
        generate(model, TOKENIZER, ["1:"], max_new_tokens=8)


@pytest.mark.parametrize(
    ("name", "limit"),
    # Two layers with one key head of 16 numbers: 256 bytes a token in float32.
    [("MAX_BATCH_TOKENS", 100), ("MAX_CACHE_BYTES", 256 * 100)],
)
def test_padding_counts_towards_the_size_of_a_batch(monkeypatch, name, limit):
    model = llama()
    script = Script(model, monkeypatch)
    monkeypatch.setattr(module, name, limit)
    generate(model, TOKENIZER, ["1:", "1:" + "y" * 38, "1:", "1:"], max_new_tokens=8)
    assert [size for size, _ in script.shapes] == [2, 2]


def test_every_answer_ticks_as_it_ends(tuned):
    ticks: list[int] = []
    generate(tuned, TOKENIZER, PROMPTS[:2], max_new_tokens=3, tick=ticks.append)
    assert ticks == [1, 1]


def test_samples_depend_on_the_seed_alone(tuned):
    def sample(seed: int) -> list[list[str]]:
        options: dict[str, Any] = {"temperature": 1.0, "num_samples": 3, "max_new_tokens": 8}
        return generate(tuned, TOKENIZER, PROMPTS[:2], seed=seed, **options)

    torch.manual_seed(5)
    first = sample(1)
    torch.manual_seed(6)
    assert sample(1) == first != sample(2)
    assert [len(set(texts)) for texts in first] == [3, 3]


def test_the_random_state_of_training_goes_on_undisturbed(tuned):
    torch.manual_seed(7)
    wanted = torch.rand(3).tolist()
    torch.manual_seed(7)
    generate(tuned, TOKENIZER, ["a"], max_new_tokens=2, temperature=1.0)
    assert torch.rand(3).tolist() == wanted


def packed_only(*_: Any, cu_seq_lens: Any, **__: Any) -> Any:
    raise AssertionError("asked without a packed batch")


def test_a_model_in_training_is_left_as_it_was():
    AttentionInterface.register("packed_only", packed_only)
    model = lora(llama(), lora_dropout=0.5)
    inner = model.get_base_model()
    inner.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    model.train()
    inner.lm_head.eval()
    inner.config._attn_implementation, inner.config.use_cache = "packed_only", False
    settings = inner.generation_config = GenerationConfig(repetition_penalty=9.0, eos_token_id=EOS)
    modes = {name: m.training for name, m in model.named_modules()}
    generate(model, TOKENIZER, PROMPTS[:2], max_new_tokens=3)
    assert {name: m.training for name, m in model.named_modules()} == modes
    assert inner.config._attn_implementation == "packed_only" and not inner.config.use_cache
    assert inner.generation_config is settings and inner.is_gradient_checkpointing
    assert all(p.grad is None for p in model.parameters())


def test_an_error_leaves_the_model_as_it_was_too(tuned, monkeypatch):
    tuned.train()
    monkeypatch.setattr(tuned.get_base_model(), "generate", None)
    with pytest.raises(TypeError):
        generate(tuned, TOKENIZER, ["a"], max_new_tokens=3)
    assert tuned.training and tuned.get_base_model().model.layers[0].training


def test_a_models_own_penalties_and_sampling_are_left_out():
    model = llama()
    plain = generate(model, TOKENIZER, PROMPTS[:2], max_new_tokens=8)
    own = {"do_sample": True, "temperature": 3.0, "repetition_penalty": 9.0, "max_length": 4}
    model.generation_config = GenerationConfig(eos_token_id=[EOS], **own)
    assert generate(model, TOKENIZER, PROMPTS[:2], max_new_tokens=8) == plain


def test_stop_ids_of_the_caller_take_the_place_of_the_models(monkeypatch):
    model = llama()
    Script(model, monkeypatch)
    letter = TOKENIZER("x")["input_ids"]
    assert generate(model, TOKENIZER, ["5:"], max_new_tokens=8) == [["xxxxx"]]
    assert generate(model, TOKENIZER, ["5:"], max_new_tokens=8, stop_ids=letter) == [[""]]


def test_without_a_token_that_ends_an_answer_nothing_is_asked():
    model, tokenizer = llama(eos_token_id=None), byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(GenerationError, match="no end-of-sequence token"):
        generate(model, tokenizer, ["a"])


def test_layers_compiled_for_training_run_uncompiled(tuned):
    compiled: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        compiled.append(graph)
        return graph

    model = lora()
    model.get_base_model().model.layers[0].compile(backend=backend)
    assert generate(model, TOKENIZER, PROMPTS[:2], max_new_tokens=4) == generate(
        tuned, TOKENIZER, PROMPTS[:2], max_new_tokens=4
    )
    assert compiled == []


def weights(model: Any) -> dict[str, Any]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_merged_weights_say_the_same_and_come_back_bit_for_bit():
    model = lora(llama().to(torch.bfloat16), target_modules="all-linear")
    before, ids = weights(model), torch.tensor([TOKENIZER(PROMPTS[1])["input_ids"]])
    model.eval()
    with torch.no_grad():
        plain = model(input_ids=ids).logits.float()
        with merged(model):
            layer = model.get_base_model().model.layers[0].self_attn.q_proj
            assert layer.merged and not torch.equal(
                layer.base_layer.weight, before[_name_of(before, "layers.0.self_attn.q_proj.base")]
            )
            folded = model(input_ids=ids).logits.float()
        assert torch.equal(model(input_ids=ids).logits.float(), plain)
    assert 0 < (folded - plain).abs().mean() < 0.05 * plain.abs().mean()
    after = weights(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def _name_of(names: dict[str, Any], part: str) -> str:
    return next(name for name in names if part in name)


def test_merged_weights_say_what_the_adapter_says_in_float32(tuned):
    plain = generate(tuned, TOKENIZER, PROMPTS[:2], max_new_tokens=8)
    with merged(tuned):
        assert generate(tuned, TOKENIZER, PROMPTS[:2], max_new_tokens=8) == plain
    assert not tuned.get_base_model().model.layers[0].self_attn.q_proj.merged


def test_a_failure_within_merged_brings_the_layers_back(tuned):
    layer = tuned.get_base_model().model.layers[1].self_attn.v_proj
    base = layer.base_layer
    with pytest.raises(KeyError), merged(tuned):
        raise KeyError
    assert layer.base_layer is base and not layer.merged


@pytest.mark.parametrize("config", [{"use_dora": True}, {"lora_bias": True}])
def test_what_is_no_plain_lora_is_not_merged(config):
    model = lora(llama(attention_bias=True), **config)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    base = layer.base_layer
    with pytest.raises(GenerationError, match="only plain LoRA"), merged(model):
        pass
    assert layer.base_layer is base and not layer.merged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, is 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"num_samples": 0, "temperature": 1}, "num_samples must be at least 1"),
        ({"temperature": -0.5}, "temperature must not be negative, is -0.5"),
        ({"num_samples": 2}, "at temperature 0 all samples are the same"),
    ],
)
def test_numbers_out_of_range_are_refused(tuned, options, message):
    with pytest.raises(GenerationError, match=message):
        generate(tuned, TOKENIZER, ["a"], **options)


def test_no_prompts_give_no_answers(tuned):
    assert generate(tuned, TOKENIZER, []) == []
