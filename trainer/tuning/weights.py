"""Adapter weights on disk as PEFT has them: read with their config, written by one rename.

Knows nothing of bundles, which have more files and a manifest.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


class WeightsError(ValueError):
    """An adapter folder that can't be read; the message names the file."""


@dataclass(frozen=True)
class AdapterWeights:
    """PEFT's config as it stands in its file, and the tensors by PEFT's names, on the CPU."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Any]


def read_adapter(folder: Path) -> AdapterWeights:
    """Raises WeightsError where config or weights are missing or malformed."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{folder}: no adapter to be read: {error}") from error
    if not isinstance(config, dict) or not tensors:
        raise WeightsError(f"{folder}: {CONFIG} or {WEIGHTS} is empty")
    return AdapterWeights(folder, config, tensors)


def keep_adapter(model: Any, folder: Path, metadata: Mapping[str, str]) -> None:
    """Write the active adapter of a PEFT model to `folder`, over an older one.

    `metadata` stands in the weights' own file, so that it is never that of other weights.
    """
    from peft import get_peft_model_state_dict

    name = model.active_adapter
    folder.mkdir(parents=True, exist_ok=True)
    model.peft_config[name].save_pretrained(str(folder))
    write_tensors(folder / WEIGHTS, get_peft_model_state_dict(model, adapter_name=name), metadata)


def write_tensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, save(plain, {"format": "pt", **metadata}))


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path` and rename it, so that `path` is the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as out:
        written = Path(out.name)
        try:
            out.write(content)
        except BaseException:
            written.unlink()
            raise
    written.chmod(0o644)
    written.replace(path)
