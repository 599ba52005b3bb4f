"""`sqlwright-train RECIPE.yaml [key=value …]`: train an adapter and publish its bundle."""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from eval.task.base_model import BaseModelError
from eval.task.bundle import BundleError
from eval.task.example import ExampleError
from eval.task.schema import DdlError
from eval.task.sqlite_judge import JudgeError
from eval.task.store import default_store
from trainer.config import RecipeError
from trainer.faults import DiskError
from trainer.pipeline.augment.stage import AugmentError
from trainer.pipeline.source import DataError
from trainer.recipe import load_recipe
from trainer.tuning.dev_set import DevSetError
from trainer.tuning.early_stopping import StoppingError
from trainer.tuning.weights import WeightsError

MISTAKES = (
    *(RecipeError, DataError, ExampleError, DdlError, AugmentError),
    *(BaseModelError, BundleError, DiskError),
    *(DevSetError, JudgeError, StoppingError, WeightsError),
)
STOPPED = 128 + signal.SIGINT  # what a shell says of a command that Ctrl-C ended


def say(text: str) -> None:
    print(f"sqlwright-train: {text}", file=sys.stderr, flush=True)


def fail(text: str, status: int = 1) -> NoReturn:
    say(f"error: {' '.join(text.split())}")  # one line: YAML's own complaints take several
    raise typer.Exit(status)


def main(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see trainer/recipes.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, over the recipe.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Adapter store; default: the user's.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of checkpoints and results.")] = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Prepare the data, say what would be done, and stop.")
    ] = False,
) -> None:
    """Train a QLoRA adapter by RECIPE and publish it to the store under the recipe's alias.

    A run that was stopped goes on from its last checkpoint when called again. Exit status: 1 for a
    mistake, 130 after Ctrl-C.
    """
    _quieten()
    try:
        config = load_recipe(recipe, overrides or [])
        from trainer.run import Run, dry, train_and_publish

        first = os.environ.get("RANK", "0") == "0"
        run = Run(
            config,
            store or default_store(),
            runs / f"{config.alias}-{config.digest}",
            say=say if first else lambda _: None,
            progress=first and sys.stderr.isatty(),
        )
        if dry_run:
            print(dry(run))
        else:
            train_and_publish(run)
    except MISTAKES as error:
        fail(str(error))
    except OSError as error:
        fail(f"can't read or write {error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail("stopped; the same command goes on from the last checkpoint", STOPPED)


def _quieten() -> None:
    for library in ("sqlglot", "bitsandbytes"):  # the latter misses an optional CPU kernel
        logging.getLogger(library).setLevel(logging.ERROR)
    for library in ("TRANSFORMERS", "DATASETS", "HF_HUB"):  # read when they are imported
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # the bars of transformers and datasets


def run() -> None:
    typer.run(main)


if __name__ == "__main__":
    run()
