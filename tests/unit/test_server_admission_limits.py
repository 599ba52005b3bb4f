"""What admission says of a hostile adapter, and where the line runs between just and no more."""

import errno
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from benchmarks.hostile_adapters.configs import config
from benchmarks.hostile_adapters.draft import Draft, Spoil, first_a, first_b
from benchmarks.hostile_adapters.headers import entry
from eval.task.bundle import CONFIG, EVIDENCE, MANIFEST, WEIGHTS
from server.adapters import tensors
from server.adapters.admission import Admission
from server.adapters.config import MAX_ALPHA, MAX_MODULES, MAX_RANK
from server.adapters.files import MAX_BYTES, check_files
from server.adapters.refusal import Refusal, code_of
from server.adapters.tensors import Tensor, check_values
from tests.unit.admitting import ADMISSION, BY_NAME, RANK, make_good, refusal

# What follows code and fault, by kind: one for each way to say it.
SAID = {
    "no folder": "no such version in the store",
    "folder empty": "is missing",
    "file for a folder": "a version is a folder",
    "config link out": "must be a regular file: publish a copy",
    "weights hard link": "has 2 names (hard links): publish a copy",
    "weights of a TB of holes": "1099511627776 bytes, over 8589934592",
    "evidence a file": "must be a folder",
    "pickle beside": "only safetensors and JSON are read; remove it",
    "note beside": "a version holds its bundle only; remove it",
    "config empty": "can't be read: Expecting value: line 1 column 1 (char 0)",
    "config a list": "must hold one object",
    "config deep": "can't be read: nests deeper than 8",
    "config twice": "can't be read: a name stands twice in an object",
    "config NaN": "can't be read: NaN is no number",
    "no rank": "is missing",
    "rank 0": "must be a whole number from 1 to 512, not 0",
    "alpha -1": "must be a number over 0, up to 1000000, not -1",
    "type null": "must be a text, not None",
    "modules a path": "must be a list of layers' last names, such as q_proj, not ['../x']",
    "other type": "must be 'LORA', not 'IA3'",
    "PiSSA": "must be True or False or 'gaussian' or 'orthogonal', not 'pissa'",
    "DoRA": "True is not served; train without it",
    "other rank than the manifest": "the config says 9, the manifest 4",
    "layer of no base": "the base has no layer 'x_proj'",
    "rank over what is served": "1024 is over 16; raise SQLWRIGHT_MAX_LORA_RANK",
    "rank of 4,000 digits": f"{'9' * 20} is over 16; raise SQLWRIGHT_MAX_LORA_RANK",
    "wrong base": "trained on some/base, not on the base that is served",
    "no tensors": "0 tensors, not 1 to 10000",
    "header past the end": "a header of 3 bytes in a file of 10",
    "header a list": "is no object of up to 10000 tensors",
    "a tensor twice": "can't be read: a name stands twice in an object",
    "notes a number": "must hold texts",
    "entry a text": "must have dtype, shape and data_offsets",
    "shape negative": "shape must be a few whole numbers",
    "three offsets": "data_offsets must be two whole numbers",
    "offsets that do not fit": "255 bytes for F32 of shape [4, 16]",
    "a gap": "overlaps another, or leaves a gap before it",
    "int8": "'I8'; served: F32, F16, BF16",
    "only A": "of shape [16, 4] is not in the file",
    "a layer more": "the config names no such layer of the base",
    "other rank in the tensors": "has shape [2, 16], not [4, 16]",
    "NaN": "holds NaN or infinity",
    "3e38": "holds a value of 2 ** 127 or more",
    "-40000": "holds a value of 2 ** 15 or more",
    "B of zeros": "a factor of every layer is zero: the adapter changes nothing",
}


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    return Draft(make_good(tmp_path / "good"))


