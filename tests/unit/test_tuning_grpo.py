"""GRPO: what a query is worth, which rows are learnt from, and what training moves."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback
from typer import Typer
from typer.testing import CliRunner

from eval.task.bundle import WEIGHTS, Manifest, read_bundle, write_manifest
from eval.task.prompt import TEMPLATE, PromptFormat
from tests.unit.tiny import byte_tokenizer, llama, lora, make_database, row_on
from trainer.config import RecipeError
from trainer.pipeline.row import Row
from trainer.tuning import grpo
from trainer.tuning.attention import register
from trainer.tuning.dev_set import prompt_of
from trainer.tuning.grpo import GrpoConfig, execution_reward, learnable, order_of, train_grpo
from trainer.tuning.verdicts import Case, Verdict, verdict_of

FORM = PromptFormat()
TOKENIZER = byte_tokenizer()
SMALL = GrpoConfig(
    steps=2,
    learning_rate=0.01,
    num_generations=4,
    prompts_per_step=2,
    device_completions=4,
    max_completion_length=5,
    warmup_ratio=0.0,
)
COUNT = "SELECT count(*) FROM pet"


@pytest.fixture(scope="module", autouse=True)
def _little_garbage() -> Iterator[None]:
    """Training collects garbage when it ends: half a second over all that is imported by then."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("grpo"))


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The cases that are judged; in this process, since others take seconds to start."""
    seen: list[Case] = []

    def judge(cases: list[Case], *, workers: int) -> list[Verdict]:
        seen.extend(cases)
        return [verdict_of(case) for case in cases]

    monkeypatch.setattr(grpo, "judge", judge)
    return seen


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("SELECT COUNT(id) FROM pet", 1.0),
        ("Sure:\n```sql\nSELECT COUNT(id) FROM pet;\n```", 1.0),
        ("SELECT COUNT(kind) FROM pet", 0.2),
        ("SELECT id FROM pet", 0.2),  # more rows than the gold query: cut, but it ran
        ("SELECT ABS(-9223372036854775807 - 1) FROM pet", 0.1),  # valid, and fails when it is run
        ('SELECT "kindd" FROM pet', 0.0),  # runs, as a text: the check refuses the name
        ("SELECT COUNT(*) FROM pets", 0.0),
        ("SELECT COUNT(*) FROM pet WHERE", 0.0),
        ("DELETE FROM pet", 0.0),
        ("I don't know.", 0.0),
        ("", 0.0),
    ],
)
def test_what_a_query_is_worth(database, text, reward):
    rows = [row_on(database, "SELECT 1"), row_on(database, COUNT)]
    found = execution_reward(rows, workers=1)(completions=[text], row=[1], prompts=["?"])
    assert found == [reward]


def test_each_completion_is_judged_by_its_own_row_and_once(database, judged):
    rows = [row_on(database, f"SELECT {i}") for i in range(3)]
    answers = ["SELECT 2", "SELECT 2", "SELECT 1", "SELECT 2"]
    places = [2, 2, 1, 0]
    # SELECT 2 for SELECT 0 runs, and passes the check.
    assert execution_reward(rows, 1)(completions=answers, row=places) == [1.0, 1.0, 1.0, 0.2]
    assert [(c.row.sql[-1], c.predicted[-1]) for c in judged] == [
        ("2", "2"),
        ("1", "1"),
        ("0", "2"),
    ]


def test_rows_whose_reward_tells_nothing_are_left_out(database):
    golds = [COUNT, "SELECT id FROM pet WHERE id > 9", "SELECT nothing FROM pet"]
    rows = [row_on(database, sql) for sql in golds] + [row_on(database, COUNT, database="")]
    kept, reasons = learnable(rows, workers=1)
    assert kept == rows[:1]
    assert reasons == {"gold_tells_nothing": 1, "gold_fails": 1, "no_database": 1}


class Watch(TrainerCallback):  # type: ignore[misc]
    """Stops training after `last` steps; remembers the adapters that the model had meanwhile."""

    def __init__(self, last: int = 99) -> None:
        self.last = last
        self.adapters: list[str] = []
        self.learning: set[str] = set()

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        self.adapters = sorted(model.peft_config)
        self.learning = {n for n, p in model.named_parameters() if p.requires_grad}
        control.should_training_stop |= state.global_step == self.last


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def chance(cases: list[Case], *, workers: int) -> list[Verdict]:
    """What a random model writes is never right, and would earn nothing to learn from."""
    return [
        Verdict("right", is_telling=True)
        if case.predicted == case.row.sql or crc32(case.predicted.encode()) % 2
        else Verdict("failed", "error")
        for case in cases
    ]


@pytest.fixture
def rows(database: Path) -> list[Row]:
    return [row_on(database, COUNT, question=f"How many{'?' * i}") for i in range(5)]


def train(
    rows: list[Row], run: Path, config: GrpoConfig = SMALL, last: int = 99
) -> tuple[Any, Watch, Any]:
    model, watch = lora(), Watch(last)
    model.get_base_model().set_attn_implementation(register())
    _, result = train_grpo(model, TOKENIZER, rows, FORM, config, run, callbacks=[watch])
    return model, watch, result


def test_the_adapter_learns_from_the_right_rows(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo, "judge", chance)
    asked: list[tuple[str, Row]] = []
    prompt_ids: list[list[int]] = []

    def watched(kept: list[Row], workers: int) -> Any:
        reward = execution_reward(kept, workers)

        def execution(prompts: list[str], row: list[int], **options: Any) -> list[float]:
            asked.extend((prompt, kept[place]) for prompt, place in zip(prompts, row, strict=True))
            return reward(row=row, **options)

        return execution

    tokenised = TOKENIZER.__class__.__call__

    def spy(self: Any, text: Any = None, **options: Any) -> Any:
        found = tokenised(self, text=text, **options)
        prompt_ids.extend(found["input_ids"])
        return found

    monkeypatch.setattr(grpo, "execution_reward", watched)
    monkeypatch.setattr(TOKENIZER.__class__, "__call__", spy)
    model, watch, result = train(rows, tmp_path)
    before, after = weights(lora()), weights(model)
    assert after.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "lora_" in name} == watch.learning
    assert len(asked) == 2 * 8 and all(prompt == prompt_of(row, FORM) for prompt, row in asked)
    wanted = [tokenised(TOKENIZER, prompt_of(row, FORM))["input_ids"] for row in rows]
    assert prompt_ids and all(ids in wanted for ids in prompt_ids)
    assert result.steps == 2 and 0 < result.first["reward"] < 1
    assert model.get_base_model().config._attn_implementation == register()
    assert list(model.peft_config) == ["default"] == watch.adapters


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(rows, tmp_path, monkeypatch):
    """With a reference, so that checkpoints hold two adapters."""
    monkeypatch.setattr(grpo, "judge", chance)
    config = GrpoConfig(**{**vars(SMALL), "beta": 0.1, "steps": 3})
    whole, watch, result = train(rows, tmp_path / "whole", config)
    assert watch.adapters == ["default", "ref"] and list(whole.peft_config) == ["default"]
    assert result.first["kl"] == pytest.approx(0.0, abs=1e-6) and result.last["kl"] > 0
    train(rows, tmp_path / "killed", config, last=2)
    resumed, _, result = train(rows, tmp_path / "killed", config)
    wanted = weights(whole)
    assert result.steps == 3
    assert all(torch.equal(p, wanted[name]) for name, p in weights(resumed).items())


def test_every_epoch_takes_each_row_once_in_an_order_of_its_own():
    config = GrpoConfig(**{**vars(SMALL), "steps": 5, "steps_per_generation": 2})
    order = order_of(5, config)  # three samplings, each for two steps of two prompts
    assert len(order) == 12 and set(order[:5]) == set(order[5:10]) == set(range(5))
    assert order[:5] != order[5:10] and order == order_of(5, config)
    assert order != order_of(5, GrpoConfig(**{**vars(config), "seed": 2}))


def test_too_few_questions_are_refused(rows, tmp_path):
    config = GrpoConfig(**{**vars(SMALL), "prompts_per_step": 6})
    with pytest.raises(RecipeError, match="6 questions are sampled at a time, 5 are left"):
        train(rows, tmp_path, config)
    config = GrpoConfig(**{**vars(SMALL), "max_prompt_length": 10})
    with pytest.raises(RecipeError, match="2 questions are sampled at a time, 0 are left"):
        train(rows, tmp_path, config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: must be positive"),
        ({"temperature": 0.0}, "temperature: must be positive"),
        ({"beta": -0.1}, "beta: must not be negative"),
        ({"num_generations": 1}, "num_generations: a group needs at least 2"),
        ({"loss_type": "ppo"}, "loss_type: must be one of dapo, grpo, dr_grpo, bnpo"),
        ({"device_completions": 3}, "must divide prompts_per_step × num_generations"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        GrpoConfig(**options)


def command(*words: str) -> Any:
    app = Typer()
    app.command()(grpo.main)
    return CliRunner().invoke(app, words)


def test_the_command_leaves_a_bundle_and_no_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(grpo, "judge", chance)
    (tmp_path / "databases").mkdir()
    make_database(tmp_path / "databases")
    row = {"db_id": "shops", "sql": COUNT}
    lines = [json.dumps(row | {"id": str(i), "question": f"How{i}?"}) for i in range(4)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    llama().save_pretrained(tmp_path / "base")
    TOKENIZER.save_pretrained(tmp_path / "base")
    lora().save_pretrained(tmp_path / "bundle")
    manifest: dict[str, Any] = {"base_model": str(tmp_path / "base"), "base_model_sha256": ""}
    manifest |= {"prompt_template": TEMPLATE, "serialisation": "keys", "dialect": "sqlite"}
    manifest |= {"rank": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"], "stop": "<eos>"}
    manifest |= {"quantisation": "nf4", "data": [], "recipe": {}, "created": "", "commit": ""}
    write_manifest(tmp_path / "bundle", Manifest(**manifest))
    files = ["--data", str(tmp_path / "train.jsonl"), "--output", str(tmp_path / "out")]
    words = [str(tmp_path / "bundle"), *files, "--steps", "1", "num_generations=2"]
    done = command(*words, "prompts_per_step=2", "device_completions=4", "max_completion_length=4")
    assert done.exit_code == 0, done.output
    made = read_bundle(tmp_path / "out")
    assert {p.name for p in made.folder.iterdir()} == {*made.manifest.files, "sqlwright.json"}
    step = made.manifest.recipe["continued"][0]
    assert (step["method"], step["steps"], step["num_generations"]) == ("grpo", 1, 2)
    assert {t.dtype for t in load_file(made.folder / WEIGHTS).values()} == {torch.bfloat16}
    assert "4 of 4 questions (none left out), 1 steps" in done.output
    done = command(*words, "seed=x")
    assert done.exit_code == 1 and done.output.endswith("error: seed: must be int, is 'x'\n")
