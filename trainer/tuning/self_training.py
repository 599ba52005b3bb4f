"""More training rows out of the model's own answers, with execution as the judge.

Rejection sampling as in Zelikman et al., "STaR" (2022), and Yuan et al., "Scaling Relationship on
Learning Mathematical Reasoning" (2023): of several sampled answers to a training question, other
queries that return the gold query's rows are kept. Answers that fail beside the gold query make
pairs for preference optimisation. One database can't tell every wrong query: what is kept is right
there by chance at times, less often with a suite of further databases (Zhong, Yu and Klein, 2020).
Knows nothing of how a model is trained, or of how a suite is made.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_high
from typing import Any

from eval.task.cores import num_cores
from eval.task.prompt import PromptFormat, extract_sql
from eval.task.sql import check_sql
from trainer.pipeline.row import Row, Tick
from trainer.tuning.accuracy import judge
from trainer.tuning.dev_set import prompt_of
from trainer.tuning.generate import generate
from trainer.tuning.verdicts import Case, Verdict, canonical

MADE_BY = "sampled"

# By the path of a row's database the paths of others with the same tables and other rows.
Suites = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Pair:
    """What preference optimisation learns from: to `prompt`, `chosen` rather than `rejected`.

    `kind` is the fault of `rejected`: that of its `Verdict`, or the first code of `check_sql`.
    """

    row_id: str
    prompt: str
    chosen: str
    rejected: str
    kind: str

    @property
    def record(self) -> dict[str, str]:
        """The columns that TRL's DPOTrainer reads."""
        return {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}


@dataclass(frozen=True)
class Selection:
    """`rows` to add to the training set, `pairs`, and how many answers went where.

    `statistics` counts answers by what became of them (their sum is `answers`), and beside them
    questions, questions with a new query, pairs, and `pairs_KIND`.
    """

    rows: list[Row]
    pairs: list[Pair]
    statistics: Counter[str]


@dataclass(frozen=True, slots=True)
class _Sampled:
    """One distinct query among the answers to a row, and how often it was sampled."""

    row: Row
    sql: str
    key: str
    num_samples: int
    verdict: Verdict


def collect(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    prompt_format: PromptFormat,
    *,
    num_samples: int = 8,
    temperature: float = 0.8,
    max_per_question: int = 2,
    max_new_tokens: int = 160,
    batch_size: int = 256,
    suites: Suites | None = None,
    workers: int | None = None,
    seed: int = 0,
    tick: Tick | None = None,
) -> Selection:
    """Sample `num_samples` answers to each row that has a database, and `select` from them.

    Raises:
        GenerationError: the model can't be asked, or a number is out of range.
        DevSetError: a row has no schema. JudgeError: a row's database is missing.
    """
    asked = [row for row in rows if row.database]
    answers = generate(
        model,
        tokenizer,
        [prompt_of(row, prompt_format) for row in asked],
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        temperature=temperature,
        num_samples=num_samples,
        seed=seed,
        tick=tick,
    )
    found = select(
        asked,
        answers,
        prompt_format,
        max_per_question=max_per_question,
        suites=suites,
        workers=workers,
    )
    found.statistics["questions_without_database"] = len(rows) - len(asked)
    return found


def select(
    rows: Sequence[Row],
    answers: Sequence[Sequence[str]],
    prompt_format: PromptFormat,
    *,
    max_per_question: int = 2,
    max_pairs_per_question: int = 2,
    suites: Suites | None = None,
    workers: int | None = None,
) -> Selection:
    """What to keep of `answers`, a list of texts for each row; the same answers, the same choice.

    A query is kept if it is not the gold query in canonical spelling, passes `check_sql`, returns
    the gold query's rows, and these are neither empty nor a single zero or NULL; of several those
    sampled most often. A row for each, with the gold row's id and `~` and a number. A query that is
    wrong on a database of the row's suite is wrong.

    Raises:
        ValueError: not as many lists of answers as rows.
        DevSetError: a row has no schema. JudgeError: a row's database is missing.
    """
    statistics: Counter[str] = Counter(questions=len(rows))
    kept: list[Row] = []
    rejected: list[list[Pair]] = []
    for row, group in _judged(rows, answers, suites or {}, workers or num_cores()):
        outcomes = _outcomes(row, group, max_per_question)
        for sampled, outcome in zip(group, outcomes, strict=True):
            statistics["answers"] += sampled.num_samples
            statistics[outcome] += sampled.num_samples
        new = [s.sql for s, outcome in zip(group, outcomes, strict=True) if outcome == "kept"]
        statistics["questions_with_new_query"] += bool(new)
        kept += [_row_of(row, sql, number) for number, sql in enumerate(new, start=1)]
        rejected.append(_pairs_of(row, group, prompt_format))
    pairs = _balanced(rejected, max_pairs_per_question)
    statistics["pairs"] = len(pairs)
    statistics.update(f"pairs_{pair.kind}" for pair in pairs)
    return Selection(kept, pairs, statistics)


