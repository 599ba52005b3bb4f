"""What may be wrong with `adapter_config.json` and with the manifest."""

import json
from typing import Any

from benchmarks.hostile_adapters.draft import Draft, Kind, Spoil
from eval.task.bundle import CONFIG, MANIFEST

DEEP = 900
LONG = "9" * 4_000


def text(content: str | bytes) -> Spoil:
    return lambda draft: draft.write(CONFIG, content)


def config(**changes: Any) -> Spoil:
    return lambda draft: draft.config(**changes)


def manifest(**changes: Any) -> Spoil:
    return lambda draft: draft.manifest(**changes)


def both(rank: int) -> Spoil:
    """Config and manifest agree."""

    def spoil(draft: Draft) -> None:
        draft.config(r=rank)
        draft.manifest(rank=rank)

    return spoil


def retargeted(*modules: str) -> Spoil:
    def spoil(draft: Draft) -> None:
        draft.config(target_modules=list(modules))
        draft.manifest(target_modules=list(modules))

    return spoil


def recoded(name: str, encoding: str) -> Spoil:
    """The same JSON in another encoding, that some readers take and others don't."""
    return lambda draft: draft.write(name, json.dumps(draft.record(name)).encode(encoding))


def begun(name: str, start: str) -> Spoil:
    """More fields at the beginning: what Python keeps of a name that stands twice is the last."""

    def spoil(draft: Draft) -> None:
        draft.write(name, "{" + start + json.dumps(draft.record(name))[1:])

    return spoil


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def lacking(name: str, field: str) -> Spoil:
    def spoil(draft: Draft) -> None:
        record = draft.record(name)
        del record[field]
        draft.write(name, json.dumps(record))

    return spoil


def whole_config(row: int, kinds: dict[str, tuple[str, Spoil]]) -> tuple[Kind, ...]:
    return tuple(Kind(name, row, code, CONFIG, spoil) for name, (code, spoil) in kinds.items())


def fields(row: int, code: str, kinds: dict[str, tuple[str, Any]]) -> tuple[Kind, ...]:
    """One field of the config with another value."""
    return tuple(
        Kind(name, row, code, field, config(**{field: value}))
        for name, (field, value) in kinds.items()
    )


CONFIGS = (
    *whole_config(29, {
        "config no json": ("bad_config", text("{")),
        "config empty": ("bad_config", text("")),
        "config a list": ("bad_config", text("[]")),
        "config no text": ("bad_config", text(b"\xff\xfe\x00")),
        "config deep": ("bad_config", text("[" * 100_000)),
        "config rather deep": ("bad_config", begun(CONFIG, f'"x": {nested(DEEP)}, ')),
        "config a little deep": ("bad_config", begun(CONFIG, f'"x": {nested(8)}, ')),
        "config twice": ("bad_config", begun(CONFIG, '"r": 8, ')),
        "config twice within": ("bad_config", begun(CONFIG, '"x": {"a": 0, "a": 0}, ')),
        "config NaN": ("bad_config", begun(CONFIG, '"x": NaN, ')),
        "config Infinity": ("bad_config", begun(CONFIG, '"lora_dropout": -Infinity, ')),
        "config of 10 ** 5000": ("bad_config", begun(CONFIG, f'"x": {"9" * 5_000}, ')),
        "config in UTF-16": ("bad_config", recoded(CONFIG, "utf-16")),
        "config in UTF-32": ("bad_config", recoded(CONFIG, "utf-32-le")),
        "config with a mark": ("bad_config", recoded(CONFIG, "utf-8-sig")),
    }),
    Kind("no rank", 29, "bad_field", "r", lacking(CONFIG, "r")),
    Kind("no alpha", 29, "bad_field", "lora_alpha", lacking(CONFIG, "lora_alpha")),
    Kind("no type", 29, "bad_field", "peft_type", lacking(CONFIG, "peft_type")),
    *fields(29, "bad_field", {
        "rank 0": ("r", 0), "rank -1": ("r", -1), "rank text": ("r", "8"), "rank true": ("r", True),
        "rank 1024": ("r", 1024), "rank 4.0": ("r", 4.0), "rank null": ("r", None),
        "alpha null": ("lora_alpha", None), "alpha -1": ("lora_alpha", -1),
        "alpha 0": ("lora_alpha", 0), "alpha huge": ("lora_alpha", 1e300),
        "alpha of 4,000 digits": ("lora_alpha", int(LONG)), "alpha true": ("lora_alpha", True),
        "alpha text": ("lora_alpha", "16"),
        "type null": ("peft_type", None),
        "modules a pattern": ("target_modules", "(.*.*)*x"),
        "modules all-linear": ("target_modules", "all-linear"),
        "modules none": ("target_modules", []),
        "modules null": ("target_modules", None),
        "modules a path": ("target_modules", ["../x"]),
        "modules numbers": ("target_modules", [1]),
        "modules 65": ("target_modules", [f"m{number}" for number in range(65)]),
        "modules half a pair": ("target_modules", ["\ud800"]),
    }),
    *fields(29, "unsupported_field", {
        "other type": ("peft_type", "IA3"),
        "other task": ("task_type", "SEQ_CLS"),
        "bias": ("bias", "all"),
        "bias of LoRA": ("lora_bias", True),
        "DoRA": ("use_dora", True),
        "rsLoRA": ("use_rslora", True),
        "aLoRA": ("alora_invocation_tokens", [1, 2]),
        "PiSSA": ("init_lora_weights", "pissa"),
        "OLoRA": ("init_lora_weights", "olora"),
        "LoftQ": ("init_lora_weights", "loftq"),
        "whole layers": ("modules_to_save", ["lm_head"]),
        "rank pattern": ("rank_pattern", {"(.*.*)*x": 8}),
        "alpha pattern": ("alpha_pattern", {"q_proj": 8}),
        "some layers": ("layers_to_transform", [0]),
        "layers twice": ("layer_replication", [[0, 1], [0, 1]]),
        "without some": ("exclude_modules", ["q_proj"]),
        "single parameters": ("target_parameters", ["x"]),
        "tokens": ("trainable_token_indices", [1]),
        "turned weights": ("fan_in_fan_out", True),
        "from the future": ("some_new_method", {"x": 1}),
    }),
    Kind(
        "config just not deep", 29, "unsupported_field", "x", begun(CONFIG, f'"x": {nested(7)}, ')
    ),
    Kind("code from a hub", 28, "unsupported_field", "auto_map", config(auto_map={"A": "x.A"})),
    *fields(30, "disagrees", {
        "other rank than the manifest": ("r", 9), "other alpha": ("lora_alpha", 17),
        "other alpha by half": ("lora_alpha", 16.5),
        "other modules": ("target_modules", ["x_proj"]),
    }),
    Kind("rank over what is served", 29, "rank_too_high", "rank", both(1024)),
    Kind("rank 0 in both", 29, "bad_field", "r", both(0)),
    Kind("layer of no base", 29, "unsupported_modules", "target_modules", retargeted("x_proj")),
    Kind(
        "look-alike layer", 29, "unsupported_modules", "target_modules",
        retargeted("q_prоj"),  # noqa: RUF001
    ),
)  # fmt: skip


