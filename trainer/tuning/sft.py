"""Supervised fine-tuning of a LoRA adapter over packed rows, by transformers' Trainer.

The loss is the mean cross entropy of the completions' tokens over a whole step, whatever its split
into micro batches and devices; logits are computed for these tokens only.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import RecipeError, TrainConfig
from trainer.tuning.memory import is_checkpointed, shape_of
from trainer.tuning.model import device_bytes, lora_config
from trainer.tuning.packing import Packer, Plan, plan_batches
from trainer.tuning.repeatable import repeatable

STATE = "trainer_state.json"
MIN_COMPILED_BATCHES = 500


@dataclass(frozen=True)
class TrainResult:
    """What a run did. `tokens` are those of prompts and completions, padding not counted, in this
    call (not before a resume), `seconds` its time without loading; `loss` is the mean training loss
    over the last tenth of the logged steps."""

    steps: int
    tokens: int
    loss: float
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


def num_devices() -> int:
    """How many processes train together, by `WORLD_SIZE`."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def plan_of(lengths: Sequence[int], config: TrainConfig) -> Plan:
    """The micro batches of a run by its recipe.

    Raises:
        RecipeError: the effective batch can't be shared out over the devices.
    """
    per_step = config.batch_tokens // config.device_tokens
    if per_step % num_devices():
        raise RecipeError(
            f"batch_tokens: {config.batch_tokens} is {per_step} × device_tokens "
            f"{config.device_tokens}, which {num_devices()} devices can't share evenly"
        )
    plan = plan_batches(
        lengths,
        epochs=config.epochs,
        capacity=config.device_tokens,
        per_step=per_step,
        seed=config.seed,
    )
    kept = config.max_steps * per_step or None
    return Plan(plan.batches[:kept], per_step)


