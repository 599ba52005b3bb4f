"""Training speed against plain TRL and at a shape: both on tiny models, and their figures."""

import json
import math
from dataclasses import asdict, replace
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from typer.testing import CliRunner

from eval.task.prompt import PromptFormat
from eval.task.schema import Column, Schema, Table
from tests.unit.tiny import byte_tokenizer, llama, lora
from trainer.config import TrainConfig
from trainer.pipeline.row import Row, dump_schema
from trainer.pipeline.source import DataError
from trainer.speed.__main__ import app
from trainer.speed.block import Bench, Block, Side
from trainer.speed.clock import Peak, warm_up_steps
from trainer.speed.loss import completion_loss
from trainer.speed.ratio import Course, figure_of, losses, pairs_of, take
from trainer.speed.report import figures_of
from trainer.speed.sample import Sample, draw, load_rows
from trainer.speed.shape import (
    Speed,
    Variant,
    flops_of,
    further,
    llama_config,
    measure,
    random_base,
    random_rows,
    sweep,
)
from trainer.tuning import sft
from trainer.tuning.model import compute_dtype, lora_config

GIB = 2**30
TRL, OURS = Side("trl", 32), Side("ours", 8192)


def rows(databases: int = 6, each: int = 5) -> list[Row]:
    made = []
    for number in range(databases):
        name = f"kiosk{number}"
        schema = Schema((Table(name, (Column("id", "int"), Column("Preis in €", "real"))),))
        made += [
            Row(f"{name}-{i}", name, f"Welche über {i}?", f"SELECT id FROM {name} WHERE id > {i}")
            .with_(schema_json=dump_schema(schema))
            for i in range(each)
        ]  # fmt: skip
    return made


def drawn(**options: Any) -> Sample:
    usual = {"num_tokens": 1000, "dev_rows": 8, "max_length": 256}
    return draw(rows(), byte_tokenizer(), prompt_format=PromptFormat(), **usual | options)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    llama(hidden_size=64, intermediate_size=64, initializer_range=0.05).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("steps", "warm_up"), [(1, 0), (2, 1), (3, 1), (9, 3), (30, 10), (1000, 10)]
)
def test_the_warm_up_leaves_steps_to_time(steps, warm_up):
    assert warm_up_steps(steps) == warm_up


def names(dataset) -> set[str]:
    texts = map(byte_tokenizer().decode, dataset["input_ids"])
    return {text.split("table ")[1].split(":")[0] for text in texts}


def test_rows_to_compare_on_are_of_databases_that_are_not_trained_on():
    sample = drawn(num_tokens=10**6)
    assert names(sample.dev).isdisjoint(names(sample.train))
    assert (len(sample.dev), len(sample.train)) == (10, 20)


def test_a_sample_has_the_tokens_asked_for_and_its_beginning_fewer():
    sample = drawn()
    assert 1000 <= sample.num_tokens < 1000 + 256
    fewer = sample.first(300)
    assert 300 <= fewer.num_tokens < 300 + 256
    assert fewer.lengths == sample.lengths[: len(fewer.train)]


def test_a_sample_is_the_same_each_time():
    assert drawn().train["input_ids"] == drawn().train["input_ids"]
    assert drawn().train["input_ids"] != drawn(seed=2).train["input_ids"]


def test_rows_of_one_database_cannot_be_compared():
    with pytest.raises(DataError, match="at least two databases"):
        draw(
            rows(1), byte_tokenizer(), num_tokens=9, dev_rows=1, max_length=256,
            prompt_format=PromptFormat(),
        )  # fmt: skip


def test_rows_of_the_data_pipeline_are_read_back(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows()))
    assert load_rows(path) == rows()


@pytest.mark.parametrize("text", ["", "{", '{"schema_json": "", "naem": 1}\n', "[1]\n"])
def test_a_file_that_has_no_rows_is_refused_by_name(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match="rows"):
        load_rows(path)


