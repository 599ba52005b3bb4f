"""QLoRA by TRL, PEFT and bitsandbytes: a 4-bit NF4 base, 16-bit LoRA on top, CPU or CUDA."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.config import ALL_LINEAR, TrainConfig
from trainer.data import Tokens

QUANTISATION = "nf4, double quantisation, bfloat16 compute"


@dataclass(frozen=True)
class TrainResult:
    """What a run did; `loss` is the mean training loss over the last tenth of the logged steps."""

    steps: int
    tokens: int
    loss: float
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


def load_base(base: Path | str, seed: int) -> tuple[Any, Any]:
    """The base model in 4 bits, on the GPU where there is one, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed

    set_seed(seed)
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base,
        quantization_config=quantisation,
        dtype=torch.bfloat16,
        attn_implementation="sdpa",
        device_map={"": _device()},
    )
    model.config.use_cache = False
    tokenizer = AutoTokenizer.from_pretrained(base)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _device() -> str | int:
    import os

    import torch

    return int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"


def lora_config(config: TrainConfig) -> Any:
    """PEFT's config of the adapter, plain LoRA as the engine serves it."""
    from peft import LoraConfig

    targets = config.target_modules
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=ALL_LINEAR if targets == (ALL_LINEAR,) else list(targets),
        task_type="CAUSAL_LM",
    )


def training_arguments(config: TrainConfig, run: Path, *, progress: bool) -> Any:
    """TRL's arguments; checkpoints go to `run`, so that a stopped run can go on."""
    import torch
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(run),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.device_batch_size,
        gradient_accumulation_steps=_accumulation(config),
        gradient_checkpointing=config.gradient_checkpointing,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.scheduler,
        warmup_steps=config.warmup_ratio,  # below 1: a share of all steps
        weight_decay=config.weight_decay,
        max_length=config.max_length,
        completion_only_loss=True,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="group_by_length",
        seed=config.seed,
        logging_steps=10 if not config.max_steps else 1,
        save_strategy="epoch" if not config.max_steps else "no",
        save_total_limit=1,
        report_to="none",
        disable_tqdm=not progress,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _accumulation(config: TrainConfig) -> int:
    """Accumulation steps that make `batch_size` effective over all devices (at least one)."""
    import os

    devices = int(os.environ.get("WORLD_SIZE", "1"))
    return max(1, config.batch_size // (config.device_batch_size * devices))


def train(
    model: Any,
    tokenizer: Any,
    rows: list[Tokens],
    config: TrainConfig,
    run: Path,
    *,
    progress: bool,
    say: Callable[[str], None],
) -> tuple[Any, TrainResult]:
    """Train an adapter on `rows`; goes on from the last checkpoint in `run` where there is one."""
    from datasets import Dataset
    from transformers.trainer_utils import get_last_checkpoint
    from trl import SFTTrainer

    trainer = SFTTrainer(
        model=model,
        args=training_arguments(config, run, progress=progress),
        train_dataset=Dataset.from_list([asdict(row) for row in rows]),
        processing_class=tokenizer,
        peft_config=lora_config(config),
    )
    _quieten(trainer, progress)
    checkpoint = get_last_checkpoint(str(run)) if run.is_dir() else None
    if checkpoint:
        say(f"going on from {Path(checkpoint).name}")
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer.model, _result(trainer, time.monotonic() - started)


def _quieten(trainer: Any, progress: bool) -> None:
    """Without a terminal nothing is printed for each step: the summary line says how it went."""
    from transformers.trainer_callback import PrinterCallback

    if not progress:
        trainer.remove_callback(PrinterCallback)


def _result(trainer: Any, seconds: float) -> TrainResult:
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    tail = losses[-max(1, len(losses) // 10) :]
    return TrainResult(
        steps=trainer.state.global_step,
        tokens=int(trainer.state.log_history[-2].get("num_tokens", 0)) if losses else 0,
        loss=sum(tail) / len(tail) if tail else float("nan"),
        seconds=seconds,
    )
