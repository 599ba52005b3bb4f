"""From a trained model to a bundle: weights in bfloat16, manifest last, evidence beside it."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.task.bundle import CONFIG, EVIDENCE, MANIFEST, WEIGHTS, Manifest, write_manifest
from eval.task.figure import commit
from trainer.config import TrainConfig
from trainer.pipeline.corpus import Corpus
from trainer.tuning.model import quantisation
from trainer.tuning.sft import TrainResult

LICENCES = {
    "spider": "[Spider](https://yale-lily.github.io/spider), CC BY-SA 4.0 (Yu et al., 2018)",
    "sqlwright": "sqlwright's own sample questions, MIT",
    "compose": "pairs made over the same schemas by sqlwright's grammar and the others' templates",
}


def stage_bundle(
    folder: Path,
    *,
    model: Any,
    tokenizer: Any,
    config: TrainConfig,
    corpus: Corpus,
    result: TrainResult,
    base_sha256: str,
) -> None:
    """Write a whole bundle to `folder`.

    Raises:
        OSError: the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    _halve(folder / WEIGHTS)
    targets = _portable_config(folder / CONFIG, config.base_model)
    evidence = folder / EVIDENCE
    evidence.mkdir(exist_ok=True)
    (evidence / "README.md").write_text(model_card(config, corpus, result))
    write_manifest(
        folder,
        Manifest(
            base_model=config.base_model,
            base_model_sha256=base_sha256,
            quantisation=quantisation(config),
            rank=config.rank,
            alpha=config.alpha,
            target_modules=targets,
            prompt_template=config.template,
            serialisation=config.serialisation,
            dialect=Counter(corpus.dataset["dialect"]).most_common(1)[0][0],
            stop=tokenizer.eos_token,
            data=list(corpus.sources),
            recipe=config.record(),
            commit=commit(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )


def _halve(path: Path) -> None:
    """Rewrite the weights in bfloat16: PEFT trains and saves them in float32."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = {name: t.to(torch.bfloat16).contiguous() for name, t in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def _portable_config(path: Path, base_model: str) -> list[str]:
    """Name the base model by its id, not by a path of this machine; return the target modules."""
    record = json.loads(path.read_text())
    record["base_model_name_or_path"] = base_model
    record["target_modules"] = sorted(record["target_modules"])
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    targets: list[str] = record["target_modules"]
    return targets


def model_card(config: TrainConfig, corpus: Corpus, result: TrainResult) -> str:
    data = "\n".join(
        f"- {LICENCES.get(source['name'], source['name'])}: {source['examples']:,} examples"
        + (f", sha256 of the file `{source['sha256'][:12]}…`" if source["sha256"] else "")
        for source in corpus.sources
    )
    return f"""# {config.alias}

A LoRA adapter of rank {config.rank} (alpha {config.alpha}) for `{config.base_model}`, trained by
sqlwright's QLoRA trainer to turn a schema and an English question into one SQL query.

Base model: `{config.base_model}`, quantisation in training: {quantisation(config)}.

Data:
{data}

Training: {result.steps} steps, {result.tokens:,} tokens, final loss {result.loss:.4f},
seed {config.seed}. The full recipe stands in `sqlwright.json`; scores with standard errors in
`eval.json`, where present.

Intended use: drafts of read-only queries that are checked against the schema before anyone runs
them. It is a small model: it invents columns and joins, so trust the check, not the fluency.
"""
