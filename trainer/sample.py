"""Samples an adapter's answers to training questions: further gold queries, and pairs for DPO.

`python -m trainer.sample BUNDLE --data FILE --output FOLDER` writes `rows.jsonl`, the sampled
queries that execution proved right, as a recipe's `data` reads it, and `pairs.jsonl`, as
`python -m trainer.tuning.preference` reads it.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from eval.task.bundle import read_bundle
from trainer.command import command
from trainer.config import RecipeError, TrainConfig
from trainer.pipeline.row import Row
from trainer.tuning.weights import write_whole

FIELDS = ("id", "db_id", "question", "sql", "dialect", "source")


def say(text: str) -> None:
    typer.echo(f"trainer.sample: {text}", err=True)


def main(
    bundle: Annotated[Path, typer.Argument(help="Folder of the adapter's bundle.")],
    data: Annotated[Path, typer.Option(help="JSONL of examples, schemas and databases beside it.")],
    output: Annotated[Path, typer.Option(help="Folder of rows.jsonl and pairs.jsonl.")],
    samples: Annotated[int, typer.Option(help="Answers to each question.")] = 8,
    temperature: Annotated[float, typer.Option(help="Of sampling.")] = 0.8,
    limit: Annotated[int, typer.Option(help="Ask the first so many; 0: all.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Answers written at a time.")] = 512,
    seed: Annotated[int, typer.Option(help="Of sampling.")] = 1,
) -> None:
    """Sample BUNDLE's answers to the questions of DATA and judge them by execution."""
    with command(say, knob="--batch-size"):
        if samples < 2 or temperature <= 0:
            raise RecipeError("--samples must be at least 2, --temperature above 0")
        from trainer.tuning.continued import load_adapter
        from trainer.tuning.generate import merged
        from trainer.tuning.self_training import collect

        read = read_bundle(bundle)
        rows = rows_of(str(data), read.manifest.recipe, limit)
        model, tokenizer = load_adapter(read, seed=seed)
        with merged(model):
            found = collect(
                model,
                tokenizer,
                rows,
                read.manifest.prompt_format,
                num_samples=samples,
                temperature=temperature,
                batch_size=batch_size,
                seed=seed,
            )
        write(output / "rows.jsonl", ({f: getattr(r, f) for f in FIELDS} for r in found.rows))
        write(output / "pairs.jsonl", (pair.record for pair in found.pairs))
        counts = ", ".join(f"{name} {num:,}" for name, num in found.statistics.most_common())
        say(f"{len(found.rows):,} rows, {len(found.pairs):,} pairs in {output}; {counts}")


def rows_of(data: str, recipe: Mapping[str, Any], limit: int) -> list[Row]:
    """The rows of a file, their gold queries spelled as the adapter learnt it."""
    from trainer.pipeline.clean import Clean
    from trainer.pipeline.load import load_source

    clean = Clean(recipe.get("names", TrainConfig.names))
    return clean(load_source(data, limit=limit).rows, lambda _: None).rows


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """A record a line, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_whole(path, "".join(lines).encode())


if __name__ == "__main__":
    typer.run(main)
