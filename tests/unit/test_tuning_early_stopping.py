"""A run that stops by what its answers are worth, and goes on after a kill as if there was none."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from eval.task.prompt import PromptFormat
from tests.unit.tiny import byte_tokenizer, lora, make_database, row_on
from trainer.tuning import dev_set as dev_module
from trainer.tuning import early_stopping as module
from trainer.tuning.accuracy import Accuracy
from trainer.tuning.dev_set import DevSet, DevSetError
from trainer.tuning.early_stopping import (
    ROUNDS,
    Round,
    Rounds,
    Rule,
    StoppingError,
    stop_on_accuracy,
)
from trainer.tuning.verdicts import verdict_of
from trainer.tuning.weights import WEIGHTS

GOLD = "SELECT count(*) FROM pet"


def rounds(tmp_path: Path, accuracies: Sequence[float], **rule: Any) -> Rounds:
    made = Rounds(tmp_path / ROUNDS, Rule(**{"every": 10, "patience": 2} | rule))
    for number, accuracy in enumerate(accuracies, start=1):
        made.add(Round(10 * number, accuracy, 0.9, 50, 1.5))
    return made


@pytest.mark.parametrize(
    ("accuracies", "min_delta", "num_vain", "best_step"),
    [
        ([0.0], 0.0, 0, 10),
        ([0.2, 0.3], 0.0, 0, 20),
        ([0.3, 0.3], 0.0, 1, 10),
        ([0.3, 0.2, 0.25], 0.0, 2, 10),
        ([0.3, 0.2, 0.31], 0.0, 0, 30),
        ([0.3, 0.31], 0.02, 1, 20),  # better, and kept, but no reason to go on
        ([0.3, 0.31, 0.325], 0.02, 0, 30),  # small gains add up
        ([0.0, 0.0, 0.0], 0.0, 2, 10),
    ],
)
def test_rounds_without_enough_gain_are_vain(tmp_path, accuracies, min_delta, num_vain, best_step):
    found = rounds(tmp_path, accuracies, min_delta=min_delta)
    assert found.num_vain == num_vain and found.is_over == (num_vain >= 2)
    assert found.best is not None and found.best.step == best_step


@pytest.mark.parametrize(
    ("every", "max_steps", "due"),
    [
        (4, 10, [4, 8, 10]),
        (1, 3, [1, 2, 3]),
        (0.25, 10, [2, 4, 6, 8, 10]),
        (0.001, 3, [1, 2, 3]),
        (50, 10, [10]),
    ],
)
def test_a_round_is_due_every_so_many_steps_and_at_the_end(every, max_steps, due):
    rule = Rule(every, patience=1)
    assert [s for s in range(1, max_steps + 1) if rule.is_due(s, max_steps)] == due


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"every": 0}, "every: steps, or a share below 1, not 0"),
        ({"every": 1.5}, "every: .* not 1.5"),
        ({"patience": 0}, "patience: must be at least 1, is 0"),
        ({"min_delta": 1}, "min_delta: a share from 0 to 1, not 1"),
        ({"min_delta": -0.1}, "min_delta"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(StoppingError, match=message):
        Rule(**{"every": 10, "patience": 2} | fields)


def test_a_run_that_goes_on_knows_the_rounds_as_far_as_its_checkpoint(tmp_path):
    before = rounds(tmp_path, [0.3, 0.2, 0.4])
    again = Rounds(tmp_path / ROUNDS, before.rule)
    again.read(step=25)
    assert again.found == before.found[:2] and again.num_vain == 1
    fresh = Rounds(tmp_path / ROUNDS, before.rule)
    fresh.read(step=0)
    assert fresh.found == [] and (tmp_path / ROUNDS).read_text() == ""


@pytest.mark.parametrize("line", ["{", "3", '{"step": 1}', '{"step": 1, "accurate": 2}'])
def test_a_file_that_holds_no_rounds_is_said(tmp_path, line):
    (tmp_path / ROUNDS).write_text(line)
    with pytest.raises(StoppingError, match=r"accuracy\.jsonl: not .*rounds"):
        Rounds(tmp_path / ROUNDS, Rule(1, 1)).read(0)


class Measured:
    """Answers what it was told, by step; remembers the weights that it was asked with."""

    def __init__(self, accuracies: Sequence[float]) -> None:
        self.accuracies, self.asked = accuracies, 0
        self.weights: list[Any] = []

    def __call__(self, model: Any) -> Accuracy:
        self.weights.append(first_factor(model).clone())
        self.asked += 1
        num_right = round(100 * self.accuracies[self.asked - 1])
        return Accuracy(num_right, 100, 80, 0, 0, ())


def first_factor(model: Any) -> Any:
    return next(p.detach() for p in model.parameters() if p.requires_grad)


class Killed(Exception):
    pass


class Run:
    """What a Trainer tells its callbacks over 8 steps; each step adds 1 to all weights."""

    def __init__(self, folder: Path, measure: Any, *, start: int = 0, **options: Any) -> None:
        self.folder, self.said, self.best = folder, list[str](), folder / "best"
        rule = options.pop("rule", Rule(every=2, patience=2))
        self.callback = stop_on_accuracy(
            measure, rule=rule, best_folder=self.best, say=self.said.append, **options
        )
        self.model = lora()
        self.args = SimpleNamespace(output_dir=str(folder))
        self.state = TrainerState(global_step=start, max_steps=8)
        self.control = TrainerControl()
        self._add(start)

    def _add(self, number: float) -> None:
        with torch.no_grad():
            for weight in self.model.parameters():
                weight += number if weight.requires_grad else 0

    def train(self) -> "Run":
        told = (self.args, self.state, self.control)
        self.callback.on_train_begin(*told, model=self.model)
        while self.steps < self.state.max_steps and not self.control.should_training_stop:
            self.control.should_save = False
            self._add(1)
            self.state.global_step += 1
            self.callback.on_step_end(*told, model=self.model)
        return self

    @property
    def steps(self) -> int:
        return int(self.state.global_step)

    @property
    def rounds(self) -> list[tuple[int, float]]:
        return rounds_in(self.folder)

    @property
    def told(self) -> list[str]:
        """What was said, without times."""
        return [re.sub(r"[0-9.]+ s;", "T s;", line) for line in self.said]

    @property
    def kept(self) -> tuple[dict[str, str], Any]:
        return kept_in(self.best)


def rounds_in(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / ROUNDS).read_text().splitlines()
    return [(r["step"], r["accuracy"]) for r in map(json.loads, lines)]


def kept_in(folder: Path) -> tuple[dict[str, str], Any]:
    """The metadata of the kept weights, and the first of their tensors."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        name = next(name for name in file.keys() if "lora_A" in name)  # noqa: SIM118
        return file.metadata(), file.get_tensor(name)


