"""The linear layers of a base model, from the headers of its own weights."""

from pathlib import Path

from server.adapters.refusal import Refusal
from server.adapters.tensors import DTYPES, Tensor, read_tensors

WEIGHT = ".weight"

# Of each linear layer, by its whole name: numbers of outputs and inputs.
LinearShapes = dict[str, tuple[int, int]]


def linear_shapes(folder: Path) -> LinearShapes:
    """The linear layers of the model in `folder`; empty where its headers don't tell, as with
    weights in 4 bits."""
    tensors: list[Tensor] = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                tensors += read_tensors(file, path.stat().st_size).values()
        except Refusal:  # dtypes that no adapter has
            return {}
    return {
        tensor.name.removesuffix(WEIGHT): (tensor.shape[0], tensor.shape[1])
        for tensor in tensors
        if tensor.name.endswith(WEIGHT) and len(tensor.shape) == 2 and tensor.dtype in DTYPES
    }
