"""The last steps of a run on the weights that will be served."""

import gc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from tests.unit.tiny import byte_tokenizer, llama, lora
from trainer.config import RecipeError, TrainConfig
from trainer.tuning.densify import dense_tail, densify, first_dense_step
from trainer.tuning.generate import causal_lm
from trainer.tuning.model import load_base


@pytest.fixture(scope="module", autouse=True)
def _little_garbage() -> Iterator[None]:
    """Training collects garbage when it ends: half a second over all that is imported by then."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    llama(attention_bias=True).bfloat16().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def quantised(base: Path, dequantise: Any = "always") -> Any:
    model, _ = load_base(base, TrainConfig(alias="tail", dequantise=dequantise))
    model.set_attn_implementation("sdpa")
    return lora(model, target_modules=["q_proj", "up_proj"])


def frozen(model: Any) -> dict[str, torch.Tensor]:
    names = dict(causal_lm(model).named_parameters())
    return {n.replace(".base_layer.", "."): p for n, p in names.items() if ".lora_" not in n}


def adapter(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if ".lora_" in n}


def test_the_frozen_weights_become_the_dense_ones_in_place(base):
    model = quantised(base)
    before, tensors = adapter(model), frozen(model)
    places = {name: p.data_ptr() for name, p in tensors.items()}
    assert densify(model, base) == 14  # two layers with seven matrices each
    dense = dict(AutoModelForCausalLM.from_pretrained(base).named_parameters())
    after = frozen(model)
    assert after.keys() == dense.keys()
    assert all(torch.equal(after[name], dense[name]) for name in dense)
    assert {name: p.data_ptr() for name, p in after.items()} == places
    assert all(torch.equal(p, before[name]) for name, p in adapter(model).items())
    assert densify(model, base) == 0


def test_a_base_in_four_bits_is_refused_before_the_first_step(base):
    state = SimpleNamespace(global_step=0, max_steps=10)
    model = quantised(base, "never")
    with pytest.raises(RecipeError, match="held in 4 bits; set dequantise: always"):
        dense_tail(0.1, base).on_train_begin(None, state, None, model=model)


def test_another_model_is_refused(base, tmp_path):
    llama(num_hidden_layers=1).save_pretrained(tmp_path / "shallow")
    llama(hidden_size=64).save_pretrained(tmp_path / "wide")
    for other in (tmp_path / "shallow", tmp_path / "wide"):
        with pytest.raises(RecipeError, match="has no weight like model"):
            densify(quantised(base), other)


@pytest.mark.parametrize(
    ("share", "max_steps", "first"),
    [(0.1, 100, 90), (0.25, 10, 8), (0.001, 100, 99), (1.0, 7, 0), (0.5, 1, 0)],
)
def test_the_last_share_is_rounded_and_at_least_a_step(share, max_steps, first):
    assert first_dense_step(share, max_steps) == first


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_out_of_range_is_refused(share, base):
    with pytest.raises(RecipeError, match="dense_share: must be above 0 and at most 1"):
        dense_tail(share, base)


class Watch(TrainerCallback):  # type: ignore[misc]
    """Remembers for each step whether it ran on the dense weights, and stops after `last`."""

    def __init__(self, base: Path, last: int) -> None:
        self.dense = AutoModelForCausalLM.from_pretrained(base).model.layers[0].mlp.down_proj.weight
        self.last = last
        self.seen: list[tuple[int, bool]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        weight = causal_lm(model).model.layers[0].mlp.down_proj.weight
        self.seen.append((state.global_step, torch.equal(weight, self.dense)))
        control.should_training_stop |= state.global_step == self.last


def run(base: Path, folder: Path, last: int = 5, *, resume: bool = False) -> tuple[Any, list[Any]]:
    """Steps 1 to `last` of 5, the last two of them dense."""
    options: dict[str, Any] = {"save_steps": 1, "report_to": "none", "disable_tqdm": True}
    options |= {"max_steps": 5, "per_device_train_batch_size": 1, "use_cpu": True}
    watch, model = Watch(base, last), quantised(base)
    rows = [{"input_ids": [5, 6, 7, i], "labels": [5, 6, 7, i]} for i in range(8)]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **options),
        train_dataset=rows,
        callbacks=[dense_tail(0.4, base), watch],
    )
    trainer.train(resume_from_checkpoint=resume)
    return model, watch.seen


def test_the_swap_comes_at_its_step_and_again_after_a_kill(base, tmp_path):
    whole, seen = run(base, tmp_path / "whole")
    assert seen == [(1, False), (2, False), (3, False), (4, True), (5, True)]
    run(base, tmp_path / "killed", last=4)
    resumed, rest = run(base, tmp_path / "killed", resume=True)
    assert rest == [(5, True)]
    wanted = adapter(whole)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in adapter(resumed).items())
