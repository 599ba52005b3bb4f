"""Attention over packed rows: many examples in one row, each seeing only itself.

On a GPU it is PyTorch's variable-length FlashAttention, so that nothing is padded and no mask is
built; elsewhere SDPA, example by example. Registered with transformers under the name `PACKED`, so
that any model whose attention goes through its interface can train with it. Such a model must be
given `cu_seq_lens` and `max_seq_len` with every batch; generating needs another implementation.
"""

import inspect
from functools import cache
from typing import Any

PACKED = "sqlwright_packed"


def register() -> str:
    """Make `PACKED` known to transformers; return that name."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, _no_mask)
    return PACKED


def _no_mask(*_: Any, **__: Any) -> None:
    """The borders of the examples come as lengths; transformers need not build a mask."""


def packed_attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    cu_seq_lens: Any,
    max_seq_len: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Any, None]:
    """Causal attention within each example of one row.

    `query` is (1, heads, tokens, width), `key` and `value` (1, key heads, tokens, width);
    `cu_seq_lens` (examples + 1), int32, are the borders, repeated at the end where it is padded.
    Returns (1, tokens, heads, width).

    Raises:
        ValueError: the model asks for attention dropout, which has no packed form here.
    """
    if dropout:
        raise ValueError("attention dropout is not supported on packed rows")
    if query.is_cuda:
        return _flash(query, key, value, cu_seq_lens, max_seq_len, scaling), None
    return _by_example(query, key, value, cu_seq_lens, scaling), None


def _flash(
    query: Any, key: Any, value: Any, borders: Any, longest: int, scale: float | None
) -> Any:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    options = _causal_options()
    if q.shape[1] != k.shape[1] and "enable_gqa" not in options:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    out: Any = varlen_attn(q, k, v, borders, borders, longest, longest, scale=scale, **options)
    return out.unsqueeze(0)


@cache
def _causal_options() -> dict[str, Any]:
    """What says "causal" and "grouped" to this version of PyTorch: it changed after 2.10."""
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = (
        {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    )
    return options | ({"enable_gqa": True} if "enable_gqa" in known else {})


def _by_example(query: Any, key: Any, value: Any, borders: Any, scale: float | None) -> Any:
    import torch
    from torch.nn.functional import scaled_dot_product_attention as attend

    lengths = [n for n in borders.diff().tolist() if n]
    parts = (x.split(lengths, dim=2) for x in (query, key, value))
    outs = [
        attend(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(outs, dim=2).transpose(1, 2)
