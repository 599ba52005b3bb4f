"""A run on a tiny base: what the base, the disk or the memory refuses is told in one line."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from eval.task.base_model import BaseModelError
from eval.task.store import read_aliases
from tests.unit.tiny import byte_tokenizer, llama
from trainer.config import RecipeError, TrainConfig
from trainer.faults import DiskError, expect_base, expect_targets, loading, writing
from trainer.pipeline.corpus import Corpus
from trainer.run import Prepared, Run, dry, stages_of, train_and_publish, train_prepared

CONFIG = {"max_examples": 2, "max_length": 2048, "device_tokens": 4096, "batch_tokens": 4096}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    llama().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SQLWRIGHT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def run_of(folder: Path, base: Path | str, **keys: object) -> Run:
    usual: dict[str, object] = {**CONFIG, "base_model": str(base), "rank": 4}
    config = TrainConfig("tiny", **usual | keys)  # type: ignore[arg-type]
    return Run(config, folder / "store", folder / "run")


def test_a_dry_run_tells_the_cost_and_writes_no_checkpoint(tmp_path: Path, base: Path) -> None:
    told = dry(run_of(tmp_path, base))
    words = [line.partition(":")[0] for line in told.splitlines()]
    assert words == ["base", "adapter", "data", "steps", "memory", "time"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["data.html", "data.txt"]
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("publishing", [train_and_publish, dry])
def test_hints_are_refused_before_the_data_is_read_where_a_bundle_is_wanted(
    tmp_path: Path, publishing
) -> None:
    with pytest.raises(RecipeError, match=r"^hints: a server gives none"):
        publishing(run_of(tmp_path, "/no/such/base", hints=True, data=("none.jsonl",)))
    assert list(tmp_path.iterdir()) == []


def test_hints_are_refused_for_rows_from_memory_too(tmp_path: Path) -> None:
    prepared = Prepared("/no/such/base", None, Corpus([], (), ()), [])
    with pytest.raises(RecipeError, match=r"^hints: a server gives none"):
        train_prepared(run_of(tmp_path, "/no/such/base", hints=True), prepared)


def test_hints_come_last_and_only_where_they_are_asked_for() -> None:
    config = TrainConfig("tiny", compose=5)
    plain = [stage.name for stage in stages_of(config)]
    hinted = [stage.name for stage in stages_of(replace(config, hints=True))]
    assert plain[-1] == "compose" and hinted == [*plain, "hints"]


def test_out_of_memory_names_device_tokens_and_publishes_nothing(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")

    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    with pytest.raises(RecipeError, match=r"^out of memory .*: set device_tokens=2048$"):
        train_and_publish(run_of(tmp_path, base, quantisation="none"))
    assert read_aliases(tmp_path / "store") == {}
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("config.json", "no config.json"),
        ("*.safetensors", "no safetensors file"),
        ("tokenizer*", "no tokenizer"),
    ],
)
def test_a_base_that_lacks_a_file_is_refused(tmp_path: Path, base: Path, pattern, said) -> None:
    shutil.copytree(base, tmp_path / "base")
    for path in (tmp_path / "base").glob(pattern):
        path.unlink()
    with pytest.raises(BaseModelError, match=f"^base_model: {tmp_path}/base: {said}"):
        dry(run_of(tmp_path, tmp_path / "base"))


def test_a_base_without_the_end_of_a_sequence_is_refused(tmp_path: Path, base: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    (tmp_path / "base" / "tokenizer_config.json").unlink()
    bare = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer().backend_tokenizer)
    bare.save_pretrained(tmp_path / "base")
    with pytest.raises(BaseModelError, match="its tokenizer has no end-of-sequence token"):
        dry(run_of(tmp_path, tmp_path / "base"))


def test_a_base_that_lacks_weights_is_refused(tmp_path: Path, base: Path) -> None:
    llama(num_hidden_layers=1).save_pretrained(tmp_path / "base")
    shutil.copy(tmp_path / "base" / "model.safetensors", tmp_path / "one.safetensors")
    shutil.copytree(base, tmp_path / "base", dirs_exist_ok=True)
    shutil.copy(tmp_path / "one.safetensors", tmp_path / "base" / "model.safetensors")
    with pytest.raises(BaseModelError, match=r"holds no weights of model\.layers\.1\."):
        train_and_publish(run_of(tmp_path, tmp_path / "base", quantisation="none"))


@pytest.mark.parametrize("name", ["/no/such/folder", "two words", "a/b/c", ""])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused_before_the_hub_is_asked(name) -> None:
    with pytest.raises(BaseModelError, match="no such folder, nor a hub id ORG/NAME"):
        expect_base(name)


def test_a_base_with_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    told = f"{tmp_path}: can't be loaded \\(.*header"
    with pytest.raises(BaseModelError, match=told), loading(tmp_path):
        load_file(tmp_path / "model.safetensors")


@pytest.mark.parametrize("targets", [("nope",), ("q_proj", "nope"), ("proj",)])
def test_each_target_must_be_in_the_model(tmp_path: Path, base: Path, targets) -> None:
    with pytest.raises(RecipeError, match=r"^target_modules: .* it has down_proj, gate_proj"):
        dry(run_of(tmp_path, base, target_modules=targets))


def test_a_target_may_be_named_by_its_whole_path() -> None:
    targets = ("model.layers.0.self_attn.q_proj", "up_proj")
    expect_targets(llama(), TrainConfig("tiny", target_modules=targets))


def test_a_full_disk_is_told_whatever_library_meets_it(tmp_path: Path) -> None:
    told = f"^can't write to {tmp_path}: .*the same command goes on from the last checkpoint$"
    with pytest.raises(DiskError, match=told), writing(tmp_path):
        torch.save({"state": torch.zeros(100_000)}, "/dev/full")
    with pytest.raises(DiskError, match="No space left"), writing(tmp_path):
        raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")
    with pytest.raises(DiskError, match="No space left"), writing(tmp_path):
        Path("/dev/full").write_text("state")
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "state").write_text("state")
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "state").symlink_to("/dev/full")
    with pytest.raises(DiskError, match="No space left"), writing(tmp_path):
        shutil.copytree(tmp_path / "from", tmp_path / "to", dirs_exist_ok=True)


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), torch.OutOfMemoryError("full"), OSError("odd")]
)
def test_what_is_not_the_disk_s_fault_is_left_as_it_is(tmp_path: Path, error) -> None:
    with pytest.raises(type(error)) as caught, writing(tmp_path):
        raise error
    assert caught.value is error


def test_the_disk_s_errors_are_not_taken_for_the_base_s(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), loading(tmp_path):
        raise OSError(errno.ENOSPC, "full")