def code(draft: Draft, spoil: Spoil) -> str:
    spoil(draft)
    draft.sign()
    return code_of(refusal(draft.folder))


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_tells_what_was_found_and_what_is_wanted(name: str, tmp_path: Path) -> None:
    good, folder = make_good(tmp_path / "good"), tmp_path / "hostile"
    kind = BY_NAME[name]
    kind.make(good, folder)
    assert str(refusal(folder)) == f"{kind.code}: {kind.fault(good, folder)}: {SAID[name]}"


def test_a_value_that_is_shown_is_cut() -> None:
    assert str(Refusal("other", "x" * 1_000, "y" * 1_000)) == f"other: {'y' * 200}: {'x' * 400}"
    assert str(Refusal("other", "x")) == "other: x"


def test_what_moves_a_terminal_is_escaped() -> None:
    error = Refusal("other", "a\x1b[31m\u202e", "ä\n")
    assert (str(error), error.param) == ("other: ä\\n: a\\x1b[31m\\u202e", "ä\\n")


def test_long_values_are_cut_to_what_helps(draft: Draft) -> None:
    draft.config(r="x" * 200)
    draft.sign()
    shown = "'" + "x" * 79
    assert str(refusal(draft.folder)).endswith(f"must be a whole number from 1 to 512, not {shown}")
    draft.config(r=RANK)
    draft.header(lambda header: header[first_a(draft)].update(dtype="X" * 100))
    draft.sign()
    assert f": '{'X' * 20}'; served: " in str(refusal(draft.folder))


def test_what_the_manifest_asks_in_vain_is_shown(draft: Draft) -> None:
    served = Admission(modules=frozenset({"q_proj"}))
    said = "unsupported_modules: target_modules: this engine serves no adapter of v_proj"
    assert str(refusal(draft.folder, served)) == said
    draft.manifest(dialect="klingon")
    said = "bad_manifest: dialect: unknown dialect 'klingon'; known: "
    assert str(refusal(draft.folder)).startswith(said)
    draft.manifest(dialect="sqlite", base_model="x" * 100, base_model_sha256="c" * 64)
    assert f": trained on {'x' * 80}, not on" in str(refusal(draft.folder))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"r": 1}, "disagrees"),
        ({"r": MAX_RANK}, "disagrees"),
        ({"r": MAX_RANK + 1}, "bad_field"),
        ({"lora_alpha": MAX_ALPHA}, "disagrees"),
        ({"lora_alpha": MAX_ALPHA + 1}, "bad_field"),
        ({"lora_alpha": 0.5}, "disagrees"),
        ({"target_modules": [f"m{number}" for number in range(MAX_MODULES)]}, "disagrees"),
    ],
)
def test_fields_up_to_their_limits_are_taken(
    changes: dict[str, object], expected: str, draft: Draft
) -> None:
    assert code(draft, config(**changes)) == expected


@pytest.mark.parametrize("name", [CONFIG, MANIFEST, WEIGHTS])
def test_a_file_of_just_its_largest_size_is_read(name: str, draft: Draft) -> None:
    os.truncate(draft.folder / name, MAX_BYTES[name])
    check_files(draft.folder)
    os.truncate(draft.folder / name, MAX_BYTES[name] + 1)
    with pytest.raises(Refusal, match="too_large"):
        check_files(draft.folder)


def test_the_sizes_are_a_mebibyte_of_json_and_eight_gibibytes_of_weights() -> None:
    assert MAX_BYTES == {CONFIG: 1 << 20, MANIFEST: 1 << 20, WEIGHTS: 8 << 30}


