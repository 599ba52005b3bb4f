"""When a training run was where, and how much memory it took; the same for every trainer.

A run is timed from its first step to its last, as a whole and without the first steps, in which
kernels are compiled and memory is taken for the first time.
"""

import gc
import time
from dataclasses import dataclass
from typing import Any

# Steps that are left out at the start, of long runs; of short ones a third.
WARM_UP_STEPS = 10


@dataclass(frozen=True, slots=True)
class Peak:
    """The most memory of the GPU that tensors held, and that PyTorch had taken for them; bytes."""

    allocated: int
    reserved: int


def warm_up_steps(num_steps: int) -> int:
    """How many steps are left out; at least one, but no run's only step."""
    return min(WARM_UP_STEPS, max(1, num_steps // 3), num_steps - 1)


def step_clock(warm_up: int) -> Any:
    """A callback of transformers' Trainer with the times of a run.

    Has `seconds` of the whole run and `steady_seconds` after step `warm_up`; `warm_up_tokens` are
    those that the trainer itself logged by then, where it logs any. Waits for the GPU at two steps
    only, since a wait at each would slow down what is measured.
    """
    from transformers import TrainerCallback

    class StepClock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.began = self.warm = self.ended = 0.0
            self.warm_up_tokens = 0

        @property
        def seconds(self) -> float:
            return self.ended - self.began

        @property
        def steady_seconds(self) -> float:
            return self.ended - self.warm

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = self.warm = _now()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == warm_up:
                self.warm = _now()
            if state.global_step == state.max_steps:
                self.ended = _now()

        def on_log(
            self, args: Any, state: Any, control: Any, *, logs: Any = None, **_: Any
        ) -> None:
            if state.global_step == warm_up:
                self.warm_up_tokens = int((logs or {}).get("num_tokens", 0))

    return StepClock()


def _now() -> float:
    """Seconds, when the GPU has done all that it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def forget() -> None:
    """Give back the GPU's memory of models that are gone, and count its peak anew."""
    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak() -> Peak | None:
    """The peak since `forget`; None on a CPU, where it is not counted."""
    import torch

    if not torch.cuda.is_available():
        return None
    return Peak(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
