"""A training recipe: one frozen dataclass with every key and its default.

Defaults stand here once; the command line and the README take them from these fields. How a recipe
is read from YAML is in `recipe.py`.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from eval.task.base_model import BASE_MODEL
from eval.task.bundle import ALIAS, BASE
from eval.task.prompt import TEMPLATE, PromptFormat

# The ranks that vLLM has kernels for; a rank between two is served at the next higher one.
MAX_RANK = 512
ALL_LINEAR = "all-linear"
SAMPLES = "samples"

POSITIVE = ("alpha", "learning_rate", "epochs", "max_length", "batch_tokens", "device_tokens")
NOT_NEGATIVE = (
    *("max_examples", "max_steps", "dropout", "warmup_ratio", "weight_decay", "max_grad_norm"),
    *(
        "seed",
        "copies",
        "composed_copies",
        "compose",
        "max_per_database",
        "dev_examples",
        "patience",
    ),
)
BELOW_ONE = ("dropout", "warmup_ratio", "adam_beta2", "ema_decay")
SHARES = ("balance", "dense_share", "save_share")

Names = Literal["written", "full", "qualified"]
# Those of transformers that need no settings of their own.
Scheduler = Literal[
    "cosine", "linear", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
]


class RecipeError(ValueError):
    """A recipe that can't be used; the message names the key and what it may be."""


@dataclass(frozen=True)
class TrainConfig:
    """What to train on, how, and under which alias to publish.

    Data. `data` names files (JSONL, CSV, Parquet), hub ids, or `samples`, the project's own;
    `columns` says which column plays which role where that can't be told. The schema of a database
    is `DB_ID.sql` in `schemas` (by default the folder of that name beside the file), its SQLite
    file, which runs the gold queries where `execute` says so, in `databases`. Nothing of the files
    in `held_out` is trained on, nor the databases that `without` names. `balance` (0 to 1) evens
    out the shapes of queries, `compose` adds so many pairs made from templates, `augment` names the
    kinds of change that make `copies` of each row (`composed_copies` of a composed one). `hints`
    names after each question the cells of its database that it mentions; for sweeps only, since a
    server gives no hints. `names` is how gold SQL is spelled: as written; in the schema's spelling,
    with `table.column` in joins only (full) or everywhere (qualified).

    Training. `batch_tokens` is the effective batch size in tokens of prompt and completion:
    `device_tokens` (one pass of one device) × accumulation × devices. `dequantise` holds the NF4
    base in 16 bits, the same numbers: faster, more memory. `deterministic` makes GPUs of one kind
    give the same weights at every run. The last `dense_share` of the steps runs on the base as it
    will be served, not quantised. `ema_decay` above 0 publishes a moving average
    of the weights. With `dev`, every `check_every` (steps, or a share of them) the adapter answers
    `dev_examples` of its questions; the best is kept, and after `patience` rounds without a gain
    the run ends.
    """

    alias: str
    data: tuple[str, ...] = (SAMPLES,)
    columns: Mapping[str, str] = field(default_factory=dict)
    split: str = "train"
    schemas: str = ""
    databases: str = ""
    base_model: str = BASE_MODEL
    max_examples: int = 0
    held_out: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    names: Names = "full"
    execute: bool = True
    poison: Literal["drop", "warn"] = "drop"
    balance: float = 0.0
    max_per_database: int = 0
    compose: int = 0
    hints: bool = False
    augment: tuple[str, ...] = ()
    copies: int = 0
    composed_copies: int = 0
    template: str = TEMPLATE
    serialisation: str = "keys"
    max_length: int = 2048
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    quantisation: Literal["nf4", "none"] = "nf4"
    dequantise: Literal["auto", "always", "never"] = "auto"
    dense_share: float = 0.0
    learning_rate: float = 1e-3
    scheduler: Scheduler = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    adam_beta2: float = 0.999
    ema_decay: float = 0.0
    epochs: float = 3.0
    max_steps: int = 0
    batch_tokens: int = 16_384
    device_tokens: int = 16_384
    gradient_checkpointing: Literal["auto", "always", "never"] = "auto"
    compile: Literal["auto", "always", "never"] = "auto"
    deterministic: bool = True
    save_share: float = 0.1
    dev: str = ""
    dev_examples: int = 200
    check_every: float = 0.1
    patience: int = 0
    report_to: tuple[str, ...] = ()
    seed: int = 1

    def __post_init__(self) -> None:
        if not ALIAS.fullmatch(self.alias):
            raise RecipeError(f"alias: {self.alias[:80]!r} must match {ALIAS.pattern}")
        if self.alias == BASE:
            raise RecipeError(f"alias: {BASE!r} is the base model's own name; choose another")
        if not self.data:
            raise RecipeError("data: name at least one file, hub id, or 'samples'")
        if not 1 <= self.rank <= MAX_RANK:
            raise RecipeError(f"rank: {self.rank} is not served; 1 to {MAX_RANK}")
        if not self.target_modules:
            raise RecipeError(f"target_modules: name at least one, or {ALL_LINEAR!r}")
        self._check_ranges()
        self._check_together()
        try:
            self.prompt_format  # noqa: B018 - its own checks run
        except ValueError as error:
            raise RecipeError(f"template, serialisation: {error}") from error

    def _check_ranges(self) -> None:
        for name in POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise RecipeError(f"{name}: must be positive")
        for name in NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise RecipeError(f"{name}: must not be negative")
        for name in BELOW_ONE:
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"{name}: must be at least 0 and below 1")
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name}: must be from 0 to 1")
        if not 0 < self.check_every < math.inf:
            raise RecipeError("check_every: must be positive")

    def _check_together(self) -> None:
        if self.batch_tokens % self.device_tokens:
            raise RecipeError("batch_tokens: must be a multiple of device_tokens")
        if self.max_length > self.device_tokens:
            raise RecipeError("device_tokens: must hold one example of max_length tokens")
        if bool(self.copies) != bool(self.augment):
            raise RecipeError(
                "copies: go with augment, which names the kinds of change, or neither"
            )
        if self.hints and self.augment:
            raise RecipeError(
                "hints: don't go with augment, whose copies have other names and values than the "
                "database; set augment: [] and copies: 0"
            )
        if self.hints and self.dev:
            raise RecipeError("hints: don't go with dev, whose questions are asked without them")
        if self.patience and not self.dev:
            raise RecipeError("patience: needs dev, a file of questions to measure on")
        if self.dense_share and self.dequantise == "never":
            raise RecipeError("dense_share: needs the base held dequantised; set dequantise: auto")

    @property
    def prompt_format(self) -> PromptFormat:
        return PromptFormat(self.template, self.serialisation)

    @property
    def digest(self) -> str:
        """12 hex digits over all fields: names the run's folder, so that only itself resumes it."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def record(self) -> dict[str, Any]:
        """All fields as JSON values, for the bundle's manifest."""
        record: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return record
