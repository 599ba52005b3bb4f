"""`python -m trainer.speed`: training speed against plain TRL; `… shape`: at Llama-2-7B's shape.

What is measured is said line by line and written as it comes, so that a run that is killed leaves
what it has: blocks in `FIGURE.jsonl`, the figure as soon as there is one.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from eval.task.base_model import BASE_MODEL, BaseModelError, resolve_base_model
from eval.task.figure import RESULTS, Figure, write_figure
from trainer.config import RecipeError
from trainer.pipeline.source import DataError
from trainer.recipe import config_from

# TRL's examples a step: 32, with which it is faster, and its default. Ours: as many tokens as 32
# examples of Spider have.
TRL_BATCHES = [32, 8]
OUR_BATCHES = [8_192]
LEARNING_RATES = [1e-3, 2e-3, 4e-3]
SHAPE_TOKENS = [1_024, 4_096, 16_384, 65_536]

app = typer.Typer(add_completion=False)
Results = Annotated[Path, typer.Option(help="Folder of figures.")]
Seconds = Annotated[float, typer.Option(help="Begin nothing new after so long.")]
Compile = Annotated[bool, typer.Option("--compile/--no-compile", help="Compile our layers.")]


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="JSONL file of examples, or of rows.")] = None,
    base_model: Annotated[str, typer.Option(help="Hub id or folder.")] = BASE_MODEL,
    tokens: Annotated[int, typer.Option(help="Tokens that each block trains on.")] = 250_000,
    blocks: Annotated[int, typer.Option(min=1, help="Pairs of blocks.")] = 3,
    trl_batch: Annotated[
        list[int], typer.Option(help="TRL's examples a step; the first is compared.")
    ] = TRL_BATCHES,
    batch_tokens: Annotated[
        list[int], typer.Option(help="Our tokens a step; the first is compared.")
    ] = OUR_BATCHES,
    learning_rate: Annotated[
        list[float], typer.Option(help="Of both, for one pair each in turn.")
    ] = LEARNING_RATES,
    epochs: Annotated[
        int, typer.Option(min=1, help="Ours in a pair; TRL's is one. Speed does not depend on it.")
    ] = 1,
    rank: Annotated[int, typer.Option(help="Of both; alpha is twice that.")] = 24,
    max_length: Annotated[int, typer.Option(help="Tokens of the longest example.")] = 1024,
    dev_rows: Annotated[int, typer.Option(help="Rows held out, whole databases.")] = 200,
    compile_layers: Compile = True,
    figure: Annotated[str, typer.Option(help="Name of the figure.")] = "train_speed_ratio",
    results: Results = RESULTS,
    seconds: Seconds = 150.0,
) -> None:
    """Train on the same rows by plain TRL and by this project in turn; compare speed and loss."""
    if context.invoked_subcommand:
        return
    if data is None:
        fail("--data is needed: a JSONL file of examples")
    began = time.monotonic()
    record = {"alias": "speed", "rank": rank, "alpha": 2 * rank, "max_length": max_length}
    record["compile"] = "always" if compile_layers else "never"
    try:
        from trainer.speed.ratio import Course

        configs = [
            config_from({**record, "batch_tokens": size, "device_tokens": size})
            for size in batch_tokens
        ]
        results.mkdir(parents=True, exist_ok=True)
        course = Course(
            tuple(trl_batch), tuple(batch_tokens), tuple(learning_rate), blocks, tokens, epochs
        )
        bench = _bench(data, base_model, configs[0], tokens, dev_rows)
    except (RecipeError, DataError, BaseModelError, OSError) as error:
        fail(str(error))
    _compare(bench, course, figure, results, is_late=lambda: time.monotonic() - began > seconds)


def _bench(data: Path, base_model: str, config: Any, tokens: int, dev_rows: int) -> Any:
    from trainer.speed.block import Bench
    from trainer.speed.sample import draw, load_rows
    from trainer.tuning.model import load_tokenizer

    rows = load_rows(data)  # before the base, which may have to be fetched
    base = resolve_base_model(base_model, say)
    tokenizer = load_tokenizer(base)
    sample = draw(
        rows,
        tokenizer,
        num_tokens=tokens,
        dev_rows=dev_rows,
        max_length=config.max_length,
        prompt_format=config.prompt_format,
    )
    say(f"{len(sample.train):,} rows, {sample.num_tokens:,} tokens; {len(sample.dev):,} held out")
    return Bench(base, tokenizer, config, sample)


def _compare(
    bench: Any, course: Any, name: str, results: Path, *, is_late: Callable[[], bool]
) -> None:
    from trainer.speed.ratio import figure_of, pairs_of, take

    blocks: list[Any] = []
    context = f"base {bench.base if isinstance(bench.base, str) else bench.base.name}, LoRA rank "
    context += f"{bench.config.rank} on all linear layers, {len(bench.sample.dev)} rows held out"
    found: Figure | None = None
    for block in take(course, bench, is_late=is_late):
        blocks.append(block)
        keep(results, name, asdict(block))
        loss = "" if block.dev_loss is None else f", dev loss {block.dev_loss:.4f}"
        say(
            f"{block.side.name}: {block.rate:,.0f} tokens/s ({block.whole_rate:,.0f} with "
            f"warm-up), {block.steps} steps, learning rate {block.learning_rate:g}{loss}"
        )
        if pairs_of(blocks):
            is_whole = len(blocks) == len(list(course.steps()))
            found = figure_of(name, blocks, is_whole=is_whole, context=context)
            write_figure(found, results)
    if found:
        finish(results, name, [found])


@app.command()
def shape(
    layers: Annotated[int, typer.Option(min=1)] = 32,
    hidden: Annotated[int, typer.Option(min=16, help="Others in Llama's proportions.")] = 4096,
    length: Annotated[int, typer.Option(help="Tokens of a row.")] = 1024,
    tokens: Annotated[
        list[int], typer.Option(help="Tokens a step; the smallest is batch 1.")
    ] = SHAPE_TOKENS,
    compile_layers: Compile = True,
    peak_tflops: Annotated[float, typer.Option(help="The card's measured bf16 peak.")] = 790.0,
    figure: Annotated[str, typer.Option(help="First words of the figures' names.")] = (
        "train_7b_shape"
    ),
    results: Results = RESULTS,
    seconds: Seconds = 150.0,
) -> None:
    """Train a model of random weights of Llama-2-7B's shape by QLoRA; say speed and memory."""
    from trainer.speed.report import figures_of, rows_of
    from trainer.speed.shape import flops_of, llama_config, random_base, sweep

    if any(size % length for size in tokens):
        fail(f"--tokens: must be multiples of --length {length}")
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(str(error))
    began = time.monotonic()
    model_config = llama_config(layers=layers, hidden=hidden, max_length=length)
    model, flops = random_base(model_config), flops_of(model_config)
    say(f"base of {layers} layers, hidden {hidden}, made in {time.monotonic() - began:.1f} s")
    context = f"{layers} layers, hidden {hidden}, rows of {length} tokens, LoRA rank 16 on q and v"
    speeds: list[Any] = []
    found: list[Figure] = []
    for speed in sweep(
        model,
        tuple(tokens),
        length=length,
        compiles=compile_layers,
        memory_bytes=_memory_bytes(),
        is_late=lambda: time.monotonic() - began > seconds,
    ):
        speeds.append(speed)
        (row,) = rows_of([speed], flops, peak_tflops)
        keep(results, figure, row)
        say(json.dumps(row))
        found = figures_of(figure, speeds, flops, peak_tflops=peak_tflops, context=context)
        for each in found:
            write_figure(each, results)
    finish(results, figure, found)


def _memory_bytes() -> int:
    from trainer.tuning.model import device_bytes

    return device_bytes()


def keep(results: Path, name: str, record: dict[str, Any]) -> None:
    """Add a line to what has been measured so far."""
    with (results / f"{name}.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")


def finish(results: Path, name: str, figures: list[Figure]) -> None:
    """The figures hold everything: say them, as one line of JSON, and drop the lines."""
    (results / f"{name}.jsonl").unlink()
    print(json.dumps({figure.figure: asdict(figure) for figure in figures}))


def say(text: str) -> None:
    print(f"speed: {text}", flush=True)


def fail(text: str) -> NoReturn:
    print(f"speed: error: {' '.join(text.split())}", flush=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    for library in ("sqlglot", "bitsandbytes"):  # the latter misses an optional CPU kernel
        logging.getLogger(library).setLevel(logging.ERROR)
    os.environ["TQDM_DISABLE"] = "1"  # the bars of transformers and datasets
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # TRL would take all cards, ours takes one
    app()
