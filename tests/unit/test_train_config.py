"""Recipes: what is read from YAML and the command line, and errors that name the key."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from eval.task.prompt import TEMPLATE
from trainer.config import RecipeError, TrainConfig
from trainer.recipe import config_from, load_recipe

RECIPES = Path(__file__).parents[2] / "trainer" / "recipes"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("alias: mine\n")
    return path


def load(recipe: Path, text: str, *overrides: str) -> TrainConfig:
    recipe.write_text(text, encoding="utf-8")
    return load_recipe(recipe, overrides)


def test_every_recipe_of_the_project_loads() -> None:
    paths = sorted(RECIPES.rglob("*.y*ml"))
    assert paths
    configs = [load_recipe(path) for path in paths]
    assert len({config.alias for config in configs}) == len(paths)
    assert len({config.digest for config in configs}) == len(paths)


def test_defaults_stand_in_the_fields(recipe: Path) -> None:
    config = load_recipe(recipe)
    assert config == TrainConfig("mine")
    assert (config.rank, config.alpha, config.names, config.template) == (16, 32, "full", TEMPLATE)
    assert config.prompt_format.template == TEMPLATE


def test_a_config_can_not_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig("mine").rank = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("learning_rate: 1e-3", "learning_rate", 1e-3),
        ("learning_rate: 1.0e-3", "learning_rate", 1e-3),
        ("learning_rate: '2e-4'", "learning_rate", 2e-4),
        ("learning_rate: 1", "learning_rate", 1.0),
        ("epochs: 3", "epochs", 3.0),
        ("epochs: 0.5", "epochs", 0.5),
        ("rank: 8", "rank", 8),
        ("data: a.jsonl", "data", ("a.jsonl",)),
        ("data: [a.jsonl, samples]", "data", ("a.jsonl", "samples")),
        ("target_modules: [q_proj]", "target_modules", ("q_proj",)),
        ("names: written", "names", "written"),
        ("gradient_checkpointing: always", "gradient_checkpointing", "always"),
        ("execute: false", "execute", False),
        ("columns: {question: ask}", "columns", {"question": "ask"}),
        ("device_tokens: 4_096", "device_tokens", 4096),
        ("dropout: 0", "dropout", 0.0),
        ("base_model: other/model", "base_model", "other/model"),
        ("serialisation: columns", "serialisation", "columns"),
    ],
)
def test_values_become_the_type_of_their_field(
    line: str, key: str, value: object, recipe: Path
) -> None:
    found = getattr(load(recipe, f"alias: mine\n{line}\n"), key)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rang: 8", "unknown key 'rang'; known: alias, data"),
        ("Rank: 8", "unknown key 'Rank'"),
        ("1: 8", "unknown key 1"),
        ("rank: '8'", "rank: must be int, is '8'"),
        ("rank: 8.0", r"rank: must be int, is 8\.0"),
        ("rank: true", "rank: must be int, is True"),
        ("rank: null", "rank: must be int, is None"),
        ("rank: [8]", "rank: must be int"),
        ("rank: 0", "rank: 0 is not served"),
        ("rank: -1", "rank: -1 is not served"),
        ("rank: 1024", "rank: 1024 is not served; 1 to 512"),
        ("alpha: true", "alpha: must be int"),
        ("alpha: 0", "alpha: must be positive"),
        ("learning_rate: fast", "learning_rate: must be float, is 'fast'"),
        ("learning_rate: true", "learning_rate: must be float, is True"),
        ("learning_rate: null", "learning_rate: must be float"),
        ("learning_rate: 0", "learning_rate: must be positive"),
        ("learning_rate: -1e-3", "learning_rate: must be positive"),
        ("learning_rate: .nan", "learning_rate: "),
        ("learning_rate: .inf", "learning_rate: "),
        ("learning_rate: nan", "learning_rate: "),
        ("learning_rate: 1" + "0" * 400, "learning_rate: "),
        ("epochs: .inf", "epochs: "),
        ("epochs: 0", "epochs: must be positive"),
        ("max_length: 0", "max_length: must be positive"),
        ("batch_tokens: 0", "batch_tokens: must be positive"),
        ("batch_tokens: -32", "batch_tokens: must be positive"),
        ("device_tokens: 0", "device_tokens: must be positive"),
        ("batch_tokens: 20000", "batch_tokens: must be a multiple of device_tokens"),
        ("max_length: 99999", "device_tokens: must hold one example of max_length tokens"),
        ("max_steps: -1", "max_steps: "),
        ("max_examples: -1", "max_examples: "),
        ("dropout: -0.1", "dropout: "),
        ("dropout: 1", "dropout: "),
        ("warmup_ratio: -1", "warmup_ratio: "),
        ("warmup_ratio: 3", "warmup_ratio: "),
        ("weight_decay: -1", "weight_decay: "),
        ("seed: -1", "seed: "),
        ("execute: 1", "execute: must be bool, is 1"),
        ("execute: 'yes'", "execute: must be bool"),
        ("gradient_checkpointing: true", "gradient_checkpointing: must be one of auto, always"),
        ("compile: 'yes'", "compile: must be one of auto, always, never"),
        ("dequantise: off", "dequantise: must be one of auto, always, never"),
        ("quantisation: int8", "quantisation: must be one of nf4, none"),
        ("poison: keep", "poison: must be one of drop, warn"),
        ("columns: [question]", "columns: must be names and texts"),
        ("columns: {question: 1}", "columns: must be names and texts"),
        ("augment: [shuffle]", "copies: go with augment"),
        ("copies: 2", "copies: go with augment"),
        ("hints: 1", "hints: must be bool, is 1"),
        ("hints: true\naugment: [shuffle]\ncopies: 2", "hints: don't go with augment"),
        ("hints: true\ndev: dev.jsonl", "hints: don't go with dev"),
        ("patience: 2", "patience: needs dev"),
        ("dev_examples: -1", "dev_examples: "),
        ("check_every: 0", "check_every: must be positive"),
        ("balance: 2", "balance: must be from 0 to 1"),
        ("save_share: 2", "save_share: must be from 0 to 1"),
        ("ema_decay: 1", "ema_decay: must be at least 0 and below 1"),
        ("dense_share: 0.5\ndequantise: never", "dense_share: needs the base held dequantised"),
        ("scheduler: greedy", "scheduler: must be one of cosine"),
        ("names: short", "names: must be one of written, full"),
        ("names: [full]", "names: must be one of"),
        ("data: []", "data: name at least one"),
        ("data: [1]", "data: must be str, is 1"),
        ("data: null", "data: must be str"),
        ("data: {a: 1}", "data: must be str"),
        ("target_modules: []", "target_modules: name at least one"),
        ("serialisation: ddl", "unknown serialisation 'ddl'"),
        ("template: '{schema}'", "template, serialisation: .*question"),
        ("template: 5", "template: must be str"),
    ],
)
def test_an_error_names_the_key(line: str, message: str, recipe: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        load(recipe, f"alias: mine\n{line}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold keys and values"),
        ("- alias: mine", "must hold keys and values"),
        ("alias", "must hold keys and values"),
        ("alias: [", "can't be read"),
        ("!!python/object/apply:os.system ['true']", "can't be read"),
        ("rank: 8", "alias: missing"),
        ("alias: 7", "alias: must be str, is 7"),
        ("alias: null", "alias: must be str"),
        ("alias: Spider", "alias: 'Spider' must match"),
        ("alias: ../x", "alias: '../x' must match"),
        ("alias: ''", "alias: '' must match"),
        ("alias: base", "alias: 'base' is the base model's own name"),
        ("alias: " + "[" * 5000, "can't be read: nested too deeply"),
        ("seed: 1" + "0" * 5000, "can't be read: Exceeds the limit"),
        ("since: 2026-13-45", "can't be read: month must be in 1..12"),
        ("alias: &again [*again]", r"alias: must be str, is \["),
        ("columns: &again {sql: *again}\nalias: mine", "columns: must be names and texts"),
        ("alias: mine\ndata: [" + "a.jsonl, " * 150_000 + "]", "over 1,048,576 bytes"),
    ],
)
def test_what_is_no_recipe(text: str, message: str, recipe: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        load(recipe, text)


def test_a_file_that_can_not_be_read(tmp_path: Path, recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml: can't be read"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="can't be read"):
        load_recipe(tmp_path)
    recipe.write_bytes(b"alias: \xff")
    with pytest.raises(RecipeError, match="can't be read"):
        load_recipe(recipe)


def test_a_value_of_endless_size_is_not_written_out(recipe: Path) -> None:
    levels = "".join(f"- &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 12))
    with pytest.raises(RecipeError, match="alias: must be str") as caught:
        load(recipe, f"alias:\n- &l0 [x]\n{levels}")
    assert len(str(caught.value)) < 1000


def test_overrides_outrank_the_file_and_the_last_one_counts(recipe: Path) -> None:
    overrides = (
        "rank=8",
        "rank=4",
        "alias=other",
        "learning_rate=1e-4",
        "data=[a, b]",
        "max_steps=2",
    )
    config = load(recipe, "alias: mine\nrank: 64\nseed: 5\n", *overrides)
    assert (config.rank, config.alias, config.learning_rate) == (4, "other", 1e-4)
    assert (config.data, config.max_steps, config.seed) == (("a", "b"), 2, 5)


def test_an_override_may_hold_an_equals_sign(recipe: Path) -> None:
    assert load_recipe(recipe, ["base_model=a=b"]).base_model == "a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rank", "'rank': overrides are written key=value"),
        ("", "overrides are written key=value"),
        ("rang=8", "unknown key 'rang'"),
        ("=8", "unknown key ''"),
        ("rank=", "rank: must be int, is None"),
        ("rank=x", "rank: must be int, is 'x'"),
        ("rank=true", "rank: must be int, is True"),
        ("alias=[", "alias: "),
        ("template=a: b: c", "template: "),
        ("alias=!!python/name:os.system", "alias: "),
    ],
)
def test_an_override_that_can_not_be_used(override: str, message: str, recipe: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe, [override])


def test_the_digest_depends_on_every_field() -> None:
    base = TrainConfig("mine", augment=("shuffle",), copies=1, dev="dev.jsonl")
    changes: dict[str, Any] = {
        "alias": "other",
        "template": "{schema} {question}",
        "serialisation": "columns",
        "columns": {"question": "ask"},
        "batch_tokens": 2 * base.batch_tokens,
        "device_tokens": base.device_tokens // 2,
    }
    bare = TrainConfig("mine")
    digests = {base.digest, bare.digest}
    for field in dataclasses.fields(TrainConfig):
        changed = bare if field.name == "hints" else base  # hints go with neither augment nor dev
        value = changes.get(field.name) or _another(getattr(changed, field.name))
        digests.add(dataclasses.replace(changed, **{field.name: value}).digest)
    assert len(digests) == len(dataclasses.fields(TrainConfig)) + 2
    assert all(len(digest) == 12 and int(digest, 16) >= 0 for digest in digests)


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value / 2 or 0.5
    return (*value, "x") if isinstance(value, tuple) else value + type(value)(1)


def test_a_config_goes_through_json_and_back() -> None:
    config = TrainConfig("mine", data=("a", "b"), learning_rate=1e-4)
    assert config_from(json.loads(json.dumps(dataclasses.asdict(config)))) == config
    assert config_from(dataclasses.asdict(config)).digest == config.digest


def test_no_number_of_a_config_is_infinite() -> None:
    numbers = [v for v in dataclasses.asdict(TrainConfig("a")).values() if isinstance(v, float)]
    assert numbers and all(map(math.isfinite, numbers))
