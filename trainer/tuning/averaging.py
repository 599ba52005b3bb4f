"""Weights averaged: several adapters into one, or one adapter's weights over its training.

Averages of models that were tuned from one start often beat each of them: Izmailov et al.,
"Averaging Weights Leads to Wider Optima and Better Generalization" (2018), Wortsman et al., "Model
soups" (2022). Knows nothing of how good an adapter is.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.tuning.weights import (
    CONFIG,
    WEIGHTS,
    AdapterWeights,
    read_adapter,
    write_tensors,
)

Method = Literal["factors", "products"]
EMA_WEIGHTS = "ema.safetensors"
A, B = ".lora_A.weight", ".lora_B.weight"
# What two adapters must have in common, and the value that means "not used".
SHARED: Mapping[str, Any] = {
    "base_model_name_or_path": None,
    "r": None,
    "lora_alpha": None,
    "target_modules": None,
    "use_rslora": False,
    "fan_in_fan_out": False,
}
UNUSED: Mapping[str, Any] = {
    "use_dora": False,
    "bias": "none",
    "lora_bias": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
}


class AveragingError(ValueError):
    """Adapters that can't be averaged; the message names the two and what differs."""


@dataclass(frozen=True, slots=True)
class Average:
    """What was written. `lost` is the share of the average's squared Frobenius norm that its
    truncation to the rank cut off: 0 for factors, which are not truncated."""

    folder: Path
    num_adapters: int
    method: Method
    lost: float


def average(
    adapters: Sequence[Path],
    target: Path,
    weights: Sequence[float] | None = None,
    *,
    method: Method = "products",
) -> Average:
    """Write to the new folder `target` the average of `adapters`, by default in equal parts.

    `factors` averages each A and each B. That is not the average of what the adapters do: with
    ΔW = B·A, (ΣwB)(ΣwA) has cross terms B₁·A₂, which mean something only where the factors
    correspond: checkpoints of one run, or seeds that share A (Sun et al., "Improving LoRA in
    Privacy-preserving Federated Learning", 2024, section 3). `products` averages ΔW itself and
    truncates it to the rank by SVD, the nearest in the Frobenius norm (Eckart and Young 1936), as
    PEFT's `add_weighted_adapter(combination_type="svd")`; it is worked out on the factors, so that
    no ΔW is made. Both are computed in float32 and written in the dtype of the first adapter.

    Raises:
        AveragingError: they differ in base, rank, alpha, targets or shape; fewer than two; weights
            that are negative or do not fit; or `target` exists.
        WeightsError: a folder is no adapter.
    """
    shares = _shares(adapters, weights)
    if target.exists():
        raise AveragingError(f"{target} exists; name a new folder")
    read = [read_adapter(folder) for folder in adapters]
    for other in read:
        _expect_alike(read[0], other)
    combined, lost = _averaged(read, shares, method)
    _write(combined, read[0], target)
    return Average(target, len(read), method, lost)


def _shares(adapters: Sequence[Path], weights: Sequence[float] | None) -> list[float]:
    if len(adapters) < 2:
        raise AveragingError(f"an average needs two adapters, not {len(adapters)}")
    given = [1.0] * len(adapters) if weights is None else list(weights)
    if len(given) != len(adapters):
        raise AveragingError(f"{len(given)} weights for {len(adapters)} adapters")
    if min(given) < 0 or not sum(given) > 0:
        raise AveragingError("weights must not be negative, nor all zero")
    return [weight / sum(given) for weight in given]


def _expect_alike(first: AdapterWeights, other: AdapterWeights) -> None:
    """Raises AveragingError where `other` can't be averaged with `first`."""
    for key, unused in UNUSED.items():
        if other.config.get(key) not in (unused, None):
            raise AveragingError(f"{other.folder}: {key} is used; only plain LoRA is averaged")
    for key, usual in SHARED.items():
        ours, theirs = (_plain(each.config.get(key, usual)) for each in (first, other))
        if ours != theirs:
            both = f"{first.folder} and {other.folder}"
            raise AveragingError(f"{both} differ in {key}: {ours!r} and {theirs!r}")
    shapes = [{name: tuple(t.shape) for name, t in each.tensors.items()} for each in (first, other)]
    if shapes[0] != shapes[1]:
        odd = min(name for name, _ in shapes[0].items() ^ shapes[1].items())
        raise AveragingError(f"{first.folder} and {other.folder} differ in the shape of {odd}")
    for name in other.tensors:
        if not name.endswith((A, B)) or name.replace(A, B) not in other.tensors:
            raise AveragingError(f"{other.folder}: {name} is no factor of a linear layer's LoRA")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def _averaged(
    read: Sequence[AdapterWeights], shares: Sequence[float], method: Method
) -> tuple[dict[str, Any], float]:
    """Tensors by name, and the lost share over all layers."""
    combined: dict[str, Any] = {}
    total = lost = 0.0
    for name in sorted(n for n in read[0].tensors if n.endswith(A)):
        partner = name.removesuffix(A) + B
        downs = [each.tensors[name].float() for each in read]
        ups = [each.tensors[partner].float() for each in read]
        if method == "factors":
            down = sum(w * t for w, t in zip(shares, downs, strict=True))
            up = sum(w * t for w, t in zip(shares, ups, strict=True))
        else:
            up, down, norm, cut = _truncated(downs, ups, shares)
            total, lost = total + norm, lost + cut
        combined[name] = down.to(read[0].tensors[name].dtype)
        combined[partner] = up.to(read[0].tensors[partner].dtype)
    return combined, lost / total if total else 0.0


