"""The examples as the page's script reads them: compact, and safe inside a script element.

Every text is made visible here (`shown`), so the script only has to set it as text.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from markupsafe import Markup

from eval.comparison.compare import ComparisonRecord
from eval.page.text import count, is_number, label, shown
from eval.queries.sql_diff import Run, sql_diff
from eval.record import HEADLINE, Item, Preview, Record

LUCKY = "lucky_match"
# The filters that choose one of several values: name in the address, and its label.
FACETS = {
    "db": "Database",
    "hardness": "Hardness",
    "shape": "Query shape",
    "class": "Error class",
    "flag": "Flag",
    "change": "Change",
}

Payload = dict[str, Any]


def payload(record: Record, comparison: ComparisonRecord | None) -> Markup:
    """The JSON of all examples, for `<script type="application/json">`."""
    names, changes = list(record["measures"]), _changes(comparison)
    is_mixed = len(record["versions_used"]) > 1
    items = [_example(item, names, changes, is_mixed=is_mixed) for item in record["items"]]
    used = {value for item in items for facet in FACETS for value in item[facet]}
    whole = {
        "measures": [label(name) for name in names],
        "labels": {value: label(value) for value in sorted(used)},
        "databases": {
            shown(db_id): shown(database.get("ddl", ""))
            for db_id, database in record["databases"].items()
        },
        "items": items,
    }
    return script_json(whole)


def script_json(value: object) -> Markup:
    """JSON that holds no `<`, so neither `</script>` nor `<!--` can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def options(
    record: Record, comparison: ComparisonRecord | None
) -> dict[str, list[tuple[str, int]]]:
    """The values of each facet that some item has, with their counts; the frequent first."""
    changes = _changes(comparison)
    held = [_values(item, changes) for item in record["items"]]
    found = {facet: Counter(chain.from_iterable(v[facet] for v in held)) for facet in FACETS}
    return {
        facet: sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))
        for facet, counter in found.items()
        if counter
    }


def verdict(item: Item) -> str:
    """Whether the item is right by execution accuracy; "unjudged" where that is not defined."""
    score = item["scores"].get(HEADLINE)
    if score is None:
        return "unjudged"
    return "right" if score == 1 else "wrong"


def _cause(item: Item) -> list[str]:
    """The class that the record counts the item under, in `error_classes`; none if it is right."""
    return [] if verdict(item) == "right" else item["error_classes"][:1]


def _changes(comparison: ComparisonRecord | None) -> dict[str, str]:
    """What became of an item that changed, by its id."""
    if comparison is None:
        return {}
    fixed, broke = comparison["fixed"], comparison["broke"]
    return dict.fromkeys(fixed, "fixed") | dict.fromkeys(broke, "broke")


def _values(item: Item, changes: dict[str, str]) -> dict[str, list[str]]:
    found = {
        "db": [item["db_id"]],
        "hardness": [item["hardness"]],
        "shape": item["shape"],
        "class": item["error_classes"],
        "cause": _cause(item),
        "flag": item["flags"],
        "change": [changes.get(item["id"], "")],
    }
    return {facet: [shown(value) for value in values if value] for facet, values in found.items()}


def _example(
    item: Item, names: Sequence[str], changes: dict[str, str], *, is_mixed: bool
) -> Payload:
    predicted, gold = sql_diff(item["predicted"], item["gold"], item["dialect"])
    return {
        "id": shown(item["id"]),
        "verdict": verdict(item),
        "lucky": LUCKY in item["flags"],
        **_values(item, changes),
        "question": shown(item["question"]),
        "predicted": _pieces(predicted),
        "gold": _pieces(gold),
        "written": _written(item["predicted"], predicted),
        "golds": [shown(sql) for sql in item["golds"] if sql != item["gold"]],
        "scores": [_score(item["scores"].get(name)) for name in names],
        "answers": _answers(item),
        "error": shown(item["error"] or ""),
        "execution_error": shown(item["execution_error"] or ""),
        "facts": list(_facts(item, is_mixed=is_mixed)),
    }


def _pieces(runs: Sequence[Run]) -> list[str | list[str]]:
    """A run that both queries have as plain text, another as a list of its one text."""
    return [shown(text) if kind == "same" else [shown(text)] for text, kind in runs if text]


def _written(predicted: str, runs: Sequence[Run]) -> str:
    """The prediction as it came, where its layout for the diff says more or less than that."""
    laid_out = "".join(text for text, _ in runs)
    is_same = "".join(laid_out.lower().split()) == "".join(predicted.lower().split())
    return "" if is_same else shown(predicted)


def _score(score: float | None) -> float | None:
    return round(score, 3) if is_number(score) else None


def _answers(item: Item) -> list[Payload | None]:
    """The predicted and the gold answer, or one where both are the same."""
    predicted, gold = item["predicted_answer"], item["gold_answer"]
    if predicted is not None and predicted == gold:
        return [_grid(gold)]
    return [_grid(predicted), _grid(gold)]


def _grid(preview: Preview | None) -> Payload | None:
    """Cells as text, None for NULL; `numeric` names the columns that hold numbers only."""
    if preview is None:
        return None
    rows, columns = preview["rows"], preview["columns"]
    return {
        "columns": [shown(str(name)) for name in columns],
        "numeric": [int(_is_numeric(cells)) for cells in zip(*rows, strict=False)],
        "rows": [[_cell(value) for value in row] for row in rows],
        "n": preview["num_rows"],
    }


def _is_numeric(cells: Iterable[object]) -> bool:
    held = [cell for cell in cells if cell is not None]
    return bool(held) and all(map(is_number, held))


def _cell(value: object) -> str | None:
    """1 and 1.0 stay apart, which a JSON number in a browser would not keep."""
    return None if value is None else shown(str(value))


def _facts(item: Item, *, is_mixed: bool) -> Iterator[tuple[str, str]]:
    if is_number(item["confidence"]):
        yield "Confidence", f"{item['confidence']:.3f}"
    if is_number(item["latency_ms"]):
        yield "Latency", f"{item['latency_ms']:,.0f} ms"
    if item["completion_tokens"] is not None:
        yield "Completion", count(item["completion_tokens"], "token")
    if item["truncated"]:
        yield "Truncated", "yes"
    if item["server_valid"] is False:
        yield "Valid by the server", "no"
    if is_mixed and item["model"]:
        yield "Model", shown(item["model"])
