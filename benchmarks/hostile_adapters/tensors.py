"""What may be wrong with the tensors: their names, shapes and values."""

from collections.abc import Callable
from dataclasses import replace

from benchmarks.hostile_adapters.draft import (
    A,
    B,
    Draft,
    Named,
    Spoil,
    first_a,
    first_b,
    kinds,
    last_a,
)
from benchmarks.hostile_adapters.weights import Tensor, value_bits
from eval.task.bundle import WEIGHTS

HEAD = "base_model.model.lm_head"


def without(is_out: Callable[[str], bool]) -> Spoil:
    def spoil(draft: Draft) -> None:
        draft.write_tensors({n: t for n, t in draft.tensors.items() if not is_out(n)})

    return spoil


def last_gone(draft: Draft) -> None:
    layer = last_a(draft).removesuffix(A)
    without(lambda name: name.startswith(layer))(draft)


def more(name: Named, like: Named) -> Spoil:
    """One tensor more."""

    def spoil(draft: Draft) -> None:
        tensors = draft.tensors
        draft.write_tensors(tensors | {name(draft): tensors[like(draft)]})

    return spoil


def renamed(change: Callable[[str], str]) -> Spoil:
    def spoil(draft: Draft) -> None:
        draft.write_tensors({change(name): t for name, t in draft.tensors.items()})

    return spoil


def far(draft: Draft) -> str:
    return first_a(draft).replace("layers.0", "layers.99999999999")


def magnitude(draft: Draft) -> str:
    return first_a(draft).replace(A, ".lora_magnitude_vector")


def look_alike(draft: Draft) -> str:
    return first_a(draft).replace("proj", "prоj")  # noqa: RUF001


def shaped(name: Named, change: Callable[..., tuple[int, ...]]) -> Spoil:
    """One tensor of another size, with bytes enough."""
    return lambda draft: draft.change(name(draft), lambda t: t.resized(*change(*t.shape)))


def other_rank(draft: Draft) -> None:
    """Both factors of one layer of rank 2, which fit each other."""
    shaped(first_a, lambda rank, inputs: (2, inputs))(draft)
    shaped(first_b, lambda outputs, rank: (outputs, 2))(draft)


def turned(draft: Draft) -> None:
    draft.change(first_a(draft), lambda t: replace(t, shape=t.shape[::-1]))


def value(name: Named, number: float, index: int = 0, dtype: str = "") -> Spoil:
    """One value of one tensor; all of them cast to `dtype` first."""
    return bits(name, lambda own: value_bits(own, number), index, dtype)


def bits(name: Named, of: Callable[[str], bytes], index: int = 0, dtype: str = "") -> Spoil:
    def spoil(draft: Draft) -> None:
        tensors = draft.tensors
        if dtype:
            tensors = {each: tensor.cast(dtype) for each, tensor in tensors.items()}
        tensor = tensors[name(draft)]
        tensors[name(draft)] = tensor.filled(of(tensor.dtype), index)
        draft.write_tensors(tensors)

    return spoil


