"""What quantisation costs: an adapter is trained on an NF4 base and served on a float one.

The same questions go to the same adapter on three bases: as served, as trained, and 4-bit itself.
Two measures: execution accuracy of greedy answers, paired question by question, and the loss on
the gold queries, which tells much smaller differences. The adapter is merged nowhere, since folding
it into 16-bit weights rounds them anew. Knows nothing of training.
`python -m trainer.precision BUNDLE --data dev.jsonl` writes `evidence/precision.json`.
"""

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from eval.task.base_model import resolve_base_model
from eval.task.bundle import Bundle, put_evidence, read_bundle
from eval.task.cores import num_cores
from eval.task.figure import Figure, hardware, versions, write_figure
from eval.task.sqlite_judge import JudgeError
from trainer.command import command
from trainer.config import TrainConfig
from trainer.paired import Mean, mcnemar_p, ratio
from trainer.pipeline.clean import Clean
from trainer.pipeline.load import load_source
from trainer.pipeline.row import Row
from trainer.tuning.dev_set import prompt_of

EVIDENCE_FILE = "precision.json"
SERVED, DEQUANTISED, NF4 = BASES = ("served", "dequantised", "nf4")
# How a base is loaded: the keys of a recipe.
LOADING: dict[str, dict[str, Any]] = {
    SERVED: {"quantisation": "none"},
    DEQUANTISED: {"quantisation": "nf4", "dequantise": "always"},
    NF4: {"quantisation": "nf4", "dequantise": "never"},
}
# Points of execution accuracy; over this the gap is to be closed.
LIMIT_POINTS = 0.5
MAX_NEW_TOKENS = 160
PASS_TOKENS = 16_384


@dataclass(frozen=True)
class Measured:
    """One base's answers, question by question: whether right (None: the gold query fails), whether
    valid, and the loss on the gold query, in nats summed over its `tokens`."""

    base: str
    weights: str
    right: tuple[bool | None, ...]
    valid: tuple[bool, ...]
    nll: tuple[float, ...]
    tokens: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """What changes from the served base to `base`; both differences are `base` minus served.

    `fixed` and `broke` count the questions that only `base`, and only the served base, has right.
    """

    base: str
    accuracy: Mean
    fixed: int
    broke: int
    p_mcnemar: float
    nll: Mean


def change(served: Measured, other: Measured, clusters: Sequence[str]) -> Change:
    """The paired differences of `other` to `served`, over the questions that were judged."""
    pairs = [
        (int(b) - int(a), cluster)
        for a, b, cluster in zip(served.right, other.right, clusters, strict=True)
        if a is not None and b is not None
    ]
    steps, judged = [step for step, _ in pairs], [cluster for _, cluster in pairs]
    fixed, broke = steps.count(1), steps.count(-1)
    losses = [b - a for a, b in zip(served.nll, other.nll, strict=True)]
    return Change(
        other.base,
        ratio(steps, [1] * len(steps), judged),
        fixed,
        broke,
        mcnemar_p(fixed, broke),
        ratio(losses, served.tokens, clusters),
    )


def measure(
    bundle: Bundle, rows: Sequence[Row], kind: str, *, batch_size: int, workers: int
) -> Measured:
    """Ask the bundle's adapter on the base of this kind.

    Raises:
        BaseModelError: the base model can't be had. JudgeError: a row's database is missing.
    """
    from trainer.tuning.accuracy import execution_accuracy
    from trainer.tuning.generate import generate

    started = time.monotonic()
    model, tokenizer, weights = load(bundle, kind)
    prompts = [prompt_of(row, bundle.manifest.prompt_format) for row in rows]
    answers = generate(
        model, tokenizer, prompts, max_new_tokens=MAX_NEW_TOKENS, batch_size=batch_size
    )
    nll, tokens = gold_losses(model, tokenizer, bundle, rows)
    found = execution_accuracy([text for (text,) in answers], rows, workers=workers)
    right = (None if v.status == "unjudged" else v.status == "right" for v in found.verdicts)
    valid = (v.is_valid for v in found.verdicts)
    seconds = time.monotonic() - started
    return Measured(kind, weights, tuple(right), tuple(valid), nll, tokens, seconds)


