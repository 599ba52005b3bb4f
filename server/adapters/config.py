"""PEFT's `adapter_config.json`, checked field by field: what the engine would pass over or take in
another way than it was trained is refused.

vLLM 0.26 ignores `rank_pattern`, `alpha_pattern` and other initialisations, and takes an adapter
whose config it does not understand without a word.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.task.bundle import CONFIG, Manifest, parse_json
from server.adapters.refusal import Refusal

MAX_DEPTH = 8
MAX_RANK = 512
MAX_ALPHA = 1_000_000
MAX_MODULES = 64
# Fields that change nothing in how an adapter is served.
HARMLESS = frozenset(
    {
        "base_model_name_or_path", "inference_mode", "lora_dropout", "megatron_core",
        "peft_version", "qalora_group_size", "revision",
    }
)  # fmt: skip
# Fields with the only values that are served; PEFT writes them all. Other beginnings (PiSSA, OLoRA,
# LoftQ) change the base, which the engine does not.
SERVED: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",), "task_type": ("CAUSAL_LM",), "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
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
        record = parse_json(content, MAX_DEPTH)
    except ValueError as error:
        raise Refusal("bad_config", f"can't be read: {str(error)[:100]}", CONFIG) from error
    if not isinstance(record, dict):
        raise Refusal("bad_config", "must hold one object", CONFIG)
    return record


def _rank(value: object) -> str:
    is_one = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_RANK
    return "" if is_one else f"a whole number from 1 to {MAX_RANK}"


def _alpha(value: object) -> str:
    is_one = (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_ALPHA
    )
    return "" if is_one else f"a number over 0, up to {MAX_ALPHA}"


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
    if name in SERVED:
        if value not in SERVED[name]:
            wanted = " or ".join(map(repr, SERVED[name]))
            raise Refusal("unsupported_field", f"must be {wanted}, not {_shown(value)}", name)
    elif name not in REQUIRED and name not in HARMLESS and value not in (None, False, {}, []):
        message = f"{_shown(value)} is not served; train without it"
        raise Refusal("unsupported_field", message, name)


def _compare(name: str, config: object, manifest: object) -> None:
    if config != manifest:
        message = f"the config says {_shown(config)}, the manifest {_shown(manifest)}"
        raise Refusal("disagrees", message, name)


def _shown(value: object) -> str:
    return repr(value)[:80]
