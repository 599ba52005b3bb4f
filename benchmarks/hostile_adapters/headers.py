"""What may be wrong with the header of the weights, and with the layout that it says they have."""

import json
import pickle
import struct
from collections.abc import Callable
from typing import Any

from benchmarks.hostile_adapters.draft import Draft, Kind, Named, Spoil, first_a, first_b, kinds
from benchmarks.hostile_adapters.files import Bomb
from benchmarks.hostile_adapters.weights import METADATA, join, pack, split
from eval.task.bundle import WEIGHTS

DEPTH = 100_000


def weights(content: bytes) -> Spoil:
    return lambda draft: draft.write(WEIGHTS, content)


def header_of(length: int, content: bytes) -> Spoil:
    """A header that says it is so long."""
    return weights(struct.pack("<Q", length) + content)


def header(change: Callable[[dict[str, Any]], object]) -> Spoil:
    return lambda draft: draft.header(change)


def rewritten(change: Callable[[bytes], bytes]) -> Spoil:
    """The header's text changed; the tensors stay."""

    def spoil(draft: Draft) -> None:
        found, data = split(draft.data)
        draft.write(WEIGHTS, join(change(json.dumps(found).encode()), data))

    return spoil


def entry(name: Named, **changes: Any) -> Spoil:
    """Change a tensor's entry in the header."""
    return lambda draft: draft.header(lambda found: found[name(draft)].update(changes))


def offsets(name: Named, change: Callable[[int, int], list[Any]]) -> Spoil:
    """Move a tensor within the file."""

    def spoil(draft: Draft) -> None:
        old = split(draft.data)[0][name(draft)]["data_offsets"]
        entry(name, data_offsets=change(*old))(draft)

    return spoil


def tail(content: bytes) -> Spoil:
    return lambda draft: draft.write(WEIGHTS, draft.data + content)


def gap(draft: Draft) -> None:
    """Bytes between two tensors that belong to none."""
    found, data = split(draft.data)
    begin = found[first_b(draft)]["data_offsets"][0]
    for record in found.values():
        if "data_offsets" in record and record["data_offsets"][0] >= begin:
            record["data_offsets"] = [place + 4 for place in record["data_offsets"]]
    draft.write(WEIGHTS, join(found, data[:begin] + bytes(4) + data[begin:]))


def second_b(draft: Draft) -> str:
    """That of the same module in the next layer."""
    return first_b(draft).replace("layers.0", "layers.1")


def shared(draft: Draft) -> None:
    """Two tensors in one place: the last is taken from the file."""
    found, data = split(draft.data)
    b = found[first_b(draft)]
    found[second_b(draft)]["data_offsets"] = b["data_offsets"]
    draft.write(WEIGHTS, join(found, data))


def twice(draft: Draft) -> None:
    """The first tensor's entry stands twice."""
    name = json.dumps(first_a(draft))
    record = json.dumps(split(draft.data)[0][first_a(draft)])
    rewritten(lambda text: b"{" + f"{name}: {record}, ".encode() + text[1:])(draft)


def crowd(draft: Draft) -> None:
    """More entries than any adapter has, of nothing each."""
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    draft.header(lambda found: found.update({f"x{n}": nothing for n in range(20_001)}))


def noted(found: dict[str, Any]) -> None:
    found[METADATA] = {str(number): "" for number in range(300_000)}