def block(side: Side, rate: float, *, lr: float = 1e-3, loss: float | None = 1.0) -> Block:
    usual: dict[str, Any] = {
        "steps": 30,
        "tokens": 3000,
        "seconds": 3000 / rate + 1,
        "steady_tokens": 2000,
    }
    usual |= {"steady_seconds": 2000 / rate, "peak": Peak(GIB, 2 * GIB)}
    return Block(side, lr, **usual, dev_loss=loss)


class FakeBench:
    def __init__(self) -> None:
        self.asked: list[tuple[Side, float, int | None]] = []

    def run(self, side, learning_rate, *, num_tokens=None):
        self.asked.append((side, learning_rate, num_tokens))
        loss = 1.0 if num_tokens is None else None
        return block(side, 100 if side.who == "trl" else 700, lr=learning_rate, loss=loss)


COURSE = Course((32, 8), (8192,), (1e-3, 2e-3), pairs=3, num_tokens=4000)


def test_trl_and_ours_take_turns_with_a_learning_rate_for_each_pair():
    bench = FakeBench()
    found = list(take(COURSE, bench, is_late=lambda: False))
    assert bench.asked == [
        (TRL, 1e-3, None), (OURS, 1e-3, None),
        (TRL, 2e-3, None), (OURS, 2e-3, None),
        (TRL, 1e-3, None), (OURS, 1e-3, None),
        (Side("trl", 8), 1e-3, 1000),
    ]  # fmt: skip
    assert len(pairs_of(found)) == 3


def test_the_first_pair_is_made_even_when_it_is_late():
    found = list(take(COURSE, FakeBench(), is_late=lambda: True))
    assert [each.side for each in found] == [TRL, OURS]


def test_more_epochs_of_ours_are_said():
    course = replace(COURSE, our_epochs=3)
    blocks = list(take(course, FakeBench(), is_late=lambda: False))
    assert [block.side.name for block in blocks[:2]] == [
        "trl, 32 examples a step", "ours, 8,192 tokens a step, 3 epochs"
    ]  # fmt: skip
    notes = figure_of("x", blocks, is_whole=True, context="").notes
    assert "1 epoch by TRL, 3 by ours" in notes


def test_a_block_of_several_epochs_counts_all_its_tokens(base):
    config = TrainConfig("x", rank=4, max_length=256, compile="never")
    bench = Bench(base, byte_tokenizer(), config, drawn())
    once, twice = (bench.run(Side("ours", 512, epochs), 1e-3) for epochs in (1, 2))
    assert twice.tokens == 2 * once.tokens
    assert twice.steps > once.steps
    assert twice.dev_loss != once.dev_loss


def test_the_figure_is_the_median_ratio_of_the_pairs_with_their_range():
    blocks = [block(TRL, 100), block(OURS, 500), block(TRL, 50), block(OURS, 350)]
    blocks += [block(TRL, 100), block(OURS, 900), block(TRL, 100)]
    blocks.append(block(Side("trl", 8), 10, loss=None))
    found = figure_of("ratio", blocks, is_whole=True, context="tiny")
    assert (found.value, found.interval, found.n) == (7.0, (5.0, 9.0), 3)
    assert [row["blocks"] for row in found.rows] == [4, 3, 1]
    assert (found.rows[0]["peak_gib"], found.rows[0]["reserved_gib"]) == (1.0, 2.0)
    assert found.rows[1]["tokens_per_second_whole"] == [429, 313, 692]
    assert "stopped" not in found.notes


def test_an_unfinished_comparison_says_so():
    blocks = [block(TRL, 100), block(OURS, 500)]
    found = figure_of("ratio", blocks, is_whole=False, context="tiny")
    assert found.interval is None
    assert found.notes.endswith("stopped before all blocks were done")
    with pytest.raises(ValueError, match="no pair"):
        figure_of("ratio", blocks[:1], is_whole=False, context="tiny")


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [((1.2, 0.9), "no higher"), ((1.0, 1.1), "no higher"), ((1.3, 1.1), "HIGHER")],
)
def test_each_side_is_judged_by_its_best_learning_rate(ours, verdict):
    rates = (1e-3, 2e-3)
    pairs = [
        (block(TRL, 1, lr=lr, loss=trl), block(OURS, 1, lr=lr, loss=loss))
        for lr, trl, loss in zip(rates, (1.0, 1.5), ours, strict=True)
    ]
    assert losses(pairs).endswith(verdict)
    assert f"dev loss {min(ours):.4f}" in losses(pairs)


