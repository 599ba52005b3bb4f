"""Hostile adapters: each is refused with its own code before the engine sees a byte, and what is
wrong is named. Between them stand some that are good."""

import os
from pathlib import Path

import pytest
from safetensors import safe_open

from benchmarks.hostile_adapters.draft import Kind, copied
from benchmarks.hostile_adapters.files import ADDRESSES, MARK
from benchmarks.hostile_adapters.kinds import GOOD, KINDS
from eval.task.bundle import CONFIG, WEIGHTS, BundleError, bundle_digest
from eval.task.store import publish
from server.adapters.admission import Admission
from server.adapters.base_shapes import linear_shapes
from server.adapters.refusal import Refusal, code_of
from tests.conftest import BASE_SHA256, safetensors
from tests.unit.admitting import ADMISSION, BY_NAME, LAYERS, MODULES, RANK, make_good, refusal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return make_good(tmp_path / "good")


def test_the_corpus_is_large_and_no_two_kinds_share_a_name() -> None:
    assert len(BY_NAME) == len(KINDS) >= 200
    assert len({kind.code for kind in KINDS}) >= 25


@pytest.mark.parametrize("name", GOOD)
def test_a_good_version_is_admitted(name: str, good: Path, tmp_path: Path) -> None:
    draft = copied(good, tmp_path / "copy")
    GOOD[name](draft)
    draft.sign()
    bundle = ADMISSION.admit(draft.folder)
    assert (bundle.folder, bundle.manifest.rank) == (draft.folder, RANK)
    assert bundle.digest == bundle_digest(draft.folder)
    assert Admission().admit(draft.folder) == bundle
    with safe_open(draft.folder / WEIGHTS, "numpy") as file:
        assert len(file.keys()) == 8


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_hostile_version_is_refused_with_its_code(
    kind: Kind, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "hostile"
    kind.make(good, folder)
    error, fault = refusal(folder), kind.fault(good, folder)
    assert code_of(error) == kind.code, str(error)
    if isinstance(error, Refusal):
        assert error.param == fault
        assert str(error).startswith(f"{kind.code}: {fault}: " if fault else f"{kind.code}: ")
    else:
        assert fault in str(error)
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_no_folder(address: str) -> None:
    assert code_of(refusal(Path(address))) == "missing"


def test_a_crowd_of_files_is_not_read_to_its_end(good: Path) -> None:
    for number in range(200):
        (good / f"shard-{number}").write_text("x")
    assert code_of(refusal(good)) == "unexpected_file"


OF_NO_BASE = {
    "only A": "missing_tensor", "only B": "missing_tensor", "foreign names": "missing_tensor",
    "other rank in the tensors": "wrong_shape", "turned over": "wrong_shape",
    "of one dimension": "wrong_shape", "NaN": "not_finite", "int8": "bad_dtype",
    "a bias": "unexpected_tensor", "the head": "unexpected_tensor",
}  # fmt: skip


@pytest.mark.parametrize("name", OF_NO_BASE)
def test_pairs_are_looked_at_where_the_base_is_not_known(
    name: str, good: Path, tmp_path: Path
) -> None:
    BY_NAME[name].make(good, tmp_path / "hostile")
    assert code_of(refusal(tmp_path / "hostile", Admission())) == OF_NO_BASE[name]


def test_a_version_under_another_name_is_refused(good: Path) -> None:
    short = bundle_digest(good)[:12]
    with pytest.raises(Refusal) as caught:
        ADMISSION.admit_version(good.parent, good.name)
    assert str(caught.value) == f"tampered: good: its digest is {short}"
    good.rename(good.with_name(short))
    assert ADMISSION.admit_version(good.parent, short).short == short


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(good: Path) -> None:
    (good / CONFIG).chmod(0)
    assert code_of(refusal(good)) == "unreadable"


@pytest.mark.parametrize(
    ("admission", "code"),
    [
        (Admission("c" * 64, LAYERS), "wrong_base"),
        (Admission(BASE_SHA256, LAYERS, max_rank=RANK - 1), "rank_too_high"),
        (Admission(BASE_SHA256, LAYERS, modules=frozenset({"q_proj"})), "unsupported_modules"),
        (Admission(BASE_SHA256, {"model.x.q_proj": (16, 16)}), "unsupported_modules"),
    ],
)
def test_what_is_not_for_this_server_is_refused(
    admission: Admission, code: str, good: Path
) -> None:
    assert code_of(refusal(good, admission)) == code


def test_what_this_server_just_serves_is_admitted(good: Path) -> None:
    admission = Admission(BASE_SHA256, LAYERS, max_rank=RANK, modules=frozenset(MODULES))
    assert admission.admit(good).manifest.rank == RANK


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
