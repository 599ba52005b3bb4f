"""What quantisation costs: the three bases, the losses, and the paired numbers made of them."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from eval.stats import estimate
from eval.stats import mcnemar_p as mcnemar_of_reports
from eval.task.bundle import Bundle, Manifest, read_bundle, write_manifest
from eval.task.prompt import TEMPLATE
from eval.task.sqlite_judge import JudgeError
from tests.unit.tiny import byte_tokenizer, lora, make_database
from tests.unit.tiny import llama as smaller_llama
from trainer import precision
from trainer.paired import mcnemar_p, ratio
from trainer.pipeline.load import load_source
from trainer.pipeline.row import Row
from trainer.precision import BASES, Measured, change, gold_losses, load, record_of
from trainer.tuning.dev_set import prompt_of
from trainer.tuning.model import compute_dtype
from trainer.tuning.verdicts import Case, Verdict, verdict_of

GOLDS = {
    "How many pets?": "SELECT count(*) FROM pet",
    "Which cities?": "SELECT DISTINCT city FROM \"pet shop\"",
    "Cats of Zoë's shop?": "select T1.ID from PET as T1 where T1.kind = 'cat' and T1.shop = 1",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _little_garbage() -> Iterator[None]:
    """Training collects garbage when it ends: half a second over all that is imported by then."""
    gc.freeze()
    yield
    gc.unfreeze()


def llama() -> Any:
    """Wide enough for the 4-bit kernels of a CPU."""
    return smaller_llama(hidden_size=64, intermediate_size=64)


def write_bundle(folder: Path, base: Path, **recipe: Any) -> Bundle:
    lora(llama(), r=2).save_pretrained(folder)
    (folder / "README.md").unlink()
    manifest: dict[str, Any] = {"base_model": str(base), "base_model_sha256": "", "commit": ""}
    manifest |= {"prompt_template": TEMPLATE, "serialisation": "keys", "dialect": "sqlite"}
    manifest |= {"rank": 2, "alpha": 8, "target_modules": ["q_proj", "v_proj"], "stop": "<eos>"}
    manifest |= {"quantisation": "nf4", "data": [], "recipe": recipe, "created": ""}
    write_manifest(folder, Manifest(**manifest))
    return read_bundle(folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("precision")
    llama().save_pretrained(folder / "base")
    byte_tokenizer().save_pretrained(folder / "base")
    return write_bundle(folder / "bundle", folder / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data file with its databases beside it; the schemas are read from these."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "databases").mkdir()
    make_database(folder / "databases")
    usual = {"db_id": "shops"}
    lines = [
        json.dumps(usual | {"id": str(i), "question": question, "sql": sql})
        for i, (question, sql) in enumerate(GOLDS.items())
    ]
    (folder / "dev.jsonl").write_text("\n".join(lines))
    return folder / "dev.jsonl"


@pytest.fixture(scope="module")
def rows(data: Path) -> list[Row]:
    return load_source(str(data)).rows


def loss_alone(model: Any, prompt: str, completion: str) -> float:
    tokenizer = byte_tokenizer()
    before, after = tokenizer(prompt)["input_ids"], [*tokenizer(completion)["input_ids"], 2]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([before + after])).logits[0].float()
    chosen = logits.log_softmax(-1)[len(before) - 1 : -1].gather(1, torch.tensor([after]).T)
    return -float(chosen.sum())


def test_the_loss_on_a_gold_query_is_that_of_the_query_alone(bundle, rows):
    model, tokenizer, weights = load(bundle, "served")
    losses, tokens = gold_losses(model, tokenizer, bundle, rows)
    spelled = "SELECT id FROM pet WHERE kind = 'cat' AND shop = 1"
    golds = ["SELECT COUNT(*) FROM pet", 'SELECT DISTINCT city FROM "pet shop"', spelled]
    assert weights == "float32" and tokens == tuple(len(sql) + 1 for sql in golds)
    model.get_base_model().set_attn_implementation("sdpa")
    for row, sql, loss in zip(rows, golds, losses, strict=True):
        prompt = prompt_of(row, bundle.manifest.prompt_format)
        assert loss == pytest.approx(loss_alone(model, prompt, sql), rel=1e-4)


def test_queries_are_spelled_as_the_recipe_had_them(bundle, rows, tmp_path):
    written = write_bundle(tmp_path, Path(bundle.manifest.base_model), names="written")
    model, tokenizer, _ = load(written, "served")
    _, tokens = gold_losses(model, tokenizer, written, rows[2:])
    assert tokens == (len("SELECT T1.ID FROM PET AS T1 WHERE T1.kind = 'cat' AND T1.shop = 1") + 1,)


def test_the_bases_are_what_their_names_say(bundle):
    import bitsandbytes as bnb

    def weights(kind: str) -> Any:
        return load(bundle, kind)[0].get_base_model().model.layers[0].mlp.up_proj

    plain = llama().model.layers[0].mlp.up_proj.weight
    served, dequantised, nf4 = map(weights, BASES)
    assert torch.equal(served.weight, plain)
    assert isinstance(nf4, bnb.nn.Linear4bit) and not isinstance(dequantised, bnb.nn.Linear4bit)
    unpacked = bnb.functional.dequantize_4bit(nf4.weight.data, nf4.weight.quant_state)
    assert torch.equal(dequantised.weight, unpacked)
    assert 0.01 < (dequantised.weight - plain).abs().mean() / plain.abs().mean() < 0.2


def test_adapter_and_base_compute_in_one_type(bundle):
    for kind in BASES:
        model, _, _ = load(bundle, kind)
        types = {p.dtype for n, p in model.named_parameters() if "lora_" in n}
        assert types == {model.get_input_embeddings().weight.dtype} == {compute_dtype()}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[str]]:
    """What the model answers at its first, second and third asking."""
    said: dict[int, list[str]] = {}
    asked: list[list[str]] = []

    def generate(model: Any, tokenizer: Any, prompts: list[str], **_: Any) -> list[list[str]]:
        asked.append(prompts)
        return [[text] for text in said[len(asked)]]

    def judge(cases: list[Case], *, workers: int) -> list[Verdict]:
        return [verdict_of(case) for case in cases]

    monkeypatch.setattr("trainer.tuning.generate.generate", generate)
    monkeypatch.setattr("trainer.tuning.accuracy.judge", judge)  # processes take seconds to start
    return said


def command(*words: str) -> Any:
    app = Typer()
    app.command()(precision.main)
    return CliRunner().invoke(app, words)


def test_the_evidence_pairs_the_bases_question_by_question(bundle, data, answers):
    golds = list(GOLDS.values())
    answers |= {1: [golds[0], "SELECT 1", golds[2]], 2: [golds[0], golds[1], ""], 3: golds}
    done = command(str(bundle.folder), "--data", str(data))
    assert done.exit_code == 0, done.output
    record = json.loads((bundle.folder / "evidence" / "precision.json").read_text())
    assert (record["digest"], record["questions"], record["unjudged"]) == (bundle.digest, 3, 0)
    assert [b["base"] for b in record["bases"]] == ["served", "dequantised", "nf4"]
    assert [b["accuracy"]["value"] for b in record["bases"]] == [2 / 3, 2 / 3, 1.0]
    assert [b["valid"] for b in record["bases"]] == [1.0, 2 / 3, 1.0]
    unpacked, nf4 = record["against_served"]
    assert (unpacked["fixed"], unpacked["broke"], unpacked["p_mcnemar"]) == (1, 1, 1.0)
    assert (nf4["fixed"], nf4["broke"], nf4["accuracy"]["value"]) == (1, 0, 1 / 3)
    losses = [b["nll"]["value"] for b in record["bases"]]
    assert unpacked["nll"]["value"] == pytest.approx(losses[1] - losses[0])
    assert unpacked["nll"]["value"] != 0
    assert "serving costs 0.00 points; the limit is 0.5" in done.output
    read_bundle(bundle.folder)


def test_a_loss_at_serving_names_what_closes_it(rows, bundle):
    shares = [
        measured(name, right) for name, right in (("served", 0), ("dequantised", 1), ("nf4", 0))
    ]
    record = record_of(bundle, rows, shares)
    assert precision.lines_of(record)[-1] == (
        "serving costs 100.00 points; over the limit of 0.5; train with dense_share"
    )
    figure = precision.figure_of("adapter_precision", record)
    assert (figure.figure, figure.value, figure.n) == ("adapter_precision", 100.0, 3)


def measured(base: str, *right: Any, nll: float = 1.0) -> Measured:
    right = right if len(right) > 1 else right * 3
    n = len(right)
    return Measured(base, "float32", right, (True,) * n, (nll,) * n, (2,) * n, 0.5)


def test_a_question_that_was_not_judged_is_in_no_difference():
    served = measured("served", True, False, None, True, nll=1.0)
    other = measured("nf4", False, False, True, None, nll=1.5)
    found = change(served, other, ["a", "a", "b", "b"])
    assert (found.fixed, found.broke, found.accuracy.value) == (0, 1, -0.5)
    assert found.nll.value == 0.25 and found.nll.stderr == 0.0


def test_without_any_gold_that_runs_nothing_is_measured(bundle, rows, monkeypatch):
    monkeypatch.setattr(precision, "measure", lambda *_, **__: measured("served", None, None))
    with pytest.raises(JudgeError, match="no gold query runs"):
        precision.run(bundle, rows, batch_size=4)


@pytest.mark.parametrize("clusters", ["aabbbc", "aaaaaa", "abcdef"])
def test_errors_are_those_of_the_reports(clusters):
    values = [1.0, 0.0, -1.0, 0.0, 1.0, 1.0]
    mine, theirs = ratio(values, [1] * 6, clusters), estimate(values, list(clusters), resamples=10)
    assert mine.value == pytest.approx(theirs.value) and mine.stderr == pytest.approx(theirs.stderr)


def test_a_ratio_has_the_error_of_its_residuals():
    found = ratio([1.0, 2.0, 3.0], [1, 1, 2], "abb")
    # 1.5 in all; residuals -0.5 of a, 0.5 + 0 of b: sqrt((0.25 + 0.25) · 2 / 1) / 4
    assert (found.value, found.stderr) == (1.5, 0.25)
    assert ratio([3.0], [2], "a").stderr is None


def test_of_nothing_there_is_no_mean():
    with pytest.raises(ValueError, match="a mean of nothing"):
        ratio([], [], [])


@pytest.mark.parametrize(
    ("fixed", "broke", "p"),
    [(0, 0, 1.0), (0, 5, 0.0625), (5, 0, 0.0625), (7, 3, 0.34375), (4, 4, 1), (600, 500, 0.0028)],
)  # fmt: skip
def test_the_exact_test_of_mcnemar(fixed, broke, p):
    assert mcnemar_p(fixed, broke) == pytest.approx(p, rel=1e-2)
    assert mcnemar_p(fixed, broke) == pytest.approx(mcnemar_of_reports(fixed, broke))


def test_too_little_memory_names_what_to_lower(bundle, data, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(precision, "measure", fail)
    done = command(str(bundle.folder), "--data", str(data))
    assert done.exit_code == 1
    assert done.output.endswith("error: the device's memory is too small; lower --batch-size\n")


def test_what_is_wrong_is_said_in_one_line(bundle, data, tmp_path):
    for words, part in (
        ([str(tmp_path), "--data", str(data)], "incomplete: adapter_config.json is missing"),
        ([str(bundle.folder), "--data", str(tmp_path / "no.jsonl")], "no.jsonl: no such file"),
        ([str(bundle.folder), "--data", str(data), "--limit", "-1"], "limit: must not be negative"),
    ):
        done = command(*words)
        assert done.exit_code == 1 and part in done.output
        assert done.output.startswith("trainer.precision: error: ")
        assert len(done.output.splitlines()) == 1
