"""`evaluate_model`: one call that scores a model and its base, for notebooks and scripts.

Knows nothing of how models are asked or judged: that is `eval.run`, and `eval.ask.local_model` for
a model in this process.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from eval.ask.api import APIS, Asked
from eval.ask.connection import Server, check_api_key, check_base_url
from eval.ask.local_model import LocalModel
from eval.comparison.compare import Comparison, compare
from eval.dataset import SAMPLES
from eval.measures.similarity import load_embedder
from eval.record import Record
from eval.run import RUNS, Model, Plan, Predictions, Served, evaluate
from eval.score import Judging
from eval.task.bundle import BASE
from eval.task.example import Example, parse_example

DEFAULT_URL = "http://localhost:8000"
# The default API: only our own server names its base model.
OWN_API = "generate-sql"

Source = Served | Predictions | Model
T = TypeVar("T")

log = logging.getLogger(__name__)


class EvaluateError(ValueError):
    """An argument of `evaluate_model` that can't be used; the message names it and the remedy."""


def evaluate_model(
    model: Any,
    test_data: str | Path | Sequence[Example | Mapping[str, Any]] = SAMPLES,
    *,
    base_model: Any = None,
    use_semantic_similarity: bool = False,
    use_test_suite: bool = False,
    base_url: str | None = None,
    api: str = OWN_API,
    api_key: str | None = None,
    databases: Path | str | None = None,
    schemas: Path | str | None = None,
    limit: int | None = None,
    tokenizer: Any = None,
    embedding_model: Path | str | None = None,
    judging: Judging | None = None,
    output: Path | str | None = None,
) -> dict[str, Any]:
    """Score `model` on `test_data`, and how many of its base's errors it does without.

    `model` is what a server at `base_url` ($SQLWRIGHT_URL, else http://localhost:8000) offers by
    that name, a server's URL for its default model, a transformers or PEFT model in this process
    (with `tokenizer`, else the one beside its weights; `LocalModel` chooses more), a `Path` to
    earlier predictions, or any object with `name` and `answers(questions)`.

    `test_data` is a JSONL file, `samples`, or a list of examples or dicts of their fields; a list
    needs `databases`.

    `base_model` is the same of the base. None takes a PEFT model with its adapter disabled, or the
    `base` of our server; other models have none. False leaves the base out.

    Returns measures by name as shares 0..1, `semantic_similarity` (that of the queries) among them
    if asked for; `n`; `intervals` (95 %, by name); `base_` and a measure's name, for the base;
    `error_reduction`, the share of the base's errors in execution accuracy that the model does
    without, (model - base) / (1 - base), with `error_reduction_interval`; `fixed` and `broke`, ids;
    `result` and `base_result`, the files with every item. What there is not is None.

    Queries run in processes of their own: a script must call this under
    `if __name__ == "__main__":`.

    Raises:
        EvaluateError, LocalModelError: an argument can't be used.
        DatasetError, ExampleError, DdlError, DialectError, ScoreError: the data is at fault.
        ServerError, JournalBusy, PredictionsError, SimilarityError: see `eval.run.evaluate`.
    """
    server = _server(base_url, api_key)
    source = _source(model, server, api, tokenizer, name="model")
    base = _base(base_model, source, server, api)
    plan = Plan(
        source,
        _data(test_data),
        databases=databases,
        schemas=Path(schemas) if schemas else None,
        limit=limit,
        output=Path(output) if output else None,
        judging=judging or Judging(),
        with_suite=use_test_suite,
        embed=load_embedder(embedding_model) if use_semantic_similarity else None,
    )
    return _outside_event_loop(lambda: _evaluate(plan, base))


def _evaluate(plan: Plan, base: Source | None) -> dict[str, Any]:
    record, path = evaluate(plan, log.info)
    if base is None:
        return _metrics(record, path)
    base_record, base_path = evaluate(
        replace(plan, source=base, output=_base_output(plan, base)), log.info
    )
    names = (record["model"], base_record["model"])
    comparison = compare(base_record, record, names=(f"base {names[1]}", names[0]))
    return _metrics(record, path) | _against(base_record, base_path, comparison)


