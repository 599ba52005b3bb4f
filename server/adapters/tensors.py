"""The tensors of an adapter's safetensors file: its layout, and what they hold.

The format is 8 bytes of length (little-endian), a JSON header with a dtype, a shape and offsets for
each tensor, then the tensors (huggingface.co/docs/safetensors). Nothing is allocated on the word
of the header: every number is compared with the file's size first.
"""

import math
from dataclasses import dataclass
from typing import Any, BinaryIO

from eval.task.bundle import WEIGHTS, parse_json
from server.adapters.refusal import Refusal

MAX_HEADER_BYTES = 4 << 20
HEADER_DEPTH = 3
MAX_TENSORS = 10_000
MAX_DIMENSIONS = 4
# A header of so many matrices has 5 each; so it is known before it is parsed how long that takes.
MAX_COMMAS = 6 * MAX_TENSORS
# Bytes, bits of the fraction, and the largest exponent, which is that of NaN and infinity.
DTYPES = {"F32": (4, 23, 0xFF), "F16": (2, 10, 0x1F), "BF16": (2, 7, 0xFF)}
# No trained weight is over 2 ** 15; one like that turns every sum around it to infinity.
MAX_EXPONENT = 15
CHUNK_BYTES = 1 << 22
METADATA = "__metadata__"
A, B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies in its file: bytes from `start` to `end`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_tensors(file: BinaryIO, size: int) -> dict[str, Tensor]:
    """The tensors of a safetensors file of `size` bytes, by name.

    Raises:
        Refusal: the header is none, or the tensors do not fill the rest of the file one by one.
    """
    header, begin = _header(file, size)
    notes = header.pop(METADATA, {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise Refusal("bad_header", "must hold texts", METADATA)
    if not 0 < len(header) <= MAX_TENSORS:
        raise Refusal("bad_header", f"{len(header)} tensors, not 1 to {MAX_TENSORS}", WEIGHTS)
    tensors = [_tensor(name, entry, begin) for name, entry in header.items()]
    place = begin
    for tensor in sorted(tensors, key=lambda t: (t.start, t.end)):
        if tensor.start != place:
            raise Refusal("bad_layout", "overlaps another, or leaves a gap before it", tensor.name)
        place = tensor.end
    if place != size:
        message = f"the tensors end at byte {place}, the file at {size}"
        raise Refusal("bad_layout", message, WEIGHTS)
    return {tensor.name: tensor for tensor in tensors}


def _header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        message = f"a header of {length} bytes in a file of {size}"
        raise Refusal("bad_header", message, WEIGHTS)
    text = file.read(length)
    if text[:1] != b"{" or text.count(b",") > MAX_COMMAS:
        raise Refusal("bad_header", f"is no object of up to {MAX_TENSORS} tensors", WEIGHTS)
    try:
        header = parse_json(text, HEADER_DEPTH)
    except ValueError as error:
        raise Refusal("bad_header", f"can't be read: {str(error)[:100]}", WEIGHTS) from error
    return header, 8 + length


def _tensor(name: str, entry: object, begin: int) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Refusal("bad_header", "must have dtype, shape and data_offsets", name)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise Refusal("bad_dtype", f"{str(dtype)[:20]!r}; served: {', '.join(DTYPES)}", name)
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise Refusal("bad_header", "shape must be a few whole numbers", name)
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise Refusal("bad_header", "data_offsets must be two whole numbers", name)
    start, end = offsets
    if end - start != math.prod(shape) * DTYPES[dtype][0]:
        message = f"{end - start} bytes for {dtype} of shape {shape}"
        raise Refusal("bad_layout", message, name)
    return Tensor(name, dtype, tuple(shape), begin + start, begin + end)


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 48
        for number in value
    )


def layer_of(name: str) -> str:
    """The layer of a tensor that is one of its factors; of another one its name."""
    return name.removesuffix(A).removesuffix(B)


def check_values(file: BinaryIO, tensors: dict[str, Tensor]) -> None:
    """Raise Refusal where a value is NaN, infinite or too large for any weight, or where one factor
    of each layer is zero, so that the adapter changes nothing."""
    zeros = set()
    for tensor in tensors.values():
        _, bits, top = DTYPES[tensor.dtype]
        largest, is_zero = _largest_exponent(file, tensor, bits, top)
        if largest == top:
            raise Refusal("not_finite", "holds NaN or infinity", tensor.name)
        if largest - top // 2 >= MAX_EXPONENT:
            message = f"holds a value of 2 ** {largest - top // 2} or more"
            raise Refusal("out_of_range", message, tensor.name)
        if is_zero:
            zeros.add(layer_of(tensor.name))
    if not set(map(layer_of, tensors)) - zeros:
        message = "a factor of every layer is zero: the adapter changes nothing"
        raise Refusal("no_effect", message, WEIGHTS)


def _largest_exponent(file: BinaryIO, tensor: Tensor, bits: int, top: int) -> tuple[int, bool]:
    """The largest exponent of a tensor's values as it is stored, and whether all are zero."""
    import numpy as np

    width = DTYPES[tensor.dtype][0]
    largest, is_zero, left = 0, True, tensor.end - tensor.start
    file.seek(tensor.start)
    while left:
        chunk = file.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise Refusal("incomplete", "the file ended while it was read", tensor.name)
        left -= len(chunk)
        values = np.frombuffer(chunk, f"<u{width}") & ((1 << (8 * width - 1)) - 1)  # no signs
        most = int(values.max())
        largest, is_zero = max(largest, most >> bits), is_zero and not most
    return largest & top, is_zero