def load(bundle: Bundle, kind: str) -> tuple[Any, Any, str]:
    """The adapter on one of `BASES`, its tokenizer, and in words what the base's weights are.

    Base and adapter compute in bfloat16, as the engine serves them; in float32 where the engine
    does, on a CPU.
    """
    from peft import PeftModel

    from trainer.tuning.model import load_base

    base = resolve_base_model(bundle.manifest.base_model)
    model, tokenizer = load_base(base, TrainConfig(alias="precision", **LOADING[kind]))
    tokenizer.eos_token = bundle.manifest.stop
    model = PeftModel.from_pretrained(model, str(bundle.folder)).eval()
    dtype = model.get_input_embeddings().weight.dtype
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    form = {SERVED: "", DEQUANTISED: "NF4 numbers in ", NF4: "NF4, computed in "}[kind]
    return model, tokenizer, form + str(dtype).removeprefix("torch.")


def gold_losses(
    model: Any, tokenizer: Any, bundle: Bundle, rows: Sequence[Row]
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """For each row the summed cross entropy of its gold query and end token, and their number.

    Gold queries are spelled as the adapter learned them, by its recipe's `names`.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from trainer.pipeline.tokens import tokenise
    from trainer.tuning.packing import Packer, plan_batches

    names = bundle.manifest.recipe.get("names", "full")
    spelled = Clean(names=names, execute=False)(list(rows), lambda _: None).rows
    examples = tokenise(spelled, tokenizer, bundle.manifest.prompt_format, sys.maxsize).dataset
    lengths = [len(ids) for ids in examples["input_ids"]]
    tokens = tuple(sum(mask) for mask in examples["completion_mask"])
    capacity = max(min(PASS_TOKENS, sum(lengths)), *lengths)
    plan = plan_batches(lengths, epochs=1, capacity=capacity, per_step=1, seed=0)
    packer = Packer(capacity, max(lengths), max(map(len, plan.batches)), tokenizer.pad_token_id)
    losses = [0.0] * len(lengths)
    for batch in plan.batches:
        inputs = {k: v.to(model.device) for k, v in packer([examples[i] for i in batch]).items()}
        labels = inputs.pop("labels")
        with torch.no_grad():
            logits = model(**inputs, max_seq_len=packer.max_length, use_cache=False).logits[0]
        each = cross_entropy(logits.float(), labels, reduction="none")
        parts = torch.split(each, [tokens[i] for i in batch])
        for number, part in zip(batch, parts, strict=True):
            losses[number] = float(part.double().sum())
    return tuple(losses), tokens


def record_of(bundle: Bundle, rows: Sequence[Row], found: Sequence[Measured]) -> dict[str, Any]:
    """`evidence/precision.json`: `bases`, each with `accuracy` (0 to 1) and `nll` (nats a token),
    and `against_served`, the paired differences of the others to the first."""
    clusters = [row.db_id for row in rows]
    return {
        "digest": bundle.digest,
        "questions": len(rows),
        "databases": len(set(clusters)),
        "unjudged": sum(right is None for right in found[0].right),
        "decoding": f"greedy, at most {MAX_NEW_TOKENS} tokens, adapter not merged",
        "bases": [_summary(each, clusters) for each in found],
        "against_served": [asdict(change(found[0], each, clusters)) for each in found[1:]],
        "hardware": hardware(),
        "versions": versions(),
    }


def _summary(found: Measured, clusters: Sequence[str]) -> dict[str, Any]:
    judged = [(r, c) for r, c in zip(found.right, clusters, strict=True) if r is not None]
    right = [int(r) for r, _ in judged]
    return {
        "base": found.base,
        "weights": found.weights,
        "accuracy": asdict(ratio(right, [1] * len(right), [c for _, c in judged])),
        "valid": sum(found.valid) / len(found.valid),
        "nll": asdict(ratio(found.nll, found.tokens, clusters)),
        "tokens": sum(found.tokens),
        "seconds": round(found.seconds, 1),
    }


def lines_of(record: dict[str, Any]) -> list[str]:
    """The record in words, a line a base and one a difference."""
    lines = [
        f"{b['base']} ({b['weights']}): {Mean(**b['accuracy']).text('.1f', 100)} % right, "
        f"{b['valid']:.1%} valid, loss {b['nll']['value']:.4f} nats a token, {b['seconds']} s"
        for b in record["bases"]
    ]
    lines += [
        f"{c['base']} against served: {Mean(**c['accuracy']).text('+.2f', 100)} points, fixed "
        f"{c['fixed']}, broke {c['broke']}, p {c['p_mcnemar']:.3f}; "
        f"loss {Mean(**c['nll']).text('+.4f')}"
        for c in record["against_served"]
    ]
    cost = 100 * record["against_served"][0]["accuracy"]["value"]
    is_over = cost > LIMIT_POINTS
    verdict = "over the limit of {}; train with dense_share" if is_over else "the limit is {}"
    return [*lines, f"serving costs {cost:.2f} points; {verdict.format(LIMIT_POINTS)}"]


def figure_of(name: str, record: dict[str, Any]) -> Figure:
    """`value` is what serving on the float base costs: points that the base as trained has more."""
    first = record["against_served"][0]
    return Figure(
        figure=name,
        value=round(100 * first["accuracy"]["value"], 3),
        unit="points of execution accuracy lost at serving",
        n=record["questions"] - record["unjudged"],
        notes=f"adapter {record['digest'][:12]}; standard errors clustered over "
        f"{record['databases']} databases; {record['decoding']}; "
        f"p (McNemar, exact) {first['p_mcnemar']:.3f}",
        rows=[*record["bases"], *record["against_served"]],
    )


def say(text: str) -> None:
    typer.echo(f"trainer.precision: {text}", err=True)


def main(
    bundle: Annotated[Path, typer.Argument(help="Folder of the adapter's bundle.")],
    data: Annotated[Path, typer.Option(help="JSONL of examples, schemas and databases beside it.")],
    databases: Annotated[Path | None, typer.Option(help="Folder of DB_ID.sqlite files.")] = None,
    limit: Annotated[int, typer.Option(help="Ask the first so many; 0: all.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Questions answered at a time.")] = 512,
    figure: Annotated[str, typer.Option(help="Write benchmarks/results/FIGURE.json.")] = "",
) -> None:
    """Measure what an adapter loses on the base that it is served on, against the quantised one
    that it was trained on."""
    with command(say, knob="--batch-size"):
        read = read_bundle(bundle)
        rows = load_source(str(data), databases=databases, limit=limit).rows
        record = run(read, rows, batch_size=batch_size)
        put_evidence(bundle, EVIDENCE_FILE, record)
        for line in lines_of(record):
            say(line)
        if figure:
            say(f"wrote {write_figure(figure_of(figure, record))}")


def run(bundle: Bundle, rows: Sequence[Row], *, batch_size: int) -> dict[str, Any]:
    """Measure all of `BASES`, one after the other in memory; the record."""
    found = []
    for kind in BASES:
        found.append(measure(bundle, rows, kind, batch_size=batch_size, workers=num_cores()))
        if set(found[0].right) == {None}:
            raise JudgeError("no gold query runs on its database: nothing can be judged")
        gc.collect()  # a model refers to itself: without it the next would stand beside it
    return record_of(bundle, rows, found)


if __name__ == "__main__":
    typer.run(main)
