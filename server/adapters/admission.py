"""Whether the engine may see an adapter: everything that can be known of it without the engine.

vLLM takes adapters for another base, of another rank, with NaN or with layers missing, and answers
with nonsense, for others too. So each file, field and tensor is looked at here first.
"""

from dataclasses import dataclass, field
from pathlib import Path

from eval.task.bundle import WEIGHTS, Bundle, Manifest, read_bundle
from eval.task.dialect import DialectError, resolve_dialect
from server.adapters.base_shapes import LinearShapes
from server.adapters.config import LoraShape, read_config
from server.adapters.files import check_files
from server.adapters.refusal import Refusal
from server.adapters.tensors import A, B, Tensor, check_values, layer_of, read_tensors

PREFIX = "base_model.model."


@dataclass(frozen=True)
class Admission:
    """What is served here. An empty `base_sha256` or empty `shapes`: not known, so not compared.
    The engine would leave out what an adapter changes in other layers than `modules`, if given."""

    base_sha256: str = ""
    shapes: LinearShapes = field(default_factory=dict)
    max_rank: int = 512
    modules: frozenset[str] | None = None

    def admit_version(self, store: Path, short: str) -> Bundle:
        """Read version `short` of the store.

        Raises:
            Refusal, BundleError: as `admit`, or it is not what its name says.
        """
        bundle = self.admit(store / short)
        if bundle.short != short:
            raise Refusal("tampered", f"its digest is {bundle.short}", short)
        return bundle

    def admit(self, folder: Path) -> Bundle:
        """Read the bundle at `folder`, which may take as long as its disk does.

        Raises:
            Refusal: it must not be served; the code says why, `param` what is at fault.
            BundleError: its manifest or hashes are wrong.
        """
        check_files(folder)
        bundle = read_bundle(folder)
        self._check_manifest(bundle.manifest)
        shape = read_config(folder, bundle.manifest)
        path = folder / WEIGHTS
        with path.open("rb") as file:
            tensors = read_tensors(file, path.stat().st_size)
            self._check_tensors(tensors, shape)
            check_values(file, tensors)
        return bundle

    def _check_manifest(self, manifest: Manifest) -> None:
        try:
            resolve_dialect(manifest.dialect)
        except DialectError as error:
            raise Refusal("bad_manifest", str(error), "dialect") from error
        if self.base_sha256 and manifest.base_model_sha256 != self.base_sha256:
            message = f"trained on {manifest.base_model[:80]}, not on the base that is served"
            raise Refusal("wrong_base", message, "base_model_sha256")
        if self.modules and (others := sorted(set(manifest.target_modules) - self.modules)):
            message = f"this engine serves no adapter of {others[0]}"
            raise Refusal("unsupported_modules", message, "target_modules")
        if manifest.rank > self.max_rank:
            message = (
                f"{str(manifest.rank)[:20]} is over {self.max_rank}; raise SQLWRIGHT_MAX_LORA_RANK"
            )
            raise Refusal("rank_too_high", message, "rank")

    def _check_tensors(self, tensors: dict[str, Tensor], lora: LoraShape) -> None:
        """Every tensor that the config promises is there, in its shape, and no other."""
        expected = self._expected(lora) if self.shapes else _paired(tensors, lora)
        for name, shape in expected.items():
            if name not in tensors:
                raise Refusal("missing_tensor", f"of shape {list(shape)} is not in the file", name)
            if tensors[name].shape != shape:
                message = f"has shape {list(tensors[name].shape)}, not {list(shape)}"
                raise Refusal("wrong_shape", message, name)
        if more := sorted(set(tensors) - set(expected)):
            raise Refusal(
                "unexpected_tensor", "the config names no such layer of the base", more[0]
            )

    def _expected(self, lora: LoraShape) -> dict[str, tuple[int, int]]:
        """By name the shapes of all tensors of an adapter of the served base."""
        found: dict[str, tuple[int, int]] = {}
        for layer, (outputs, inputs) in self.shapes.items():
            if layer.rpartition(".")[2] in lora.modules:
                found[f"{PREFIX}{layer}{A}"] = (lora.rank, inputs)
                found[f"{PREFIX}{layer}{B}"] = (outputs, lora.rank)
        absent = lora.modules - {layer.rpartition(".")[2] for layer in self.shapes}
        if absent:
            message = f"the base has no layer {sorted(absent)[0]!r}"
            raise Refusal("unsupported_modules", message, "target_modules")
        return found


def _paired(tensors: dict[str, Tensor], lora: LoraShape) -> dict[str, tuple[int, int]]:
    """The tensors that there are, as pairs of the rank; for a base whose layers are not known."""
    found: dict[str, tuple[int, int]] = {}
    for name, tensor in tensors.items():
        layer = layer_of(name)
        is_one = layer.startswith(PREFIX) and layer.rpartition(".")[2] in lora.modules
        if is_one and layer != name and len(tensor.shape) == 2:
            inputs = _size(tensors.get(layer + A), 1)
            outputs = _size(tensors.get(layer + B), 0)
            found[layer + A], found[layer + B] = (lora.rank, inputs), (outputs, lora.rank)
    absent = lora.modules - {name.rpartition(".lora_")[0].rpartition(".")[2] for name in found}
    if absent:
        raise Refusal("missing_tensor", "there is none of this layer", sorted(absent)[0])
    return found


def _size(tensor: Tensor | None, side: int) -> int:
    return tensor.shape[side] if tensor and len(tensor.shape) == 2 else 0