def test_tensors_are_counted(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MAX_TENSORS", 8)
    assert ADMISSION.admit(draft.folder)
    monkeypatch.setattr(tensors, "MAX_TENSORS", 7)
    assert "8 tensors, not 1 to 7" in str(refusal(draft.folder))


def test_commas_are_counted_before_a_header_is_parsed(
    draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "MAX_COMMAS", 8 * 5 - 1)
    assert ADMISSION.admit(draft.folder)
    monkeypatch.setattr(tensors, "MAX_COMMAS", 8 * 5 - 2)
    assert code_of(refusal(draft.folder)) == "bad_header"


def test_a_header_may_be_just_as_long(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    length = int.from_bytes(draft.data[:8], "little")
    monkeypatch.setattr(tensors, "MAX_HEADER_BYTES", length)
    assert ADMISSION.admit(draft.folder)
    monkeypatch.setattr(tensors, "MAX_HEADER_BYTES", length - 1)
    assert code_of(refusal(draft.folder)) == "bad_header"


def test_bytes_are_counted_from_a_tensors_own_beginning(draft: Draft) -> None:
    assert code(draft, entry(first_b, data_offsets=[256, 500])) == "bad_layout"
    assert str(refusal(draft.folder)).endswith(": 244 bytes for F32 of shape [16, 4]")


@pytest.mark.parametrize(
    ("sizes", "expected"), [([1 << 48, 0], "bad_header"), ([(1 << 48) - 1, 1], "bad_layout")]
)
def test_sizes_are_below_2_to_the_48(sizes: list[int], expected: str, draft: Draft) -> None:
    assert code(draft, entry(first_a, shape=sizes)) == expected


def test_a_file_that_ends_while_it_is_read_is_refused() -> None:
    found = {"x": Tensor("x", "F32", (2,), 0, 8)}
    with pytest.raises(Refusal) as caught:
        check_values(BytesIO(b"\0\0\0\0"), found)
    assert str(caught.value) == "incomplete: x: the file ended while it was read"


def test_the_smallest_value_is_an_effect() -> None:
    names = ("x.lora_A.weight", "x.lora_B.weight")
    found = {n: Tensor(n, "F32", (1, 1), 4 * i, 4 * i + 4) for i, n in enumerate(names)}
    check_values(BytesIO(b"\1\0\0\0" * 2), found)
    with pytest.raises(Refusal, match="no_effect"):
        check_values(BytesIO(b"\1\0\0\0" + bytes(4)), found)


def test_values_are_read_in_pieces(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "CHUNK_BYTES", 64)
    assert ADMISSION.admit(draft.folder)
    BY_NAME["NaN last of all"].spoil(draft)
    draft.sign()
    assert code_of(refusal(draft.folder)) == "not_finite"


def failing(number: int) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise OSError(number, os.strerror(number))

    return fail


def nameless(*_: object) -> object:
    raise OSError


def test_what_can_not_be_looked_at_is_named(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert str(refusal(draft.folder)) == f"unreadable: {CONFIG}: the server may not read it"
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing(errno.EIO))
        assert str(refusal(draft.folder)) == "unreadable: good: Input/output error"
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", nameless)
        assert str(refusal(draft.folder)) == "unreadable: good: can't be read"
    own = os.lstat
    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", lambda p: own(p) if p == draft.folder else failing(5)())
        assert str(refusal(draft.folder)) == f"unreadable: {CONFIG}: Input/output error"
    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", lambda p: own(p) if p == draft.folder else nameless())
        assert str(refusal(draft.folder)) == f"unreadable: {CONFIG}: can't be read"


def test_evidence_is_a_folder_and_not_looked_into(draft: Draft) -> None:
    (draft.folder / EVIDENCE).mkdir()
    (draft.folder / EVIDENCE / "x.bin").write_text("x")
    assert ADMISSION.admit(draft.folder)


@pytest.mark.parametrize("end", ["", ".x"])
def test_pairs_of_no_base_name_the_module_that_lacks_them(end: str, draft: Draft) -> None:
    draft.write_tensors({n.replace("v_proj", f"w_proj{end}"): t for n, t in draft.tensors.items()})
    draft.sign()
    said = str(refusal(draft.folder, Admission()))
    assert said == "missing_tensor: v_proj: there is none of this layer"
