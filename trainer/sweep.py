"""Several variants of one recipe, trained and measured alike: what helps, and what does not.

`python -m trainer.sweep SWEEP.yaml` trains each variant, publishes nothing, and measures it by
greedy answers on the base as it will be served, with the adapter folded in. Each result is a line
of a file as soon as it is there, so that a stopped sweep goes on, and several processes can share
one sweep (`--only`).
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from eval.task.figure import Figure, write_figure
from trainer.command import command
from trainer.config import RecipeError, TrainConfig
from trainer.paired import ratio
from trainer.pipeline.row import Row
from trainer.recipe import config_from

KEYS = {"recipe", "measure", "variants"}
MEASURE_KEYS = {"data", "databases"}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Questions:
    """What is measured on: the rows of a file, of `databases` only where some are named."""

    name: str
    data: str
    databases: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """Raises DataError where the file can't be read, RecipeError where no row is left."""
        from trainer.pipeline.load import load_source

        found = load_source(self.data).rows
        kept = [row for row in found if not self.databases or row.db_id in self.databases]
        if not kept:
            raise RecipeError(f"measure.{self.name}: {self.data} has no row of these databases")
        return kept


@dataclass(frozen=True)
class Sweep:
    """`variants` by name, each a whole recipe; all are measured on the same `questions`."""

    variants: Mapping[str, TrainConfig]
    questions: tuple[Questions, ...]


def load_sweep(path: Path) -> Sweep:
    """Read a sweep: `recipe` (keys or a file), `measure` and `variants`.

    Raises:
        RecipeError: the file can't be read, or a key or value is wrong; the message names it.
    """
    record = _yaml(path)
    if unknown := sorted(set(record) - KEYS):
        raise RecipeError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(sorted(KEYS))}")
    if missing := sorted(KEYS - set(record)):
        raise RecipeError(f"{path}: missing key {missing[0]!r}")
    given = record["recipe"]
    shared = _yaml(Path(given)) if isinstance(given, str) else given
    variants = {
        name: _variant(name, shared, changes) for name, changes in record["variants"].items()
    }
    return Sweep(variants, tuple(_questions(*item) for item in record["measure"].items()))


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: can't be read: {error}") from error
    if not isinstance(record, dict):
        raise RecipeError(f"{path}: must hold keys and values")
    return record


def _variant(
    name: str, shared: Mapping[str, Any], changes: Mapping[str, Any] | None
) -> TrainConfig:
    try:
        return config_from({**shared, **(changes or {})})
    except RecipeError as error:
        raise RecipeError(f"variants.{name}: {error}") from error


def _questions(name: str, given: Any) -> Questions:
    if not isinstance(given, dict) or "data" not in given or set(given) - MEASURE_KEYS:
        raise RecipeError(f"measure.{name}: must have data, and may have databases")
    return Questions(name, str(given["data"]), tuple(given.get("databases", ())))


def run_variant(
    name: str, config: TrainConfig, sweep: Sweep, runs: Path, say: Any
) -> dict[str, Any]:
    """Train one variant and measure it; its row of the table."""
    from trainer.run import Run, prepare, train_adapter
    from trainer.tuning.weights import keep_adapter

    run = Run(config, store=runs, folder=runs / f"{name}-{config.digest}", say=say)
    run.folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare(run)
    model, result = train_adapter(run, prepared)
    adapter = run.folder / "adapter"
    keep_adapter(model, adapter, {"variant": name})
    del model
    measured = measure(adapter, config, prepared.base, prepared.tokenizer, sweep.questions)
    row = {"variant": name, "recipe": config.digest, **asdict(result)}
    return {**row, "tokens_per_second": result.tokens_per_second, "measured": measured}


