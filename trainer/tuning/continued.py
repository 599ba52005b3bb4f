"""An adapter that goes on training: what preference optimisation and GRPO have in common.

Both start from a bundle's adapter on the base in 16 bits, as it is served, run one of TRL's
trainers, and leave a bundle of their own. Knows nothing of pairs or rewards.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.task.base_model import resolve_base_model
from eval.task.bundle import CONFIG, MANIFEST, WEIGHTS, Bundle, write_manifest
from eval.task.figure import commit
from trainer.config import RecipeError, TrainConfig
from trainer.tuning.generate import causal_lm
from trainer.tuning.sft import last_checkpoint
from trainer.tuning.weights import write_tensors

# The names under which TRL knows the adapter that learns, and a frozen copy of it.
ADAPTER, REFERENCE = "default", "ref"
CHECKPOINTS = 10
NUM_LOGS = 40


@dataclass(frozen=True)
class Schedule:
    """What both methods take from transformers' Trainer; `steps` are the optimiser's."""

    steps: int
    learning_rate: float
    device_batch: int
    accumulation: int
    warmup_ratio: float
    gradient_checkpointing: bool
    seed: int
    save_every: int = 1


@dataclass(frozen=True)
class Continued:
    """What a run did. `first` and `last` are TRL's measures over the first and the last fifth of
    what was logged; `seconds` is its time without loading, in this call."""

    steps: int
    seconds: float
    first: dict[str, float]
    last: dict[str, float]

    def shown(self, names: Sequence[str]) -> str:
        """How these measures went, as far as they are known."""
        known = [name for name in names if name in self.first and name in self.last]
        return ", ".join(f"{n} {self.first[n]:.3f} to {self.last[n]:.3f}" for n in known)


def load_adapter(bundle: Bundle, *, seed: int) -> tuple[Any, Any]:
    """The bundle's adapter, to be trained further, on its dense base, and the tokenizer.

    The base is in bfloat16 on a GPU and in float32 on a CPU, the adapter in float32. The tokenizer
    ends a text as the bundle says.

    Raises:
        BaseModelError: the base model can't be had.
    """
    from peft import PeftModel

    from trainer.tuning.model import load_base

    base = resolve_base_model(bundle.manifest.base_model)
    config = TrainConfig(alias="continued", quantisation="none", seed=seed)
    model, tokenizer = load_base(base, config)
    tokenizer.eos_token = bundle.manifest.stop
    model.set_attn_implementation("sdpa")
    model = PeftModel.from_pretrained(model, str(bundle.folder), is_trainable=True)
    # PEFT looks for the base's config with every checkpoint, on the hub if this is a hub id.
    model.peft_config[ADAPTER].base_model_name_or_path = str(base)
    return model, tokenizer


def from_trl(*names: str) -> list[Any]:
    """Classes of TRL; to it, vLLM is not installed: it would import all of it, and nothing here
    samples with it."""
    import trl
    from trl import import_utils

    is_available = import_utils.is_vllm_available
    import_utils.is_vllm_available = lambda *_, **__: False
    try:
        return [getattr(trl, name) for name in names]
    finally:
        import_utils.is_vllm_available = is_available


def arguments(schedule: Schedule, run: Path, *, progress: bool) -> dict[str, Any]:
    """Those arguments of transformers' Trainer that do not depend on the method.

    Raises:
        RecipeError: there are several processes, or GPUs that Trainer would spread one over.
    """
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or torch.cuda.device_count() > 1:
        raise RecipeError("this runs on one device, in one process: set CUDA_VISIBLE_DEVICES=0")
    on_gpu = torch.cuda.is_available()
    every = schedule.save_every
    return {
        "output_dir": str(run),
        "max_steps": schedule.steps,
        "per_device_train_batch_size": schedule.device_batch,
        "gradient_accumulation_steps": schedule.accumulation,
        "gradient_checkpointing": schedule.gradient_checkpointing,
        "learning_rate": schedule.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": schedule.warmup_ratio,  # below 1: a share of all steps
        "optim": "adamw_torch_fused" if on_gpu else "adamw_torch",
        "bf16": on_gpu,
        "tf32": True if on_gpu else None,
        "use_cpu": not on_gpu,
        "seed": schedule.seed,
        "logging_steps": max(1, schedule.steps // NUM_LOGS),
        "save_strategy": "steps",
        "save_steps": -(-max(1, schedule.steps // CHECKPOINTS) // every) * every,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": not progress,
    }


def trainer_of(trl_class: Any) -> Any:
    """One of TRL's trainers, made resumable and silent.

    TRL 1.16 sends each run's model and hardware to the hub, and writes a model card beside each
    checkpoint: not from here. A checkpoint with a frozen reference beside the adapter is read by
    transformers 5.19 as if there were only the reference, so that a resumed run would begin anew.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    class Continuing(trl_class):  # type: ignore[misc]
        def _send_telemetry(self) -> None:
            pass

        def create_model_card(self, *_: Any, **__: Any) -> None:
            pass

        def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
            tensors = load_file(Path(checkpoint) / WEIGHTS)
            set_peft_model_state_dict(model or self.model, tensors, adapter_name=ADAPTER)

    return Continuing