def _judged(
    rows: Sequence[Row], answers: Sequence[Sequence[str]], suites: Suites, workers: int
) -> Iterator[tuple[Row, list[_Sampled]]]:
    """The distinct queries for each row with their verdicts, the most frequent first."""
    queries = [
        Counter(extract_sql(text) for text in texts) for _, texts in zip(rows, answers, strict=True)
    ]
    cases = [Case(row, sql) for row, counts in zip(rows, queries, strict=True) for sql in counts]
    verdicts = iter(_verdicts(cases, suites, workers))
    for row, counts in zip(rows, queries, strict=True):
        group = [
            _Sampled(row, sql, canonical(sql, row), num, next(verdicts))
            for sql, num in counts.items()
        ]
        yield row, sorted(group, key=lambda s: (-s.num_samples, s.sql))


def _verdicts(cases: Sequence[Case], suites: Suites, workers: int) -> list[Verdict]:
    """The verdict on each case; of one that is right, that on the first database of its suite on
    which it is not. A suite's database on which the gold query fails says nothing."""
    verdicts = judge(cases, workers=workers)
    more = [
        (place, Case(case.row.with_(database=other), case.predicted))
        for place, case in enumerate(cases)
        if verdicts[place].status == "right"
        for other in suites.get(case.row.database, ())
    ]
    found = judge([case for _, case in more], workers=workers)
    for (place, _), verdict in zip(more, found, strict=True):
        if verdicts[place].status == "right" and verdict.status in ("wrong", "failed"):
            verdicts[place] = verdict
    return verdicts


def _outcomes(row: Row, group: Iterable[_Sampled], max_kept: int) -> list[str]:
    """What becomes of each query; `kept`, or why it is not."""
    seen = {canonical(row.sql, row)}
    gold = set(seen)
    outcomes: list[str] = []
    for sampled in group:
        outcome = _outcome(sampled, gold, seen)
        if outcome == "kept" and outcomes.count("kept") >= max_kept:
            outcome = "over_limit"
        if outcome == "kept":
            seen.add(sampled.key)
        outcomes.append(outcome)
    return outcomes


def _outcome(sampled: _Sampled, gold: set[str], seen: set[str]) -> str:
    if sampled.verdict.status != "right":
        return sampled.verdict.status
    if sampled.key in gold:
        return "gold"
    if not sampled.verdict.is_valid:
        return "invalid"
    if not sampled.verdict.is_telling:
        return "lucky"
    return "duplicate" if sampled.key in seen else "kept"


def _row_of(row: Row, sql: str, number: int) -> Row:
    made_by = ",".join(filter(None, (row.made_by, MADE_BY)))
    return row.with_(id=f"{row.id}~{number}", sql=sql, origin=row.origin or row.id, made_by=made_by)


def _pairs_of(row: Row, group: Sequence[_Sampled], prompt_format: PromptFormat) -> list[Pair]:
    """A pair for each canonically distinct query that is not right; the gold query is chosen, the
    only one that is right for certain."""
    if any(sampled.verdict.status == "unjudged" for sampled in group):
        return []
    prompt = prompt_of(row, prompt_format)
    wrong: dict[str, Pair] = {}
    for sampled in group:
        if sampled.verdict.status in ("wrong", "failed"):
            pair = Pair(row.id, prompt, row.sql, sampled.sql, _kind(sampled))
            wrong.setdefault(sampled.key, pair)
    return list(wrong.values())


def _kind(sampled: _Sampled) -> str:
    schema, fault = sampled.row.schema, sampled.verdict.fault
    if fault != "error" or schema is None:
        return fault
    check = check_sql(sampled.sql, schema, sampled.row.dialect)
    return fault if check.valid else check.violations[0].code


def _balanced(groups: Sequence[Sequence[Pair]], max_per_question: int) -> list[Pair]:
    """At most so many pairs a question, the rarer kinds first; then of each kind as many as the
    median kind has, so that none drowns the others."""
    sizes = Counter(pair.kind for group in groups for pair in group)
    chosen = [
        sorted(group, key=lambda pair: sizes[pair.kind])[:max_per_question] for group in groups
    ]
    counts = Counter(pair.kind for group in chosen for pair in group)
    limit = median_high(counts.values()) if counts else 0
    taken: Counter[str] = Counter()
    kept: set[Pair] = set()
    for pair in sorted((p for group in chosen for p in group), key=_shuffled):
        taken[pair.kind] += 1
        if taken[pair.kind] <= limit:
            kept.add(pair)
    return [pair for group in chosen for pair in group if pair in kept]


def _shuffled(pair: Pair) -> str:
    """A place that depends on the pair alone."""
    text = f"{pair.row_id}\0{pair.rejected}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
