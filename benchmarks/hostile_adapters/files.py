"""What may be wrong with the files of a bundle, before any of them is read."""

import os
import pickle
import stat
from pathlib import Path
from typing import Any

from benchmarks.hostile_adapters.draft import Draft, Kind, Spoil
from eval.task.bundle import CONFIG, EVIDENCE, MANIFEST, WEIGHTS

# A pickle that is read leaves this folder behind.
MARK = "pickle-was-read"
# Not folders of ours, though a careless reader may fetch them.
ADDRESSES = (
    "http://169.254.169.254/latest/meta-data",
    "https://example.org/adapter.tar",
    "file:///etc/passwd",
    "s3://bucket/adapter",
    "hf://owner/adapter",
    "owner/adapter",
)


class Bomb:
    """A pickle that makes a folder when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARK,)


def bomb(name: str) -> Spoil:
    return lambda draft: draft.write(name, pickle.dumps(Bomb()))


def added(name: str) -> Spoil:
    return lambda draft: draft.write(name, "x")


def added_folder(name: str) -> Spoil:
    return lambda draft: (draft.folder / name).mkdir()


def removed(name: str) -> Spoil:
    return lambda draft: (draft.folder / name).unlink()


def emptied(draft: Draft) -> None:
    for path in draft.folder.iterdir():
        path.unlink()


def outside(draft: Draft) -> Path:
    """A place beside the folder."""
    return draft.folder.with_name(f"{draft.folder.name}-outside")


def linked(name: str) -> Spoil:
    """Moved out, and a link left that leads there."""

    def spoil(draft: Draft) -> None:
        (draft.folder / name).rename(outside(draft))
        (draft.folder / name).symlink_to(outside(draft))

    return spoil


def link_to(name: str, target: str) -> Spoil:
    def spoil(draft: Draft) -> None:
        (draft.folder / name).unlink(missing_ok=True)
        (draft.folder / name).symlink_to(target)

    return spoil


def special(name: str, kind: int) -> Spoil:
    """A pipe or socket in its place: a reader waits for ever, or fails."""

    def spoil(draft: Draft) -> None:
        (draft.folder / name).unlink()
        os.mknod(draft.folder / name, kind | 0o644)

    return spoil


def hard_linked(draft: Draft) -> None:
    outside(draft).hardlink_to(draft.folder / WEIGHTS)


def folder_for_file(draft: Draft) -> None:
    (draft.folder / MANIFEST).unlink()
    (draft.folder / MANIFEST).mkdir()


def holes(name: str, size: int) -> Spoil:
    """A sparse file: it takes no room, and whoever reads it takes for ever."""
    return lambda draft: os.truncate(draft.folder / name, size)


def absent(draft: Draft) -> None:
    draft.folder.rename(outside(draft))


def folder_link(draft: Draft) -> None:
    absent(draft)
    draft.folder.symlink_to(outside(draft))


def folder_loop(draft: Draft) -> None:
    absent(draft)
    draft.folder.symlink_to(draft.folder)


def file_for_folder(draft: Draft) -> None:
    absent(draft)
    draft.folder.write_text("x")


def pipe_for_folder(draft: Draft) -> None:
    absent(draft)
    os.mkfifo(draft.folder)


def grown(name: str) -> Spoil:
    """Changed after the manifest was written."""
    return lambda draft: draft.write(name, (draft.folder / name).read_bytes() + b" ")


def cut(draft: Draft) -> None:
    """A writer is still copying."""
    draft.write(WEIGHTS, draft.data[: len(draft.data) // 2])


def placed(row: int, kinds: dict[str, tuple[str, str, Spoil]]) -> tuple[Kind, ...]:
    return tuple(Kind(name, row, *rest, is_signed=False) for name, rest in kinds.items())


PLACES = placed(26, {
    "no folder": ("missing", "", absent),
    "folder empty": ("incomplete", CONFIG, emptied),
    "file for a folder": ("not_a_folder", "", file_for_folder),
    "pipe for a folder": ("not_a_folder", "", pipe_for_folder),
    "folder link": ("not_a_folder", "", folder_link),
    "folder link to itself": ("not_a_folder", "", folder_loop),
    "config link out": ("not_regular", CONFIG, linked(CONFIG)),
    "weights link out": ("not_regular", WEIGHTS, linked(WEIGHTS)),
    "manifest link out": ("not_regular", MANIFEST, linked(MANIFEST)),
    "config link to a secret": ("not_regular", CONFIG, link_to(CONFIG, "/etc/passwd")),
    "weights link to itself": ("not_regular", WEIGHTS, link_to(WEIGHTS, WEIGHTS)),
    "weights link to nothing": ("not_regular", WEIGHTS, link_to(WEIGHTS, "none")),
    "weights device": ("not_regular", WEIGHTS, link_to(WEIGHTS, "/dev/zero")),
    "weights hard link": ("linked", WEIGHTS, hard_linked),
    "config pipe": ("not_regular", CONFIG, special(CONFIG, stat.S_IFIFO)),
    "weights pipe": ("not_regular", WEIGHTS, special(WEIGHTS, stat.S_IFIFO)),
    "manifest socket": ("not_regular", MANIFEST, special(MANIFEST, stat.S_IFSOCK)),
    "manifest folder": ("not_regular", MANIFEST, folder_for_file),
    "weights of a TB of holes": ("too_large", WEIGHTS, holes(WEIGHTS, 1 << 40)),
    "config of a GB of holes": ("too_large", CONFIG, holes(CONFIG, 1 << 30)),
    "manifest of 1 MiB and a byte": ("too_large", MANIFEST, holes(MANIFEST, (1 << 20) + 1)),
    "evidence a file": ("not_a_folder", EVIDENCE, added(EVIDENCE)),
    "evidence link out": ("not_a_folder", EVIDENCE, link_to(EVIDENCE, "/etc")),
})  # fmt: skip
HALVES = placed(27, {
    "no manifest": ("incomplete", MANIFEST, removed(MANIFEST)),
    "no weights": ("incomplete", WEIGHTS, removed(WEIGHTS)),
    "no config": ("incomplete", CONFIG, removed(CONFIG)),
    "weights half there": ("tampered", WEIGHTS, cut),
    "weights grown": ("tampered", WEIGHTS, grown(WEIGHTS)),
    "config changed": ("tampered", CONFIG, grown(CONFIG)),
})  # fmt: skip
UNSAFE = placed(28, {
    "pickle beside": ("unsafe_format", "adapter_model.bin", bomb("adapter_model.bin")),
    "pickle of torch beside": ("unsafe_format", "x.pt", bomb("x.pt")),
    "checkpoint beside": ("unsafe_format", "x.CKPT", bomb("x.CKPT")),
    "code beside": ("unsafe_format", "modeling_x.py", added("modeling_x.py")),
    "compiled code beside": ("unsafe_format", "x.so", added("x.so")),
    "archive beside": ("unsafe_format", "x.ZIP", added("x.ZIP")),
    "cache of code": ("unexpected_file", "__pycache__", added_folder("__pycache__")),
    "note beside": ("unexpected_file", "README.md", added("README.md")),
    "hidden file": ("unexpected_file", ".x.safetensors", added(".x.safetensors")),
    "twin in capitals": ("unexpected_file", WEIGHTS.upper(), added(WEIGHTS.upper())),
    "twin with a space": ("unexpected_file", WEIGHTS + " ", added(WEIGHTS + " ")),
    "look-alike": ("unexpected_file", "ѕqlwright.json", added("ѕqlwright.json")),  # noqa: RUF001
    "no text": ("unexpected_file", "\\udcff", added("\udcff")),
    "line and colour": ("unexpected_file", "\\n\\x1b[31m", added("\n\x1b[31m")),
})  # fmt: skip
KINDS = (*PLACES, *HALVES, *UNSAFE)
