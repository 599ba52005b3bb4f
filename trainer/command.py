"""What the trainer's smaller commands share: settings as `key=value`, and mistakes in one line."""

import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, TypeVar

import typer

from eval.task.base_model import BaseModelError
from eval.task.bundle import BundleError
from eval.task.sqlite_judge import JudgeError
from trainer.config import RecipeError
from trainer.faults import DiskError
from trainer.pipeline.source import DataError
from trainer.tuning.dev_set import DevSetError
from trainer.tuning.early_stopping import StoppingError
from trainer.tuning.weights import WeightsError

MISTAKES = (
    *(BaseModelError, BundleError, DataError, DevSetError, DiskError),
    *(JudgeError, RecipeError, StoppingError, WeightsError),
)

Config = TypeVar("Config")


def configured(config: Config, overrides: Sequence[str]) -> Config:
    """A dataclass of plain values with `key=value` overrides.

    Raises:
        RecipeError: a key is unknown, or a value is of another type or out of range.
    """
    known = [field.name for field in fields(config)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or key not in known:
            raise RecipeError(f"{override!r}: write key=value; known: {', '.join(known)}")
        values[key] = _parsed(key, text, type(getattr(config, key)))
    return replace(config, **values)  # type: ignore[type-var]


def _parsed(key: str, text: str, kind: type) -> Any:
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError, OverflowError) as error:
        raise RecipeError(f"{key}: must be {kind.__name__}, is {text!r}") from error


def expect_numbers(config: Any, *, positive: Sequence[str], not_negative: Sequence[str]) -> None:
    """Raises RecipeError where one of these fields is out of its range."""
    for name in positive:
        if not 0 < getattr(config, name) < math.inf:
            raise RecipeError(f"{name}: must be positive")
    for name in not_negative:
        if not 0 <= getattr(config, name) < math.inf:
            raise RecipeError(f"{name}: must not be negative")


@contextmanager
def command(say: Callable[[str], None], *, knob: str) -> Iterator[None]:
    """For the body of a command: quiet libraries, and each mistake in one line with status 1.

    `knob` is what to lower where the device's memory is too small.
    """
    for library in ("sqlglot", "bitsandbytes"):  # the latter misses an optional CPU kernel
        logging.getLogger(library).setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # the bars of transformers and datasets
    try:
        yield
    except MISTAKES as error:
        message = str(error)
    except OSError as error:
        message = f"can't read or write {error.filename or 'a file'}: {error.strerror or error}"
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        message = f"the device's memory is too small; lower {knob}"
    except KeyboardInterrupt:
        message = "stopped"
    else:
        return
    say(f"error: {' '.join(message.split())}")
    raise typer.Exit(1)
