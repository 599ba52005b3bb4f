"""Early stopping on what counts: execution accuracy on dev questions, by real generation.

Each round is a line of `accuracy.jsonl` beside the checkpoints, and the best adapter a folder of
its own. Both are read again when a killed run goes on, so that it has the same best and the same
patience left. Knows nothing of data files or bundles.
"""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer.tuning.accuracy import Accuracy
from trainer.tuning.weights import WEIGHTS, keep_adapter, write_whole

ROUNDS = "accuracy.jsonl"

Say = Callable[[str], None]
Measure = Callable[[Any], Accuracy]
# A context in which the model has the weights that are measured and kept: averaged ones.
During = Callable[[Any], AbstractContextManager[Any]]


class StoppingError(ValueError):
    """Rounds that can't be held or read back; the message says which setting or file."""


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement: shares from 0 to 1 of `n` dev questions, after `step` optimiser steps."""

    step: int
    accuracy: float
    valid: float
    n: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A round every `every` steps (below 1: that share of the run's steps, as in transformers'
    `eval_steps`) and at the end; over after `patience` rounds in a row without a gain of more than
    `min_delta` over the best one before them."""

    every: float
    patience: int
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.every <= 0 or (self.every > 1 and self.every != int(self.every)):
            raise StoppingError(f"every: steps, or a share below 1, not {self.every:g}")
        if self.patience < 1:
            raise StoppingError(f"patience: must be at least 1, is {self.patience}")
        if not 0 <= self.min_delta < 1:
            raise StoppingError(f"min_delta: a share from 0 to 1, not {self.min_delta:g}")

    def is_due(self, step: int, max_steps: int) -> bool:
        every = int(self.every) if self.every >= 1 else max(1, round(self.every * max_steps))
        return step % every == 0 or step == max_steps


@dataclass
class Rounds:
    """The rounds of one run, in order, kept in the file `path`."""

    path: Path
    rule: Rule
    found: list[Round] = field(default_factory=list)

    @property
    def best(self) -> Round | None:
        """The most accurate round, the first of equals."""
        return max(self.found, key=lambda r: (r.accuracy, -r.step), default=None)

    @property
    def num_vain(self) -> int:
        """Rounds since the last that gained over `min_delta`; small gains add up to one."""
        mark, vain = -1.0, 0
        for each in self.found:
            gained = each.accuracy > mark + self.rule.min_delta or mark < 0
            mark, vain = (each.accuracy, 0) if gained else (mark, vain + 1)
        return vain

    @property
    def is_over(self) -> bool:
        return self.num_vain >= self.rule.patience

    def add(self, new: Round) -> None:
        """Keep a round; the file is replaced as a whole."""
        self.found.append(new)
        self._write()

    def read(self, step: int) -> None:
        """Take up the file's rounds as far as `step`; a run that goes on there repeats the others.

        Raises:
            StoppingError: a line is malformed.
        """
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        try:
            rounds = [Round(**json.loads(line)) for line in lines]
        except (TypeError, ValueError) as error:
            raise StoppingError(
                f"{self.path}: not a file of rounds ({error}); delete it"
            ) from error
        self.found = [each for each in rounds if each.step <= step]
        if len(self.found) < len(rounds):
            self._write()

    def _write(self) -> None:
        text = "".join(json.dumps(asdict(each)) + "\n" for each in self.found)
        write_whole(self.path, text.encode())


def stop_on_accuracy(
    measure: Measure,
    *,
    rule: Rule,
    best_folder: Path,
    say: Say,
    during: During = lambda _: nullcontext(),
) -> Any:
    """A callback of transformers' Trainer: measures by `rule`, keeps the best adapter's weights in
    `best_folder`, and stops all processes together.

    `measure` (`DevSet.measure`) is called in the first process only. Call the callback's
    `attach(trainer)`, so that rounds reach `report_to`; else they are but in `log_history`.
    A function, because importing transformers takes seconds.
    """
    from transformers import TrainerCallback

    class StopOnAccuracy(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rounds: Rounds | None = None
            self.was_over = False
            self.log: Callable[[dict[str, float]], None] | None = None

        def attach(self, trainer: Any) -> None:
            self.log = trainer.log

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.rounds = Rounds(Path(args.output_dir) / ROUNDS, rule)
            if state.is_world_process_zero:
                self.rounds.read(state.global_step)
                _expect_best(self.rounds, best_folder)
            self.was_over = _of_first(self.rounds.is_over)

        def on_step_end(
            self, args: Any, state: Any, control: Any, *, model: Any = None, **_: Any
        ) -> None:
            assert self.rounds is not None
            if self.was_over:  # a run that had stopped: Trainer takes a step before it asks
                control.should_training_stop = True
                return
            if not rule.is_due(state.global_step, state.max_steps):
                return
            if state.is_world_process_zero:
                self._round(model, state, control)
            if _of_first(self.rounds.is_over):
                control.should_training_stop = control.should_save = True

        def _round(self, model: Any, state: Any, control: Any) -> None:
            assert self.rounds is not None
            with during(model):
                new = _measured(measure, model, state.global_step)
                best = self.rounds.best
                if best is None or new.accuracy > best.accuracy:
                    keep_adapter(model, best_folder, _metadata(new))
            self.rounds.add(new)  # after the weights: a kill between repeats the round
            self._log(new, state, control)
            for line in _lines(self.rounds, is_last=state.global_step >= state.max_steps):
                say(line)

        def _log(self, new: Round, state: Any, control: Any) -> None:
            record = {f"eval_{k}": v for k, v in asdict(new).items() if k not in ("step", "n")}
            if self.log is None:
                state.log_history.append({**record, "step": new.step})
                return
            is_logged = control.should_log  # Trainer.log takes its own call for the step's
            self.log(record)
            control.should_log = is_logged

    return StopOnAccuracy()


def _measured(measure: Measure, model: Any, step: int) -> Round:
    started = time.monotonic()
    found = measure(model)
    valid = found.num_valid / found.n if found.n else 0.0
    return Round(step, found.value, valid, found.n, round(time.monotonic() - started, 3))


def _metadata(best: Round) -> dict[str, str]:
    return {"step": str(best.step), "accuracy": f"{best.accuracy:.6f}", "n": str(best.n)}


def _expect_best(rounds: Rounds, folder: Path) -> None:
    """Raises StoppingError where rounds are known, but not the best one's weights."""
    if rounds.best and not (folder / WEIGHTS).is_file():
        raise StoppingError(
            f"{rounds.path} knows a best adapter, but {folder / WEIGHTS} is missing; "
            "delete the run's folder to begin anew"
        )


def _of_first(decision: bool) -> bool:
    """The first process's decision, in every process."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return decision
    shared = [decision]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


def _lines(rounds: Rounds, *, is_last: bool) -> list[str]:
    new, best = rounds.found[-1], rounds.best
    assert best is not None
    place = "the best so far" if best is new else f"best {best.accuracy:.3f} at step {best.step}"
    lines = [
        f"step {new.step}: dev accuracy {new.accuracy:.3f} (n={new.n}), {new.valid:.1%} valid, "
        f"{new.seconds:.1f} s; {place}"
    ]
    if rounds.is_over and not is_last:
        lines.append(
            f"stopped at step {new.step}: no gain over {rounds.rule.min_delta:g} in "
            f"{rounds.num_vain} rounds; best {best.accuracy:.3f} at step {best.step}"
        )
    return lines
