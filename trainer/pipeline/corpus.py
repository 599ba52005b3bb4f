"""What the pipeline hands on: the rows that are left, and a report of each stage.

Knows nothing of stages or of the cache: only what they leave behind.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from trainer.pipeline.row import Dropped, Outcome, Row

NUM_EXAMPLES = 5  # of each reason
BATCH_ROWS = 1000
COLUMNS = tuple(field.name for field in fields(Row))
COMPOSED = "composed"  # the source of rows that a stage made of nothing


@dataclass(frozen=True)
class DroppedRow:
    """A dropped row as a report shows it, with the texts that the stage was given: "" where they
    are not known."""

    id: str
    reason: str
    detail: str = ""
    question: str = ""
    sql: str = ""


@dataclass(frozen=True)
class StageReport:
    """What a stage did. `dropped` counts rows by reason, with the first few of each reason in
    `examples`; `changed` counts what was changed in others; `facts` are the stage's own."""

    name: str
    rows_in: int
    rows_out: int
    dropped: Counter[str] = field(default_factory=Counter)
    examples: tuple[DroppedRow, ...] = ()
    changed: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cached: bool = False

    def record(self) -> dict[str, Any]:
        """As JSON values; `report_from` makes it a report again."""
        return {**vars(self), "examples": [asdict(example) for example in self.examples]}

    def line(self) -> str:
        dropped = f", {self.dropped.total():,} dropped" if self.dropped else ""
        changed = f"; {_counts(self.changed)}" if self.changed else ""
        return (
            f"{self.name}: {self.rows_in:,} rows, {self.rows_out:,} left"
            f"{dropped}{in_brackets(self.dropped)}{changed}"
        )


@dataclass(frozen=True)
class Corpus:
    """The rows that a pipeline left, and how they came about.

    `dataset` is a `datasets.Dataset` with a column of text for each field of `Row`. `sources` has a
    `{"name", "sha256", "examples"}` for each source; `examples` counts the rows that are left of
    it, copies too. `owners` tells the place of its source by the id of each row that was loaded.
    """

    dataset: Any
    sources: tuple[dict[str, Any], ...]
    stages: tuple[StageReport, ...]
    owners: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.dataset)

    def rows(self) -> Iterator[Row]:
        return rows_of(self.dataset)

    @property
    def dropped(self) -> Counter[str]:
        """How many rows all stages dropped, by reason."""
        return sum((stage.dropped for stage in self.stages), Counter[str]())

    def summary(self) -> str:
        names = ", ".join(f"{source['name']} {source['examples']:,}" for source in self.sources)
        dropped = f"{self.dropped.total():,} dropped{in_brackets(self.dropped)}"
        return f"{len(self):,} examples ({names}), {dropped}"

    def after(self, report: StageReport, dropped: Collection[Dropped]) -> "Corpus":
        """What is left of it after a step that has `report` and dropped rows."""
        gone = {drop.id for drop in dropped}
        places = [place for place, id_ in enumerate(self.dataset["id"]) if id_ not in gone]
        left = self.dataset.select(places) if gone else self.dataset
        sources = recount(self.sources, self.owners, left)
        return replace(self, dataset=left, sources=sources, stages=(*self.stages, report))


@dataclass
class Ids:
    """Gives each id once: one that is `taken` gets a number from 2 on, after `mark`."""

    mark: str
    taken: set[str] = field(default_factory=set)
    given: Counter[str] = field(default_factory=Counter)

    def own(self, wanted: str) -> str:
        found = wanted
        while found in self.taken:
            self.given[wanted] += 1
            found = f"{wanted}{self.mark}{self.given[wanted] + 1}"
        self.taken.add(found)
        return found


def with_own_ids(rows: Iterable[Row]) -> Iterator[Row]:
    """`rows`, each with an id that none before it has."""
    ids = Ids("~")
    for row in rows:
        own_id = ids.own(row.id)
        yield row if own_id == row.id else row.with_(id=own_id)


def recount(
    sources: Sequence[Mapping[str, Any]], owners: Mapping[str, int], dataset: Any
) -> tuple[dict[str, Any], ...]:
    """`sources` with the numbers of their rows in `dataset`; rows that are of none, as those that
    a stage composed, have an entry under the name of their own source."""
    sources = [source for source in sources if source["sha256"]]
    num_left = [0] * len(sources)
    others = Counter[str]()
    for row in rows_of(dataset):
        place = owners.get(row.id, owners.get(row.origin))
        if place is None:
            others[row.source or COMPOSED] += 1
        else:
            num_left[place] += 1
    loaded = [{**source, "examples": num} for source, num in zip(sources, num_left, strict=True)]
    return (*loaded, *({"name": n, "sha256": "", "examples": num} for n, num in others.items()))


def report_of(name: str, rows: Sequence[Row], outcome: Outcome, **others: Any) -> StageReport:
    """The report of a stage that was given `rows`; `others` are fields as they are."""
    made = StageReport(
        name=name,
        rows_in=len(rows),
        rows_out=len(outcome.rows),
        dropped=Counter(drop.reason for drop in outcome.dropped),
        examples=tuple(_examples(rows, outcome.dropped)),
        changed=Counter(outcome.changed),
        facts=json.loads(json.dumps(outcome.facts)),  # as it will be when it comes from a file
    )
    return replace(made, **others)


def _examples(rows: Sequence[Row], dropped: Sequence[Dropped]) -> Iterator[DroppedRow]:
    by_id = {row.id: row for row in rows} if dropped else {}
    shown = Counter[str]()
    for drop in dropped:
        shown[drop.reason] += 1
        if shown[drop.reason] <= NUM_EXAMPLES:
            row = by_id.get(drop.id)
            texts = (row.question, row.sql) if row else ()
            yield DroppedRow(drop.id, drop.reason, drop.detail, *texts)


def report_from(record: Mapping[str, Any], *, cached: bool) -> StageReport:
    """The report that `record` was made of."""
    changes = {
        "dropped": Counter(record["dropped"]),
        "changed": Counter(record["changed"]),
        "examples": tuple(DroppedRow(**example) for example in record["examples"]),
        "cached": cached,
    }
    return StageReport(**{**record, **changes})


def in_brackets(counts: Counter[str]) -> str:
    return f" ({_counts(counts)})" if counts else ""


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {num:,}" for name, num in counts.most_common())


def dataset_of(rows: Sequence[Row]) -> Any:
    """`rows` as a `datasets.Dataset`, a column of text for each field."""
    from datasets import Dataset, Features, Value

    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    return Dataset.from_dict(columns, features=Features(dict.fromkeys(COLUMNS, Value("string"))))


def rows_of(dataset: Any) -> Iterator[Row]:
    """The rows of a dataset with a column for each field of `Row`; others are left out."""
    plain = dataset.select_columns(list(COLUMNS)).with_format("arrow")
    for batch in plain.iter(batch_size=BATCH_ROWS):
        for values in zip(*(batch[name].to_pylist() for name in COLUMNS), strict=True):
            yield Row(*values)
