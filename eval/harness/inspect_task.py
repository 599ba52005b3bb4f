"""Our items and our judge as a task of inspect-ai: `inspect eval eval/harness/inspect_task.py`.

Adapters of ours complete a prompt: ask them through `openai-api-completions/…`. A general model is
asked in a chat: `-T chat=true`. Standard errors are clustered by database.
"""

from typing import Any

from anyio import to_thread
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState, generate

from eval.ask.chat import Message
from eval.dataset import SAMPLES, Question
from eval.harness.items import MAX_TOKENS, MEASURES, chat_of, open_items, prompt_of, verdicts
from eval.task.prompt import extract_sql

METRICS = {name: [mean(), stderr(cluster="db_id")] for name in MEASURES}
MAX_CHAT_TOKENS = 1024


@task  # type: ignore[untyped-decorator]
def sqlwright(
    data: str = SAMPLES,
    databases: str | None = None,
    schemas: str | None = None,
    chat: bool = False,
) -> Task:
    """Questions on databases: `data` is a JSONL file or `samples`.

    Raises:
        DatasetError, ExampleError, DdlError: the message names the file, line or database.
    """
    questions = open_items(data, databases=databases, schemas=schemas)
    samples = [_sample(number, q, chat=chat) for number, q in enumerate(questions)]
    return Task(
        dataset=MemoryDataset(samples, name=data),
        solver=generate(),
        scorer=judged(questions),
        config=GenerateConfig(temperature=0, max_tokens=MAX_CHAT_TOKENS if chat else MAX_TOKENS),
    )


@scorer(metrics=METRICS)  # type: ignore[untyped-decorator]
def judged(questions: tuple[Question, ...]) -> Scorer:
    """Our verdicts, by name of the measure."""

    async def score(state: TaskState, target: Target) -> Score:
        question = questions[state.metadata["number"]]
        completion = state.output.completion
        found = await to_thread.run_sync(verdicts, question, completion)
        return Score(value=found, answer=extract_sql(completion), explanation=target.text)

    return score


def _sample(number: int, question: Question, *, chat: bool) -> Sample:
    example = question.example
    return Sample(
        id=example.id,
        input=[_message(m) for m in chat_of(question)] if chat else prompt_of(question),
        target=list(example.golds),
        metadata={"number": number, "db_id": example.db_id},
    )


def _message(message: Message) -> Any:
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser}
    return kinds[message["role"]](content=message["content"])
