"""Hostile adapters: each is refused with its own code before the engine sees a byte, and what is
wrong is named. Between them stands one that is good."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eval.task.bundle import CONFIG, MANIFEST, WEIGHTS, BundleError, bundle_digest, sha256_file
from eval.task.store import publish
from server.adapters.admission import Admission
from server.adapters.base_shapes import linear_shapes
from server.adapters.config import MAX_DEPTH
from server.adapters.refusal import CODES, Refusal, code_of
from tests.conftest import BASE_SHA256, lora_tensors, make_bundle, safetensors

ROOT = Path(__file__).parents[2]
LAYERS = {
    "model.layers.0.self_attn.q_proj": (16, 16),
    "model.layers.0.self_attn.v_proj": (8, 16),
    "model.layers.1.self_attn.q_proj": (16, 16),
    "model.layers.1.self_attn.v_proj": (8, 16),
    "model.layers.0.mlp.down_proj": (16, 32),
}
RANK = 4
MODULES = ["q_proj", "v_proj"]
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"
V1 = "base_model.model.model.layers.1.self_attn.v_proj"
INF, NAN = float("inf"), float("nan")


def whole() -> dict[str, list[list[float]]]:
    """The tensors of an adapter of all q_proj and v_proj."""
    found: dict[str, Any] = {}
    for layer, (outputs, inputs) in LAYERS.items():
        if layer.endswith(tuple(MODULES)):
            found |= lora_tensors(layer, RANK, inputs, outputs)
    return found


@dataclass
class Version:
    """A version in a store that is spoilt, and then given the name and hashes that fit it."""

    folder: Path

    def config(self, **changes: Any) -> None:
        path = self.folder / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def data(self) -> bytes:
        return (self.folder / WEIGHTS).read_bytes()

    def weights(self, content: bytes | dict[str, list[list[float]]]) -> None:
        data = content if isinstance(content, bytes) else safetensors(content)
        (self.folder / WEIGHTS).write_bytes(data)

    def header(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the header of the weights, and leave the tensors as they are."""
        data = self.data()
        end = 8 + struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:end])
        change(header)
        text = json.dumps(header).encode()
        self.weights(struct.pack("<Q", len(text)) + text + data[end:])

    def sign(self) -> str:
        """Write the hashes of what is there into the manifest; the version's new name."""
        path = self.folder / MANIFEST
        files = {name: sha256_file(self.folder / name) for name in (CONFIG, WEIGHTS)}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"files": files}))
        short = bundle_digest(self.folder)[:12]
        self.folder.rename(self.folder.with_name(short))
        return short


@pytest.fixture
def version(tmp_path: Path) -> Version:
    folder = make_bundle(tmp_path / "store" / "new", rank=RANK, target_modules=MODULES)
    found = Version(folder)
    found.weights(whole())
    return found


ADMISSION = Admission(BASE_SHA256, LAYERS, max_rank=16)


def refusal(store: Path, short: str, admission: Admission = ADMISSION) -> Refusal:
    with pytest.raises(Refusal) as caught:
        admission.admit_version(store, short)
    assert caught.value.code in CODES
    assert str(caught.value).startswith(f"{caught.value.code}: ")
    assert len(str(caught.value)) < 500
    return caught.value


def without(name: str) -> dict[str, list[list[float]]]:
    return {key: value for key, value in whole().items() if not key.startswith(name)}


def filled(name: str, value: float) -> dict[str, list[list[float]]]:
    found = whole()
    found[name][1][2] = value
    return found


def entry(name: str, **changes: Any) -> Callable[[Version], None]:
    """Change a tensor's entry in the header."""
    return lambda version: version.header(lambda header: header[name].update(changes))


def config(**changes: Any) -> Callable[[Version], None]:
    return lambda version: version.config(**changes)


def weights(content: bytes | dict[str, list[list[float]]]) -> Callable[[Version], None]:
    return lambda version: version.weights(content)


def resized(rank: int, inputs: int = 16, outputs: int = 16) -> Callable[[Version], None]:
    """Another size of the first layer's tensors."""
    layer = "model.layers.0.self_attn.q_proj"
    return weights(whole() | lora_tensors(layer, rank, inputs, outputs))


def without_effect() -> dict[str, list[list[float]]]:
    found = whole()
    zeros = {n: [[0.0] * len(row) for row in rows] for n, rows in found.items() if "lora_B" in n}
    return found | zeros


def text(content: str) -> Callable[[Version], object]:
    return lambda version: (version.folder / CONFIG).write_text(content)


