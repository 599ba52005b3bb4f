"""One block of the comparison: a trainer trains on a sample from the start, and is measured.

Plain TRL is `SFTTrainer` with `SFTConfig`'s defaults on an NF4 base, as TRL's documentation shows
QLoRA. Said outright is but what the comparison needs: the loss on completions only, which is TRL's
default for prompts and completions given as text; the same LoRA; one epoch; no files written.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trainer.config import TrainConfig
from trainer.speed.clock import Peak, forget, peak, step_clock, warm_up_steps
from trainer.speed.loss import completion_loss
from trainer.speed.sample import Sample

Who = Literal["trl", "ours"]


@dataclass(frozen=True, slots=True)
class Side:
    """A trainer with its effective batch size (examples for TRL, tokens for ours) and how often it
    goes through the sample."""

    who: Who
    batch: int
    epochs: int = 1

    @property
    def name(self) -> str:
        name = f"{self.who}, {self.batch:,} {'examples' if self.who == 'trl' else 'tokens'} a step"
        return name if self.epochs == 1 else f"{name}, {self.epochs} epochs"


@dataclass(frozen=True, slots=True)
class Block:
    """What was measured: tokens are those of prompts and completions, padding not counted; the
    `steady_` ones come after the warm-up. `dev_loss` None: not asked for."""

    side: Side
    learning_rate: float
    steps: int
    tokens: int
    seconds: float
    steady_tokens: int
    steady_seconds: float
    peak: Peak | None
    dev_loss: float | None

    @property
    def rate(self) -> float:
        """Tokens a second after the warm-up."""
        return self.steady_tokens / self.steady_seconds

    @property
    def whole_rate(self) -> float:
        """Tokens a second from the first step to the last, compilation included."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Bench:
    """What all blocks share. `config` says how ours trains; of it TRL takes the LoRA."""

    base: Path | str
    tokenizer: Any
    config: TrainConfig
    sample: Sample

    def run(self, side: Side, learning_rate: float, *, num_tokens: int | None = None) -> Block:
        """One block from a fresh adapter; with `num_tokens` on so many only, and without the loss
        on held-out rows, which would tell nothing then."""
        forget()
        sample = self.sample if num_tokens is None else self.sample.first(num_tokens)
        config = replace(
            self.config, learning_rate=learning_rate, epochs=side.epochs, save_share=1.0
        )
        if side.who == "ours":
            config = replace(config, batch_tokens=side.batch, device_tokens=side.batch)
        trainers: dict[Who, Callable[..., tuple[Any, Block]]] = {
            "trl": train_trl,
            "ours": train_ours,
        }
        with tempfile.TemporaryDirectory(prefix="sqlwright-speed-") as folder:
            model, block = trainers[side.who](self, side, config, sample, Path(folder))
        if num_tokens is None:
            pad_id = self.tokenizer.pad_token_id
            block = replace(block, dev_loss=completion_loss(model, sample.dev, pad_id))
        return block


def train_trl(
    bench: Bench, side: Side, config: TrainConfig, sample: Sample, folder: Path
) -> tuple[Any, Block]:
    """Plain TRL on `sample`."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from trainer.tuning.model import compute_dtype, device, lora_config

    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype(),
    )
    model = AutoModelForCausalLM.from_pretrained(
        bench.base,
        quantization_config=quantisation,
        dtype=compute_dtype(),
        device_map={"": device()},
    )
    steps = side.epochs * -(-len(sample.train) // side.batch)
    warm_up = warm_up_steps(steps)
    clock = step_clock(warm_up)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder),
            num_train_epochs=side.epochs,
            per_device_train_batch_size=side.batch,
            learning_rate=config.learning_rate,
            max_length=config.max_length,
            completion_only_loss=True,
            logging_steps=max(1, warm_up),  # 10, TRL's default, unless the run is short
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=config.seed,
            use_cpu=not torch.cuda.is_available(),
            bf16=torch.cuda.is_available(),  # TRL's default
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=sample.train,
        processing_class=bench.tokenizer,
        peft_config=lora_config(config),
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.model, _block(side, config, sample, steps, clock, clock.warm_up_tokens)


def train_ours(
    bench: Bench, side: Side, config: TrainConfig, sample: Sample, folder: Path
) -> tuple[Any, Block]:
    """This project's trainer on `sample`."""
    from trainer.tuning.model import load_base
    from trainer.tuning.sft import plan_of, train

    model, tokenizer = load_base(bench.base, config)
    plan = plan_of(sample.lengths, config)
    warm_up = warm_up_steps(plan.num_steps)
    clock = step_clock(warm_up)
    adapted, result = train(
        model, tokenizer, sample.train, config, folder, say=lambda _: None, callbacks=[clock]
    )
    lengths = sample.lengths
    warm_batches = plan.batches[: warm_up * plan.per_step]
    warm_up_tokens = sum(lengths[number] for batch in warm_batches for number in batch)
    return adapted, _block(side, config, sample, result.steps, clock, warm_up_tokens)


def _block(
    side: Side, config: TrainConfig, sample: Sample, steps: int, clock: Any, warm_up_tokens: int
) -> Block:
    return Block(
        side=side,
        learning_rate=config.learning_rate,
        steps=steps,
        tokens=side.epochs * sample.num_tokens,
        seconds=clock.seconds,
        steady_tokens=side.epochs * sample.num_tokens - warm_up_tokens,
        steady_seconds=clock.steady_seconds,
        peak=peak(),
        dev_loss=None,
    )
