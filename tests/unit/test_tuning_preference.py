"""Preference optimisation: the tokens that it sees, what it moves, and what it leaves alone."""

import gc
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, TrainerCallback
from typer import Typer
from typer.testing import CliRunner

from eval.task.bundle import CONFIG, WEIGHTS, Bundle, Manifest, read_bundle, write_manifest
from eval.task.prompt import TEMPLATE
from tests.unit.tiny import byte_tokenizer, llama, lora
from trainer.config import RecipeError
from trainer.pipeline.source import DataError
from trainer.tuning import preference
from trainer.tuning.attention import register
from trainer.tuning.generate import generate
from trainer.tuning.preference import (
    PreferenceConfig,
    read_pairs,
    tokenise_pairs,
    train_preference,
)

PAIRS = [
    {"prompt": f"-- {i} pets?\n", "chosen": f"SELECT {i}", "rejected": f"SELECT 'no {i}'"}
    for i in range(8)
]
CONFIG_ = PreferenceConfig(batch_pairs=4, device_pairs=2, max_steps=2, learning_rate=0.01)
TOKENIZER = byte_tokenizer()


@pytest.fixture(scope="module", autouse=True)
def _little_garbage() -> Iterator[None]:
    """Training collects garbage when it ends: half a second over all that is imported by then."""
    gc.freeze()
    yield
    gc.unfreeze()


def merging_tokenizer() -> Any:
    """Begins each text with a token of its own, and merges a line's end with what follows."""
    words = ["<bos>", "<eos>", *"\nabc", "\na"]
    fast = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [("\n", "a")]))
    fast.pre_tokenizer = pre_tokenizers.Split("b", "isolated")
    fast.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=fast, bos_token="<bos>", eos_token="<eos>")


def test_a_pair_has_the_tokens_of_supervised_training():
    tokenizer = merging_tokenizer()
    pair = {"prompt": "cb\n", "chosen": "ab", "rejected": "a\na"}
    assert tokenizer("cb\nab")["input_ids"] == [0, 5, 4, 6, 4]  # as one text they would merge
    assert tokenise_pairs([pair], tokenizer, 99) == {
        "prompt_ids": [[0, 5, 4, 2]],
        "chosen_ids": [[3, 4, 1]],
        "rejected_ids": [[3, 6, 1]],
    }


def test_pairs_that_are_too_long_or_the_same_are_left_out():
    pair = {"prompt": "1234", "chosen": "123", "rejected": "12"}
    pairs = [pair, pair | {"rejected": "123"}, pair | {"rejected": "12345"}]
    assert tokenise_pairs(pairs, TOKENIZER, 8)["prompt_ids"] == [TOKENIZER("1234")["input_ids"]]
    with pytest.raises(DataError, match="max_length: none of 3 pairs fits 7 tokens"):
        tokenise_pairs(pairs, TOKENIZER, 7)


class Watch(TrainerCallback):  # type: ignore[misc]
    """What training holds meanwhile; stops it after `last` steps."""

    def __init__(self, last: int = 99) -> None:
        self.last = last
        self.batches: list[Any] = []
        self.steps: list[int] = []
        self.reference: dict[str, Any] = {}
        self.learning: set[str] = set()

    def on_train_begin(self, *_: Any, **parts: Any) -> None:
        self.batches += list(parts["train_dataloader"])

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        names = dict(parts["model"].named_parameters())
        self.reference = {n: p.detach().clone() for n, p in names.items() if ".ref." in n}
        self.learning = {n for n, p in names.items() if p.requires_grad}
        self.steps.append(state.global_step)
        control.should_training_stop |= state.global_step == self.last


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def train(run: Path, config: PreferenceConfig = CONFIG_, last: int = 99) -> tuple[Any, Watch, Any]:
    model, watch = lora(), Watch(last)
    model.get_base_model().set_attn_implementation(register())
    _, result = train_preference(model, TOKENIZER, PAIRS, config, run, callbacks=[watch])
    return model, watch, result


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Watch, Any]:
    return train(tmp_path_factory.mktemp("run"), replace(CONFIG_, sft_alpha=0.0, max_steps=4))