HEADERS = kinds(30, "bad_header", {
    "no tensors": (WEIGHTS, weights(pack({}))),
    "weights empty": (WEIGHTS, weights(b"")),
    "weights random": (WEIGHTS, weights(bytes(range(256)) * 8)),
    "header of 2 ** 62": (WEIGHTS, header_of(1 << 62, b"{}")),
    "header of 2 ** 63": (WEIGHTS, header_of(1 << 63, b"{}")),
    "header past the end": (WEIGHTS, header_of(3, b"{}")),
    "header of 5 MiB": (WEIGHTS, rewritten(lambda text: text + b" " * (5 << 20))),
    "header of nothing": (WEIGHTS, header_of(0, b"{}")),
    "header no json": (WEIGHTS, header_of(4, b"{{{{" + bytes(9))),
    "header a list": (WEIGHTS, header_of(2, b"[]")),
    "header deep": (WEIGHTS, header_of(DEPTH, b"[" * DEPTH)),
    "header NaN": (WEIGHTS, rewritten(lambda text: text.replace(b"[0,", b"[NaN,", 1))),
    "header in UTF-16": (WEIGHTS, rewritten(lambda text: text.decode().encode("utf-16-le"))),
    "header with a mark": (WEIGHTS, rewritten(lambda text: b"\xef\xbb\xbf" + text)),
    "header begins with a space": (WEIGHTS, rewritten(lambda text: b" " + text)),
    "a tensor twice": (WEIGHTS, twice),
    "notes a number": (METADATA, header(lambda found: found.update({METADATA: 5}))),
    "notes of numbers": (METADATA, header(lambda found: found.update({METADATA: {"x": 5}}))),
    "20,001 tensors more": (WEIGHTS, crowd),
    "header of a million numbers": (WEIGHTS, header(lambda found: found.update(x=[1] * 1_000_000))),
    "notes of 300,000": (WEIGHTS, header(noted)),
    "entry a text": (first_a, lambda d: d.header(lambda found: found.update({first_a(d): "x"}))),
    "entry with more": (first_a, entry(first_a, url="file:///etc/passwd")),
    "shape negative": (first_a, entry(first_a, shape=[-4, -16])),
    "shape huge": (first_a, entry(first_a, shape=[1 << 60, 16])),
    "shape of halves": (first_a, entry(first_a, shape=[4.0, 16.0])),
    "shape true": (first_a, entry(first_a, shape=[True, 16])),
    "shape of five": (first_a, entry(first_a, shape=[4, 16, 1, 1, 1])),
    "shape a text": (first_a, entry(first_a, shape="ab")),
    "three offsets": (first_a, entry(first_a, data_offsets=[0, 128, 256])),
    "offsets negative": (first_a, offsets(first_a, lambda begin, end: [begin - end, 0])),
})  # fmt: skip
PICKLED = Kind("weights a pickle", 28, "bad_header", WEIGHTS, weights(pickle.dumps(Bomb())))
LAYOUTS = kinds(30, "bad_layout", {
    "truncated": (WEIGHTS, lambda draft: draft.write(WEIGHTS, draft.data[:-4])),
    "with a tail": (WEIGHTS, tail(b"x")),
    "an archive behind": (WEIGHTS, tail(b"PK\x03\x04" + bytes(64))),
    "a gap": (first_b, gap),
    "two in one place": (second_b, shared),
    "overlapping": (first_b, offsets(first_b, lambda begin, end: [begin - 4, end - 4])),
    "offsets that do not fit": (first_a, offsets(first_a, lambda begin, end: [begin, end - 1])),
    "offsets backwards": (first_a, offsets(first_a, lambda begin, end: [end, begin])),
    "offsets past the end": (
        first_b, offsets(first_a, lambda begin, end: [begin + (1 << 40), end + (1 << 40)])
    ),
    "shape larger than its bytes": (first_a, entry(first_a, shape=[1 << 20, 1 << 20])),
})  # fmt: skip
DTYPES = kinds(30, "bad_dtype", {
    name: (first_a, entry(first_a, dtype=dtype))
    for name, dtype in {
        "int8": "I8", "int64": "I64", "double": "F64", "eight bits": "F8_E4M3", "bool": "BOOL",
        "dtype unknown": "X99", "dtype in small letters": "bf16", "dtype a list": ["F32"],
    }.items()
})  # fmt: skip
KINDS = (*HEADERS, PICKLED, *LAYOUTS, *DTYPES)
