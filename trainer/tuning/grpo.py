"""Reinforcement learning of an adapter with execution as the judge, by TRL's GRPOTrainer.

To each question the policy samples a group of queries; those that do better on the database than
their group's mean become more likely, the others less (Shao et al., "DeepSeekMath", 2024). The
policy starts from a bundle's adapter and is asked as the server asks it. Sampling is done by
transformers, with the adapter folded into copies of the weights meanwhile.
`python -m trainer.tuning.grpo BUNDLE --data FILE --steps N --output FOLDER`.
"""

import math
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from eval.task.bundle import read_bundle, sha256_file
from eval.task.cores import num_cores
from eval.task.prompt import PromptFormat, extract_sql
from trainer.command import command, configured, expect_numbers
from trainer.config import RecipeError
from trainer.pipeline.load import load_source
from trainer.pipeline.row import Row
from trainer.tuning.accuracy import judge
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
from trainer.tuning.dev_set import prompt_of
from trainer.tuning.generate import merged
from trainer.tuning.verdicts import Case, Verdict

# Of a query that returns the gold query's rows; that runs and passes `check_sql`; that passes it
# but fails or takes too long. Any other has none.
RIGHT, RUNS, VALID = 1.0, 0.2, 0.1
POSITIVE = (
    *("steps", "learning_rate", "temperature", "prompts_per_step", "device_completions"),
    *("steps_per_generation", "max_completion_length", "max_prompt_length"),
)
# Of TRL's: what the last line of the command shows.
MEASURES = ("reward", "frac_reward_zero_std", "entropy", "completions/clipped_ratio")

Loss = Literal["dapo", "grpo", "dr_grpo", "bnpo"]


@dataclass(frozen=True)
class GrpoConfig:
    """How to learn. An optimiser step takes `prompts_per_step` × `num_generations` completions,
    `device_completions` at a time; `steps_per_generation` steps use what was sampled at once.

    `beta` weighs the divergence from the adapter that it began with; 0, TRL's default, keeps no
    copy of it. `epsilon` clips the policy's ratio, which is 1 while each step samples anew.
    """

    steps: int = 100
    learning_rate: float = 1e-5
    beta: float = 0.0
    epsilon: float = 0.2
    temperature: float = 1.0
    num_generations: int = 8
    prompts_per_step: int = 32
    device_completions: int = 64
    steps_per_generation: int = 1
    max_completion_length: int = 128
    max_prompt_length: int = 2048
    loss_type: Loss = "dapo"
    warmup_ratio: float = 0.05
    gradient_checkpointing: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        expect_numbers(self, positive=POSITIVE, not_negative=("beta", "epsilon", "warmup_ratio"))
        if self.loss_type not in get_args(Loss):
            raise RecipeError(f"loss_type: must be one of {', '.join(get_args(Loss))}")
        if self.num_generations < 2:
            raise RecipeError("num_generations: a group needs at least 2")
        if self.prompts_per_step * self.num_generations % self.device_completions:
            raise RecipeError("device_completions: must divide prompts_per_step × num_generations")

    @property
    def schedule(self) -> Schedule:
        return Schedule(
            steps=self.steps,
            learning_rate=self.learning_rate,
            device_batch=self.device_completions,
            accumulation=self.prompts_per_step * self.num_generations // self.device_completions,
            warmup_ratio=self.warmup_ratio,
            gradient_checkpointing=self.gradient_checkpointing,
            seed=self.seed,
            save_every=self.steps_per_generation,  # what was sampled is not in a checkpoint
        )


def reward_of(verdict: Verdict) -> float:
    """See `RIGHT`. A query that is right is so whatever `check_sql` says."""
    if verdict.status == "right":
        return RIGHT
    if not verdict.is_valid:
        return 0.0
    return RUNS if verdict.status == "wrong" else VALID


def execution_reward(rows: Sequence[Row], workers: int) -> Callable[..., list[float]]:
    """A reward function as TRL calls it: the column `row` of its data is a place in `rows`.

    Queries run in `workers` processes, within time limits; equal answers to a row run once.
    """

    def execution(completions: Sequence[str], row: Sequence[int], **_: Any) -> list[float]:
        pairs = zip(row, completions, strict=True)
        cases = [Case(rows[place], extract_sql(text)) for place, text in pairs]
        distinct = list(dict.fromkeys(cases))
        rewards = dict(zip(distinct, map(reward_of, judge(distinct, workers=workers)), strict=True))
        return [rewards[case] for case in cases]

    return execution


def learnable(rows: Sequence[Row], workers: int) -> tuple[list[Row], Counter[str]]:
    """The rows whose reward tells something, and why others are left out.

    They have a database, and their gold query runs and returns more than nothing or a single zero
    or NULL, which many wrong queries return as well.

    Raises:
        JudgeError: a row's database is missing.
    """
    reasons: Counter[str] = Counter()
    with_database = [row for row in rows if row.database]
    reasons["no_database"] = len(rows) - len(with_database)
    kept = []
    golds = judge([Case(row, row.sql) for row in with_database], workers=workers)
    for row, verdict in zip(with_database, golds, strict=True):
        if verdict.status == "right" and verdict.is_telling:
            kept.append(row)
        else:
            reasons["gold_tells_nothing" if verdict.status == "right" else "gold_fails"] += 1
    return kept, +reasons


