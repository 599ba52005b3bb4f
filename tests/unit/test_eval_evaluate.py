"""`evaluate_model`: what becomes of its arguments, and one evaluation from end to end."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eval import evaluate as module
from eval.ask.api import Answer
from eval.ask.connection import ServerError
from eval.ask.local_model import LocalModel, LocalModelError
from eval.dataset import Question
from eval.evaluate import EvaluateError, evaluate_model
from eval.run import Plan, Predictions, Served
from eval.score import Judging
from eval.task.example import Example, ExampleError
from eval.task.samples import build_databases, sample_examples

ROW: dict[str, Any] = {
    "id": "1",
    "db_id": "shop",
    "question": "All names",
    "sql": "SELECT name FROM users",
}


@dataclass
class Scripted:
    """A model that answers by question, and else with what is no query."""

    name: str
    sql: Mapping[str, str] = field(default_factory=dict)

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        for question in questions:
            yield Answer(self.sql.get(question.example.question, "nothing"), confidence=0.5)


class Config:
    _name_or_path = "some/tiny-model"
    is_encoder_decoder = False


class Causal:
    """As much of a transformers model as is looked at before it is asked."""

    config = Config()

    def generate(self) -> None: ...


class Tuned(Causal):
    """The same of a PEFT model."""

    peft_config: Mapping[str, Any] = {}

    def disable_adapter(self) -> None: ...


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """`evaluate_model` stops at what it would do."""
    monkeypatch.setattr(module, "_evaluate", lambda plan, base: {"plan": plan, "base": base})
    for name in ("SQLWRIGHT_URL", "SQLWRIGHT_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def plan_of(model: Any, test_data: Any = "samples", **changes: Any) -> tuple[Plan, Any]:
    found = evaluate_model(model=model, test_data=test_data, **changes)
    return found["plan"], found["base"]


def address(source: Any) -> tuple[str, str | None]:
    assert isinstance(source, Served)
    return source.server.base_url, source.asked.model


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("model", "base_url", "asked", "base"),
    [
        ("spider", None, ("http://localhost:8000", "spider"), ("http://localhost:8000", "base")),
        ("spider", "http://b:1", ("http://b:1", "spider"), ("http://b:1", "base")),
        ("http://c:2", "http://b:1", ("http://c:2", None), ("http://c:2", "base")),
        ("base", None, ("http://localhost:8000", "base"), None),
    ],
)
def test_a_served_model_is_compared_with_the_servers_base(
    model: str, base_url: str | None, asked: Any, base: Any
) -> None:
    plan, found = plan_of(model, base_url=base_url)
    assert address(plan.source) == asked
    assert found is None if base is None else address(found) == base


@pytest.mark.usefixtures("planned")
def test_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLWRIGHT_URL", "http://env:3")
    monkeypatch.setenv("SQLWRIGHT_API_KEY", "secret\n")
    plan, base = plan_of("spider")
    assert address(plan.source)[0] == address(base)[0] == "http://env:3"
    assert isinstance(plan.source, Served)
    assert plan.source.server.api_key == "secret"
    assert address(plan_of("spider", base_url="http://b:1")[0].source)[0] == "http://b:1"


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize("api", ["completions", "chat"])
def test_other_servers_have_no_base_unless_told(api: str) -> None:
    plan, base = plan_of("gpt", api=api)
    assert isinstance(plan.source, Served)
    assert plan.source.api.name == api
    assert base is None
    assert address(plan_of("gpt", api=api, base_model="small")[1])[1] == "small"


@pytest.mark.usefixtures("planned")
def test_a_base_can_be_anything_that_a_model_can() -> None:
    other = Scripted("other")
    assert plan_of("spider", base_model=False)[1] is None
    assert address(plan_of("spider", base_model="older")[1]) == ("http://localhost:8000", "older")
    assert address(plan_of("http://c:2", base_model="older")[1]) == ("http://c:2", "older")
    assert address(plan_of("spider", base_model="http://d:4")[1]) == ("http://d:4", None)
    assert plan_of("spider", base_model=Path("old.json"))[1] == Predictions(Path("old.json"))
    assert plan_of("spider", base_model="runs/old.json")[1] == Predictions(Path("runs/old.json"))
    assert plan_of("spider", base_model=other)[1] is other


@pytest.mark.usefixtures("planned")
def test_an_adapter_in_this_process_is_compared_with_itself_disabled() -> None:
    tokenizer = object()
    plan, base = plan_of(Tuned(), tokenizer=tokenizer)
    assert isinstance(plan.source, LocalModel)
    assert isinstance(base, LocalModel)
    assert (plan.source.is_base, base.is_base) == (False, True)
    assert plan.source.tokenizer is base.tokenizer is tokenizer
    assert (plan.source.name, base.name) == ("tiny-model+adapter", "tiny-model")
    assert plan_of(base)[1] is None


@pytest.mark.usefixtures("planned")
def test_a_plain_model_or_a_file_has_no_base() -> None:
    plan, base = plan_of(Causal(), tokenizer=object())
    assert isinstance(plan.source, LocalModel)
    assert base is None
    assert plan_of(Path("a.json")) == (Plan(Predictions(Path("a.json")), "samples"), None)
    assert plan_of(Scripted("own"))[1] is None


@pytest.mark.usefixtures("planned")
def test_test_data_is_a_file_or_a_list() -> None:
    example = Example("7", "shop", "All cities", "SELECT city FROM users")
    plan, _ = plan_of("spider", [ROW, example, ROW | {"alternatives": ["SELECT 1"]}])
    assert plan.data == [
        Example(**ROW),
        example,
        Example(**ROW, alternatives=("SELECT 1",)),
    ]
    without_id = {name: value for name, value in ROW.items() if name != "id"}
    assert plan_of("spider", (without_id,))[0].data == [Example(**ROW | {"id": "test_data[0]"})]
    assert plan_of("spider", Path("a/dev.jsonl"))[0].data == "a/dev.jsonl"


@pytest.mark.usefixtures("planned")
def test_what_is_chosen_reaches_the_plan() -> None:
    judging = Judging(permute_columns=True)
    plan, _ = plan_of(
        "spider", databases="dbs", schemas="ddl", limit=3, output="r.json", judging=judging,
        use_test_suite=True,
    )  # fmt: skip
    assert (plan.databases, plan.schemas) == ("dbs", Path("ddl"))
    assert (plan.limit, plan.output, plan.with_suite) == (3, Path("r.json"), True)
    assert plan.judging is judging
    assert plan.embed is None
    url = "postgresql://reader@/{db_id}"
    assert plan_of("spider", databases=url)[0].databases == url


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": ""}, EvaluateError, "model must name a model, is empty"),
        ({"model": None}, EvaluateError, "model must be the name of a served model.*NoneType"),
        ({"model": "a", "base_model": 3}, EvaluateError, "base_model must be the name.*is int"),
        ({"model": "a", "base_model": True}, EvaluateError, "base_model must be .*is bool"),
        ({"model": "a", "api": "grpc"}, EvaluateError, "api 'grpc' is unknown; known: generate"),
        ({"model": "a", "base_url": "localhost"}, ServerError, "must look like http://HOST:PORT"),
        ({"model": "http://u:p@h"}, ServerError, "must hold no password"),
        ({"model": "a", "test_data": 3}, EvaluateError, "test_data must be .*is int"),
        ({"model": "a", "test_data": [3]}, EvaluateError, r"test_data\[0\]: expected a dict"),
        ({"model": "a", "test_data": [{}]}, ExampleError, r"test_data\[0\]: missing field 'db_id'"),
        ({"model": "a", "test_data": [ROW | {"x": 1}]}, ExampleError, "unknown field 'x'"),
        ({"model": "a", "test_data": [ROW | {"sql": b"x"}]}, EvaluateError, "type bytes"),
        ({"model": object.__new__(Causal)}, LocalModelError, "no tokenizer at 'some/tiny-model'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate_model(**arguments)


async def test_a_model_and_its_base_from_end_to_end_within_an_event_loop(tmp_path: Path) -> None:
    examples = [example for example in sample_examples("test") if example.db_id == "shop"][:4]
    right = {example.question: example.sql for example in examples}
    build_databases(tmp_path / "databases")
    metrics = evaluate_model(
        Scripted("tuned", dict(list(right.items())[:3])),
        examples,
        base_model=Scripted("tuned", dict(list(right.items())[3:])),
        databases=tmp_path / "databases",
        output=tmp_path / "tuned.json",
        use_semantic_similarity=True,
    )
    assert metrics["n"] == 4
    assert metrics["execution_accuracy"] == metrics["valid_sql"] == 0.75
    assert metrics["base_execution_accuracy"] == 0.25
    assert metrics["error_reduction"] == pytest.approx(0.5 / 0.75)
    assert metrics["fixed"] == [example.id for example in examples[:3]]
    assert metrics["broke"] == [examples[3].id]
    assert metrics["base_semantic_similarity"] < metrics["semantic_similarity"] < 1
    assert metrics["semantic_similarity"] == metrics["semantic_similarity_sql"]
    low, high = metrics["intervals"]["execution_accuracy"]
    assert 0 <= low < 0.75 < high <= 1
    assert metrics["result"] == tmp_path / "tuned.json"
    assert metrics["base_result"] == tmp_path / "tuned.base.json"
    assert [item["id"] for item in _items(metrics["base_result"])] == [e.id for e in examples]
    assert _items(metrics["base_result"]) != _items(metrics["result"])


def _items(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["items"]
    return found


def test_without_a_base_its_figures_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = evaluate_model(Scripted("alone"), "samples", limit=1)
    names = [
        "base_execution_accuracy",
        "error_reduction",
        "error_reduction_interval",
        "base_result",
    ]
    assert [metrics[name] for name in (*names, "fixed", "broke")] == [None] * 6
    assert metrics["execution_accuracy"] == 0.0
    assert "semantic_similarity" not in metrics
    assert metrics["result"].parent == Path("runs")
    assert metrics["result"].is_file()
