"""PEFT's `adapter_config.json`, checked field by field: what the engine would pass over or take in
another way than it was trained is refused.

vLLM 0.26 ignores `rank_pattern`, `alpha_pattern` and other initialisations, and takes an adapter
whose config it does not understand without a word.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.task.bundle import CONFIG, Manifest
from server.adapters.refusal import Refusal

MAX_DEPTH = 8
MAX_RANK = 512
MAX_MODULES = 64
# Fields that change nothing in how an adapter is served.
HARMLESS = frozenset(
    {
        "base_model_name_or_path", "inference_mode", "init_lora_weights", "lora_dropout",
        "megatron_core", "peft_version", "qalora_group_size", "revision",
    }
)  # fmt: skip
# Fields with the only value that is served; PEFT writes them all.
FIXED: Mapping[str, Any] = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoraShape:
    """What the tensors must fit: the rank, and the last names of the layers that are adapted."""

    rank: int
    modules: frozenset[str]


def read_config(folder: Path, manifest: Manifest) -> LoraShape:
    """Read the config of a bundle.

    Raises:
        Refusal: it is no such config, asks for what is not served, or says something else than the
            manifest; `param` names the field.
    """
    record = _load((folder / CONFIG).read_bytes())
    for name, check in REQUIRED.items():
        if name not in record:
            raise Refusal("bad_field", "is missing", name)
        if wanted := check(record[name]):
            raise Refusal("bad_field", f"must be {wanted}, not {_shown(record[name])}", name)
    for name, value in record.items():
        _check_option(name, value)
    shape = LoraShape(record["r"], frozenset(record["target_modules"]))
    _compare("r", shape.rank, manifest.rank)
    _compare("lora_alpha", record["lora_alpha"], manifest.alpha)
    _compare("target_modules", sorted(shape.modules), sorted(manifest.target_modules))
    return shape


def _load(content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError as error:
        raise Refusal("bad_config", f"nests deeper than {MAX_DEPTH}", CONFIG) from error
    except ValueError as error:
        raise Refusal("bad_config", f"is no JSON: {str(error)[:100]}", CONFIG) from error
    if not isinstance(record, dict):
        raise Refusal("bad_config", "must hold one object", CONFIG)
    if _depth(record) > MAX_DEPTH:
        raise Refusal("bad_config", f"nests deeper than {MAX_DEPTH}", CONFIG)
    return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # parsers differ in which of them counts
        raise ValueError("a name stands twice in an object")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rank(value: object) -> str:
    is_one = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_RANK
    return "" if is_one else f"a whole number from 1 to {MAX_RANK}"


def _alpha(value: object) -> str:
    is_one = isinstance(value, int | float) and _is_number(value) and 0 < value <= 1e6
    return "" if is_one else "a number over 0"


def _modules(value: object) -> str:
    is_one = (
        isinstance(value, list)
        and 0 < len(value) <= MAX_MODULES
        and all(isinstance(name, str) and name.isidentifier() for name in value)
    )
    return "" if is_one else "a list of layers' last names, such as q_proj"


REQUIRED: Mapping[str, Callable[[object], str]] = {
    "peft_type": lambda value: "" if isinstance(value, str) else "a text",
    "r": _rank,
    "lora_alpha": _alpha,
    "target_modules": _modules,
}


def _check_option(name: str, value: object) -> None:
    """A field that is not served must be off: absent, null, false or empty."""
    if name in FIXED:
        if value != FIXED[name]:
            message = f"must be {FIXED[name]!r}, not {_shown(value)}"
            raise Refusal("unsupported_field", message, name)
    elif name not in REQUIRED and name not in HARMLESS and value not in (None, False, {}, []):
        message = f"{_shown(value)} is not served; train without it"
        raise Refusal("unsupported_field", message, name)


def _compare(name: str, config: object, manifest: object) -> None:
    if config != manifest:
        message = f"the config says {_shown(config)}, the manifest {_shown(manifest)}"
        raise Refusal("disagrees", message, name)


def _shown(value: object) -> str:
    return repr(value)[:80]