def _truncated(
    downs: Sequence[Any], ups: Sequence[Any], shares: Sequence[float]
) -> tuple[Any, Any, float, float]:
    """B and A of the best approximation of Σ w·B·A by their rank; its squared norm, and the cut.

    With U = [w₁B₁ …] = Q₁R₁ and D = [A₁; …] = (Q₂R₂)ᵀ the SVD is that of the small R₁R₂ᵀ.
    """
    import torch

    rank = downs[0].shape[0]
    stacked = torch.cat([w * up for w, up in zip(shares, ups, strict=True)], dim=1)
    left, left_small = torch.linalg.qr(stacked)
    right, right_small = torch.linalg.qr(torch.cat(list(downs)).T)
    u, sizes, v = torch.linalg.svd(left_small @ right_small.T)
    root = sizes[:rank].sqrt()
    up = (left @ u[:, : len(root)]) * root
    down = root[:, None] * (v[: len(root)] @ right.T)
    squares = sizes.square()
    up, down = _filled(up, rank, dim=1), _filled(down, rank, dim=0)
    return up, down, float(squares.sum()), float(squares[rank:].sum())


def _filled(factor: Any, rank: int, *, dim: int) -> Any:
    """Zeros up to the rank, for a layer that is smaller than it."""
    import torch

    missing = rank - factor.shape[dim]
    shape = [*factor.shape]
    shape[dim] = missing
    return torch.cat([factor, factor.new_zeros(shape)], dim=dim) if missing else factor


def _write(tensors: Mapping[str, Any], first: AdapterWeights, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".averaging-", dir=target.parent) as work:
        made = Path(work) / "adapter"
        made.mkdir()
        shutil.copyfile(first.folder / CONFIG, made / CONFIG)
        write_tensors(made / WEIGHTS, tensors, {})
        made.rename(target)


def ema_callback(decay: float) -> Any:
    """A callback of transformers' Trainer that keeps the exponential moving average of the trained
    weights, in float32, and saves it with each checkpoint.

    After step t, decay is min(`decay`, (1 + t) / (10 + t)), else the untrained weights would weigh
    for long (as TensorFlow's ExponentialMovingAverage with `num_updates`). A function, because
    importing transformers takes seconds.

    Raises:
        AveragingError: `decay` is no share below 1; when training begins: the checkpoint that it
            goes on from has no average.
    """
    from transformers import TrainerCallback

    if not 0 < decay < 1:
        raise AveragingError(f"decay: must be between 0 and 1, is {decay:g}")

    class EmaCallback(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.average: dict[str, Any] = {}
            self.saved_step = -1

        def on_train_begin(
            self, args: Any, state: Any, control: Any, *, model: Any = None, **_: Any
        ) -> None:
            now = _trained(model)
            if state.global_step:
                saved = _load(_place(args, state))
                self.average = {name: saved[name].to(p.device) for name, p in now.items()}
            else:
                self.average = {name: p.detach().float().clone() for name, p in now.items()}

        def on_step_end(
            self, args: Any, state: Any, control: Any, *, model: Any = None, **_: Any
        ) -> None:
            import torch

            now = _trained(model)
            keep = min(decay, (1 + state.global_step) / (10 + state.global_step))
            values = [now[name].detach().float() for name in self.average]
            torch._foreach_lerp_(list(self.average.values()), values, 1 - keep)
            if control.should_save:  # before the checkpoint is whole, so that none lacks it
                self.on_save(args, state, control)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero and self.saved_step != state.global_step:
                step = {"step": str(state.global_step)}
                write_tensors(_place(args, state), self.average, step)
            self.saved_step = state.global_step

        @contextmanager
        def applied(self, model: Any) -> Iterator[None]:
            """`model` with the averaged weights; its own are back at the end, bit for bit."""
            now = _trained(model)
            own = {name: p.data for name, p in now.items()}
            try:
                for name, p in now.items():
                    p.data = self.average[name].to(p.dtype)
                yield
            finally:
                for name, p in now.items():
                    p.data = own[name]

        def keep(self, model: Any) -> None:
            """Give `model` the averaged weights for good."""
            for name, p in _trained(model).items():
                p.data.copy_(self.average[name])

    return EmaCallback()


def _trained(model: Any) -> dict[str, Any]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _place(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / EMA_WEIGHTS


def _load(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise AveragingError(
            f"{path}: no averaged weights to go on from ({error}); begin the run anew"
        ) from error
