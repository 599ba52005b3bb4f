"""What each variant answers, asked of a fresh engine that has no prefix cache to mix them up in."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.children import PlainEngine, free_port
from benchmarks.client import ReplyError
from benchmarks.plan import Api, BenchError, Target
from benchmarks.reference import References, Tokens, read_tokens
from benchmarks.swapping import Task, completion_body, post
from benchmarks.workload import Question

# Of the GPU's memory; the server under load has most of it.
GPU_SHARE = 0.08
CLIENTS = 8
NAME = "the reference engine"


async def references_of(
    session: aiohttp.ClientSession, task: Task, versions: Sequence[str], folder: Path, model: str
) -> References:
    """What each of `versions`, which `task.store` holds, answers to each question of `task`: from
    an engine of the base model in folder `model`, or from `folder`, where the answers stay.

    Raises:
        BenchError: the engine does not come up or does not answer.
    """
    path = folder / "references.json"
    if kept := _kept(path, task, versions):
        return kept
    adapters = {version: (task.store / version).absolute() for version in versions}
    engine = PlainEngine(
        model, adapters, free_port(), max_loras=len(versions), gpu_share=GPU_SHARE,
        has_prefix_cache=False, is_quick=True,
    )  # fmt: skip
    with engine.child(NAME, folder / "reference_engine.log") as child:
        await asyncio.to_thread(child.wait_ready)
        found = await ask_engine(session, task, versions, engine.url)
    of = {p: {v: asdict(t) for v, t in each.items()} for p, each in found.of.items()}
    path.write_text(json.dumps({"versions": list(versions), "of": of}) + "\n", encoding="utf-8")
    return found


def _kept(path: Path, task: Task, versions: Sequence[str]) -> References | None:
    """The references at `path`, if they are of these versions and questions."""
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["versions"] != list(versions) or set(record["of"]) != {
        q.prompt for q in task.questions
    }:
        return None
    return References({p: _read_tokens(each) for p, each in record["of"].items()})


def _read_tokens(each: Mapping[str, Any]) -> dict[str, Tokens]:
    return {v: Tokens(tuple(t["chosen"]), tuple(t["likely"])) for v, t in each.items()}


async def ask_engine(
    session: aiohttp.ClientSession, task: Task, versions: Sequence[str], url: str
) -> References:
    """What the adapters named as `versions` answer at the engine at `url`.

    Raises:
        BenchError: it does not answer.
    """
    turn = asyncio.Semaphore(CLIENTS)

    async def ask(question: Question, version: str) -> Tokens:
        async with turn:
            body = completion_body(task, version, question)
            try:
                return read_tokens(await post(session, Target(url, Api.COMPLETIONS).url, body))
            except ReplyError as error:
                raise BenchError(f"{NAME}: {error.kind}: {error}") from error

    async def ask_all(question: Question) -> dict[str, Tokens]:
        found = await asyncio.gather(*(ask(question, version) for version in versions))
        return dict(zip(versions, found, strict=True))

    answers = await asyncio.gather(*map(ask_all, task.questions))
    prompts = [question.prompt for question in task.questions]
    return References(dict(zip(prompts, answers, strict=True)))
