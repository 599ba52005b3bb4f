"""Our items under other harnesses: the same completions get the same verdicts as from our judge."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from eval.dataset import Question
from eval.harness.items import MEASURES, chat_of, open_items, prompt_of, verdicts
from eval.score import Case, Judging, judge_all
from eval.stats import estimate
from eval.task.prompt import extract_sql

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "eval/harness/lm_eval"
# They import much that warns.
pytestmark = pytest.mark.filterwarnings("ignore")

needs_lm_eval = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="needs lm-evaluation-harness: pip install -e '.[harness]'"
)
needs_inspect = pytest.mark.skipif(
    find_spec("inspect_ai") is None, reason="needs inspect-ai: pip install -e '.[harness]'"
)


@pytest.fixture(scope="module")
def questions() -> tuple[Question, ...]:
    return open_items()


def completions(questions: Sequence[Question]) -> list[str]:
    """A completion a question: right, wrong, none, unsafe and unreadable ones in turn."""
    kinds = [
        "{gold}",
        "Here you are:\n```sql\n{gold};\n```\nIt counts.",
        "SELECT 1",
        "",
        "DROP TABLE users",
        "SELECT FROM WHERE ((",
        "SELECT nothing FROM nowhere",
        "{gold}; {gold}",
        "\0",
    ]
    return [
        kinds[i % len(kinds)].replace("{gold}", question.example.sql)
        for i, question in enumerate(questions)
    ]


@pytest.fixture(scope="module")
def expected(questions: tuple[Question, ...]) -> list[dict[str, float | None]]:
    """What `sqlwright-eval` says."""
    cases = [
        Case(question, extract_sql(text))
        for question, text in zip(questions, completions(questions), strict=True)
    ]
    return [outcome.scores for outcome in judge_all(cases, Judging(MEASURES))]


def test_verdicts_are_those_of_our_judge(
    questions: tuple[Question, ...], expected: list[dict[str, float | None]]
) -> None:
    found = [verdicts(q, text) for q, text in zip(questions, completions(questions), strict=True)]
    assert found == expected
    assert 0 < sum(scores["execution_accuracy"] for scores in found) < len(found)


def test_the_task_files_load_without_their_harness() -> None:
    """What lm-evaluation-harness's task files name is there, be it installed or not."""
    code = (
        "import sys; from eval.harness.lm_eval.task import load, judge; "
        "assert 'lm_eval' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


@needs_lm_eval
@pytest.mark.parametrize(
    ("name", "text_of"),
    [
        ("sqlwright", prompt_of),
        ("sqlwright_chat", lambda q: "\n\n".join(m["content"] for m in chat_of(q))),
    ],
)
def test_lm_evaluation_harness(
    name: str,
    text_of: Any,
    questions: tuple[Question, ...],
    expected: list[dict[str, float | None]],
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    answers = {
        text_of(question): text
        for question, text in zip(questions, completions(questions), strict=True)
    }

    class Scripted(LM):  # type: ignore[misc]
        def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
            return [answers[request.args[0]] for request in requests]

        def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[Any]:
            raise AssertionError("not asked for")

        loglikelihood_rolling = loglikelihood

    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    found = simple_evaluate(
        Scripted(), tasks=[name], task_manager=manager, bootstrap_iters=0, log_samples=True
    )
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    assert [{m: s[m] for m in MEASURES} for s in samples] == expected
    assert [s["doc"]["id"] for s in samples] == [q.example.id for q in questions]
    for measure in MEASURES:
        mean = sum(scores[measure] or 0.0 for scores in expected) / len(expected)
        assert found["results"][name][f"{measure},none"] == pytest.approx(mean)


@needs_inspect
@pytest.mark.parametrize("chat", [False, True])
def test_inspect(
    chat: bool,
    questions: tuple[Question, ...],
    expected: list[dict[str, float | None]],
    tmp_path: Path,
) -> None:
    import inspect_ai
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    from eval.harness.inspect_task import sqlwright

    def last_message(question: Question) -> str:
        return chat_of(question)[-1]["content"] if chat else prompt_of(question)

    answers = {
        last_message(question): text
        for question, text in zip(questions, completions(questions), strict=True)
    }

    def answer(messages: list[Any], *_: Any) -> Any:
        found = ModelOutput.from_content("mockllm/model", answers[messages[-1].text])
        found.usage = ModelUsage()  # else tokens are counted by a tokenizer from the network
        return found

    (log,) = inspect_ai.eval(
        sqlwright(chat=chat),
        model=get_model("mockllm/model", custom_outputs=answer),
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.status == "success", log.error
    found = {sample.id: sample.scores["judged"].value for sample in log.samples}
    assert [found[question.example.id] for question in questions] == expected
    db_ids = [question.example.db_id for question in questions]
    for score in log.results.scores:
        values = [scores[score.name] or 0.0 for scores in expected]
        ours = estimate(values, db_ids)
        assert score.metrics["mean"].value == pytest.approx(ours.value)
        assert score.metrics["stderr"].value == pytest.approx(ours.stderr)
    assert {score.name for score in log.results.scores} == set(MEASURES)
