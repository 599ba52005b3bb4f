"""The bundled adapter in this process and behind a real server: same answers, same scores."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from eval.ask.local_model import LocalModel
from eval.evaluate import evaluate_model
from eval.task.base_model import embedded_base_model
from eval.task.statement import normalize_sql
from tests.integration.live import Live

BUNDLE = Path(__file__).parents[2] / "server/bundled/spider"
NUM_QUESTIONS = 2
MAX_TOKENS = 64  # as the server's, see conftest.py


@pytest.fixture
def adapter() -> Iterator[LocalModel]:
    """On one thread: two, beside the engine's, mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    base = AutoModelForCausalLM.from_pretrained(embedded_base_model(), dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(BUNDLE))
    yield LocalModel(model, bundle=BUNDLE, max_new_tokens=MAX_TOKENS)
    torch.set_num_threads(threads)


def items(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(metrics["result"].read_text())["items"]
    return found


def test_a_model_in_this_process_scores_as_the_one_served(
    live: Live, adapter: LocalModel, tmp_path: Path
) -> None:
    here = evaluate_model(adapter, limit=NUM_QUESTIONS, output=tmp_path / "here.json")
    there = evaluate_model(
        "spider",
        base_model=False,
        limit=NUM_QUESTIONS,
        base_url=live.url,
        output=tmp_path / "there.json",
    )
    for ours, served in zip(items(here), items(there), strict=True):
        assert normalize_sql(ours["predicted"]) == normalize_sql(served["predicted"])
        assert ours["confidence"] == pytest.approx(served["confidence"], rel=0.05)
        assert ours["completion_tokens"] == served["completion_tokens"]
    assert here["execution_accuracy"] == there["execution_accuracy"] > 0
    assert here["base_execution_accuracy"] == 0
    assert here["error_reduction"] == here["execution_accuracy"]
