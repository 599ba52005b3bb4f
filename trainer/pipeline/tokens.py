"""Rows to token ids, with statistics of their lengths.

The prompt's ids are those that the server sends: tokenised alone, nothing merged over its end. The
completion ends with the end-of-sequence token. Knows nothing of batches or of the model.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from eval.task.base_model import BaseModelError
from eval.task.prompt import PromptFormat
from eval.task.schema import Schema
from trainer.pipeline.cache import Cache, code_digest, key_of
from trainer.pipeline.corpus import StageReport, report_of
from trainer.pipeline.row import Dropped, Outcome, Row, Tick
from trainer.pipeline.run import Say, ticking
from trainer.pipeline.source import DataError

NAME = "tokenise"
BATCH_ROWS = 1000
BIN_WIDTHS = tuple(step * 10**power for power in range(5) for step in (1, 2, 5))
MAX_BINS = 40
NO_SCHEMA = Schema(())

# A row's prompt and completion, and how many tokens each has.
Texts = tuple[str, str]
Size = tuple[int, int]


@dataclass(frozen=True)
class Spread:
    """Lengths in tokens, each that of some row."""

    shortest: int
    median: int
    p95: int
    longest: int


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens of the rows that are kept; the end-of-sequence token counts as completion.

    `histogram` counts all rows, those that are too long too: its i-th bin has those of at least
    i * `bin_width` tokens and fewer than (i + 1) * `bin_width`.
    """

    max_length: int
    prompt: Spread
    completion: Spread
    total: Spread
    num_tokens: int
    num_completion_tokens: int
    bin_width: int
    histogram: tuple[int, ...]

    @property
    def completion_share(self) -> float:
        return self.num_completion_tokens / self.num_tokens

    def facts(self) -> dict[str, Any]:
        """For the report of the stage."""
        parts = {"prompt": self.prompt, "completion": self.completion, "both": self.total}
        return {
            "histogram": list(self.histogram),
            "bin_width": self.bin_width,
            "max_length": self.max_length,
            "tokens": self.num_tokens,
            "completion_tokens": self.num_completion_tokens,
            "length_in_tokens": [{"of": name, **asdict(part)} for name, part in parts.items()],
        }

    def line(self) -> str:
        return (
            f"{self.num_tokens:,} tokens, {self.completion_share:.1%} of them completion, "
            f"longest {self.total.longest}"
        )


@dataclass(frozen=True)
class Tokenised:
    """What a model is trained on: `dataset` has `input_ids` and `completion_mask` (1 for a token
    with a loss), one row for each that is not in `dropped`, in their order."""

    dataset: Any
    lengths: Lengths
    dropped: tuple[Dropped, ...]
    report: StageReport


def gold_sql(row: Row) -> str:
    """The completion that a model learns, unless another is asked for."""
    return row.sql


def tokenise(
    rows: Iterable[Row],
    tokenizer: Any,
    prompt_format: PromptFormat,
    max_length: int,
    *,
    completion: Callable[[Row], str] = gold_sql,
    cache: Path | None = None,
    say: Say = lambda _: None,
    progress: bool = False,
) -> Tokenised:
    """Token ids of every row that has at most `max_length` tokens; the others are dropped as
    `too_long`. A row without a schema has a prompt without one.

    Raises:
        BaseModelError: the tokenizer has no end-of-sequence token.
        DataError: no row is short enough.
        OSError: the cache can't be written.
    """
    if tokenizer.eos_token_id is None:
        name = getattr(tokenizer, "name_or_path", "") or "the base model"
        raise BaseModelError(f"{name}: its tokenizer has no end-of-sequence token")
    rows = list(rows)
    started = time.perf_counter()
    with ticking(NAME, len(rows), progress) as tick:
        texts = [(_prompt(row, prompt_format), completion(row)) for row in rows]
        encode = partial(_encode, texts, tokenizer, max_length, tick)
        key = _key(texts, tokenizer, max_length) if cache else ""
        made = _stored(Cache(cache, say), key, encode) if cache and key else encode()
    dropped = _too_long(rows, made.sizes, max_length)
    lengths = _lengths(made.sizes, max_length)
    report = report_of(
        NAME,
        rows,
        Outcome([], dropped, facts=lengths.facts()),
        rows_out=len(made.dataset),
        seconds=time.perf_counter() - started,
        cached=made.is_stored,
    )
    say(f"{report.line()}; {lengths.line()}; {report.seconds:.1f} s")
    return Tokenised(made.dataset, lengths, tuple(dropped), report)


