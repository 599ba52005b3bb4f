"""`sqlwright-train RECIPE.yaml [key=value …]`: train an adapter and publish its bundle."""

import json
import logging
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from eval.task.base_model import BaseModelError, resolve_base_model, weights_sha256
from eval.task.bundle import BundleError, default_store, publish
from eval.task.example import ExampleError
from eval.task.schema import DdlError
from trainer.config import RecipeError, TrainConfig, load_recipe

MISTAKES = (RecipeError, ExampleError, DdlError, BaseModelError, BundleError)


def say(text: str) -> None:
    print(f"sqlwright-train: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    say(f"error: {' '.join(text.split())}")  # one line: YAML's own complaints take several
    raise typer.Exit(1)


def main(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see trainer/recipes.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, over the recipe.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Adapter store; default: the user's.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of checkpoints and results.")] = Path("runs"),
) -> None:
    """Train a QLoRA adapter by RECIPE and publish it to the store under the recipe's alias.

    A run that was stopped goes on from its last checkpoint when called again.
    """
    for library in ("sqlglot", "bitsandbytes"):  # the latter misses an optional CPU kernel
        logging.getLogger(library).setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # the bars of transformers and datasets
    try:
        config = load_recipe(recipe, overrides or [])
        run_recipe(config, store or default_store(), runs / f"{config.alias}-{config.digest}")
    except MISTAKES as error:
        fail(str(error))
    except OSError as error:
        fail(f"can't read or write {error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail("stopped; the same command goes on from the last checkpoint")


def run_recipe(config: TrainConfig, store: Path, run: Path) -> None:
    """Do all that a recipe says: data, training, bundle, publishing; write `run/result.json`."""
    from trainer.data import load_corpus, tokenise

    started = time.monotonic()
    corpus = load_corpus(config)
    say(corpus.summary())
    base = resolve_base_model(config.base_model, say)

    from trainer.fingerprint import write_fingerprint
    from trainer.publish import stage_bundle
    from trainer.qlora import load_base, train

    model, tokenizer = load_base(base, config.seed)
    rows = tokenise(corpus, tokenizer, config)
    lengths = [len(row.input_ids) for row in rows]
    say(f"{len(rows)} rows, {sum(lengths):,} tokens an epoch, longest {max(lengths)}")
    progress = sys.stderr.isatty()
    model, result = train(model, tokenizer, rows, config, run, progress=progress, say=say)
    stage_bundle(
        run / "bundle",
        model=model,
        tokenizer=tokenizer,
        config=config,
        corpus=corpus,
        result=result,
        base_sha256=weights_sha256(Path(base)) if isinstance(base, Path) else "",
    )
    del model
    write_fingerprint(run / "bundle", base)
    bundle = publish(run / "bundle", store, config.alias)
    record = {
        "model": f"{config.alias}@{bundle.short}",
        "digest": bundle.digest,
        **asdict(result),
        "tokens_per_second": result.tokens_per_second,
        "wall_seconds": time.monotonic() - started,
        "dropped": dict(corpus.dropped),
    }
    (run / "result.json").write_text(json.dumps(record, indent=1) + "\n")
    say(
        f"published {record['model']}: {result.steps} steps, loss {result.loss:.3f}, "
        f"{result.tokens_per_second:,.0f} tokens/s; {run / 'result.json'}"
    )


def run() -> None:
    typer.run(main)


if __name__ == "__main__":
    run()
