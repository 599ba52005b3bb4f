"""Answers out of a file instead of a server, in the forms that people have them in.

The content says which form it is: a result of sqlwright-eval, JSONL by id, BIRD's JSON object by
position, or plain text with one query a line. Knows nothing of whether an answer is right.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from eval.ask.api import Answer, answer_from
from eval.dataset import Question
from eval.record import FORMAT

FORMS = (
    "a result of sqlwright-eval, JSONL with `id` and `predicted`, "
    "BIRD's object of queries by position, or text with one query a line"
)
SQL_NAMES = ("predicted", "prediction", "sql", "sql_query")
KNOWN = ("id", "db_id", "confidence", *SQL_NAMES)
ANSWER_NAMES = tuple(field.name for field in fields(Answer))
BIRD_SEPARATOR = "\t----- bird -----\t"
SPIDER_LINE = re.compile(r"(.*)\t([\w.-]+)\s*", re.DOTALL)


class PredictionsError(ValueError):
    """A file of predictions that can't be used; the message names it, the line and the remedy."""


@dataclass(frozen=True, slots=True)
class Found:
    """A prediction: where it stands, and for which question: `name` there, `index` in the data."""

    where: str
    name: str
    index: int | None
    answer: Answer
    db_id: str | None = None


def read_predictions(
    path: Path, questions: Sequence[Question], *, is_part: bool = False
) -> list[Answer]:
    """The answers in `path` to `questions`, in their order.

    `is_part`: these are the first questions of their data set, and what the file has for later
    ones is left out.

    Raises:
        PredictionsError: the file can't be read or is malformed, or it holds predictions for
            other questions than these.
    """
    text = _read_text(path)
    if text.lstrip()[:1] in ("{", "["):
        found = _json_predictions(path, text, questions)
    else:
        found = _text_predictions(path, text, questions, is_part=is_part)
    by_index = _by_index(found, questions, is_part=is_part)
    missing = [q.example.id for i, q in enumerate(questions) if i not in by_index]
    if missing:
        many = f"{len(missing)} of {len(questions)} questions"
        raise PredictionsError(f"{path}: no prediction for {many}, first {missing[0]!r}")
    return [by_index[i].answer for i in range(len(questions))]


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PredictionsError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PredictionsError(f"{path}: not UTF-8: {error.reason} at {error.start}") from error
    if not text.strip():
        raise PredictionsError(f"{path}: is empty; expected {FORMS}")
    return text


def _by_index(
    found: Iterator[Found], questions: Sequence[Question], *, is_part: bool
) -> dict[int, Found]:
    """Each question's one prediction."""
    by_index: dict[int, Found] = {}
    for item in found:
        if item.index is None:
            if is_part:
                continue
            raise PredictionsError(f"{item.where}: no question {item.name!r} in the data set")
        if before := by_index.get(item.index):
            raise PredictionsError(
                f"{item.where}: a second prediction for {item.name!r}; the first: {before.where}"
            )
        example = questions[item.index].example
        if item.db_id not in (None, example.db_id):
            raise PredictionsError(
                f"{item.where}: is for database {item.db_id!r}, but question {example.id!r} is on "
                f"{example.db_id!r}: the file is of other questions, or in another order"
            )
        by_index[item.index] = item
    return by_index


