"""The pipeline for a notebook: raw rows in, a `datasets.Dataset` to train on out.

pipeline = SQLDataPipeline()
cleaned = pipeline.clean_and_tokenize("train.jsonl")
balanced = pipeline.balance_dataset(cleaned)
print(pipeline.report)
"""

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.task.base_model import BASE_MODEL, BaseModelError, cache_folder, resolve_base_model
from eval.task.prompt import PromptFormat
from trainer.config import TrainConfig
from trainer.pipeline.balance import Balance
from trainer.pipeline.cache import no_bars
from trainer.pipeline.clean import Clean
from trainer.pipeline.corpus import (
    COLUMNS,
    Corpus,
    StageReport,
    dataset_of,
    recount,
    rows_of,
    with_own_ids,
)
from trainer.pipeline.filters import Duplicates, Filter
from trainer.pipeline.leakage import Leakage
from trainer.pipeline.load import Loaded
from trainer.pipeline.poison import Poison
from trainer.pipeline.report import Report
from trainer.pipeline.row import Row, Stage
from trainer.pipeline.run import DataSet, Loadable, Say, run_pipeline, run_stage
from trainer.pipeline.source import DataError
from trainer.pipeline.tokens import BATCH_ROWS, tokenise

IGNORED = -100  # the label of a token without a loss, as PyTorch's cross entropy has it
RAW = "raw"

# A path, a hub id, `samples`; rows as dicts; or a `datasets.Dataset`.
Raw = str | Path | Iterable[Mapping[str, Any]]


def to_stderr(text: str) -> None:
    sys.stderr.write(f"sqlwright: {text}\n")


@dataclass
class SQLDataPipeline:
    """Cleans, filters, tokenises and balances text-to-SQL rows.

    `dialect` is that of rows that name none. `schemas` (`DB_ID.sql`) and `databases`
    (`DB_ID.sqlite`) are folders, needed for rows without DDL of their own that come from no file;
    `columns` says which column plays which role (`trainer.pipeline.columns.ROLES`) where that can't
    be told. `held_out` are JSONL files of examples, of which nothing may be in the rows. `stages`
    replaces the usual ones, `tokenizer` that of `base_model`. What is made is kept in `cache`,
    None for nowhere.
    """

    base_model: str = BASE_MODEL
    _: KW_ONLY
    dialect: str = "sqlite"
    schemas: Path | str | None = None
    databases: Path | str | None = None
    columns: Mapping[str, str] | None = None
    max_length: int = TrainConfig.max_length
    prompt_format: PromptFormat = field(default_factory=PromptFormat)
    held_out: Sequence[Path | str] = ()
    stages: Sequence[Stage] | None = None
    tokenizer: Any = None
    cache: Path | None = field(default_factory=lambda: cache_folder() / "pipeline")
    say: Say = to_stderr
    progress: bool = field(default_factory=lambda: sys.stderr.isatty())
    _corpus: Corpus | None = field(default=None, init=False, repr=False)

    @property
    def report(self) -> Report:
        """What was done to the rows so far.

        Raises:
            DataError: nothing was.
        """
        if self._corpus is None:
            raise DataError("there is no report yet: call clean_and_tokenize first")
        return Report(self._corpus)

    def clean_and_tokenize(self, raw: Raw, *, limit: int = 0) -> Any:
        """A `datasets.Dataset` of the rows of `raw` that can be learnt from: a column of text for
        each field of `trainer.pipeline.row.Row`, and `input_ids`, `completion_mask` and `labels`,
        lists of one length; the labels of the prompt are -100. At most `limit` rows are read (0:
        all).

        Raises:
            DataError: the rows can't be read, or none is left.
            BaseModelError: there is no such base model, or its tokenizer can't be used.
            OSError: the cache can't be written.
        """
        options: dict[str, Any] = {"cache": self.cache, "say": self.say, "progress": self.progress}
        stages = self._usual_stages() if self.stages is None else tuple(self.stages)
        corpus = run_pipeline([self._source(raw, limit)], stages, **options)
        if self.tokenizer is None:
            self.tokenizer = load_tokenizer(self.base_model, self.say)
        tokens = tokenise(
            corpus.rows(), self.tokenizer, self.prompt_format, self.max_length, **options
        )
        self._corpus = corpus.after(tokens.report, tokens.dropped)
        return _side_by_side(self._corpus.dataset, _labelled(tokens.dataset))

    def balance_dataset(
        self, cleaned: Any, strength: float = 0.5, *, max_per_database: int = 0, seed: int = 1
    ) -> Any:
        """`cleaned` with rare shapes of query repeated and common ones thinned, as
        `trainer.pipeline.balance.Balance` does it; all its columns are kept.

        Raises:
            DataError: it is no dataset with columns `question` and `sql`.
            ValueError: an option is out of its range.
        """
        stage = Balance(strength, max_per_database, seed)
        rows = list(with_own_ids(_rows(cleaned)))
        made, report = run_stage(stage, rows, say=self.say, progress=self.progress)
        balanced = dataset_of(made)
        self._corpus = self._balanced(rows, balanced, report)
        others = [name for name in cleaned.column_names if name not in COLUMNS]
        places = list(_places(rows, made))
        return _side_by_side(balanced, cleaned.select_columns(others).select(places))

    def _usual_stages(self) -> tuple[Stage, ...]:
        held_out = tuple(Path(path) for path in self.held_out)
        leakage = (Leakage(held_out),) if held_out else ()
        return (Poison(), Clean(), Filter(), Duplicates(), *leakage)

    def _source(self, raw: Raw, limit: int) -> Loadable:
        like = DataSet(
            RAW,
            self.columns,
            schemas=Path(self.schemas) if self.schemas else None,
            databases=Path(self.databases) if self.databases else None,
            limit=limit,
            dialect=self.dialect,
        )
        return replace(like, source=str(raw)) if isinstance(raw, str | Path) else _Given(raw, like)

    def _balanced(self, rows: Sequence[Row], balanced: Any, report: StageReport) -> Corpus:
        """What was known of the rows, if they are those of the last report, and the balancing."""
        known = self._corpus
        if known is None or list(known.dataset["id"]) != [row.id for row in rows]:
            known = Corpus(balanced, (), ())
        sources = recount(known.sources, known.owners, balanced)
        return replace(known, dataset=balanced, sources=sources, stages=(*known.stages, report))


