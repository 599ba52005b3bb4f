"""The adapter bundle: the contract on disk between trainer and server.

A bundle is a folder with PEFT's two files and `sqlwright.json`, written last: while that is
missing the bundle is not there. Its digest is the sha256 of the sorted lines `name\\0sha256\\n`
over the three.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from eval.task.prompt import PromptFormat

FORMAT_VERSION = 1
MANIFEST = "sqlwright.json"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
CORE_FILES = (CONFIG, WEIGHTS, MANIFEST)
EVIDENCE = "evidence"

ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# The name under which the base model itself is served.
BASE = "base"
SHORT = re.compile(r"[0-9a-f]{12}")
VERSION_NAME = re.compile(r"([a-z0-9][a-z0-9._-]{0,63})@([0-9a-f]{12})")
MAX_JSON_BYTES = 1 << 20
MAX_JSON_DEPTH = 32


class BundleError(ValueError):
    """A folder that is no whole and untouched bundle; the message says what is wrong."""


@dataclass(frozen=True)
class Manifest:
    """What `sqlwright.json` holds: how the adapter was made and how it must be asked."""

    base_model: str
    base_model_sha256: str
    quantisation: str
    rank: int
    alpha: int
    target_modules: list[str]
    prompt_template: str
    serialisation: str
    dialect: str
    stop: str
    data: list[dict[str, Any]]
    recipe: dict[str, Any]
    commit: str
    created: str
    files: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def prompt_format(self) -> PromptFormat:
        return PromptFormat(self.prompt_template, self.serialisation)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole."""

    folder: Path
    digest: str
    manifest: Manifest

    @property
    def short(self) -> str:
        """The digest's first 12 digits: the version's name in the store."""
        return self.digest[:12]


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bundle_digest(folder: Path) -> str:
    """sha256 (hex) of the sorted lines `name\\0sha256\\n` over the bundle's three files."""
    return _digest(_hashes(folder))


def _hashes(folder: Path) -> dict[str, str]:
    return {name: sha256_file(folder / name) for name in CORE_FILES}


def _digest(hashes: Mapping[str, str]) -> str:
    lines = sorted(f"{name}\0{sha256}\n" for name, sha256 in hashes.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `sqlwright.json` with the hashes of the files beside it: now the bundle is whole."""
    record = asdict(manifest)
    record["files"] = {name: sha256_file(folder / name) for name in (CONFIG, WEIGHTS)}
    write_json(folder / MANIFEST, record)


def read_bundle(folder: Path) -> Bundle:
    """Read the bundle at `folder` and check that it is whole and untouched.

    Raises:
        BundleError: a file is missing, is no regular file, or differs from the manifest's hash.
    """
    for name in CORE_FILES:
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"incomplete: {name} is missing or is no regular file")
    manifest = _manifest(read_json(folder / MANIFEST))
    hashes = _hashes(folder)
    for name in (CONFIG, WEIGHTS):
        if manifest.files.get(name) != hashes[name]:
            raise BundleError(f"tampered: {name} differs from the hash in {MANIFEST}")
    return Bundle(folder, _digest(hashes), manifest)


def _manifest(record: dict[str, Any]) -> Manifest:
    known = {f.name for f in fields(Manifest)}
    if unknown := sorted(set(record) - known):
        raise BundleError(f"{MANIFEST}: unknown field {unknown[0][:80]!r}")
    if missing := sorted(known - set(record)):
        raise BundleError(f"{MANIFEST}: missing field {missing[0]!r}")
    if record["format_version"] != FORMAT_VERSION:
        found = repr(record["format_version"])[:80]
        raise BundleError(f"{MANIFEST}: format {found}, not {FORMAT_VERSION}")
    for name, kind in get_type_hints(Manifest).items():
        if not _is_a(record[name], kind):
            raise BundleError(f"{MANIFEST}: field {name!r} must be {kind}")
    manifest = Manifest(**record)
    try:
        manifest.prompt_format  # noqa: B018 - its own checks run
    except ValueError as error:
        message = f"{MANIFEST}: prompt_template, serialisation: {str(error)[:200]}"
        raise BundleError(message) from error
    return manifest


def _is_a(value: object, kind: Any) -> bool:
    """True if a JSON value is of the type that a field is annotated with."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin is list:
        return isinstance(value, list) and all(_is_a(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is_a(item, parts[1]) for item in value.values())
    return origin is Any or (
        isinstance(value, origin) and not (origin is int and isinstance(value, bool))
    )


def read_version(store: Path, short: str) -> Bundle:
    """Read version `short` of the store.

    Raises:
        BundleError: as `read_bundle`, or the folder's name is not its content's digest.
    """
    bundle = read_bundle(store / short)
    if bundle.short != short:
        raise BundleError(f"tampered: the digest of folder {short} is {bundle.short}")
    return bundle


def fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_evidence(folder: Path, name: str, record: Mapping[str, Any]) -> Path:
    """Write `evidence/NAME` of the bundle at `folder` in one step; return its path."""
    path = folder / EVIDENCE / name
    path.parent.mkdir(exist_ok=True)
    write_json(path, record)
    return path


def read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise BundleError(f"{path.name}: over {MAX_JSON_BYTES} bytes")
        record = parse_json(path.read_bytes(), MAX_JSON_DEPTH)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path.name}: can't be read: {str(error)[:100]}") from error
    if not isinstance(record, dict):
        raise BundleError(f"{path.name}: must hold an object")
    return record


def parse_json(content: bytes, max_depth: int) -> Any:
    """The value of a JSON text in UTF-8. Refused is what readers understand in different ways: a
    name that stands twice in an object, NaN and infinity, a byte order mark, other encodings.

    Raises:
        ValueError: it is no such text, or nests deeper than `max_depth`.
    """
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_number
        )
        if not _is_flat(value, max_depth):
            raise ValueError(f"nests deeper than {max_depth}")
    except RecursionError as error:
        raise ValueError(f"nests deeper than {max_depth}") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _is_flat(value: object, depth: int) -> bool:
    """True if objects and lists nest no deeper than `depth`."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_flat(item, depth - 1) for item in inner)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write in one step: a reader sees the old file or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        draft.write_text(text, encoding="utf-8")
        fsync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
