"""All kinds of hostile adapters, and the good ones that stand between them."""

from collections.abc import Mapping

from benchmarks.hostile_adapters import configs, files, headers, tensors
from benchmarks.hostile_adapters.draft import A, B, Draft, Kind, Spoil, first_a
from benchmarks.hostile_adapters.weights import value_bits

KINDS: tuple[Kind, ...] = (
    *files.KINDS, *configs.KINDS, *headers.KINDS, *tensors.KINDS,
)  # fmt: skip


def cast(dtype: str) -> Spoil:
    def spoil(draft: Draft) -> None:
        draft.write_tensors({name: each.cast(dtype) for name, each in draft.tensors.items()})

    return spoil


def small(draft: Draft) -> None:
    """Minus zero, the smallest value above zero, and the largest that a weight may be."""
    tensors_ = {name: tensor.cast("F32") for name, tensor in draft.tensors.items()}
    first = tensors_[first_a(draft)]
    for place, bits in enumerate((b"\0\0\0\x80", b"\1\0\0\0", value_bits("F32", 32767.996))):
        first = first.filled(bits, place)
    draft.write_tensors(tensors_ | {first_a(draft): first})


def half_idle(draft: Draft) -> None:
    """A layer without effect is none of admission's business while another has one."""
    layer = first_a(draft).removesuffix(A)
    found = draft.tensors
    draft.write_tensors(found | {layer + B: found[layer + B].zeroed()})


# What may be done to a good bundle and leaves it good.
GOOD: Mapping[str, Spoil] = {
    "as it is": lambda draft: None,
    "in F32": cast("F32"),
    "in F16": cast("F16"),
    "in BF16": cast("BF16"),
    "small and large values": small,
    "a layer without effect": half_idle,
    "with notes": lambda draft: draft.header(lambda h: h.update({"__metadata__": {"a": "b"}})),
    "drawn otherwise": lambda draft: draft.config(init_lora_weights="gaussian"),
}
