"""Training from Python, for a notebook: rows in, a published adapter out.

pipeline = SQLDataPipeline()
dataset = pipeline.balance_dataset(pipeline.clean_and_tokenize("train.jsonl"))
adapter = train_lora_model(dataset=dataset, lora_r=16, lora_alpha=32)
print(adapter.name)
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.task.base_model import BASE_MODEL, resolve_base_model
from eval.task.bundle import Bundle
from eval.task.store import default_store
from trainer.config import RecipeError
from trainer.faults import expect_base, expect_writable, loading
from trainer.pipeline.api import to_stderr
from trainer.pipeline.corpus import COLUMNS, Corpus
from trainer.recipe import config_from
from trainer.run import RESULT, Prepared, Run, train_prepared

IDS, MASK = "input_ids", "completion_mask"
GIVEN = "python"  # what a manifest names rows that came from memory


@dataclass(frozen=True)
class TrainedAdapter:
    """A published adapter: `name` is what a server calls it, `loss` its last training loss."""

    name: str
    bundle: Bundle
    loss: float
    tokens_per_second: float


def train_lora_model(
    base_model: str = BASE_MODEL,
    dataset: Any = None,
    lora_r: int = 16,
    lora_alpha: int = 32,
    *,
    alias: str = "mine",
    store: Path | str | None = None,
    runs: Path | str = "runs",
    **recipe: Any,
) -> TrainedAdapter:
    """Train a QLoRA adapter on `dataset` and publish it to `store` as `alias`.

    `dataset` is what `SQLDataPipeline.clean_and_tokenize` or `balance_dataset` returned, made with
    the tokenizer of `base_model` and the prompt format of `recipe` (`template`, `serialisation`).
    `recipe` are further keys of a recipe: `learning_rate=5e-4`, `epochs=1`. The same call goes on
    from the last checkpoint after it was stopped.

    Raises:
        RecipeError: a key is unknown or out of range, or `dataset` has no token ids.
        BaseModelError: there is no such base model.
        OSError: a folder can't be written.
    """
    _expect_tokens(dataset)
    keys: Mapping[str, Any] = {
        "alias": alias,
        "base_model": base_model,
        "rank": lora_r,
        "alpha": lora_alpha,
        **recipe,
    }
    config = config_from({"data": [_digest(dataset)], **keys})
    run = Run(
        config,
        Path(store) if store else default_store(),
        Path(runs) / f"{alias}-{config.digest}",
        say=to_stderr,
        progress=sys.stderr.isatty(),
    )
    expect_writable(run.folder)
    bundle = train_prepared(run, _prepared(run, dataset))
    assert bundle is not None  # a notebook is one process
    result = json.loads((run.folder / RESULT).read_text(encoding="utf-8"))
    return TrainedAdapter(
        f"{alias}@{bundle.short}", bundle, result["loss"], result["tokens_per_second"]
    )


def _expect_tokens(dataset: Any) -> None:
    names = getattr(dataset, "column_names", None)
    missing = [name for name in (IDS, MASK, *COLUMNS) if name not in (names or ())]
    if not isinstance(names, list) or missing:
        raise RecipeError(
            "dataset: must be what SQLDataPipeline().clean_and_tokenize(...) returns; "
            f"it has no column {missing[0]!r}"
        )


def _digest(dataset: Any) -> str:
    """A name for these very rows, so that other rows never go on from their checkpoint."""
    texts = hashlib.sha256()
    for batch in dataset.select_columns([IDS]).iter(batch_size=1000):
        texts.update(repr(batch[IDS]).encode())
    return f"{GIVEN}:{texts.hexdigest()[:12]}"


def _prepared(run: Run, dataset: Any) -> Prepared:
    from trainer.tuning.model import load_tokenizer

    base = resolve_base_model(run.config.base_model, run.say)
    expect_base(base)
    with loading(base):
        tokenizer = load_tokenizer(base)
    source = {"name": GIVEN, "sha256": "", "examples": len(dataset)}
    corpus = Corpus(dataset.select_columns(list(COLUMNS)), (source,), ())
    return Prepared(base, tokenizer, corpus, dataset.select_columns([IDS, MASK]))