def _metrics(record: Record, path: Path) -> dict[str, Any]:
    found = _values(record)
    intervals = {name: measure["interval"] for name, measure in record["measures"].items()}
    return {
        **found,
        "n": record["data"]["n"],
        "intervals": intervals,
        "base_execution_accuracy": None,
        "error_reduction": None,
        "error_reduction_interval": None,
        "fixed": None,
        "broke": None,
        "result": path,
        "base_result": None,
    }


def _against(base: Record, path: Path, comparison: Comparison) -> dict[str, Any]:
    reduction = comparison.error_reduction
    return {
        **{f"base_{name}": value for name, value in _values(base).items()},
        "error_reduction": reduction and reduction.value,
        "error_reduction_interval": reduction and reduction.interval,
        "fixed": list(comparison.fixed),
        "broke": list(comparison.broke),
        "base_result": path,
    }


def _values(record: Record) -> dict[str, float]:
    found = {name: measure["value"] for name, measure in record["measures"].items()}
    if (similarity := found.get("semantic_similarity_sql")) is not None:
        found["semantic_similarity"] = similarity
    return found


def _server(base_url: str | None, api_key: str | None) -> Server:
    url = base_url or os.environ.get("SQLWRIGHT_URL") or DEFAULT_URL
    key = api_key or os.environ.get("SQLWRIGHT_API_KEY")
    return Server(check_base_url(url), api_key=check_api_key(key))


def _source(model: Any, server: Server, api: str, tokenizer: Any = None, *, name: str) -> Source:
    if api not in APIS:
        raise EvaluateError(f"api {api!r} is unknown; known: {', '.join(APIS)}")
    match model:
        case "":
            raise EvaluateError(f"{name} must name a model, is empty")
        case Path() | str() if Path(model).suffix in (".json", ".jsonl", ".sql", ".txt"):
            return Predictions(Path(model))
        case str() if model.startswith(("http://", "https://")):
            server = replace(server, base_url=check_base_url(model))
            return Served(server, APIS[api], Asked())
        case str():
            return Served(server, APIS[api], Asked(model))
    if callable(getattr(model, "answers", None)) and isinstance(getattr(model, "name", None), str):
        source: Model = model
        return source
    if hasattr(model, "generate"):
        return LocalModel(model, tokenizer)
    kind = type(model).__name__
    raise EvaluateError(
        f"{name} must be the name of a served model, a URL, a transformers or PEFT model, or the "
        f"Path of predictions; is {kind}"
    )


def _base(wanted: Any, source: Source, server: Server, api: str) -> Source | None:
    if wanted is False:
        return None
    if isinstance(source, Served):
        server = source.server
    if wanted is not None:
        return _source(wanted, server, api, name="base_model")
    if isinstance(source, LocalModel):
        return source.base if source.has_base and not source.is_base else None
    if isinstance(source, Served) and api == OWN_API and source.asked.model != BASE:
        return replace(source, asked=replace(source.asked, model=BASE))
    return None


def _base_output(plan: Plan, base: Source) -> Path | None:
    """Never the file of the model itself; a server's run names its own."""
    if plan.output:
        return plan.output.with_name(f"{plan.output.stem}.base{plan.output.suffix}")
    if isinstance(base, Served | Predictions):
        return None
    return RUNS / f"eval-{base.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.base.json"


def _data(test_data: Any) -> str | list[Example]:
    if isinstance(test_data, str | Path):
        return str(test_data)
    if isinstance(test_data, Sequence):
        return [_example(row, where=f"test_data[{i}]") for i, row in enumerate(test_data)]
    kind = type(test_data).__name__
    raise EvaluateError(f"test_data must be a JSONL file, {SAMPLES!r} or a list; is {kind}")


def _example(row: Any, *, where: str) -> Example:
    """One dict with the fields of `Example`; without an id it gets its place in the list."""
    if isinstance(row, Example):
        return row
    if not isinstance(row, Mapping):
        raise EvaluateError(f"{where}: expected a dict or an Example, found {type(row).__name__}")
    try:
        return parse_example(json.dumps({"id": where, **row}), where=where)
    except TypeError as error:
        raise EvaluateError(f"{where}: {error}") from error


def _outside_event_loop(function: Callable[[], T]) -> T:
    """`function()`, in a thread where an event loop runs in this one, as it does in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function()
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(function).result()
