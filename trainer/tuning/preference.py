"""Preference optimisation of an adapter on pairs of queries, by TRL's DPOTrainer.

Of two answers to a prompt the policy is to prefer the chosen one more than the reference does
(Rafailov et al., "Direct Preference Optimization", 2023; IPO: Azar et al., "A General Theoretical
Paradigm to Understand Learning from Human Preferences", 2023). The reference is the adapter as it
came: given a PEFT model, TRL 1.16 freezes a copy of its adapter under the name `ref`. Token ids are
those of supervised training; TRL's own preparation, which tokenises prompt and completion as one
text, is left out. Knows nothing of SQL.
`python -m trainer.tuning.preference BUNDLE --pairs FILE --output FOLDER`.
"""

import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from eval.task.bundle import read_bundle, sha256_file
from trainer.command import command, configured, expect_numbers
from trainer.config import RecipeError
from trainer.pipeline.source import DataError
from trainer.tuning.continued import (
    Continued,
    Schedule,
    arguments,
    from_trl,
    load_adapter,
    prepared,
    run_folder,
    train,
    trainer_of,
    write_bundle,
)

TEXTS = ("prompt", "chosen", "rejected")
# What a record may hold beside them, as `self_training.Pair` does.
OTHERS = ("row_id", "kind")
# Of TRL's: what the last line of the command shows.
MEASURES = ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected")


@dataclass(frozen=True)
class PreferenceConfig:
    """How to optimise. `batch_pairs` is the effective batch size; `beta` holds the policy to the
    reference, for `ipo` it is the paper's τ.

    `sft_alpha` weighs the mean cross entropy of the chosen answer's tokens beside the preference:
    without it the chosen answer, too, may become less likely (Pang et al., "Iterative Reasoning
    Preference Optimization", 2024, who take 1).
    """

    beta: float = 0.1
    loss_type: Literal["sigmoid", "ipo"] = "sigmoid"
    sft_alpha: float = 1.0
    learning_rate: float = 1e-5
    epochs: float = 1.0
    max_steps: int = 0
    batch_pairs: int = 32
    device_pairs: int = 16
    max_length: int = 2048
    warmup_ratio: float = 0.1
    gradient_checkpointing: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        expect_numbers(
            self,
            positive=("beta", "learning_rate", "epochs", "batch_pairs", "device_pairs"),
            not_negative=("sft_alpha", "max_steps", "warmup_ratio"),
        )
        if self.loss_type not in ("sigmoid", "ipo"):
            raise RecipeError("loss_type: must be one of sigmoid, ipo")
        if self.batch_pairs % self.device_pairs:
            raise RecipeError("batch_pairs: must be a multiple of device_pairs")

    def schedule(self, num_pairs: int) -> Schedule:
        return Schedule(
            steps=self.max_steps or math.ceil(self.epochs * num_pairs / self.batch_pairs),
            learning_rate=self.learning_rate,
            device_batch=self.device_pairs,
            accumulation=self.batch_pairs // self.device_pairs,
            warmup_ratio=self.warmup_ratio,
            gradient_checkpointing=self.gradient_checkpointing,
            seed=self.seed,
        )