@contextmanager
def prepared(model: Any) -> Iterator[None]:
    """A PEFT model as TRL needs it: SDPA instead of packed rows. What TRL leaves behind is taken
    off again: the frozen copy of the adapter, and the forward pass that it put in place.

    Raises:
        RecipeError: there is not just one adapter, of PEFT's default name.
    """
    if list(getattr(model, "peft_config", {})) != [ADAPTER]:
        raise RecipeError(f"the model must have one adapter, named {ADAPTER!r}")
    inner = causal_lm(model)
    attention = inner.config._attn_implementation
    inner.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        inner.set_attn_implementation(attention)
        vars(inner).pop("forward", None)
        model.set_adapter(ADAPTER)
        if REFERENCE in model.peft_config:
            model.delete_adapter(REFERENCE)


def train(trainer: Any, run: Path, *, say: Callable[[str], None]) -> Continued:
    """Run one of TRL's trainers, from the last whole checkpoint in `run` where there is one."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    checkpoint = last_checkpoint(run)
    if checkpoint:
        say(f"going on from {checkpoint.name}")
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - started
    logs = [log for log in trainer.state.log_history if "loss" in log]
    fifth = max(1, len(logs) // 5)
    first, last = _means(logs[:fifth]), _means(logs[-fifth:])
    return Continued(trainer.state.global_step, round(seconds, 1), first, last)


def _means(logs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = logs[0] if logs else ()
    known = {name: [log[name] for log in logs if log.get(name) is not None] for name in names}
    return {name: sum(values) / len(values) for name, values in known.items() if values}


def run_folder(output: Path, bundle: Bundle, config: Any, data: bytes) -> Path:
    """The folder of checkpoints in `output` of just this run: only itself resumes it.

    Raises:
        RecipeError: `output` is the bundle's own folder.
    """
    if output.resolve() == bundle.folder.resolve():
        raise RecipeError(f"output: {output} is the bundle to start from; name another folder")
    settings = json.dumps({type(config).__name__: asdict(config)}, sort_keys=True)
    parts = (bundle.digest.encode(), settings.encode(), hashlib.sha256(data).digest())
    return output / f"run-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:12]}"


def write_bundle(output: Path, model: Any, source: Bundle, step: Mapping[str, Any]) -> None:
    """Write the trained adapter in bfloat16 as a bundle of its own to `output`.

    It has the config and the manifest of `source`, whose recipe gains `step` at the end of
    `continued`. The manifest is written last.
    """
    import torch
    from peft import get_peft_model_state_dict

    output.mkdir(parents=True, exist_ok=True)
    (output / MANIFEST).unlink(missing_ok=True)
    tensors = get_peft_model_state_dict(model, adapter_name=ADAPTER)
    halved = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    write_tensors(output / WEIGHTS, halved, {})
    shutil.copyfile(source.folder / CONFIG, output / CONFIG)
    recipe = dict(source.manifest.recipe)
    recipe["continued"] = [*recipe.get("continued", []), {"from": source.digest, **step}]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = replace(source.manifest, recipe=recipe, commit=commit(), created=created)
    write_manifest(output, manifest)