def training_arguments(config: TrainConfig, run: Path, plan: Plan, *, checkpointed: bool) -> Any:
    """transformers' arguments; checkpoints go to `run`, so that a stopped run can go on."""
    import torch
    from transformers import TrainingArguments

    on_gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(run),
        max_steps=plan.num_steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=plan.per_step // num_devices(),
        gradient_checkpointing=checkpointed,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.scheduler,
        warmup_steps=config.warmup_ratio,  # below 1: a share of all steps
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        adam_beta2=config.adam_beta2,
        optim="adamw_torch_fused" if on_gpu else "adamw_torch",
        bf16=on_gpu,
        tf32=True if on_gpu else None,
        use_cpu=not on_gpu,
        seed=config.seed,
        logging_steps=max(1, min(10, plan.num_steps // 20)),
        logging_nan_inf_filter=False,  # it waits for the GPU at every step
        save_strategy="steps",
        save_steps=max(1, round(plan.num_steps * config.save_share)),
        save_total_limit=2,
        report_to=list(config.report_to) or "none",
        disable_tqdm=True,  # `watch.progress_bar` shows more
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
    )


def trainer_class() -> Any:
    """A `transformers.Trainer` that trains on packed rows by a plan.

    A function, because importing transformers takes seconds.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader
    from transformers import Trainer

    class PackedTrainer(Trainer):  # type: ignore[misc]
        def __init__(self, *, plan: Plan, packer: Packer, **options: Any) -> None:
            super().__init__(**options)
            self.plan, self.packer = plan, packer
            self.model_accepts_loss_kwargs = True  # compute_loss divides by the step's tokens

        def get_train_dataloader(self) -> Any:
            """Not prepared by accelerate: the plan itself shares out the batches."""
            mine: Any = self.plan.of_device(self.args.process_index, self.args.world_size)
            return DataLoader(
                self.train_dataset,
                batch_sampler=mine,
                collate_fn=self.packer,
                num_workers=2 if torch.cuda.is_available() else 0,
                pin_memory=torch.cuda.is_available(),
            )

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            labels = inputs.pop("labels")
            outputs = model(**inputs, max_seq_len=self.packer.max_length, use_cache=False)
            loss = cross_entropy(outputs.logits[0].float(), labels, reduction="sum")
            # The sum over all devices counts: DDP takes their mean.
            loss = loss * self.accelerator.num_processes / num_items_in_batch
            return (loss, outputs) if return_outputs else loss

        def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
            return 0

    return PackedTrainer


def train(
    model: Any,
    tokenizer: Any,
    rows: Any,
    config: TrainConfig,
    run: Path,
    *,
    say: Callable[[str], None],
    callbacks: Sequence[Any] = (),
) -> tuple[Any, TrainResult]:
    """Train an adapter on `rows`, a data set of `input_ids` and `completion_mask`; goes on from the
    last whole checkpoint in `run` where there is one. Returns the PEFT model and what was done."""
    from peft import get_peft_model

    lengths = [len(ids) for ids in rows["input_ids"]]
    plan = plan_of(lengths, config)
    packer = packer_of(plan, config, tokenizer)
    adapted = get_peft_model(model, lora_config(config))
    checkpointed = is_checkpointed(config, shape_of(model.config), device_bytes())
    if checkpointed:
        adapted.enable_input_require_grads()
    if is_compiled(config, plan):
        compile_layers(adapted)
    trainer = trainer_class()(
        model=adapted,
        args=training_arguments(config, run, plan, checkpointed=checkpointed),
        train_dataset=rows,
        plan=plan,
        packer=packer,
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    _connect(trainer)
    checkpoint = last_checkpoint(run)
    if checkpoint:
        say(f"going on from {checkpoint.name}")
    started = time.monotonic()
    with repeatable(config.deterministic):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    seen = plan.batches[done * plan.per_step : trainer.state.global_step * plan.per_step]
    tokens = sum(lengths[number] for batch in seen for number in batch)
    return trainer.model, _result(trainer, tokens, time.monotonic() - started)


def packer_of(plan: Plan, config: TrainConfig, tokenizer: Any) -> Packer:
    return Packer(
        capacity=config.device_tokens,
        max_length=config.max_length,
        max_examples=max(map(len, plan.batches)),
        pad_id=tokenizer.pad_token_id,
    )


def is_compiled(config: TrainConfig, plan: Plan) -> bool:
    """True if decoder layers are compiled: by itself on a GPU, where a run is long enough to win
    the half minute back."""
    import torch

    if config.compile != "auto":
        return config.compile == "always"
    return torch.cuda.is_available() and len(plan.batches) > MIN_COMPILED_BATCHES


def compile_layers(model: Any) -> None:
    """Compile each decoder layer by itself: they share one graph, which takes half a minute."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList):
            for layer in module:
                layer.compile(dynamic=False)
            return


def last_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint in `run`; what a kill left half-written is deleted."""
    if not run.is_dir():
        return None
    folders = [p for p in run.glob("checkpoint-*") if p.name.rpartition("-")[2].isdigit()]
    for folder in sorted(folders, key=lambda p: -int(p.name.rpartition("-")[2])):
        if _is_whole(folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)  # another process may do so as well
    return None


def _is_whole(folder: Path) -> bool:
    """True if the state is there, which is written last."""
    try:
        return bool(json.loads((folder / STATE).read_text()))
    except (OSError, ValueError):
        return False


def _connect(trainer: Any) -> None:
    """Nothing is printed for each step; callbacks that log are told where to."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    for callback in trainer.callback_handler.callbacks:
        if hasattr(callback, "attach"):
            callback.attach(trainer)


def _result(trainer: Any, tokens: int, seconds: float) -> TrainResult:
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    tail = losses[-max(1, len(losses) // 10) :]
    return TrainResult(
        steps=trainer.state.global_step,
        tokens=tokens,
        loss=sum(tail) / len(tail) if tail else float("nan"),
        seconds=seconds,
    )