def test_the_loss_is_that_of_each_example_by_itself():
    model, data = lora(), drawn().dev
    total = count = 0.0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for row in data:
            ids = torch.tensor([row["input_ids"]])
            logs = model(input_ids=ids).logits.float().log_softmax(-1)[0, :-1]
            taken = logs.gather(1, ids[0, 1:, None])[:, 0]
            mask = torch.tensor(row["completion_mask"][1:])
            total, count = total - float((taken * mask).sum()), count + int(mask.sum())
    assert completion_loss(model, data, 0, device_tokens=300) == pytest.approx(total / count, 1e-2)


def test_trl_and_ours_train_on_the_same_tokens_and_are_compared_alike(base):
    config = TrainConfig(
        alias="x", rank=4, max_length=256, batch_tokens=512, device_tokens=512, compile="never"
    )
    bench = Bench(base, byte_tokenizer(), config, drawn())
    trl, ours = bench.run(Side("trl", 4), 0.02), bench.run(Side("ours", 512), 0.02)
    for each in (trl, ours):
        assert each.tokens == bench.sample.num_tokens
        assert 0 < each.steady_tokens < each.tokens
        assert 0 < each.steady_seconds < each.seconds
        assert each.dev_loss is not None
        assert each.dev_loss < math.log(259) - 0.1  # what is known without training
    fewer = bench.run(Side("ours", 512), 0.02, num_tokens=400)
    assert 400 <= fewer.tokens < ours.tokens
    assert fewer.dev_loss is None


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr("trainer.speed.shape.MOST_STEPS", 1)


def tiny_base() -> Any:
    return random_base(llama_config(layers=2, hidden=64, max_length=16))


def test_a_random_base_is_in_4_bits_but_for_its_embeddings():
    model = tiny_base()
    quantised = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(quantised) == 2 * 7
    assert all(m.weight.dtype == torch.uint8 for m in quantised)
    assert all(m.weight.quant_state.nested for m in quantised)
    assert not any(p.is_meta for p in model.parameters())
    assert not any(b.is_meta for b in model.buffers())
    assert model.lm_head.weight.dtype == compute_dtype()
    assert float(model.lm_head.weight.float().std()) == pytest.approx(0.02, rel=0.05)


def test_llama_2_7b_is_the_usual_shape_and_its_flops_are_counted_by_what_multiplies():
    config = llama_config(layers=32, hidden=4096, max_length=1024)
    sizes = (config.intermediate_size, config.num_attention_heads, config.head_dim)
    assert sizes == (11_008, 32, 128)
    multiplied = 6_738_415_616 - 32_000 * 4096 - 65 * 4096
    found = flops_of(config)
    assert found.full == 6 * multiplied
    assert found.lora == 4 * multiplied + 6 * 8_388_608


def test_a_variant_is_timed_and_leaves_the_base_as_it_was(few_steps):
    model = tiny_base()
    found = measure(model, Variant(32), 16)
    assert found.rate > 0
    assert found.error == ""
    assert not any(isinstance(m, BaseTunerLayer) for m in model.modules())
    assert not any(p.requires_grad for p in model.parameters())


def test_a_variant_that_runs_out_of_memory_is_a_result_and_leaves_the_base_as_it_was(monkeypatch):
    def boom(model, tokenizer, rows, config, *_, **__):
        get_peft_model(model, lora_config(config))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(sft, "train", boom)
    model = tiny_base()
    found = measure(model, Variant(32), 16)
    assert found.error == "OutOfMemoryError: CUDA out of memory."
    assert found.rate == 0
    assert not any(isinstance(m, BaseTunerLayer) for m in model.modules())


