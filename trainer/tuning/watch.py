"""What looks on while an adapter is trained: a progress bar, averaging, measuring on questions.

Which weights are published in the end follows from what was watched: the best measured ones, else
the averaged ones, else the last.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config import TrainConfig
from trainer.tuning.packing import Plan

if TYPE_CHECKING:
    from trainer.run import Prepared, Run

BEST = "best"


@dataclass(frozen=True)
class Watching:
    """Callbacks for transformers' Trainer, and the choice of weights that follows from them."""

    callbacks: tuple[Any, ...]
    average: Any = None
    best_folder: Path | None = None

    def choose(self, model: Any) -> Any:
        """`model` with the weights to publish."""
        if self.best_folder is not None:
            load_weights(model, self.best_folder)
        elif self.average is not None:
            self.average.keep(model)
        return model


def watchers(run: "Run", prepared: "Prepared") -> Watching:
    """What a recipe asks to be watched.

    Raises:
        DataError: the file of questions can't be read.
    """
    config = run.config
    average = _average(config)
    measuring = _measuring(run, average, prepared.tokenizer) if config.dev else None
    bar = progress_bar(prepared.lengths, config) if run.progress else None
    tail = _dense_tail(config, prepared.base)
    callbacks = tuple(c for c in (tail, average, measuring, bar) if c is not None)
    return Watching(callbacks, average, run.folder / BEST if measuring else None)


def _average(config: TrainConfig) -> Any:
    from trainer.tuning.averaging import ema_callback

    return ema_callback(config.ema_decay) if config.ema_decay else None


def _dense_tail(config: TrainConfig, base: Path | str) -> Any:
    from trainer.tuning.densify import dense_tail

    return dense_tail(config.dense_share, base) if config.dense_share else None


def _measuring(run: "Run", average: Any, tokenizer: Any) -> Any:
    """Measures the weights that would be published: the averaged ones, where they are averaged."""
    from trainer.pipeline.load import load_source
    from trainer.tuning.dev_set import DevSet
    from trainer.tuning.early_stopping import Rule, stop_on_accuracy

    config = run.config
    dev = DevSet(
        load_source(config.dev).rows,
        config.prompt_format,
        tokenizer,
        max_rows=config.dev_examples or None,
        merge=True,
    )
    return stop_on_accuracy(
        dev.measure,
        rule=Rule(config.check_every, config.patience or sys.maxsize),
        best_folder=run.folder / BEST,
        say=run.say,
        during=average.applied if average else lambda _: nullcontext(),
    )


def load_weights(model: Any, folder: Path) -> None:
    """Give a PEFT model the adapter weights that `weights.keep_adapter` wrote to `folder`."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    from trainer.tuning.weights import WEIGHTS

    set_peft_model_state_dict(model, load_file(folder / WEIGHTS))


def progress_bar(lengths: Sequence[int], config: TrainConfig) -> Any:
    """A callback that shows steps, tokens a second and the time left on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from transformers import TrainerCallback

    from trainer.tuning.sft import plan_of

    plan = plan_of(lengths, config)

    class ProgressBar(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            columns = (
                *(TextColumn("training"), BarColumn(), MofNCompleteColumn()),
                *(TextColumn("{task.fields[speed]}"), TimeLeft()),
            )
            self.bar = Progress(*columns, console=Console(file=sys.stderr), transient=True)
            self.task = self.bar.add_task(
                "training", total=state.max_steps, completed=state.global_step, speed=""
            )
            self.started, self.tokens = time.monotonic(), 0
            self.bar.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.tokens += step_tokens(plan, lengths, state.global_step - 1)
            rate = self.tokens / (time.monotonic() - self.started)
            loss = next((log["loss"] for log in reversed(state.log_history) if "loss" in log), None)
            shown = f"{rate:,.0f} tokens/s" + (f", loss {loss:.3f}" if loss is not None else "")
            self.bar.update(self.task, completed=state.global_step, speed=shown)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.stop()

    return ProgressBar()


def step_tokens(plan: Plan, lengths: Sequence[int], step: int) -> int:
    """Tokens of prompts and completions in step `step` (from 0) over all devices."""
    batches = plan.batches[step * plan.per_step : (step + 1) * plan.per_step]
    return sum(lengths[number] for batch in batches for number in batch)
