"""Variants of one adapter: its tensors with `lora_B` scaled, each a version of its own in a store.

Scaling B scales the whole effect of the adapter, so variants cost alike and answer unlike. They
carry no evidence: a fingerprint belongs to one digest only.
"""

import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from benchmarks.plan import BenchError
from eval.task.bundle import CONFIG, WEIGHTS, BundleError, read_bundle, write_manifest
from eval.task.store import add_version

BUNDLED = Path("server/bundled/spider")
MAKERS = 8


def factors(count: int, lowest: float) -> list[float]:
    """`count` factors from 1 down to `lowest`, evenly spaced."""
    step = (1 - lowest) / max(1, count - 1)
    return [round(1 - step * number, 6) for number in range(count)]


def make_variants(bundle: Path, store: Path, scales: Sequence[float]) -> list[str]:
    """Put the adapter at `bundle`, scaled by each of `scales`, into `store`; the versions, in the
    same order. One that is there already is left as it is.

    Raises:
        BenchError: `bundle` is no bundle, or the store can't be written.
    """
    try:
        with ThreadPoolExecutor(MAKERS) as makers:
            return list(makers.map(lambda scale: _make(bundle, store, scale), scales))
    except (BundleError, OSError) as error:
        raise BenchError(f"--bundle {bundle}, --store {store}: {error}") from error


def _make(bundle: Path, store: Path, scale: float) -> str:
    manifest = read_bundle(bundle).manifest
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copyfile(bundle / CONFIG, folder / CONFIG)
        _write_scaled(bundle / WEIGHTS, folder / WEIGHTS, scale)
        write_manifest(folder, replace(manifest, recipe=manifest.recipe | {"scaled_by": scale}))
        return add_version(folder, store).short


def _write_scaled(source: Path, target: Path, scale: float) -> None:
    from safetensors.torch import load_file, save_file

    tensors = {
        name: (tensor.float() * scale).to(tensor.dtype) if ".lora_B." in name else tensor
        for name, tensor in load_file(source).items()
    }
    save_file(tensors, target, metadata={"format": "pt"})