def test_batches_grow_as_long_as_it_pays(monkeypatch):
    rates = {16: 100.0, 32: 200.0, 64: 203.0, 128: 999.0}

    def told(model, variant, length):
        return Speed(variant, rates[variant.tokens] * (2 if variant.is_dequantised else 1))

    monkeypatch.setattr("trainer.speed.shape.measure", told)
    options: dict[str, Any] = {"length": 16, "compiles": False, "memory_bytes": 80 * GIB}
    found = list(sweep(tiny_base(), (128, 16, 64, 32), **options, is_late=lambda: False))
    assert [speed.variant.tokens for speed in found[:3]] == [16, 32, 64]
    kept = Variant(64, is_checkpointed=False)
    assert [speed.variant for speed in found[3:]] == [kept, replace(kept, is_dequantised=True)]
    assert len(list(sweep(tiny_base(), (16, 32), **options, is_late=lambda: True))) == 1


def test_activations_are_kept_only_where_the_estimate_says_that_they_fit():
    config = llama_config(layers=32, hidden=4096, max_length=1024)
    sizes = (1024, 4096, 16_384, 65_536)
    assert further(config, 16_384, sizes, False, 4 * GIB) == []
    assert further(config, 16_384, sizes, True, 24 * GIB) == [
        Variant(16_384, is_compiled=True),
        Variant(1024, is_compiled=True),
        Variant(4096, is_compiled=True, is_checkpointed=False),
        Variant(1024, is_compiled=True, is_checkpointed=False, is_dequantised=True),
    ]


def test_all_tokens_of_random_rows_but_the_first_have_a_loss():
    data = random_rows(2, 8, llama_config(layers=1, hidden=64, max_length=8))
    assert data["completion_mask"] == [[0] + [1] * 7] * 2
    assert len(set(map(tuple, data["input_ids"]))) == 2


def test_the_shapes_figures_are_the_best_speed_and_the_memory_of_batch_1():
    flops = flops_of(llama_config(layers=32, hidden=4096, max_length=1024))
    speeds = [
        Speed(Variant(1024), 1000.0, Peak(4 * GIB, 5 * GIB)),
        Speed(Variant(4096), error="OutOfMemoryError: no"),
        Speed(Variant(1024, is_compiled=True), 2000.0, Peak(4 * GIB, 6 * GIB)),
        Speed(Variant(1024, is_dequantised=True), 9000.0, Peak(20 * GIB, 20 * GIB)),
    ]
    speed, memory = figures_of("shape", speeds, flops, peak_tflops=790, context="tiny")
    assert (speed.figure, speed.value) == ("shape_tokens_per_second", 9000.0)
    assert (memory.figure, memory.value, memory.n) == ("shape_peak_gib", 6.0, 2)
    assert [row.get("error") for row in speed.rows] == [None, "OutOfMemoryError: no", None, None]
    assert speed.rows[3]["mfu_6n"] == round(9000 * flops.full / 790e12, 4)
    assert speed.rows[3]["mfu_4n"] == round(9000 * flops.lora / 790e12, 4)
    unknown = figures_of("shape", [Speed(Variant(16), 1.0)], flops, peak_tflops=790, context="cpu")
    assert [each.figure for each in unknown] == ["shape_tokens_per_second"]


def test_the_shape_command_writes_the_figure_and_ends_in_json(tmp_path, few_steps):
    words = "shape --layers 1 --hidden 64 --length 16 --tokens 16 --no-compile --results"
    done = CliRunner().invoke(app, [*words.split(), str(tmp_path)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output.splitlines()[-1])["train_7b_shape_tokens_per_second"]
    assert [path.name for path in tmp_path.iterdir()] == [f"{told['figure']}.json"]
    assert told["value"] == json.loads(next(tmp_path.iterdir()).read_text())["value"] > 0
    assert math.isfinite(told["rows"][0]["mfu_4n"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "--data is needed"),
        ("--data nowhere.jsonl", "nowhere.jsonl"),
        ("--data x --batch-tokens 16", "device_tokens: must hold one example"),
        ("shape --tokens 100", "multiples of --length"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tmp_path, words, said):
    options = [] if words.startswith("shape") else ["--results", str(tmp_path)]
    done = CliRunner().invoke(app, [*words.split(), *options])
    assert done.exit_code == 1
    assert said in done.output
    assert len(done.output.splitlines()) == 1