def bad_manifest(row: int, kinds: dict[str, Spoil], *, is_signed: bool = False) -> tuple[Kind, ...]:
    return tuple(
        Kind(name, row, "bad_manifest", MANIFEST, spoil, is_signed) for name, spoil in kinds.items()
    )


def deep_data(draft: Draft) -> None:
    data = json.loads(nested(DEEP))
    draft.manifest(data=[{"x": data}])


MANIFESTS = (
    *bad_manifest(27, {
        "manifest no json": lambda draft: draft.write(MANIFEST, "{"),
        "manifest half there": lambda draft: draft.write(MANIFEST, '{"format_version": 1, "ra'),
        "manifest a list": lambda draft: draft.write(MANIFEST, "[]"),
        "manifest no text": lambda draft: draft.write(MANIFEST, b"\xff{}"),
        "manifest deep": lambda draft: draft.write(MANIFEST, "[" * 100_000),
        "manifest twice": begun(MANIFEST, '"rank": 8, '),
        "manifest NaN": begun(MANIFEST, '"recipe": NaN, '),
        "manifest in UTF-16": recoded(MANIFEST, "utf-16"),
        "manifest lacks a field": lacking(MANIFEST, "stop"),
    }),
    *bad_manifest(27, {
        "manifest with more": manifest(trust_remote_code=True),
        "manifest of the future": manifest(format_version=2),
        "manifest rank text": manifest(rank="8"),
        "manifest rank true": manifest(rank=True),
        "manifest modules a text": manifest(target_modules="q_proj"),
        "manifest data of numbers": manifest(data=[1]),
        "manifest data deep": deep_data,
        "other template": manifest(prompt_template="{{ x.__class__ }}"),
        "other serialisation": manifest(serialisation="pickle"),
        "manifest of a long future": manifest(format_version="9" * 100_000),
        "manifest with a long field": manifest(**{"x" * 100_000: 1}),
        "other long template": manifest(serialisation="x" * 100_000),
    }, is_signed=True),
    Kind("other dialect", 27, "bad_manifest", "dialect", manifest(dialect="klingon")),
    Kind("other long dialect", 27, "bad_manifest", "dialect", manifest(dialect="x" * 100_000)),
    Kind("hashes of nothing", 27, "tampered", CONFIG, manifest(files={}), is_signed=False),
    Kind("wrong base", 30, "wrong_base", "base_model_sha256", manifest(base_model_sha256="c" * 64)),
    Kind(
        "wrong base of a long name", 30, "wrong_base", "base_model_sha256",
        manifest(base_model_sha256="c" * 64, base_model="x" * 100_000),
    ),
    Kind("no base", 30, "wrong_base", "base_model_sha256", manifest(base_model_sha256="")),
    Kind(
        "rank of 4,000 digits", 29, "rank_too_high", "rank", manifest(rank=int(LONG))
    ),
)  # fmt: skip
KINDS = (*CONFIGS, *MANIFESTS)
