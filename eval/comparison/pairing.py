"""Two results brought together item by item, or refused where they are of different questions.

Knows nothing of differences in score.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.record import Item, Record

# The fields of an item that a comparison reads.
ITEM_FIELDS: dict[str, type] = {
    "id": str,
    "db_id": str,
    "question": str,
    "golds": list,
    "scores": dict,
    "hardness": str,
    "shape": list,
}
RECORD_FIELDS: dict[str, type] = {
    "model": str,
    "created": str,
    "data": dict,
    "judge": dict,
    "versions": dict,
    "versions_used": list,
    "num_errors": int,
}
# What makes two items of one id the same question.
IDENTITY = ("question", "golds", "db_id")
NUM_EXAMPLES = 3
MAX_FLOAT = sys.float_info.max

Names = tuple[str, str]
Pair = tuple[Item, Item]


class CompareError(ValueError):
    """Two results that can't be compared; the message names the files, the items and why."""


def pair_items(a: Record, b: Record, names: Names) -> list[Pair]:
    """The items of `a`, in order, each with the same item of `b`; `names` are for messages.

    Raises:
        CompareError: a file is malformed, or the ids, questions, golds or databases differ.
    """
    before, after = _items_by_id(a, names[0]), _items_by_id(b, names[1])
    _check_ids(before, after, names)
    pairs = [(item, after[key]) for key, item in before.items()]
    for field in IDENTITY:
        if differ := [x["id"] for x, y in pairs if x.get(field) != y.get(field)]:
            raise CompareError(
                f"{names[0]} and {names[1]}: {len(differ):,} items have the same id but another "
                f"{field!r}: {_first(differ)}; evaluate both on the same data"
            )
    return pairs


def same_suite(a: Record, b: Record) -> bool:
    """True where both were judged on the same generated databases."""
    return bool(a["judge"].get("suite") == b["judge"].get("suite"))


def notes_on(a: Record, b: Record, names: Names) -> list[str]:
    """What differs in the making of two results and leaves them comparable.

    Raises:
        CompareError: only one judge lets columns be permuted.
    """
    judges = a["judge"], b["judge"]
    if bool(judges[0].get("permute_columns")) != bool(judges[1].get("permute_columns")):
        raise CompareError(
            f"{names[0]} and {names[1]}: only one was judged with permuted columns allowed; judge "
            "one of them again"
        )
    notes = [*_run_notes(a, names[0]), *_run_notes(b, names[1])]
    if a["data"].get("sha256") != b["data"].get("sha256"):
        notes.append("the data files differ, but the items compared are the same")
    return [
        *notes,
        *_differences("judge", *judges, names),
        *_differences("version", a["versions"], b["versions"], names),
    ]


def _run_notes(record: Record, name: str) -> Iterator[str]:
    if count := record["num_errors"]:
        yield f"{name}: {count:,} requests failed and count as wrong"
    if len(versions := record["versions_used"]) > 1:
        yield f"{name}: answered by {len(versions)} versions: {', '.join(versions)}"


def _differences(
    what: str, a: Mapping[str, Any], b: Mapping[str, Any], names: Names
) -> Iterator[str]:
    for key in sorted({*a, *b} - {"suite", "permute_columns"}):
        if a.get(key) != b.get(key):
            yield f"{what} {key}: {a.get(key)!r} in {names[0]}, {b.get(key)!r} in {names[1]}"


def _items_by_id(record: Record, name: str) -> dict[str, Item]:
    _check_fields(record, RECORD_FIELDS, where=name)
    found: dict[str, Item] = {}
    for number, item in enumerate(record["items"], start=1):
        where = f"{name}: item {number}"
        _check_fields(item, ITEM_FIELDS, where=where)
        _check_scores(item["scores"], where=where)
        if not all(isinstance(shape, str) for shape in item["shape"]):
            raise CompareError(f"{where}: field 'shape' must be a list of texts")
        if item["id"] in found:
            raise CompareError(f"{where}: id {item['id']!r} is there twice")
        found[item["id"]] = item
    if not found:
        raise CompareError(f"{name}: holds no items")
    return found


def _check_fields(value: object, fields: Mapping[str, type], *, where: str) -> None:
    if not isinstance(value, dict):
        raise CompareError(f"{where}: expected an object, found {type(value).__name__}")
    for field, kind in fields.items():
        if not isinstance(value.get(field), kind):
            found = f"is {type(value[field]).__name__}" if field in value else "is missing"
            raise CompareError(f"{where}: field {field!r} {found}, must be {kind.__name__}")


def _check_scores(scores: Mapping[str, object], *, where: str) -> None:
    for name, score in scores.items():
        if score is None or (isinstance(score, int | float) and abs(score) <= MAX_FLOAT):
            continue
        raise CompareError(f"{where}: score {name!r} must be a finite number or null")


def _check_ids(a: Mapping[str, Item], b: Mapping[str, Item], names: Names) -> None:
    sides = ((names[0], [i for i in a if i not in b]), (names[1], [i for i in b if i not in a]))
    differ = [f"{len(ids):,} only in {name}: {_first(ids)}" for name, ids in sides if ids]
    if differ:
        raise CompareError(
            f"{names[0]} and {names[1]} hold different items: {'; '.join(differ)}; evaluate both "
            "on the same data, with the same --limit"
        )


def _first(ids: Sequence[str]) -> str:
    shown = ", ".join(repr(i) for i in ids[:NUM_EXAMPLES])
    return shown + (", …" if len(ids) > NUM_EXAMPLES else "")
