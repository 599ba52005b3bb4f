"""A small base model, a bundle that is good on it, and why one is refused."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.hostile_adapters.draft import Draft
from benchmarks.hostile_adapters.kinds import KINDS
from eval.task.bundle import WEIGHTS, BundleError
from server.adapters.admission import Admission
from server.adapters.refusal import CODES, code_of
from tests.conftest import BASE_SHA256, lora_tensors, make_bundle, safetensors

LAYERS = {
    "model.layers.0.self_attn.q_proj": (16, 16),
    "model.layers.0.self_attn.v_proj": (8, 16),
    "model.layers.1.self_attn.q_proj": (16, 16),
    "model.layers.1.self_attn.v_proj": (8, 16),
    "model.layers.0.mlp.down_proj": (16, 32),
}
RANK = 4
MODULES = ["q_proj", "v_proj"]
ADMISSION = Admission(BASE_SHA256, LAYERS, max_rank=16)
BY_NAME = {kind.name: kind for kind in KINDS}


def make_good(folder: Path) -> Path:
    """A bundle that adapts all q_proj and v_proj."""
    make_bundle(folder, rank=RANK, target_modules=MODULES)
    tensors: dict[str, Any] = {}
    for layer, (outputs, inputs) in LAYERS.items():
        if layer.endswith(tuple(MODULES)):
            tensors |= lora_tensors(layer, RANK, inputs, outputs)
    (folder / WEIGHTS).write_bytes(safetensors(tensors))
    Draft(folder).sign()
    return folder


def refusal(folder: Path, admission: Admission = ADMISSION) -> BundleError:
    """Why the bundle at `folder` is refused; it can be printed and logged."""
    with pytest.raises(BundleError) as caught:
        admission.admit(folder)
    assert code_of(caught.value) in CODES
    text = str(caught.value)
    assert len(text) < 700 and text.isprintable()
    return caught.value
