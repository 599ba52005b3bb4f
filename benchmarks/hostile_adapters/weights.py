"""A safetensors file taken apart and put together, so that either may be spoilt.

The format: huggingface.co/docs/safetensors.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

METADATA = "__metadata__"
WIDTH = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class Tensor:
    """One tensor as it is stored."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def filled(self, bits: bytes, index: int = 0) -> "Tensor":
        """With the value of these bits at `index`; a negative one counts from the end."""
        width = WIDTH[self.dtype]
        begin = index % (len(self.data) // width) * width
        return replace(self, data=self.data[:begin] + bits + self.data[begin + width :])

    def zeroed(self) -> "Tensor":
        return replace(self, data=bytes(len(self.data)))

    def resized(self, *shape: int) -> "Tensor":
        """Of another size, with the bytes that there are over and over."""
        size = WIDTH[self.dtype]
        for side in shape:
            size *= side
        return replace(self, shape=shape, data=(self.data * (size // len(self.data) + 1))[:size])

    def cast(self, dtype: str) -> "Tensor":
        """The same values in another dtype; bfloat16 is rounded towards zero."""
        import numpy as np

        if self.dtype == "BF16":
            values = (np.frombuffer(self.data, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(self.data, f"<f{WIDTH[self.dtype]}").astype("<f4")
        if dtype == "BF16":
            return replace(
                self, dtype=dtype, data=(values.view("<u4") >> 16).astype("<u2").tobytes()
            )
        return replace(self, dtype=dtype, data=values.astype(f"<f{WIDTH[dtype]}").tobytes())


Tensors = dict[str, Tensor]


def value_bits(dtype: str, value: float) -> bytes:
    """The bits of `value`; bfloat16 is rounded towards zero."""
    if dtype == "F16":
        return struct.pack("<e", value)
    return struct.pack("<f", value)[-WIDTH[dtype] :]


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:end]), content[end:]


def join(header: Mapping[str, Any] | bytes, data: bytes) -> bytes:
    """The file with that header, whether it is true of `data` or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def unpack(content: bytes) -> Tensors:
    header, data = split(content)
    header.pop(METADATA, None)
    return {
        name: Tensor(entry["dtype"], tuple(entry["shape"]), data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """The file of `tensors`, in their order."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        offsets = [end, end := end + len(tensor.data)]
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
    return join(header, b"".join(tensor.data for tensor in tensors.values()))