def order_of(num_rows: int, config: GrpoConfig) -> list[int]:
    """The places of the rows that a whole run samples for, epoch after epoch in another order.

    Planned beforehand, as one epoch for TRL: its sampler draws the next epoch's order from a state
    that checkpoints don't have, so that a resumed run would see other questions.
    """
    num_samplings = math.ceil(config.steps / config.steps_per_generation)
    needed = num_samplings * config.steps_per_generation * config.prompts_per_step
    order: list[int] = []
    while len(order) < needed:
        epoch = list(range(num_rows))
        random.Random(f"{config.seed}:{len(order)}").shuffle(epoch)
        order += epoch
    return order[:needed]


def train_grpo(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    prompt_format: PromptFormat,
    config: GrpoConfig,
    run: Path,
    *,
    workers: int | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda _: None,
    callbacks: Sequence[Any] = (),
) -> tuple[Any, Continued]:
    """Train the adapter of a PEFT model on the `learnable` of `rows`.

    Checkpoints go to `run`; a run that was killed goes on from the last one, with the random state
    it had there. Returns the model, with its one adapter, and what was done.

    Raises:
        RecipeError: too few rows can be learnt from, or the model has not just one adapter.
        DevSetError: a row has no schema. JudgeError: a row's database is missing.
    """
    from datasets import Dataset

    grpo_trainer, grpo_config = from_trl("GRPOTrainer", "GRPOConfig")
    workers = workers or num_cores()
    kept, prompts = _prompts(rows, tokenizer, prompt_format, config, workers, say)
    schedule, order = config.schedule, order_of(len(kept), config)

    class QueryTrainer(trainer_of(grpo_trainer)):  # type: ignore[misc]
        def _generate_single_turn(self, *parts: Any, **options: Any) -> Any:
            with merged(self.model):
                return super()._generate_single_turn(*parts, **options)

    with prepared(model):
        trainer = QueryTrainer(
            model=model,
            reward_funcs=execution_reward(kept, workers),
            args=grpo_config(
                **arguments(schedule, run, progress=progress),
                beta=config.beta,
                epsilon=config.epsilon,
                temperature=config.temperature,
                num_generations=config.num_generations,
                steps_per_generation=schedule.accumulation * config.steps_per_generation,
                max_completion_length=config.max_completion_length,
                loss_type=config.loss_type,
                shuffle_dataset=False,  # in order already
                disable_dropout=True,
            ),
            train_dataset=Dataset.from_dict(
                {"prompt": [prompts[place] for place in order], "row": order}
            ),
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )
        result = train(trainer, run, say=say)
    return model, result


def _prompts(
    rows: Sequence[Row],
    tokenizer: Any,
    prompt_format: PromptFormat,
    config: GrpoConfig,
    workers: int,
    say: Callable[[str], None],
) -> tuple[list[Row], list[str]]:
    """The rows to learn from, and their prompts."""
    kept, reasons = learnable(rows, workers)
    prompts = [prompt_of(row, prompt_format) for row in kept]
    sizes = [len(ids) for ids in tokenizer(prompts)["input_ids"]] if prompts else []
    places = [i for i, size in enumerate(sizes) if size <= config.max_prompt_length]
    reasons["too_long"] = len(kept) - len(places)
    left_out = ", ".join(f"{reason} {n}" for reason, n in (+reasons).items()) or "none left out"
    say(f"{len(places)} of {len(rows)} questions ({left_out}), {config.steps} steps")
    needed = config.prompts_per_step * config.steps_per_generation
    if len(places) < needed:
        raise RecipeError(
            f"prompts_per_step: {needed} questions are sampled at a time, {len(places)} are left"
        )
    return [kept[i] for i in places], [prompts[i] for i in places]


def say(text: str) -> None:
    typer.echo(f"trainer.tuning.grpo: {text}", err=True)


def main(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle whose adapter goes on.")],
    data: Annotated[Path, typer.Option(help="JSONL of examples, schemas and databases beside it.")],
    output: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value of GrpoConfig.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = GrpoConfig.steps,
    databases: Annotated[Path | None, typer.Option(help="Folder of DB_ID.sqlite files.")] = None,
    limit: Annotated[int, typer.Option(help="Take the first so many; 0: all.")] = 0,
) -> None:
    """Let BUNDLE's adapter learn from what its own queries return; the same command goes on after
    a kill."""
    with command(say, knob="device_completions"):
        config = configured(GrpoConfig(steps=steps), overrides or [])
        rows = load_source(str(data), databases=databases, limit=limit).rows
        learn(bundle, data, rows, output, config)


def learn(folder: Path, data: Path, rows: Sequence[Row], output: Path, config: GrpoConfig) -> None:
    """Load, train, write the new bundle to `output`, and delete the checkpoints."""
    bundle = read_bundle(folder)
    run = run_folder(output, bundle, config, repr(rows).encode())
    model, tokenizer = load_adapter(bundle, seed=config.seed)
    form, progress = bundle.manifest.prompt_format, sys.stderr.isatty()
    model, done = train_grpo(model, tokenizer, rows, form, config, run, progress=progress, say=say)
    step = {"method": "grpo", "data_sha256": sha256_file(data), **asdict(config)}
    write_bundle(output, model, bundle, step)
    shutil.rmtree(run, ignore_errors=True)
    say(f"{done.steps} steps, {done.seconds} s: {done.shown(MEASURES)}; {output}")


if __name__ == "__main__":
    typer.run(main)
