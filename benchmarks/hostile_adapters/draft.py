"""A copy of a good bundle that is being spoilt, and the kinds of what may be done to one."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.hostile_adapters.weights import Tensor, Tensors, join, pack, split, unpack
from eval.task.bundle import CONFIG, CORE_FILES, MANIFEST, WEIGHTS, sha256_file

A, B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Draft:
    """The copy at `folder`."""

    folder: Path

    def write(self, name: str, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        (self.folder / name).write_bytes(data)

    def record(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name).read_bytes())
        return found

    def config(self, **changes: Any) -> None:
        self.write(CONFIG, json.dumps(self.record(CONFIG) | changes))

    def manifest(self, **changes: Any) -> None:
        self.write(MANIFEST, json.dumps(self.record(MANIFEST) | changes))

    def sign(self) -> None:
        """Write the hashes of what is there into the manifest."""
        self.manifest(files={name: sha256_file(self.folder / name) for name in (CONFIG, WEIGHTS)})

    @property
    def data(self) -> bytes:
        return (self.folder / WEIGHTS).read_bytes()

    @property
    def tensors(self) -> Tensors:
        return unpack(self.data)

    def write_tensors(self, tensors: Tensors) -> None:
        self.write(WEIGHTS, pack(tensors))

    def change(self, name: str, change: Callable[[Tensor], Tensor]) -> None:
        """Change one tensor."""
        tensors = self.tensors
        self.write_tensors(tensors | {name: change(tensors[name])})

    def header(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the header of the weights, and leave the tensors as they are."""
        header, data = split(self.data)
        change(header)
        self.write(WEIGHTS, join(header, data))

    @property
    def names(self) -> list[str]:
        """The tensors' names, as they follow each other."""
        return [name for name in split(self.data)[0] if name.endswith((A, B))]


def first_a(draft: Draft) -> str:
    return next(name for name in draft.names if name.endswith(A))


def first_b(draft: Draft) -> str:
    """The other factor of the same layer."""
    return first_a(draft).removesuffix(A) + B


def last_a(draft: Draft) -> str:
    return [name for name in draft.names if name.endswith(A)][-1]


Spoil = Callable[[Draft], object]
Named = Callable[[Draft], str]


@dataclass(frozen=True)
class Kind:
    """One way to spoil a bundle; the code and the fault that admission must name.

    `row` is that of `faults.md`. `param` is a name, or gives one of the good bundle's; "" is the
    folder's own. The hashes fit what was spoilt, unless `is_signed` is false.
    """

    name: str
    row: int
    code: str
    param: str | Named
    spoil: Spoil
    is_signed: bool = True

    def make(self, good: Path, folder: Path) -> Draft:
        """A copy of the bundle at `good` in the new folder `folder`, spoilt."""
        draft = copied(good, folder)
        self.spoil(draft)
        if self.is_signed:
            draft.sign()
        return draft

    def fault(self, good: Path, folder: Path) -> str:
        """What is named as the fault of one that was made of `good` at `folder`."""
        if callable(self.param):
            return self.param(Draft(good))
        return self.param or folder.name


def kinds(row: int, code: str, found: dict[str, tuple[str | Named, Spoil]]) -> tuple[Kind, ...]:
    return tuple(Kind(name, row, code, *rest) for name, rest in found.items())


def copied(good: Path, folder: Path) -> Draft:
    """A copy of the bundle at `good`, without its evidence."""
    folder.mkdir(parents=True)
    for name in CORE_FILES:
        shutil.copyfile(good / name, folder / name)
    return Draft(folder)
