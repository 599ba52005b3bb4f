"""Failures of the libraries that training stands on, as one line that names the remedy.

Each check comes before hours of work where it can; the rest is told from what was raised. Knows
what transformers, PEFT, safetensors and PyTorch raise, and nothing of the command line.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.task.base_model import BaseModelError
from trainer.config import ALL_LINEAR, RecipeError, TrainConfig

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
HUB = "check the id, set HF_TOKEN or HF_ENDPOINT, or give the folder of a download"
# safetensors, and `shutil.copytree` in its list of failures, tell errno in their text only.
ERRNO = re.compile(r"(?:\(os error |\[Errno )(\d+)")
# PyTorch's zip writer, in which optimiser states are kept, tells no errno.
TORCH_WRITER = ("PytorchStreamWriter", "inline_container", "unexpected pos", "iostream")
MAX_CHARS = 200


class DiskError(RuntimeError):
    """A folder that can't be written any more; the message names it and what helps."""


def expect_publishable(config: TrainConfig) -> None:
    """Raises RecipeError for `hints`: a server asks without them, other than was trained."""
    if config.hints:
        raise RecipeError(
            "hints: a server gives none, so an adapter that was trained on them is not published; "
            "set hints: false, or measure them by python -m trainer.sweep"
        )


def expect_writable(folder: Path) -> None:
    """Make `folder` if need be, and write to it: better now than after an hour of training.

    Raises:
        OSError: it can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable-"):
        pass


def expect_base(base: Path | str) -> None:
    """Look whether `base`, a folder or a hub id, can be a base model, before it is read.

    Raises:
        BaseModelError: a file is missing in the folder, or `base` is no hub id.
    """
    if isinstance(base, str):
        if not HUB_ID.fullmatch(base):
            raise BaseModelError(f"base_model: {base}: no such folder, nor a hub id ORG/NAME")
        return
    if not (base / "config.json").is_file():
        raise BaseModelError(f"base_model: {base}: no config.json; name a model's own folder")
    if not any(base.glob("*.safetensors")):
        raise BaseModelError(f"base_model: {base}: no safetensors file; only that format is read")
    if not any((base / name).is_file() for name in TOKENIZERS):
        raise BaseModelError(f"base_model: {base}: no tokenizer ({', '.join(TOKENIZERS)})")


@contextmanager
def loading(base: Path | str) -> Iterator[None]:
    """For what reads a base model.

    Raises:
        BaseModelError: it can't be had or read.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk's, not transformers' own
            raise
        remedy = HUB if isinstance(base, str) else "check the folder's files"
        told = f"base_model: {base}: can't be loaded ({_brief(error)}); {remedy}"
        raise BaseModelError(told) from error


def expect_targets(model: Any, config: TrainConfig) -> None:
    """Every one of `target_modules` is a part of `model`: PEFT leaves out one that is not.

    Raises:
        RecipeError: one is not there.
    """
    if config.target_modules == (ALL_LINEAR,):
        return
    names = [name for name, _ in model.named_modules()]
    for target in config.target_modules:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            known = ", ".join(_linears(model))
            raise RecipeError(f"target_modules: the model has no {target!r}; it has {known}")


def _linears(model: Any) -> list[str]:
    """Last names of the layers that repeat: what LoRA is put on."""
    leaves = [name for name, module in model.named_modules() if hasattr(module, "in_features")]
    return sorted({name.rpartition(".")[2] for name in leaves if re.search(r"\.\d+\.", name)})


def expect_reporters(config: TrainConfig) -> None:
    """Raises RecipeError where `report_to` names what is unknown or not installed."""
    if not config.report_to:
        return
    from transformers.integrations import get_available_reporting_integrations

    installed = get_available_reporting_integrations()
    for name in config.report_to:
        if name not in installed:
            known = ", ".join(installed) or "none"
            raise RecipeError(f"report_to: {name!r} is not installed; installed: {known}")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """For what writes checkpoints or a bundle to `folder`, whatever library does it.

    Raises:
        DiskError: the disk is full, a quota reached, the folder gone or read-only.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if (reason := _disk_reason(error)) is None:
            raise
        raise DiskError(
            f"can't write to {folder}: {reason}; make room there, and the same command goes on "
            "from the last checkpoint"
        ) from error


def _disk_reason(error: Exception) -> str | None:
    """What the operating system said; None where `error` is of another kind."""
    if isinstance(error, OSError) and not isinstance(error, shutil.Error):
        return os.strerror(error.errno) if error.errno else None
    if found := ERRNO.search(str(error)):
        return os.strerror(int(found[1]))
    if type(error) is RuntimeError and any(mark in str(error) for mark in TORCH_WRITER):
        return "the disk is full, or a limit on file sizes is reached"
    return None


def is_out_of_memory(error: RuntimeError) -> bool:
    """True for what PyTorch raises where a GPU's or the machine's memory is used up."""
    return type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)


def _brief(error: BaseException) -> str:
    """The first sentence of what a library said."""
    first = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    return first if len(first) <= MAX_CHARS else f"{first[:MAX_CHARS]}…"