def repeated(tensor: Tensor, number: float) -> Tensor:
    one = value_bits(tensor.dtype, number)
    return replace(tensor, data=one * (len(tensor.data) // len(one)))


def all_values(draft: Draft) -> None:
    draft.write_tensors({name: repeated(each, NAN) for name, each in draft.tensors.items()})


def among_negative(draft: Draft) -> None:
    """Read with their signs, negative values are larger than NaN."""
    draft.change(first_b(draft), lambda tensor: repeated(tensor, -0.5))
    value(first_b, NAN, 3)(draft)


def zeros(end: str) -> Spoil:
    def spoil(draft: Draft) -> None:
        draft.write_tensors(
            {n: t.zeroed() if n.endswith(end) else t for n, t in draft.tensors.items()}
        )

    return spoil


def minus_zeros(draft: Draft) -> None:
    found = {n: t.cast("F32") for n, t in draft.tensors.items()}
    for name in (each for each in found if each.endswith(B)):
        found[name] = repeated(found[name], -0.0)
    draft.write_tensors(found)


def crossed(draft: Draft) -> None:
    """A zero factor in every layer, though neither all A nor all B are zero."""
    tensors = draft.tensors
    first = first_a(draft).removesuffix(A)
    for name, tensor in tensors.items():
        if name.endswith(A if name.startswith(first) else B):
            tensors[name] = tensor.zeroed()
    draft.write_tensors(tensors)


INF, NAN = float("inf"), float("nan")
NAMES = (
    *kinds(30, "missing_tensor", {
        "only A": (first_b, without(lambda name: name.endswith(B))),
        "only B": (first_a, without(lambda name: name.endswith(A))),
        "a layer less": (last_a, last_gone),
        "foreign names": (first_a, renamed(lambda name: name.replace("base_model.", "x."))),
        "names of embeddings": (first_a, renamed(lambda name: name.replace("lora_A", "lora_C"))),
        "names that look alike": (first_a, renamed(lambda name: name.replace("a", "а"))),  # noqa: RUF001
        "names with a path": (first_a, renamed(lambda name: f"../{name}")),
    }),
    *kinds(30, "unexpected_tensor", {
        "a layer more": (far, more(far, first_a)),
        "a factor that looks alike": (look_alike, more(look_alike, first_a)),
        "magnitudes": (magnitude, more(magnitude, first_a)),
        "a bias": ("x.bias", more(lambda _: "x.bias", first_a)),
        "the head": (f"{HEAD}{A}", more(lambda _: f"{HEAD}{A}", first_a)),
        "the whole head": (f"{HEAD}.weight", more(lambda _: f"{HEAD}.weight", first_a)),
        "a name of nothing": (lambda _: "", more(lambda _: "", first_a)),
        "a name of half a pair": ("\\ud800", more(lambda _: "\ud800", first_a)),
        "a name with colour": ("\\n\\x1b[31m", more(lambda _: "\n\x1b[31m", first_a)),
        "a name of 100,000": ("x" * 200, more(lambda _: "x" * 100_000, first_a)),
    }),
)  # fmt: skip
SHAPES = kinds(30, "wrong_shape", {
    "other rank in the tensors": (first_a, other_rank),
    "other hidden size": (first_a, shaped(first_a, lambda rank, inputs: (rank, inputs - 4))),
    "other outputs": (first_b, shaped(first_b, lambda outputs, rank: (outputs + 8, rank))),
    "turned over": (first_a, turned),
    "of one dimension": (first_a, shaped(first_a, lambda rank, inputs: (rank * inputs,))),
    "of three": (first_a, shaped(first_a, lambda rank, inputs: (1, rank, inputs))),
    "of four": (first_a, shaped(first_a, lambda rank, inputs: (1, 1, rank, inputs))),
    "of no size": (first_a, shaped(first_a, lambda rank, inputs: (rank, 0))),
})  # fmt: skip
VALUES = (
    *kinds(30, "not_finite", {
        "NaN": (first_a, value(first_a, NAN, 7)),
        "NaN last of all": (last_a, value(last_a, NAN, -1)),
        "NaN all": (first_a, all_values),
        "NaN among negative values": (first_b, among_negative),
        "NaN in F32": (first_a, value(first_a, NAN, 7, "F32")),
        "NaN in F16": (first_a, value(first_a, NAN, 7, "F16")),
        "NaN in BF16": (first_b, value(first_b, NAN, 7, "BF16")),
        "NaN of one bit": (first_a, bits(first_a, lambda _: b"\x01\x00\x80\xff", 7, "F32")),
        "NaN of one bit in F16": (first_a, bits(first_a, lambda _: b"\x01\x7c", 7, "F16")),
        "infinity": (first_a, value(first_a, INF)),
        "minus infinity": (first_b, value(first_b, -INF)),
        "infinity in F16": (first_b, value(first_b, INF, -1, "F16")),
    }),
    *kinds(30, "out_of_range", {
        "3e38": (first_a, value(first_a, 3e38)),
        "-40000": (first_b, value(first_b, -40000.0, -1)),
        "2 ** 15": (first_a, value(first_a, 2.0**15)),
        "2 ** 15 in F16": (first_a, value(first_a, 2.0**15, 0, "F16")),
        "65504 in F16": (first_b, value(first_b, -65504.0, 0, "F16")),
        "1e30 in BF16": (first_a, value(first_a, 1e30, 0, "BF16")),
    }),
    *kinds(30, "no_effect", {
        "B of zeros": (WEIGHTS, zeros(B)),
        "A of zeros": (WEIGHTS, zeros(A)),
        "B of minus zeros": (WEIGHTS, minus_zeros),
        "a zero in every layer": (WEIGHTS, crossed),
    }),
)  # fmt: skip
KINDS = (*NAMES, *SHAPES, *VALUES)