def test_a_run_stops_when_patience_is_over_and_keeps_the_best(tmp_path):
    measure = Measured([0.2, 0.4, 0.3, 0.4])
    run = Run(tmp_path, measure, rule=Rule(every=1, patience=2)).train()
    assert run.steps == 4 and run.control.should_save  # so that going on begins where it stopped
    assert run.rounds == [(1, 0.2), (2, 0.4), (3, 0.3), (4, 0.4)]
    metadata, weights = run.kept
    assert (metadata["step"], metadata["accuracy"]) == ("2", "0.400000")
    assert torch.equal(weights, measure.weights[1])
    assert not torch.equal(weights, first_factor(run.model))


def test_each_round_is_said_in_one_line_and_the_stop_in_another(tmp_path):
    run = Run(tmp_path, Measured([0.4, 0.3, 0.3])).train()
    assert run.told == [
        "step 2: dev accuracy 0.400 (n=100), 80.0% valid, T s; the best so far",
        "step 4: dev accuracy 0.300 (n=100), 80.0% valid, T s; best 0.400 at step 2",
        "step 6: dev accuracy 0.300 (n=100), 80.0% valid, T s; best 0.400 at step 2",
        "stopped at step 6: no gain over 0 in 2 rounds; best 0.400 at step 2",
    ]