def _json_predictions(path: Path, text: str, questions: Sequence[Question]) -> Iterator[Found]:
    indexes = {question.example.id: i for i, question in enumerate(questions)}
    try:
        whole = _parse(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # more than one line
            return _jsonl(path, text, indexes)
        raise PredictionsError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise PredictionsError(f"{path}: not JSON: {error}") from error
    if isinstance(whole, dict) and isinstance(whole.get("items"), list):
        return _result(path, whole, indexes)
    if isinstance(whole, dict) and "id" in whole:
        return _jsonl(path, text.strip().replace("\n", " "), indexes)
    if isinstance(whole, dict) and whole and all(key.isdecimal() for key in whole):
        return _bird(path, whole, len(questions))
    raise PredictionsError(f"{path}: no predictions; expected {FORMS}")


def _parse(text: str) -> Any:
    """JSON in which no object names a field twice: all but the last would be lost."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ValueError(f"field {name!r} is there twice")
            found[name] = value
        return found

    return json.loads(text, object_pairs_hook=unique)


def _result(path: Path, record: Mapping[str, Any], indexes: Mapping[str, int]) -> Iterator[Found]:
    """The items of a result, of an earlier format too: what is read of them has not changed."""
    version = record.get("format", 1)
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise PredictionsError(f"{path}: format {version!r}, this version reads 1 to {FORMAT}")
    for number, item in enumerate(record["items"], start=1):
        where = f"{path}: item {number}"
        if not isinstance(item, dict) or not isinstance(item.get("id"), str):
            raise PredictionsError(f"{where}: no item of a result: it has no id")
        values = {name: item[name] for name in ANSWER_NAMES if name in item}
        answer = _answer(values, where=f"{where}, {item['id']!r}")
        yield Found(where, item["id"], indexes.get(item["id"]), answer, item.get("db_id"))


def _jsonl(path: Path, text: str, indexes: Mapping[str, int]) -> Iterator[Found]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _jsonl_line(line, indexes, where=f"{path}:{number}")


def _jsonl_line(line: str, indexes: Mapping[str, int], *, where: str) -> Found:
    try:
        row = _parse(line)
    except (ValueError, RecursionError) as error:
        raise PredictionsError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise PredictionsError(f"{where}: expected an object, found {type(row).__name__}")
    if unknown := sorted(row.keys() - set(KNOWN)):
        known = ", ".join(KNOWN)
        raise PredictionsError(f"{where}: unknown field {unknown[0]!r}: remove it; known: {known}")
    names = [name for name in SQL_NAMES if name in row]
    if len(names) != 1:
        held = f"both {names[0]!r} and {names[1]!r}: keep one" if names else "no field 'predicted'"
        raise PredictionsError(f"{where}: has {held}")
    if not isinstance(row.get("id"), str):
        raise PredictionsError(f"{where}: field 'id' must be text")
    values = {"predicted": row[names[0]], "confidence": row.get("confidence")}
    answer = _answer(values, where=where)
    return Found(where, row["id"], indexes.get(row["id"]), answer, row.get("db_id"))


def _answer(values: Mapping[str, Any], *, where: str) -> Answer:
    try:
        return answer_from(values)
    except ValueError as error:
        raise PredictionsError(f"{where}: {error}") from error


def _bird(path: Path, queries: Mapping[str, Any], num_questions: int) -> Iterator[Found]:
    """`{"0": "SELECT …\\t----- bird -----\\tDB_ID", …}`: what BIRD's `evaluation.py` reads."""
    for key, value in queries.items():
        where = f"{path}: key {key!r}"
        answer = _answer({"predicted": value}, where=where)
        sql, _, db_id = answer.predicted.partition(BIRD_SEPARATOR)
        index = int(key) if int(key) < num_questions else None
        yield Found(where, key, index, Answer(sql), db_id.strip() or None)


def _text_predictions(
    path: Path, text: str, questions: Sequence[Question], *, is_part: bool
) -> Iterator[Found]:
    lines = _numbered(path, text, len(questions), is_part=is_part)
    spider = all(SPIDER_LINE.fullmatch(line) for _, line in lines if line.strip())
    for index, (number, line) in enumerate(lines[: len(questions)]):
        example = questions[index].example
        found = SPIDER_LINE.fullmatch(line)
        sql, db_id = (found[1], found[2]) if found else (line, None)
        if not spider and db_id != example.db_id:
            sql, db_id = line, None  # a tab within the query
        yield Found(f"{path}:{number}", example.id, index, Answer(sql.strip()), db_id)


def _numbered(path: Path, text: str, wanted: int, *, is_part: bool) -> list[tuple[int, str]]:
    """The lines with their numbers. A blank line is an empty prediction, or none at all where
    only the other lines are as many as the questions, as in Spider's `evaluation.py`."""
    lines = list(enumerate(text.removesuffix("\n").split("\n"), start=1))
    shown = [line for line in lines if line[1].strip()]
    for form in (lines, lines[: lines.index(shown[-1]) + 1], shown):
        if len(form) == wanted or (is_part and len(form) > wanted):
            return form
    raise PredictionsError(
        f"{path}: {len(shown)} lines with a query, but there are {wanted} questions; "
        f"expected {FORMS}"
    )
