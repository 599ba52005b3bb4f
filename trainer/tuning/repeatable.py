"""The same weights at every run on the same kind of GPU: what PyTorch must be told for that.

By default attention's backward pass adds up in whatever order its blocks come, and kernels are
chosen by timing them. Rounding errors then differ from run to run, and after a thousand steps so do
some answers. Knows nothing of data or recipes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def repeatable(is_on: bool = True) -> Iterator[None]:
    """Deterministic kernels on a GPU inside the block; the process is as before after it.

    On a CPU nothing changes: with the same number of threads a run repeats itself there.
    """
    import torch

    if not torch.cuda.is_available():
        yield
        return
    # Read when cuBLAS is first used in this process, which loading a model does not do.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(is_on)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