def test_at_the_last_step_no_stop_is_said(tmp_path):
    run = Run(tmp_path, Measured([0.4, 0.3]), rule=Rule(every=4, patience=1)).train()
    assert run.steps == 8 and [line[:6] for line in run.said] == ["step 4", "step 8"]


def test_without_a_trainer_rounds_stand_in_the_log_history(tmp_path):
    run = Run(tmp_path, Measured([0.1, 0.2, 0.3, 0.4])).train()
    found = [(log["step"], log["eval_accuracy"]) for log in run.state.log_history]
    assert found == [(2, 0.1), (4, 0.2), (6, 0.3), (8, 0.4)]


def killing(measure: Measured, at: int) -> Any:
    def measured(model: Any) -> Accuracy:
        if measure.asked == at:
            raise Killed
        return measure(model)

    return measured


@pytest.mark.parametrize(("killed_in", "goes_on_at"), [(0, 0), (1, 2), (2, 4), (2, 2), (3, 6)])
def test_a_killed_run_has_the_same_rounds_best_and_stop(tmp_path, killed_in, goes_on_at):
    accuracies = [0.2, 0.4, 0.3, 0.3, 0.5]
    whole = Run(tmp_path / "whole", Measured(accuracies)).train()
    with pytest.raises(Killed):
        Run(tmp_path / "killed", killing(Measured(accuracies), at=killed_in)).train()
    left = Measured(accuracies[goes_on_at // 2 :])
    again = Run(tmp_path / "killed", left, start=goes_on_at).train()
    assert again.rounds == whole.rounds and again.steps == whole.steps == 8
    assert again.kept[0] == whole.kept[0] and torch.allclose(again.kept[1], whole.kept[1])
    assert again.told == whole.told[goes_on_at // 2 :]


def test_a_run_that_had_stopped_measures_nothing_more(tmp_path):
    Run(tmp_path, Measured([0.4, 0.1, 0.1])).train()
    again = Run(tmp_path, Measured([]), start=6).train()
    assert again.steps == 7 and again.said == []
    assert again.rounds == [(2, 0.4), (4, 0.1), (6, 0.1)]


def test_best_weights_that_are_gone_are_said_at_the_start(tmp_path):
    Run(tmp_path, Measured([0.2, 0.1, 0.1])).train()
    (tmp_path / "best" / WEIGHTS).unlink()
    with pytest.raises(StoppingError, match=r"knows a best adapter, but .* is missing"):
        Run(tmp_path, Measured([]), start=6).train()


def test_averaged_weights_are_measured_and_kept(tmp_path):
    @contextmanager
    def doubled(model: Any) -> Iterator[None]:
        weight = next(p for p in model.parameters() if p.requires_grad)
        own = weight.data
        weight.data = 2 * own
        yield
        weight.data = own

    run = Run(tmp_path, measure := Measured([0.4, 0.1, 0.1]), during=doubled)
    before = first_factor(run.model).clone()
    run.train()
    assert torch.equal(run.kept[1], measure.weights[0])
    assert torch.allclose(run.kept[1], 2 * (before + 2))
    assert torch.allclose(first_factor(run.model), before + 6)


def test_other_processes_do_what_the_first_decides(tmp_path, monkeypatch):
    """They neither measure nor write, but stop with it."""
    run = Run(tmp_path, Measured([]))
    run.state.is_world_process_zero = False
    monkeypatch.setattr(module, "_of_first", lambda _: run.steps == 4)
    assert run.train().steps == 4
    assert run.said == [] and list(tmp_path.iterdir()) == []


def real_trainer(folder: Path, measure: Any) -> Any:
    callback = stop_on_accuracy(
        measure, rule=Rule(every=2, patience=2), best_folder=folder / "best", say=lambda _: None
    )
    ids = byte_tokenizer()("SELECT 1")["input_ids"]
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=8, per_device_train_batch_size=1, use_cpu=True,
        learning_rate=0.01, save_steps=4, logging_steps=2, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    data = [{"input_ids": ids, "labels": ids}] * 8
    trainer = Trainer(model=lora(), args=arguments, train_dataset=data, callbacks=[callback])
    callback.attach(trainer)
    return trainer


def test_a_real_trainer_killed_goes_on_to_the_same_best_and_its_logs_are_whole(tmp_path):
    accuracies = [0.2, 0.4, 0.3, 0.3]
    whole = real_trainer(tmp_path / "whole", Measured(accuracies))
    whole.train()
    logs = whole.state.log_history
    found = [(log["step"], log["eval_accuracy"]) for log in logs if "eval_accuracy" in log]
    assert found == [(2, 0.2), (4, 0.4), (6, 0.3), (8, 0.3)]
    assert [log["step"] for log in logs if "loss" in log] == [2, 4, 6, 8]
    with pytest.raises(Killed):  # in the round of step 6
        real_trainer(tmp_path / "killed", killing(Measured(accuracies), at=2)).train()
    again = real_trainer(tmp_path / "killed", Measured(accuracies[2:]))
    again.train(resume_from_checkpoint=str(tmp_path / "killed" / "checkpoint-4"))
    assert again.state.global_step == 8
    assert rounds_in(tmp_path / "killed") == rounds_in(tmp_path / "whole")
    ours, theirs = (kept_in(tmp_path / name / "best") for name in ("killed", "whole"))
    assert ours[0] == theirs[0] and torch.equal(ours[1], theirs[1])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("dev"))


def test_a_dev_set_asks_in_the_servers_words_and_judges_by_rows(database, monkeypatch):
    def generate(model: Any, tokenizer: Any, prompts: Any, **options: Any) -> list[list[str]]:
        assert options == {"max_new_tokens": 160, "batch_size": 256}
        return [[GOLD] if "Right" in prompt else ["SELECT 3"] for prompt in prompts]

    def judge(cases: Any, *, workers: int) -> Any:
        return [verdict_of(case) for case in cases]

    monkeypatch.setattr(dev_module, "generate", generate)
    monkeypatch.setattr("trainer.tuning.accuracy.judge", judge)
    rows = [row_on(database, GOLD, id=q, question=q) for q in ("Right?", "No?", "Right!")]
    found = DevSet(rows, PromptFormat(), None).measure(None)
    assert [v.status for v in found.verdicts] == ["right", "wrong", "right"]
    assert (found.num_right, found.num_valid, found.n) == (2, 3, 3)


@pytest.mark.parametrize("merge", [False, True])
def test_a_dev_set_measures_a_model_in_training(database, monkeypatch, merge):
    monkeypatch.setattr(
        "trainer.tuning.accuracy.judge", lambda cases, workers: [verdict_of(c) for c in cases]
    )
    model = lora().train()
    dev = DevSet([row_on(database, GOLD)] * 3, PromptFormat(), byte_tokenizer(), max_rows=2,
                 max_new_tokens=3, merge=merge)  # fmt: skip
    found = dev.measure(model)
    assert (found.num_right, found.n) == (0, 2) and model.training


def test_the_same_rows_are_chosen_at_every_call(database):
    rows = [row_on(database, GOLD, id=str(i)) for i in range(50)]
    chosen = [row.id for row in DevSet(rows, PromptFormat(), None, max_rows=10).chosen]
    assert len(set(chosen)) == 10 and chosen == sorted(chosen, key=int)
    assert [r.id for r in DevSet(rows, PromptFormat(), None, max_rows=10).chosen] == chosen
    assert DevSet(rows, PromptFormat(), None, max_rows=50).chosen == rows


def test_a_row_that_has_no_schema_is_named(database):
    row = row_on(database, GOLD, schema_json="")
    with pytest.raises(DevSetError, match="row 'r1' has no schema"):
        DevSet([row], PromptFormat(), None).measure(None)
