"""A training recipe: one frozen dataclass, read from YAML with `key=value` overrides.

Defaults stand here once; the command line and the README take them from these fields.
"""

import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from eval.task.base_model import BASE_MODEL
from eval.task.bundle import ALIAS
from eval.task.prompt import TEMPLATE, PromptFormat

# The ranks that vLLM has kernels for; a rank between two is served at the next higher one.
MAX_RANK = 512
ALL_LINEAR = "all-linear"
SAMPLES = "samples"

POSITIVE = ("alpha", "learning_rate", "epochs", "max_length", "batch_size", "device_batch_size")
NOT_NEGATIVE = ("max_examples", "max_steps", "dropout", "warmup_ratio", "weight_decay", "seed")


class RecipeError(ValueError):
    """A recipe that can't be used; the message names the key and what it may be."""


@dataclass(frozen=True)
class TrainConfig:
    """What to train on, how, and under which alias to publish.

    `data` names JSONL files of examples (or `samples`, the project's own); the schema of a
    database is `schemas/DB_ID.sql` or `DB_ID.sql` beside the file. `batch_size` is the effective
    batch size: device batch × accumulation × devices.
    """

    alias: str
    data: tuple[str, ...] = (SAMPLES,)
    base_model: str = BASE_MODEL
    max_examples: int = 0
    names: Literal["written", "full"] = "full"
    template: str = TEMPLATE
    serialisation: str = "keys"
    max_length: int = 2048
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    learning_rate: float = 1e-3
    epochs: float = 3.0
    max_steps: int = 0
    batch_size: int = 32
    device_batch_size: int = 32
    warmup_ratio: float = 0.03
    scheduler: str = "cosine"
    weight_decay: float = 0.0
    gradient_checkpointing: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        if not ALIAS.fullmatch(self.alias):
            raise RecipeError(f"alias: {self.alias[:80]!r} must match {ALIAS.pattern}")
        if not self.data:
            raise RecipeError("data: name at least one JSONL file, or 'samples'")
        if not 1 <= self.rank <= MAX_RANK:
            raise RecipeError(f"rank: {self.rank} is not served; 1 to {MAX_RANK}")
        if not self.target_modules:
            raise RecipeError(f"target_modules: name at least one, or {ALL_LINEAR!r}")
        for name in POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise RecipeError(f"{name}: must be positive")
        for name in NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise RecipeError(f"{name}: must not be negative")
        for name in ("dropout", "warmup_ratio"):
            if getattr(self, name) >= 1:
                raise RecipeError(f"{name}: must be below 1")
        if self.batch_size % self.device_batch_size:
            raise RecipeError("batch_size: must be a multiple of device_batch_size")
        try:
            self.prompt_format  # noqa: B018 - its own checks run
        except ValueError as error:
            raise RecipeError(f"template, serialisation: {error}") from error

    @property
    def prompt_format(self) -> PromptFormat:
        return PromptFormat(self.template, self.serialisation)

    @property
    def digest(self) -> str:
        """12 hex digits over all fields: names the run's folder, so that only itself resumes it."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML recipe and apply `key=value` overrides.

    Raises:
        RecipeError: the file can't be read, a key is unknown or missing, a value is of wrong type.
    """
    import yaml

    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: can't be read: {error}") from error
    if not isinstance(record, dict):
        raise RecipeError(f"{path}: must hold keys and values")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise RecipeError(f"{override!r}: overrides are written key=value")
        try:
            record[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"{key}: {value!r} is not YAML") from error
    return config_from(record)


def config_from(record: Mapping[str, Any]) -> TrainConfig:
    """Build a config from plain values.

    Raises:
        RecipeError: a key is unknown or missing, or a value is of another type or out of range.
    """
    hints = typing.get_type_hints(TrainConfig)
    known = [field.name for field in fields(TrainConfig)]
    if unknown := [key for key in record if key not in known]:
        raise RecipeError(f"unknown key {unknown[0]!r}; known: {', '.join(known)}")
    if "alias" not in record:
        raise RecipeError("alias: missing; it names the adapter to publish")
    values: dict[str, Any] = {k: _coerce(k, value, hints[k]) for k, value in record.items()}
    return TrainConfig(**values)


def _coerce(key: str, value: object, hint: Any) -> object:
    """`value` as the field's type; YAML reads `1e-3` as text and `3` as an integer."""
    if typing.get_origin(hint) is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(str(_coerce(key, item, str)) for item in items)
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise RecipeError(f"{key}: must be one of {', '.join(typing.get_args(hint))}")
        return value
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    name = hint.__name__ if not isinstance(hint, types.GenericAlias) else str(hint)
    raise RecipeError(f"{key}: must be {name}, is {value!r}")