def measure(
    adapter: Path, config: TrainConfig, base: Any, tokenizer: Any, questions: Sequence[Questions]
) -> dict[str, Any]:
    """Execution accuracy and valid answers of an adapter on the base as served, by question set."""
    from peft import get_peft_model

    from trainer.tuning.dev_set import DevSet
    from trainer.tuning.model import load_base, lora_config
    from trainer.tuning.watch import load_weights

    served = replace(config, quantisation="none", dense_share=0.0)
    model = get_peft_model(load_base(base, served)[0], lora_config(config))
    load_weights(model, adapter)
    found = {}
    for each in questions:
        started, rows = time.monotonic(), asked(each, config)
        dev = DevSet(rows, config.prompt_format, tokenizer, batch_size=1024, merge=True)
        accuracy = dev.measure(model)
        judged = [(v, r) for v, r in zip(accuracy.verdicts, rows, strict=True) if v.is_judged]
        mean = ratio(
            [float(v.status == "right") for v, _ in judged],
            [1.0] * len(judged),
            [r.db_id for _, r in judged],
        )
        found[each.name] = {
            "accuracy": mean.value,
            "stderr": mean.stderr,
            "valid": accuracy.num_valid / accuracy.n,
            "n": accuracy.n,
            "seconds": time.monotonic() - started,
        }
    return found


def asked(questions: Questions, config: TrainConfig) -> list[Row]:
    """The rows as a variant is asked them: with hints, where it was trained on them."""
    from trainer.pipeline.hints import Hints

    rows = questions.rows()
    return Hints()(rows, lambda _: None).rows if config.hints else rows


def lines_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a variant."""
    return [
        f"{row['variant']}: "
        + ", ".join(
            f"{name} {100 * m['accuracy']:.1f} % ± {100 * (m['stderr'] or 0):.1f}, "
            f"{100 * m['valid']:.1f} % valid (n={m['n']:,})"
            for name, m in row["measured"].items()
        )
        + f"; {row['tokens']:,} tokens, loss {row['loss']:.3f}, {row['seconds']:.0f} s"
        for row in rows
    ]


def say(text: str) -> None:
    typer.echo(f"trainer.sweep: {text}", err=True)


def main(
    sweep: Annotated[Path, typer.Argument(help="YAML sweep, see trainer/sweeps.")],
    only: Annotated[list[str] | None, typer.Option(help="These variants; more than once.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of checkpoints and results.")] = Path("runs"),
    figure: Annotated[str, typer.Option(help="Write benchmarks/results/FIGURE.json.")] = "",
) -> None:
    """Train each variant of SWEEP and say how right it answers."""
    with command(say, knob="device_tokens"):
        plan = load_sweep(sweep)
        if unknown := [name for name in only or () if name not in plan.variants]:
            raise RecipeError(f"--only {unknown[0]}: no such variant; {', '.join(plan.variants)}")
        results = runs / f"{sweep.stem}.jsonl"
        for name in only or plan.variants:
            if not _known(results, plan.variants[name].digest, name):
                row = run_variant(name, plan.variants[name], plan, runs / sweep.stem, say)
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                say(lines_of([row])[0])
        rows = [_known(results, config.digest, name) for name, config in plan.variants.items()]
        for line in lines_of([row for row in rows if row]):
            typer.echo(line)
        if figure:
            say(f"wrote {write_figure(_figure(figure, [row for row in rows if row]))}")


def _known(results: Path, digest: str, name: str) -> dict[str, Any] | None:
    """The row of a variant that was measured before."""
    if not results.is_file():
        return None
    for line in results.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        if (row["recipe"], row["variant"]) == (digest, name):
            return row
    return None


def _figure(name: str, rows: Sequence[dict[str, Any]]) -> Figure:
    best = max(row["measured"][next(iter(row["measured"]))]["accuracy"] for row in rows)
    return Figure(
        figure=name,
        value=round(100 * best, 2),
        unit="% execution accuracy of the best variant on the first question set",
        n=len(rows),
        notes="greedy answers of the base as served, by the trainer's generation and judge; "
        "one seed a variant; standard errors clustered by database",
        rows=list(rows),
    )


if __name__ == "__main__":
    typer.run(main)
