"""One run from a recipe to a published bundle: data, training, evidence, publishing, in order.

Several processes may run it together (`torchrun`, `accelerate launch`): each trains, the first one
prepares the data, writes and publishes. Knows nothing of the command line.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.task.base_model import cache_folder, resolve_base_model, weights_sha256
from eval.task.bundle import Bundle, BundleError, read_bundle
from eval.task.store import publish
from trainer.config import RecipeError, TrainConfig
from trainer.faults import (
    expect_base,
    expect_publishable,
    expect_reporters,
    expect_targets,
    expect_writable,
    is_out_of_memory,
    loading,
    writing,
)
from trainer.pipeline.corpus import Corpus
from trainer.pipeline.row import Stage

if TYPE_CHECKING:
    from trainer.tuning.sft import TrainResult

STAGED, RESULT = "bundle", "result.json"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """What training starts from.

    `base` is a folder or a hub id; `rows` a `datasets.Dataset` of `input_ids` and
    `completion_mask`, a row for each of the corpus.
    """

    base: Path | str
    tokenizer: Any
    corpus: Corpus
    rows: Any

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row, prompt and completion."""
        return [len(ids) for ids in self.rows["input_ids"]]


@dataclass(frozen=True)
class Run:
    """A recipe with the places that it reads and writes; `folder` holds checkpoints and result."""

    config: TrainConfig
    store: Path
    folder: Path
    say: Say = lambda _: None
    progress: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def is_first(self) -> bool:
        """True in the process that writes: the only one, or the first of several."""
        return os.environ.get("RANK", "0") == "0"


def train_and_publish(run: Run) -> Bundle | None:
    """Do all that a recipe says and write `folder/result.json`; None in all but the first process.

    Raises:
        RecipeError, DataError, BaseModelError: the recipe, its data or its base can't be used.
        OSError, DiskError: a folder can't be written.
    """
    expect_publishable(run.config)
    expect_reporters(run.config)
    expect_writable(run.folder)
    return train_prepared(run, prepare(run))


def train_prepared(run: Run, prepared: Prepared) -> Bundle | None:
    """`train_and_publish` on data that is prepared; trains nothing that was trained before.

    Raises:
        RecipeError: the device's memory does not suffice, or the recipe doesn't fit the base, or
            its adapter could not be served.
        OSError: a folder can't be written.
    """
    expect_publishable(run.config)
    if run.is_first:
        expect_writable(run.store)
    if done := trained_before(run, prepared):
        return publish(done.folder, run.store, run.config.alias) if run.is_first else None
    model, result = train_adapter(run, prepared)
    return finish(run, prepared, model, result) if run.is_first else None


def trained_before(run: Run, prepared: Prepared) -> Bundle | None:
    """The bundle of a run that came to its end, if it was trained on the same data."""
    staged = run.folder / STAGED
    try:
        bundle = read_bundle(staged) if (run.folder / RESULT).is_file() else None
    except BundleError:
        return None
    if bundle is None or bundle.manifest.data != list(prepared.corpus.sources):
        return None
    run.say(f"trained before: {run.config.alias}@{bundle.short}; delete {run.folder} to train anew")
    return bundle


def finish(run: Run, prepared: Prepared, model: Any, result: "TrainResult") -> Bundle:
    """Stage, fingerprint and publish a trained model, and write `folder/result.json`.

    Raises:
        DiskError: a folder can't be written.
    """
    from trainer.fingerprint import write_fingerprint
    from trainer.publish import stage_bundle

    staging = run.folder / STAGED
    with writing(run.folder):
        stage_bundle(
            staging,
            model=model,
            tokenizer=prepared.tokenizer,
            config=run.config,
            corpus=prepared.corpus,
            result=result,
            base_sha256=weights_sha256(prepared.base) if isinstance(prepared.base, Path) else "",
        )
        write_fingerprint(staging, prepared.base)
    with writing(run.store):
        bundle = publish(staging, run.store, run.config.alias)
    record = {
        "model": f"{run.config.alias}@{bundle.short}",
        "digest": bundle.digest,
        **asdict(result),
        "tokens_per_second": result.tokens_per_second,
        "wall_seconds": time.monotonic() - run.started,
        "dropped": dict(prepared.corpus.dropped),
    }
    (run.folder / RESULT).write_text(json.dumps(record, indent=1) + "\n")
    run.say(
        f"published {record['model']}: {result.steps} steps, loss {result.loss:.3f}, "
        f"{result.tokens_per_second:,.0f} tokens/s; {run.folder / RESULT}"
    )
    return bundle


def prepare(run: Run) -> Prepared:
    """Load, clean and tokenise the data, and write `data.html` and `data.txt` beside the result.

    Of several processes the first does it; the others take it from the cache afterwards.
    """
    from accelerate import PartialState

    with PartialState().main_process_first():
        return _prepare(run)