def read_pairs(path: Path) -> list[dict[str, str]]:
    """The pairs of a JSONL file: `prompt`, `chosen`, `rejected`, and nothing unknown beside them.

    Raises:
        DataError: it can't be read or is empty, or a line is malformed; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read: {error}") from error
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise DataError(f"{path}: holds no pairs")
    return [_pair(line, f"{path}:{number}") for number, line in numbered]


def _pair(line: str, where: str) -> dict[str, str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected an object, found {type(record).__name__}")
    for name in TEXTS:
        if not isinstance(record.get(name), str):
            raise DataError(f"{where}: field {name!r} must be there and be text")
    if unknown := sorted(set(record) - {*TEXTS, *OTHERS}):
        raise DataError(f"{where}: unknown field {unknown[0]!r}; known: {', '.join(TEXTS)}")
    return {name: record[name] for name in TEXTS}


def tokenise_pairs(
    pairs: Sequence[Mapping[str, str]], tokenizer: Any, max_length: int
) -> dict[str, list[list[int]]]:
    """The columns that TRL trains on: `prompt_ids`, `chosen_ids`, `rejected_ids`.

    A prompt is tokenised alone, as the server does; an answer without special tokens before it and
    with the end of the sequence after it. Pairs with a text of over `max_length` tokens, or whose
    answers are the same tokens, are left out.

    Raises:
        DataError: none is left.
    """
    prompts = tokenizer([pair["prompt"] for pair in pairs])["input_ids"]
    chosen, rejected = (_answers(pairs, name, tokenizer) for name in ("chosen", "rejected"))
    columns: dict[str, list[list[int]]] = {f"{name}_ids": [] for name in TEXTS}
    for three in zip(prompts, chosen, rejected, strict=True):
        prompt, one, other = three
        if one != other and len(prompt) + max(len(one), len(other)) <= max_length:
            for column, ids in zip(columns.values(), three, strict=True):
                column.append(ids)
    if not columns["prompt_ids"]:
        raise DataError(f"max_length: none of {len(pairs)} pairs fits {max_length} tokens")
    return columns


def _answers(pairs: Sequence[Mapping[str, str]], name: str, tokenizer: Any) -> list[list[int]]:
    texts = [pair[name] for pair in pairs]
    found = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [[*ids, tokenizer.eos_token_id] for ids in found]


def train_preference(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Mapping[str, str]],
    config: PreferenceConfig,
    run: Path,
    *,
    progress: bool = False,
    say: Callable[[str], None] = lambda _: None,
    callbacks: Sequence[Any] = (),
) -> tuple[Any, Continued]:
    """Train the adapter of a PEFT model on `pairs`, records of `prompt`, `chosen`, `rejected`.

    Checkpoints go to `run`; a run that was killed goes on from the last one if `model` is again the
    adapter that it began with. Returns the model, with its one adapter, and what was done.

    Raises:
        DataError: no pair can be used. RecipeError: the model has not just one adapter.
    """
    from datasets import Dataset

    dpo_trainer, dpo_config = from_trl("DPOTrainer", "DPOConfig")
    columns = tokenise_pairs(pairs, tokenizer, config.max_length)
    num_pairs = len(columns["prompt_ids"])
    schedule = config.schedule(num_pairs)
    say(f"{num_pairs} of {len(pairs)} pairs, {schedule.steps} steps")
    loss: dict[str, Any] = {"loss_type": [config.loss_type]}
    if config.sft_alpha:
        loss = {"loss_type": [config.loss_type, "sft"], "loss_weights": [1.0, config.sft_alpha]}

    class PairTrainer(trainer_of(dpo_trainer)):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset  # it holds token ids already

    with prepared(model):
        trainer = PairTrainer(
            model=model,
            args=dpo_config(
                **arguments(schedule, run, progress=progress),
                **loss,
                beta=config.beta,
                max_length=None,  # too long ones are gone: none is cut
            ),
            train_dataset=Dataset.from_dict(columns),
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )
        result = train(trainer, run, say=say)
    return model, result


def say(text: str) -> None:
    typer.echo(f"trainer.tuning.preference: {text}", err=True)


def main(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle whose adapter goes on.")],
    pairs: Annotated[Path, typer.Option(help="JSONL of prompt, chosen, rejected.")],
    output: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value of PreferenceConfig.")
    ] = None,
) -> None:
    """Optimise BUNDLE's adapter on pairs of queries; the same command goes on after a kill."""
    with command(say, knob="device_pairs"):
        optimise(bundle, pairs, output, configured(PreferenceConfig(), overrides or []))


def optimise(folder: Path, pairs: Path, output: Path, config: PreferenceConfig) -> None:
    """Load, train, write the new bundle to `output`, and delete the checkpoints."""
    bundle, records = read_bundle(folder), read_pairs(pairs)
    run = run_folder(output, bundle, config, pairs.read_bytes())
    model, tokenizer = load_adapter(bundle, seed=config.seed)
    progress = sys.stderr.isatty()
    model, done = train_preference(
        model, tokenizer, records, config, run, progress=progress, say=say
    )
    step = {"method": "preference", "pairs_sha256": sha256_file(pairs), **asdict(config)}
    write_bundle(output, model, bundle, step)
    shutil.rmtree(run, ignore_errors=True)
    say(f"{done.steps} steps, {done.seconds} s: {done.shown(MEASURES)}; {output}")


if __name__ == "__main__":
    typer.run(main)