def test_the_adapter_learns_and_the_base_does_not(trained):
    model, watch, result = trained
    before, after = weights(lora()), weights(model)
    assert after.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "lora_" in name} == watch.learning
    assert result.steps == 4
    assert result.last["rewards/accuracies"] > result.first["rewards/accuracies"] == 0
    assert result.last["loss"] < result.first["loss"]


def test_the_reference_is_the_adapter_that_came_not_the_bare_base(trained):
    _, watch, result = trained
    start = {n.replace(".default.", ".ref."): p for n, p in weights(lora()).items()}
    assert watch.reference and all(torch.equal(p, start[n]) for n, p in watch.reference.items())
    # Policy and reference say the same before the first step: each pair costs log 2.
    assert result.first["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_the_batches_hold_prompt_answer_and_end_and_no_more(trained):
    _, watch, _ = trained
    rows = [
        (ids[mask.bool()], completion[mask.bool()])
        for batch in watch.batches
        for ids, mask, completion in zip(
            batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True
        )
    ]
    found = {TOKENIZER.decode(ids): TOKENIZER.decode(ids[mask.bool()]) for ids, mask in rows}
    wanted = {
        p["prompt"] + p[k] + "<eos>": p[k] + "<eos>" for p in PAIRS for k in p if k[0] in "cr"
    }
    assert found == wanted


def test_what_comes_back_can_be_saved_and_asked(trained, tmp_path):
    model, _, _ = trained
    assert model.get_base_model().config._attn_implementation == register()
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", CONFIG, WEIGHTS]
    assert list(model.peft_config) == ["default"] and "forward" not in vars(model.get_base_model())
    assert len(generate(model, TOKENIZER, ["a"], max_new_tokens=2)) == 1


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(tmp_path, trained):
    config = replace(CONFIG_, sft_alpha=0.0, max_steps=4)
    train(tmp_path, config, last=2)
    wanted = weights(trained[0])
    for steps in ([3, 4], []):  # the second time it had been killed after its last step
        resumed, watch, result = train(tmp_path, config)
        assert result.steps == 4 and watch.steps == steps
        assert all(torch.equal(p, wanted[name]) for name, p in weights(resumed).items())


def test_the_loss_is_that_of_the_options(tmp_path):
    options: dict[str, Any] = {"max_steps": 1, "batch_pairs": 1, "device_pairs": 1, "beta": 0.25}
    _, _, result = train(tmp_path, PreferenceConfig(**options, loss_type="ipo", sft_alpha=0.5))
    mean = -result.first["logps/chosen"] / len("SELECT 0.")
    # IPO's loss is (difference - 1 / 2β)², and there is no difference yet.
    assert result.first["loss"] == pytest.approx(4 + 0.5 * mean, rel=1e-4)


def test_a_model_without_its_one_adapter_is_refused(tmp_path):
    two = lora()
    two.add_adapter("second", two.peft_config["default"])
    for model in (llama(), two):
        with pytest.raises(RecipeError, match="must have one adapter, named 'default'"):
            train_preference(model, TOKENIZER, PAIRS, CONFIG_, tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"pairs\.jsonl:2: not JSON"),
        ("[]", r"pairs\.jsonl:2: expected an object, found list"),
        ('{"prompt": "a", "chosen": "b"}', r":2: field 'rejected' must be there and be text"),
        ('{"prompt": 1, "chosen": "b", "rejected": "c"}', r":2: field 'prompt' must be there"),
        ('{"prompt": "", "chosen": "", "rejected": "", "x": 1}', r":2: unknown field 'x'"),
    ],
)
def test_a_malformed_line_of_pairs_is_named(tmp_path, line, message):
    path = tmp_path / "pairs.jsonl"
    good = json.dumps(PAIRS[0] | {"row_id": "r1", "kind": "values"})
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(DataError, match=message):
        read_pairs(path)
    path.write_text(f"\n{good}\n\n")
    assert read_pairs(path) == PAIRS[:1]