def _prepare(run: Run) -> Prepared:
    from trainer.pipeline.report import Report
    from trainer.pipeline.run import run_pipeline
    from trainer.pipeline.tokens import tokenise
    from trainer.tuning.model import load_tokenizer

    config = run.config
    cache = cache_folder() / "pipeline"
    options: dict[str, Any] = {"cache": cache, "say": run.say, "progress": run.progress}
    corpus = run_pipeline(sources_of(config), stages_of(config), **options)
    base = resolve_base_model(config.base_model, run.say)
    expect_base(base)
    with loading(base):
        tokenizer = load_tokenizer(base)
    tokens = tokenise(corpus.rows(), tokenizer, config.prompt_format, config.max_length, **options)
    corpus = corpus.after(tokens.report, tokens.dropped)
    if run.is_first:
        (run.folder / "data.txt").write_text(f"{Report(corpus)}\n", encoding="utf-8")
        Report(corpus).save(run.folder / "data.html")
    return Prepared(base, tokenizer, corpus, tokens.dataset)


def sources_of(config: TrainConfig) -> list[Any]:
    """The data sets that a recipe names."""
    from trainer.pipeline.run import DataSet

    return [
        DataSet(
            name,
            columns=config.columns or None,
            split=config.split,
            schemas=Path(config.schemas) if config.schemas else None,
            databases=Path(config.databases) if config.databases else None,
            limit=config.max_examples,
        )
        for name in config.data
    ]


def stages_of(config: TrainConfig) -> tuple[Stage, ...]:
    """What a recipe does to its rows, in order: poisoning is looked for in what was written,
    before cleaning takes comments away; hints or copies are made of what is left."""
    from trainer.pipeline.augment.stage import Augment
    from trainer.pipeline.balance import Balance
    from trainer.pipeline.clean import Clean
    from trainer.pipeline.compose.stage import Compose
    from trainer.pipeline.filters import Duplicates, Filter
    from trainer.pipeline.hints import Hints
    from trainer.pipeline.leakage import Leakage
    from trainer.pipeline.poison import Poison
    from trainer.pipeline.without import Without

    seed, held_out = config.seed, tuple(Path(path) for path in config.held_out)
    left_out = (Without(config.without),) if config.without else ()
    stages: list[Stage] = [
        *left_out,
        Poison(config.poison),
        Clean(config.names, config.execute),
        Filter(),
        Duplicates(),
    ]
    if held_out:
        stages.append(Leakage(held_out))
    if config.balance or config.max_per_database:
        stages.append(Balance(config.balance, config.max_per_database, seed))
    if config.compose:
        stages.append(Compose(config.compose, seed, names=config.names))
    if config.hints:
        stages.append(Hints())
    if config.augment:
        stages.append(Augment(config.augment, config.copies, seed, config.composed_copies))
    return tuple(stages)


def train_adapter(run: Run, prepared: Prepared) -> tuple[Any, "TrainResult"]:
    """The trained PEFT model, with the weights to publish, and what was done.

    Raises:
        RecipeError: the device's memory does not suffice, or the model has not the
            `target_modules`; the message names the knob.
        BaseModelError: the base can't be read.
        DiskError: a checkpoint can't be written.
    """
    try:
        return _train_adapter(run, prepared)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        from transformers import AutoConfig

        from trainer.tuning.memory import out_of_memory, shape_of
        from trainer.tuning.model import device_bytes

        shape = shape_of(AutoConfig.from_pretrained(prepared.base))
        raise RecipeError(out_of_memory(run.config, str(error), shape, device_bytes())) from error


def _train_adapter(run: Run, prepared: Prepared) -> tuple[Any, "TrainResult"]:
    from trainer.tuning.model import load_base
    from trainer.tuning.sft import train
    from trainer.tuning.watch import watchers

    with loading(prepared.base):
        model, _ = load_base(prepared.base, run.config)
    expect_targets(model, run.config)
    watching = watchers(run, prepared)
    with writing(run.folder):
        model, result = train(
            model,
            prepared.tokenizer,
            prepared.rows,
            run.config,
            run.folder,
            say=run.say,
            callbacks=watching.callbacks,
        )
        return watching.choose(model), result


def dry(run: Run) -> str:
    """What the recipe would do, cost and take; the data is prepared, no weights are loaded.

    Raises:
        RecipeError, DataError, BaseModelError: the recipe, its data or its base can't be used.
    """
    from transformers import AutoConfig

    from trainer.tuning.dry_run import describe, sizes_of
    from trainer.tuning.model import device_bytes

    expect_publishable(run.config)
    expect_writable(run.folder)
    prepared = prepare(run)
    return describe(
        run.config,
        AutoConfig.from_pretrained(prepared.base),
        sizes_of(prepared.rows),
        total_bytes=device_bytes(),
        run=run.folder,
    )