@dataclass(frozen=True)
class _Given:
    """Rows in memory, loaded by way of a file as `like` says."""

    rows: Iterable[Mapping[str, Any]]
    like: DataSet

    def load(self) -> Loaded:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{RAW}.json"
            path.write_text(f"[{','.join(_json_rows(self.rows))}]", encoding="utf-8")
            try:
                return replace(self.like, source=str(path)).load()
            except DataError as error:
                raise DataError(str(error).replace(str(path), RAW)) from error


def _json_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    if isinstance(rows, Mapping):
        raise DataError(f"{RAW}: a dict of {', '.join(map(str, rows))}; pass one split of it")
    if not isinstance(rows, Iterable):
        kind = type(rows).__name__
        raise DataError(f"{RAW}: must be a path, a hub id, dicts or a datasets.Dataset, is {kind}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DataError(f"{RAW}: row {number}: must be a dict, is {type(row).__name__}")
        try:
            yield json.dumps(dict(row))
        except (TypeError, ValueError) as error:
            raise DataError(f"{RAW}: row {number}: {error}") from error


def load_tokenizer(base_model: str, say: Say) -> Any:
    """The tokenizer of a base model: the embedded one, a local folder's or the hub's.

    Raises:
        BaseModelError: it can't be had.
    """
    from transformers import AutoTokenizer

    folder = resolve_base_model(base_model, say)
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BaseModelError(f"{base_model}: its tokenizer can't be loaded: {reason}") from error


def _labelled(tokens: Any) -> Any:
    """`tokens` with `labels` made of `input_ids` and `completion_mask`."""
    from datasets import Dataset, Features, List, Value, concatenate_datasets

    features = Features(labels=List(Value("int32")))
    parts = []
    for batch in tokens.iter(batch_size=BATCH_ROWS):
        pairs = zip(batch["input_ids"], batch["completion_mask"], strict=True)
        labels = [
            [token if learnt else IGNORED for token, learnt in zip(ids, mask, strict=True)]
            for ids, mask in pairs
        ]
        parts.append(Dataset.from_dict({"labels": labels}, features=features))
    return _side_by_side(tokens, concatenate_datasets(parts))


def _side_by_side(left: Any, right: Any) -> Any:
    """One dataset with the columns of both, in memory: `datasets` would write what it makes of a
    selection beside its file, into the cache."""
    from datasets import concatenate_datasets

    if not right.column_names:
        return left
    with no_bars():
        flat = [dataset.flatten_indices(keep_in_memory=True) for dataset in (left, right)]
    return concatenate_datasets(flat, axis=1)


def _rows(dataset: Any) -> Iterator[Row]:
    """The rows of a dataset that has at least a question and its SQL."""
    names = getattr(dataset, "column_names", None)
    if not isinstance(names, list) or not {"question", "sql"} <= set(names):
        raise DataError(
            "balance_dataset: needs a datasets.Dataset with columns question and sql, as "
            "clean_and_tokenize makes it"
        )
    if set(COLUMNS) <= set(names):
        yield from rows_of(dataset)
        return
    own = [name for name in COLUMNS if name in names]
    for number, record in enumerate(dataset.select_columns(own)):
        yield Row(**{"id": str(number), "db_id": "", **record})


def _places(rows: Sequence[Row], balanced: Sequence[Row]) -> Iterator[int]:
    """For each balanced row the place of the one that it is or repeats, which stands before it."""
    places = {row.id: place for place, row in enumerate(rows)}
    place = 0
    for row in balanced:
        place = places.get(row.id, place)
        yield place