def _prompt(row: Row, prompt_format: PromptFormat) -> str:
    return prompt_format.render(row.schema or NO_SCHEMA, row.question, row.dialect)


def _key(texts: Sequence[Texts], tokenizer: Any, max_length: int) -> str:
    """ "" for a tokenizer that can't be written down: what it makes is not kept."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if not hasattr(backend, "to_str"):
        return ""
    digest = hashlib.sha256(backend.to_str().encode())
    for pair in texts:
        digest.update(repr(pair).encode())
    kind = f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
    options = [kind, tokenizer.eos_token_id, max_length]
    return key_of(NAME, options, digest.hexdigest(), code_digest(__name__))


@dataclass(frozen=True)
class _Encoded:
    """The rows that fit, as a dataset, and the sizes of all."""

    dataset: Any
    sizes: list[Size]
    is_stored: bool = False


def _stored(store: Cache, key: str, encode: Callable[[], _Encoded]) -> _Encoded:
    if entry := store.get(key):
        return _Encoded(entry.dataset, [(p, c) for p, c in entry.record["sizes"]], True)
    made = encode()
    return replace(made, dataset=store.put(key, made.dataset, {"sizes": made.sizes}).dataset)


def _encode(texts: Sequence[Texts], tokenizer: Any, max_length: int, tick: Tick) -> _Encoded:
    from datasets import Dataset, Features, List, Value, concatenate_datasets

    features = Features(input_ids=List(Value("int32")), completion_mask=List(Value("int8")))
    parts: list[Any] = []
    sizes: list[Size] = []
    for start in range(0, len(texts), BATCH_ROWS):
        pairs = _ids(texts[start : start + BATCH_ROWS], tokenizer)
        sizes += [(len(prompt), len(completion)) for prompt, completion in pairs]
        fitting = [(p, c) for p, c in pairs if len(p) + len(c) <= max_length]
        columns = {
            "input_ids": [p + c for p, c in fitting],
            "completion_mask": [[0] * len(p) + [1] * len(c) for p, c in fitting],
        }
        parts.append(Dataset.from_dict(columns, features=features))
        tick(len(pairs))
    if not any(map(len, parts)):
        least = min(map(sum, sizes), default=0)
        raise DataError(
            f"max_length: no example fits {max_length} tokens; the shortest has {least}"
        )
    return _Encoded(concatenate_datasets(parts), sizes)


def _ids(texts: Sequence[Texts], tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    """Of each row the prompt's ids and the completion's, which end with the end of the sequence."""
    prompts = tokenizer([prompt for prompt, _ in texts])["input_ids"]
    completions = tokenizer([text for _, text in texts], add_special_tokens=False)["input_ids"]
    ending = [tokenizer.eos_token_id]
    return [(p, c + ending) for p, c in zip(prompts, completions, strict=True)]


def _too_long(rows: Sequence[Row], sizes: Sequence[Size], max_length: int) -> list[Dropped]:
    return [
        Dropped(row.id, "too_long", f"{sum(size)} tokens, at most {max_length}")
        for row, size in zip(rows, sizes, strict=True)
        if sum(size) > max_length
    ]


def _lengths(sizes: Sequence[Size], max_length: int) -> Lengths:
    kept = [size for size in sizes if sum(size) <= max_length]
    prompts, completions = ([size[part] for size in kept] for part in (0, 1))
    totals = [sum(size) for size in sizes]
    longest = max(totals)
    width = next(width for width in BIN_WIDTHS if longest < width * MAX_BINS)
    histogram = [0] * (longest // width + 1)
    for total in totals:
        histogram[total // width] += 1
    return Lengths(
        max_length,
        _spread(prompts),
        _spread(completions),
        _spread([sum(size) for size in kept]),
        num_tokens=sum(prompts) + sum(completions),
        num_completion_tokens=sum(completions),
        bin_width=width,
        histogram=tuple(histogram),
    )


def _spread(lengths: Sequence[int]) -> Spread:
    """The nearest-rank percentiles."""
    ordered = sorted(lengths)
    ranks = (math.ceil(share * len(ordered)) for share in (0.0, 0.5, 0.95, 1.0))
    return Spread(*(ordered[max(rank - 1, 0)] for rank in ranks))