def test_a_file_without_pairs_is_an_error(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    for name, message in (("empty.jsonl", "holds no pairs"), ("none.jsonl", "can't be read")):
        with pytest.raises(DataError, match=message):
            read_pairs(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta: must be positive"),
        ({"learning_rate": math.inf}, "learning_rate: must be positive"),
        ({"sft_alpha": -1.0}, "sft_alpha: must not be negative"),
        ({"loss_type": "hinge"}, "loss_type: must be one of sigmoid, ipo"),
        ({"batch_pairs": 5, "device_pairs": 2}, "batch_pairs: must be a multiple of device_pairs"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        PreferenceConfig(**options)


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="on one device, in one process"):
        train_preference(lora(), TOKENIZER, PAIRS, CONFIG_, tmp_path)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    llama().save_pretrained(tmp_path / "base")
    TOKENIZER.save_pretrained(tmp_path / "base")
    lora().save_pretrained(tmp_path / "bundle")
    manifest: dict[str, Any] = {"base_model": str(tmp_path / "base"), "base_model_sha256": ""}
    manifest |= {"prompt_template": TEMPLATE, "serialisation": "keys", "dialect": "sqlite"}
    manifest |= {"rank": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"], "stop": "<eos>"}
    manifest |= {"quantisation": "nf4", "data": [], "recipe": {"seed": 1}, "created": ""}
    write_manifest(tmp_path / "bundle", Manifest(**manifest, commit=""))
    return read_bundle(tmp_path / "bundle")


def command(*words: str) -> Any:
    app = Typer()
    app.command()(preference.main)
    return CliRunner().invoke(app, words)


def test_the_command_leaves_a_bundle_and_no_checkpoints(bundle, tmp_path):
    pairs, output = tmp_path / "pairs.jsonl", tmp_path / "out"
    pairs.write_text("\n".join(map(json.dumps, PAIRS)))
    words = [str(bundle.folder), "--pairs", str(pairs), "--output", str(output)]
    done = command(*words, *"max_steps=1 learning_rate=0.1 warmup_ratio=0".split())
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in output.iterdir()) == [CONFIG, WEIGHTS, "sqlwright.json"]
    made = read_bundle(output)
    step = made.manifest.recipe["continued"][0]
    assert made.manifest.recipe["seed"] == 1 and made.digest != bundle.digest
    assert (step["method"], step["from"], step["max_steps"]) == ("preference", bundle.digest, 1)
    old, new = (load_file(b.folder / WEIGHTS) for b in (bundle, made))
    assert old.keys() == new.keys() and {t.dtype for t in new.values()} == {torch.bfloat16}
    assert any(not torch.equal(old[name].bfloat16(), new[name]) for name in new)
    assert "8 of 8 pairs, 1 steps" in done.output and "rewards/margins" in done.output


def test_the_commands_mistakes_are_one_line_and_leave_nothing(bundle, tmp_path):
    pairs, output = tmp_path / "pairs.jsonl", tmp_path / "out"
    pairs.write_text(json.dumps(PAIRS[0]))
    usual = ["--pairs", str(pairs), "--output", str(output)]
    for words, part in (
        ([str(tmp_path), *usual], "incomplete: adapter_config.json"),
        ([str(bundle.folder), *usual, "betta=1"], "'betta=1': write key=value; known: beta,"),
        ([str(bundle.folder), *usual, "gradient_checkpointing=1"], "must be bool, is '1'"),
        ([str(bundle.folder), *usual, "beta=much"], "beta: must be float, is 'much'"),
        ([str(bundle.folder), *usual[:3], str(bundle.folder)], "is the bundle to start from"),
    ):
        done = command(*words)
        assert done.exit_code == 1 and part in done.output
        assert len(done.output.splitlines()) == 1 and not output.exists()
