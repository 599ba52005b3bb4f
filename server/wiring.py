"""Puts the parts of a server together by its settings."""

from pathlib import Path

from eval.task.base_model import weights_sha256
from server.adapters.admission import Admission
from server.adapters.base_shapes import linear_shapes
from server.adapters.copies import Copies
from server.adapters.loading import Loader
from server.adapters.sequential import Rules
from server.adapters.table import AdapterTable
from server.advice import Adviser
from server.databases import Databases
from server.decode.options import Options, Plan
from server.engine import VllmEngine
from server.generate import FileTokenizer, Generator
from server.metrics import Metrics
from server.registry import Registry
from server.rollout import Rollouts
from server.settings import Settings
from server.supervisor import MODULES


def make_generator(settings: Settings, engine: VllmEngine, base: Path | str) -> Generator:
    metrics = Metrics()
    registry = Registry(settings.databases)
    local = base if isinstance(base, Path) else None
    has_tokenizer = local is not None and (local / "tokenizer.json").is_file()
    tokenizer = FileTokenizer(local) if local and has_tokenizer else None
    loader = Loader(
        settings.store,
        engine,
        metrics,
        admission=Admission(
            base_sha256=weights_sha256(local) if local else "",
            shapes=linear_shapes(local) if local else {},
            max_rank=settings.max_lora_rank,
            modules=None if settings.engine_url else frozenset(MODULES),
        ),
        token_id=tokenizer.token_id if tokenizer else lambda _: None,
        seconds=settings.adapter_seconds,
        copies=None if settings.engine_url else Copies(settings.versions_folder),
    )
    slots = max(settings.max_loras, settings.max_cpu_loras)
    adapters = AdapterTable(loader, metrics, slots=slots, retire_seconds=settings.request_seconds)
    return Generator(
        engine=engine,
        adapters=adapters,
        databases=Databases(registry.databases(), settings.default_database, registry.databases),
        metrics=metrics,
        default_adapter=settings.default_adapter,
        max_tokens=settings.max_tokens,
        max_model_len=settings.max_model_len,
        tokenizer=tokenizer,
        plan=Plan(settings.decoding, settings.repair),
        options=Options(
            settings.temperature,
            settings.repair_samples,
            settings.agree_by,
            settings.run_queries,
        ),
        adviser=Adviser(settings.suggest_ms),
        rollouts=Rollouts(adapters, rules_of(settings), may_run=settings.run_queries),
    )


def rules_of(settings: Settings) -> Rules:
    """When rollouts end here."""
    return Rules(
        settings.rollout_margin,
        settings.rollout_error,
        settings.rollout_min_pairs,
        settings.rollout_max_pairs,
        settings.rollout_min_agreement,
    )