class Bomb:
    """A pickle that makes a file when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pickle-was-read",)


A0, B0 = f"{Q0}.lora_A.weight", f"{Q0}.lora_B.weight"
DEEP = "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)
# What is done to a good version; the code, and what is named as the fault.
SPOILT: dict[str, tuple[Callable[[Version], object], str, str]] = {
    "config no json": (text("{"), "bad_config", CONFIG),
    "config empty": (text(""), "bad_config", CONFIG),
    "config a list": (text("[]"), "bad_config", CONFIG),
    "config deep": (text("[" * 100_000), "bad_config", CONFIG),
    "config rather deep": (text('{"x": ' + DEEP + "}"), "bad_config", CONFIG),
    "config twice": (text('{"r": 4, "r": 8}'), "bad_config", CONFIG),
    "config NaN": (text('{"r": NaN}'), "bad_config", CONFIG),
    "no rank": (text('{"peft_type": "LORA"}'), "bad_field", "r"),
    "rank 0": (config(r=0), "bad_field", "r"),
    "rank -1": (config(r=-1), "bad_field", "r"),
    "rank text": (config(r="8"), "bad_field", "r"),
    "rank true": (config(r=True), "bad_field", "r"),
    "rank 1024": (config(r=1024), "bad_field", "r"),
    "rank 4.0": (config(r=4.0), "bad_field", "r"),
    "alpha null": (config(lora_alpha=None), "bad_field", "lora_alpha"),
    "alpha -1": (config(lora_alpha=-1), "bad_field", "lora_alpha"),
    "alpha huge": (config(lora_alpha=1e300), "bad_field", "lora_alpha"),
    "modules a pattern": (config(target_modules="(.*.*)*x"), "bad_field", "target_modules"),
    "modules none": (config(target_modules=[]), "bad_field", "target_modules"),
    "modules a path": (config(target_modules=["../x"]), "bad_field", "target_modules"),
    "other type": (config(peft_type="IA3"), "unsupported_field", "peft_type"),
    "bias": (config(bias="all"), "unsupported_field", "bias"),
    "DoRA": (config(use_dora=True), "unsupported_field", "use_dora"),
    "rsLoRA": (config(use_rslora=True), "unsupported_field", "use_rslora"),
    "whole layers": (config(modules_to_save=["head"]), "unsupported_field", "modules_to_save"),
    "rank pattern": (config(rank_pattern={"(.*.*)*x": 8}), "unsupported_field", "rank_pattern"),
    "alpha pattern": (config(alpha_pattern={"q_proj": 8}), "unsupported_field", "alpha_pattern"),
    "auto_map": (config(auto_map={"AutoModel": "x.py"}), "unsupported_field", "auto_map"),
    "some layers": (config(layers_to_transform=[0]), "unsupported_field", "layers_to_transform"),
    "other rank than the manifest": (config(r=8), "disagrees", "r"),
    "other alpha": (config(lora_alpha=17), "disagrees", "lora_alpha"),
    "other modules": (config(target_modules=["q_proj"]), "disagrees", "target_modules"),
    "no tensors": (weights(safetensors({})), "bad_header", WEIGHTS),
    "weights empty": (weights(b""), "bad_header", WEIGHTS),
    "weights random": (weights(bytes(range(256)) * 8), "bad_header", WEIGHTS),
    "weights a pickle": (weights(pickle.dumps(Bomb())), "bad_header", WEIGHTS),
    "header of 2 ** 62": (weights(struct.pack("<Q", 1 << 62) + b"{}"), "bad_header", WEIGHTS),
    "header no json": (weights(struct.pack("<Q", 4) + b"{{{{" + bytes(9)), "bad_header", WEIGHTS),
    "header a list": (weights(struct.pack("<Q", 2) + b"[]"), "bad_header", WEIGHTS),
    "entry a text": (lambda v: v.header(lambda h: h.update({A0: "x"})), "bad_header", A0),
    "entry with more": (entry(A0, url="file:///"), "bad_header", A0),
    "shape negative": (entry(A0, shape=[-4, -16]), "bad_header", A0),
    "shape huge": (entry(A0, shape=[1 << 60, 16]), "bad_header", A0),
    "shape of five": (entry(A0, shape=[4, 16, 1, 1, 1]), "bad_header", A0),
    "three offsets": (entry(A0, data_offsets=[0, 128, 256]), "bad_header", A0),
    "truncated": (lambda v: v.weights(v.data()[:-4]), "bad_layout", WEIGHTS),
    "with a tail": (lambda v: v.weights(v.data() + b"x"), "bad_layout", WEIGHTS),
    "overlapping": (entry(B0, data_offsets=[0, 256]), "bad_layout", B0),
    "offsets that do not fit": (entry(A0, data_offsets=[0, 255]), "bad_layout", A0),
    "offsets backwards": (entry(A0, data_offsets=[256, 0]), "bad_layout", A0),
    "int8": (entry(A0, dtype="I8", shape=[4, 64]), "bad_dtype", A0),
    "double": (entry(A0, dtype="F64", shape=[4, 8]), "bad_dtype", A0),
    "only A": (weights({k: v for k, v in whole().items() if "lora_A" in k}), "missing_tensor", B0),
    "a layer less": (weights(without(V1)), "missing_tensor", f"{V1}.lora_A.weight"),
    "a layer more": (
        weights(whole() | lora_tensors("model.layers.7.self_attn.q_proj", RANK)),
        "unexpected_tensor",
        Q0.replace("layers.0", "layers.7") + ".lora_A.weight",
    ),
    "a layer of another kind": (
        weights(whole() | lora_tensors("model.layers.0.mlp.down_proj", RANK, 32)),
        "unexpected_tensor",
        "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight",
    ),
    "foreign names": (
        weights({k.replace("base_model.", "x."): v for k, v in whole().items()}),
        "missing_tensor",
        A0,
    ),
    "other rank in the tensors": (resized(2), "wrong_shape", A0),
    "other hidden size": (resized(RANK, 12), "wrong_shape", A0),
    "other outputs": (resized(RANK, 16, 8), "wrong_shape", B0),
    "turned over": (entry(A0, shape=[16, 4]), "wrong_shape", A0),
    "NaN": (weights(filled(A0, NAN)), "not_finite", A0),
    "minus infinity": (weights(filled(B0, -INF)), "not_finite", B0),
    "3e38": (weights(filled(A0, 3e38)), "out_of_range", A0),
    "-40000": (weights(filled(B0, -40000.0)), "out_of_range", B0),
    "B of zeros": (weights(without_effect()), "no_effect", WEIGHTS),
}  # fmt: skip


def test_the_corpus_is_large() -> None:
    assert len(SPOILT) + len(PLACED) >= 70


def test_a_good_version_is_admitted(version: Version) -> None:
    short = version.sign()
    bundle = ADMISSION.admit_version(version.folder.parent, short)
    assert (bundle.short, bundle.manifest.rank) == (short, RANK)
    unknown_base = Admission()
    assert unknown_base.admit_version(version.folder.parent, short) == bundle


@pytest.mark.parametrize("name", SPOILT)
def test_a_hostile_version_is_refused_with_its_code(
    name: str, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, code, param = SPOILT[name]
    spoil(version)
    error = refusal(version.folder.parent, version.sign())
    assert (error.code, error.param) == (code, param), str(error)
    assert not (tmp_path / "pickle-was-read").exists()


OF_NO_BASE = ("only A", "other rank in the tensors", "turned over", "NaN", "int8", "foreign names")


@pytest.mark.parametrize("name", OF_NO_BASE)
def test_pairs_are_looked_at_where_the_base_is_not_known(name: str, version: Version) -> None:
    SPOILT[name][0](version)
    error = refusal(version.folder.parent, version.sign(), Admission())
    assert error.code in ("missing_tensor", "wrong_shape", "not_finite", "bad_dtype")


def link(version: Version, short: str) -> None:
    path = version.folder.with_name(short) / WEIGHTS
    path.rename(version.folder.parent.parent / "outside")
    path.symlink_to(version.folder.parent.parent / "outside")


def hard_link(version: Version, short: str) -> None:
    os.link(version.folder.with_name(short) / WEIGHTS, version.folder.parent.parent / "outside")


def pipe(version: Version, short: str) -> None:
    (version.folder.with_name(short) / CONFIG).unlink()
    os.mkfifo(version.folder.with_name(short) / CONFIG)


def holes(version: Version, short: str) -> None:
    os.truncate(version.folder.with_name(short) / WEIGHTS, 1 << 40)


def device(version: Version, short: str) -> None:
    path = version.folder.with_name(short) / WEIGHTS
    path.unlink()
    path.symlink_to("/dev/zero")


def folder_for_file(version: Version, short: str) -> None:
    (version.folder.with_name(short) / MANIFEST).unlink()
    (version.folder.with_name(short) / MANIFEST).mkdir()


def added(name: str, content: bytes = b"x") -> Callable[[Version, str], object]:
    return lambda version, short: (version.folder.with_name(short) / name).write_bytes(content)


def removed(name: str) -> Callable[[Version, str], object]:
    return lambda version, short: (version.folder.with_name(short) / name).unlink()


def replaced_by_file(version: Version, short: str) -> None:
    folder = version.folder.with_name(short)
    folder.rename(folder.with_name("aside"))
    folder.write_text("x")


def folder_link(version: Version, short: str) -> None:
    folder = version.folder.with_name(short)
    folder.rename(version.folder.parent.parent / "outside")
    folder.symlink_to(version.folder.parent.parent / "outside")


# What is done to a signed version.
PLACED: dict[str, tuple[Callable[[Version, str], object], str, str]] = {
    "weights link out": (link, "not_regular", WEIGHTS),
    "weights hard link": (hard_link, "linked", WEIGHTS),
    "config pipe": (pipe, "not_regular", CONFIG),
    "weights device": (device, "not_regular", WEIGHTS),
    "manifest folder": (folder_for_file, "not_regular", MANIFEST),
    "weights of a TB of holes": (holes, "too_large", WEIGHTS),
    "pickle beside": (added("adapter_model.bin"), "unsafe_format", "adapter_model.bin"),
    "code beside": (added("modeling_x.py"), "unsafe_format", "modeling_x.py"),
    "archive beside": (added("x.ZIP"), "unsafe_format", "x.ZIP"),
    "note beside": (added("README.md"), "unexpected_file", "README.md"),
    "no manifest": (removed(MANIFEST), "incomplete", MANIFEST),
    "no weights": (removed(WEIGHTS), "incomplete", WEIGHTS),
    "evidence a file": (added("evidence"), "not_a_folder", "evidence"),
    "file for a folder": (replaced_by_file, "not_a_folder", ""),
    "folder link": (folder_link, "not_a_folder", ""),
}


@pytest.mark.parametrize("name", PLACED)
def test_what_is_no_plain_folder_of_files_is_refused_unread(name: str, version: Version) -> None:
    spoil, code, param = PLACED[name]
    short = version.sign()
    spoil(version, short)
    error = refusal(version.folder.parent, short)
    assert (error.code, error.param) == (code, param or short), str(error)


def test_a_version_under_another_name_is_refused(version: Version) -> None:
    short = version.sign()
    other = "0" * 12
    version.folder.with_name(short).rename(version.folder.with_name(other))
    error = refusal(version.folder.parent, other)
    assert (error.code, error.param) == ("tampered", other)
    assert ADMISSION.admit(version.folder.with_name(other)).short == short


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(version: Version) -> None:
    short = version.sign()
    (version.folder.with_name(short) / CONFIG).chmod(0)
    assert refusal(version.folder.parent, short).code == "unreadable"


@pytest.mark.parametrize(
    ("admission", "code"),
    [
        (Admission("c" * 64, LAYERS), "wrong_base"),
        (Admission(BASE_SHA256, LAYERS, max_rank=2), "rank_too_high"),
        (Admission(BASE_SHA256, LAYERS, modules=frozenset({"q_proj"})), "unsupported_modules"),
        (Admission(BASE_SHA256, {"model.x.q_proj": (16, 16)}), "unsupported_modules"),
    ],
)
def test_what_is_not_for_this_server_is_refused(
    admission: Admission, code: str, version: Version
) -> None:
    assert refusal(version.folder.parent, version.sign(), admission).code == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refusal("no_effect", "x"), "no_effect"),
        (BundleError("tampered: x"), "tampered"),
        (BundleError("sqlwright.json: unknown field"), "bad_manifest"),
        (ValueError("other: x"), "other"),
    ],
)
def test_every_error_has_a_code(error: Exception, code: str) -> None:
    assert code_of(error) == code


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_values_are_looked_at_in_every_dtype(dtype: str, version: Version) -> None:
    """A half is written as bits: one of each kind that is refused, and one that is not."""
    bits = {"F16": {"not_finite": 0xFC00}, "BF16": {"not_finite": 0x7FC0, "out_of_range": 0xC700}}
    fine = {"F16": 0x3C00, "BF16": 0xBF80}[dtype]  # 1 and -1
    for code, value in (*bits[dtype].items(), ("", fine)):
        header, data = {}, b""
        for name, rows in whole().items():
            content = struct.pack("<H", value) * (len(rows) * len(rows[0]))
            offsets = [len(data), len(data) + len(content)]
            shape = [len(rows), len(rows[0])]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            data += content
        encoded = json.dumps(header).encode()
        version.weights(struct.pack("<Q", len(encoded)) + encoded + data)
        short = version.sign()
        version.folder = version.folder.with_name(short)
        if code:
            assert refusal(version.folder.parent, short).code == code
        else:
            assert ADMISSION.admit_version(version.folder.parent, short).short == short


def test_the_layers_of_a_base_are_read_from_its_headers(tmp_path: Path) -> None:
    rows = [[1.0] * 16] * 8
    (tmp_path / "a.safetensors").write_bytes(
        safetensors({"model.layers.0.self_attn.v_proj.weight": rows})
    )
    (tmp_path / "b.safetensors").write_bytes(safetensors({"model.norm.scale": rows}))
    assert linear_shapes(tmp_path) == {"model.layers.0.self_attn.v_proj": (8, 16)}
    (tmp_path / "c.safetensors").write_bytes(b"x")
    assert linear_shapes(tmp_path) == {}


def test_the_bundled_adapter_is_admitted(tmp_path: Path) -> None:
    bundle = publish(ROOT / "server/bundled/spider", tmp_path / "store", "spider")
    assert Admission().admit(bundle.folder) == bundle
