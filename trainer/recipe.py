"""A recipe from YAML, with `key=value` overrides; mistakes are named by key."""

import reprlib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from trainer.config import RecipeError, TrainConfig

MAX_BYTES = 1 << 20

# What PEFT can train but the engine doesn't serve (vLLM 0.26 to 0.33), or serves as if it were not
# there.
NOT_SERVED = {
    "use_dora": "the engine refuses DoRA adapters; plain LoRA of a higher rank comes close",
    "modules_to_save": "the engine refuses whole modules; add them to target_modules",
    "rank_pattern": "the engine ignores it; use one rank",
    "alpha_pattern": "the engine ignores it; use one alpha",
    "bias": "the engine refuses adapters with biases",
    "use_rslora": "write its scale out: alpha = old alpha × √rank",
    "init_lora_weights": "PiSSA, OLoRA and LoftQ change the base, which the engine does not",
}


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML recipe and apply `key=value` overrides.

    Raises:
        RecipeError: the file can't be read, a key is unknown or missing, a value is of wrong type.
    """
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise RecipeError(f"{path}: over {MAX_BYTES:,} bytes; is it a recipe?")
    try:
        record = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: can't be read: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, or not YAML
        raise RecipeError(f"{path}: can't be read: {error}") from error
    if not isinstance(record, dict):
        raise RecipeError(f"{path}: must hold keys and values")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise RecipeError(f"{override!r}: overrides are written key=value")
        try:
            record[key] = _parsed(value)
        except ValueError as error:
            raise RecipeError(f"{key}: {value!r} is not YAML") from error
    return config_from(record)


def _parsed(text: str) -> Any:
    """YAML's plain values. Raises ValueError where `text` is not YAML, or nested too deeply."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def config_from(record: Mapping[str, Any]) -> TrainConfig:
    """Build a config from plain values.

    Raises:
        RecipeError: a key is unknown or missing, or a value is of another type or out of range.
    """
    hints = typing.get_type_hints(TrainConfig)
    known = [field.name for field in fields(TrainConfig)]
    if refused := [key for key in record if key in NOT_SERVED]:
        raise RecipeError(f"{refused[0]}: {NOT_SERVED[refused[0]]}")
    if unknown := [key for key in record if key not in known]:
        raise RecipeError(f"unknown key {unknown[0]!r}; known: {', '.join(known)}")
    if "alias" not in record:
        raise RecipeError("alias: missing; it names the adapter to publish")
    values: dict[str, Any] = {k: _coerce(k, value, hints[k]) for k, value in record.items()}
    return TrainConfig(**values)


def _coerce(key: str, value: object, hint: Any) -> object:
    """`value` as the field's type; YAML reads `1e-3` as text and `3` as an integer."""
    origin = typing.get_origin(hint)
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(str(_coerce(key, item, str)) for item in items)
    if origin is Literal:
        if value not in typing.get_args(hint):
            raise RecipeError(f"{key}: must be one of {', '.join(typing.get_args(hint))}")
        return value
    if origin is not None:
        return _texts(key, value)
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    # Aliases make a short text a value of endless size, and `repr` writes it all out.
    raise RecipeError(f"{key}: must be {hint.__name__}, is {reprlib.repr(value)[:80]}")


def _texts(key: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(part, str) for pair in value.items() for part in pair
    ):
        raise RecipeError(f"{key}: must be names and texts, as in {{question: prompt}}")
    return dict(value)
