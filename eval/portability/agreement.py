"""Judges the same predictions on several engines. Knows nothing of how the copies were made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.dataset import Question
from eval.execution import Database
from eval.measures.context import Context
from eval.measures.execution import execution_accuracy
from eval.portability.predictions import predictions
from eval.portability.translate import translate


@dataclass(frozen=True)
class Engine:
    """One engine's words for the gold query, and its database of the question."""

    gold: str
    context: Context

    @property
    def dialect(self) -> str:
        return self.context.database.dialect


@dataclass(frozen=True)
class Case:
    """One prediction judged on every engine; by sqlglot's dialect, the engine's own words for it
    and the verdict."""

    id: str
    db_id: str
    kind: str
    engines: tuple[Engine, ...]
    predicted: dict[str, str]
    verdicts: dict[str, bool]

    @property
    def agrees(self) -> bool:
        return len(set(self.verdicts.values())) == 1

    @property
    def errors(self) -> dict[str, str]:
        """What each engine that can't run the prediction said of it, by dialect."""
        answers = {e.dialect: e.context.run(self.predicted[e.dialect]) for e in self.engines}
        return {d: answer.error for d, answer in answers.items() if answer.error is not None}


@dataclass(frozen=True)
class NotPortable:
    """A query that one engine can't run; `error` is None where it has no known form there."""

    dialect: str
    error: str | None


def on_engines(
    question: Question, databases: Sequence[Database]
) -> tuple[Engine, ...] | NotPortable:
    """The gold query of `question` on every database, where all of them run it."""
    engines = []
    for database in databases:
        context = Context(question, database)
        gold = translate(question.example.sql, database.dialect)
        if gold is None:
            return NotPortable(database.dialect, None)
        if (error := context.run(gold).error) is not None:
            return NotPortable(database.dialect, error)
        engines.append(Engine(gold, context))
    return tuple(engines)


def cases(
    question: Question, engines: tuple[Engine, ...], others: Sequence[str], *, num_mutants: int
) -> Iterator[Case | NotPortable]:
    """The predictions for `question`, judged; NotPortable for one that says nothing, since no
    engine runs it or sqlglot has no words for it."""
    example = question.example
    chosen = predictions(example.sql, question.schema, others, num_mutants=num_mutants)
    for prediction in chosen:
        words = {e.dialect: translate(prediction.sql, e.dialect) for e in engines}
        predicted = {dialect: sql for dialect, sql in words.items() if sql is not None}
        if missing := [dialect for dialect, sql in words.items() if sql is None]:
            yield NotPortable(missing[0], None)
            continue
        verdicts = {
            e.dialect: execution_accuracy(predicted[e.dialect], e.gold, e.context) == 1
            for e in engines
        }
        case = Case(example.id, example.db_id, prediction.kind, engines, predicted, verdicts)
        errors = case.errors
        yield case if len(errors) < len(engines) else NotPortable(*next(iter(errors.items())))
