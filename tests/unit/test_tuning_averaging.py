"""Adapters averaged into one, and weights averaged over training."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from tests.unit.tiny import llama, lora
from trainer.tuning.averaging import EMA_WEIGHTS, AveragingError, average, ema_callback
from trainer.tuning.weights import CONFIG, WEIGHTS, WeightsError, keep_adapter

RANK = 4


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters of one shape."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed in range(3):
        keep_adapter(lora(seed=seed), folder / f"seed{seed}", {})
    return [folder / f"seed{seed}" for seed in range(3)]


def deltas(folder: Path) -> dict[str, torch.Tensor]:
    """B·A by layer, without the scale."""
    tensors = load_file(folder / WEIGHTS)
    names = [name for name in tensors if "lora_A" in name]
    return {n: (tensors[n.replace("lora_A", "lora_B")] @ tensors[n]).double() for n in names}


def mean_delta(folders: list[Path], weights: list[float]) -> dict[str, torch.Tensor]:
    each = [deltas(folder) for folder in folders]
    total = sum(weights)
    return {
        name: sum((w / total * d[name] for w, d in zip(weights, each, strict=True)), torch.zeros(1))
        for name in each[0]
    }


@pytest.mark.parametrize("weights", [[1.0, 1.0], [3.0, 1.0], [0.0, 2.0]])
def test_products_are_the_nearest_of_their_rank_to_the_mean_of_products(
    adapters, tmp_path, weights
):
    two = adapters[:2]
    found = average(two, tmp_path / "made", weights)
    wanted, made = mean_delta(two, weights), deltas(tmp_path / "made")
    cut = total = 0.0
    for name, whole in wanted.items():
        u, sizes, v = torch.linalg.svd(whole)
        best = (u[:, :RANK] * sizes[:RANK]) @ v[:RANK]
        assert torch.allclose(made[name], best, atol=1e-5)
        cut, total = cut + sizes[RANK:].square().sum().item(), total + sizes.square().sum().item()
    assert found.lost == pytest.approx(cut / total, abs=1e-6)
    assert (found.num_adapters, found.method) == (2, "products")


def test_the_mean_of_factors_is_not_the_mean_of_products(adapters, tmp_path):
    found = average(adapters[:2], tmp_path / "made", method="factors")
    one, other = (load_file(folder / WEIGHTS) for folder in adapters[:2])
    made = load_file(tmp_path / "made" / WEIGHTS)
    assert found.lost == 0.0
    assert all(torch.allclose(made[n], (one[n] + other[n]) / 2) for n in one | other)
    name, wanted = next(iter(mean_delta(adapters[:2], [1, 1]).items()))
    assert not torch.allclose(deltas(tmp_path / "made")[name], wanted, atol=0.05)


def test_products_are_the_same_for_factors_that_are_turned(adapters, tmp_path):
    """(B·Q)·(Qᵀ·A) is B·A; the mean of factors is another one."""
    turned = tmp_path / "turned"
    shutil.copytree(adapters[0], turned)
    tensors = load_file(turned / WEIGHTS)
    spin = torch.linalg.qr(torch.randn(RANK, RANK, generator=torch.manual_seed(0)))[0]
    for name in tensors:
        tensors[name] = spin.T @ tensors[name] if "lora_A" in name else tensors[name] @ spin
    save_file(tensors, turned / WEIGHTS)
    average([adapters[0], turned], tmp_path / "products", method="products")
    average([adapters[0], turned], tmp_path / "factors", method="factors")
    for name, own in deltas(adapters[0]).items():
        assert torch.allclose(deltas(tmp_path / "products")[name], own, atol=1e-5)
        assert not torch.allclose(deltas(tmp_path / "factors")[name], own, atol=0.05)


@pytest.mark.parametrize("method", ["products", "factors"])
def test_an_adapter_averaged_with_itself_is_itself(adapters, tmp_path, method):
    found = average([adapters[2]] * 3, tmp_path / "made", method=method)
    made = deltas(tmp_path / "made")
    assert all(torch.allclose(made[n], d, atol=1e-5) for n, d in deltas(adapters[2]).items())
    assert found.lost == pytest.approx(0.0, abs=1e-9)


def test_an_average_is_read_by_peft_as_an_adapter(adapters, tmp_path):
    average(adapters, tmp_path / "made")
    model = PeftModel.from_pretrained(llama(), tmp_path / "made")
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    name = next(name for name in deltas(adapters[0]) if "layers.0.self_attn.q_proj" in name)
    assert torch.allclose(
        layer.get_delta_weight("default").double(), 2 * deltas(tmp_path / "made")[name], atol=1e-5
    )


def test_a_layer_smaller_than_the_rank_keeps_its_shape(tmp_path):
    for seed in (0, 1):
        model = lora(llama(num_attention_heads=16), r=12, seed=seed)  # v_proj gives 2 numbers
        keep_adapter(model, tmp_path / str(seed), {})
    average([tmp_path / "0", tmp_path / "1"], tmp_path / "made")
    shapes = [
        {n: t.shape for n, t in load_file(tmp_path / f / WEIGHTS).items()} for f in ("0", "made")
    ]
    assert shapes[0] == shapes[1]
    wanted = mean_delta([tmp_path / "0", tmp_path / "1"], [1, 1])
    name = next(name for name in wanted if "v_proj" in name)
    assert torch.allclose(deltas(tmp_path / "made")[name], wanted[name], atol=1e-5)


def test_the_dtype_of_the_first_adapter_stays(adapters, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(adapters[0], half)
    tensors = load_file(half / WEIGHTS)
    save_file({n: t.to(torch.bfloat16) for n, t in tensors.items()}, half / WEIGHTS)
    average([half, adapters[1]], tmp_path / "made")
    assert {t.dtype for t in load_file(tmp_path / "made" / WEIGHTS).values()} == {torch.bfloat16}


def changed(folder: Path, target: Path, **config: Any) -> Path:
    shutil.copytree(folder, target)
    record = json.loads((target / CONFIG).read_text())
    (target / CONFIG).write_text(json.dumps(record | config))
    return target


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"base_model_name_or_path": "other"}, "differ in base_model_name_or_path: .* and 'other'"),
        ({"r": 8}, "differ in r: 4 and 8"),
        ({"lora_alpha": 9}, "differ in lora_alpha: 8 and 9"),
        ({"target_modules": ["q_proj"]}, "differ in target_modules"),
        ({"use_rslora": True}, "differ in use_rslora: False and True"),
        ({"use_dora": True}, "use_dora is used; only plain LoRA is averaged"),
        ({"bias": "all"}, "bias is used"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is used"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern is used"),
    ],
)
def test_adapters_that_differ_are_refused_by_what_differs(adapters, tmp_path, config, message):
    other = changed(adapters[1], tmp_path / "other", **config)
    with pytest.raises(AveragingError, match=message) as caught:
        average([adapters[0], other], tmp_path / "made")
    assert "\n" not in str(caught.value) and str(other) in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_the_order_of_target_modules_means_nothing(adapters, tmp_path):
    record = json.loads((adapters[1] / CONFIG).read_text())
    modules = sorted(record["target_modules"])
    one = changed(adapters[0], tmp_path / "one", target_modules=modules)
    other = changed(adapters[1], tmp_path / "other", target_modules=modules[::-1])
    assert average([one, other], tmp_path / "made").num_adapters == 2


def test_adapters_of_other_layers_are_refused(adapters, tmp_path):
    keep_adapter(lora(llama(num_hidden_layers=1)), tmp_path / "short", {})
    with pytest.raises(AveragingError, match=r"differ in the shape of .*layers\.1\."):
        average([adapters[0], tmp_path / "short"], tmp_path / "made")


@pytest.mark.parametrize(
    ("count", "weights", "message"),
    [
        (1, None, "needs two adapters, not 1"),
        (2, [1.0], "1 weights for 2 adapters"),
        (2, [1.0, -0.5], "must not be negative, nor all zero"),
        (2, [0.0, 0.0], "must not be negative, nor all zero"),
    ],
)
def test_weights_must_fit(adapters, tmp_path, count, weights, message):
    with pytest.raises(AveragingError, match=message):
        average(adapters[:count], tmp_path / "made", weights)


def test_a_folder_that_exists_is_not_overwritten(adapters, tmp_path):
    with pytest.raises(AveragingError, match="exists; name a new folder"):
        average(adapters, tmp_path)


def test_a_folder_that_is_no_adapter_is_named(adapters, tmp_path):
    broken = changed(adapters[0], tmp_path / "broken")
    (broken / WEIGHTS).write_bytes(b"\x00" * 5)
    for folder in (broken, tmp_path / "absent"):
        with pytest.raises(WeightsError, match=f"{folder}: no adapter to be read"):
            average([adapters[0], folder], tmp_path / "made")
    assert not (tmp_path / "made").exists()


class Training:
    """What a Trainer tells its callbacks, step by step; each step adds 1 to all weights."""

    def __init__(self, folder: Path, callback: Any, start: int = 0) -> None:
        self.model, self.callback = lora(), callback
        self.args = SimpleNamespace(output_dir=str(folder))
        self.state = SimpleNamespace(global_step=start, is_world_process_zero=True)
        with torch.no_grad():
            for weight in self.weights:
                weight.fill_(start)
        callback.on_train_begin(self.args, self.state, None, model=self.model)

    @property
    def weights(self) -> list[Any]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def step(self, *, saves: bool = False) -> None:
        with torch.no_grad():
            for weight in self.weights:
                weight += 1
        self.state.global_step += 1
        control = SimpleNamespace(should_save=saves)
        self.callback.on_step_end(self.args, self.state, control, model=self.model)
        if saves:
            self.callback.on_save(self.args, self.state, control, model=self.model)

    @property
    def means(self) -> set[float]:
        return {round(x, 5) for t in self.callback.average.values() for x in t.flatten().tolist()}


def test_the_average_follows_the_weights_with_a_decay_that_grows(tmp_path):
    training = Training(tmp_path, ema_callback(0.5))
    mean = 0.0
    for step in range(1, 15):
        training.step()
        keep = min(0.5, (1 + step) / (10 + step))
        mean = keep * mean + (1 - keep) * step
        assert training.means == {round(mean, 5)}


def test_a_run_that_goes_on_has_the_same_average(tmp_path):
    whole = Training(tmp_path / "whole", ema_callback(0.9))
    killed = Training(tmp_path / "killed", ema_callback(0.9))
    for training in (whole, killed):
        for _ in range(3):
            training.step()
        training.step(saves=True)
    killed.step()
    resumed = Training(tmp_path / "killed", ema_callback(0.9), start=4)
    for _ in range(3):
        whole.step()
        resumed.step()
    assert resumed.means == whole.means and len(whole.means) == 1


def test_the_average_is_saved_before_the_checkpoint_is_whole(tmp_path):
    training = Training(tmp_path, ema_callback(0.9))
    control = SimpleNamespace(should_save=True)
    training.state.global_step = 1
    training.callback.on_step_end(training.args, training.state, control, model=training.model)
    saved = load_file(tmp_path / "checkpoint-1" / EMA_WEIGHTS)
    assert {t.dtype for t in saved.values()} == {torch.float32}
    assert len(saved) == len(training.weights)


def test_only_the_first_process_saves(tmp_path):
    training = Training(tmp_path, ema_callback(0.9))
    training.state.is_world_process_zero = False
    training.step(saves=True)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_without_an_average_is_said(tmp_path):
    with pytest.raises(AveragingError, match=r"checkpoint-4/ema\.safetensors: no averaged weights"):
        Training(tmp_path, ema_callback(0.9), start=4)


def test_averaged_weights_are_applied_for_a_while(tmp_path):
    training = Training(tmp_path, ema_callback(0.5))
    training.step()
    own = [p.detach().clone() for p in training.weights]
    with training.callback.applied(training.model):
        assert {round(x, 5) for p in training.weights for x in p.flatten().tolist()} == (
            training.means
        )
    assert all(torch.equal(p, o) for p, o in zip(training.weights, own, strict=True))
    assert training.means != {1.0}


def test_averaged_weights_are_kept_for_good(tmp_path):
    training = Training(tmp_path, ema_callback(0.5))
    training.step()
    training.callback.keep(training.model)
    assert {round(x, 5) for p in training.weights for x in p.flatten().tolist()} == training.means
    assert training.means != {1.0}


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0, 1.5])
def test_a_decay_is_a_share_below_one(decay):
    with pytest.raises(AveragingError, match="decay: must be between 0 and 1"):
        ema_callback(decay)
