"""A result for people: the table, the one-line summary and the figure. Reads the record alone."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from eval.page.wording import explain_flag
from eval.record import HEADLINE, Estimated, Record, RecordError
from eval.task.figure import Figure, write_figure


def flag_notes(record: Record) -> list[str]:
    """How many items have each flag, in words."""
    n = record["data"]["n"]
    return [f"{count:,} of {n:,}: {explain_flag(flag)}" for flag, count in record["flags"].items()]


def table(record: Record) -> Table:
    """Measure, value ± standard error, 95 % interval and n, for the terminal."""
    title = f"{record['model']} on {record['data']['name']} ({record['api']})"
    grid = Table(title=escape(title), caption=error_method(record))
    for name in ("measure", "value ± stderr", "95 % interval", "n"):
        grid.add_column(name, justify="left" if name == "measure" else "right")
    for name, found in record["measures"].items():
        grid.add_row(name, _with_error(found), _interval(found), f"{found['n']:,}")
    return grid


def group_table(record: Record, kind: str) -> Table:
    """Execution accuracy of each group of one kind: `hardness`, `shape`, `db_id`, `training`."""
    grid = Table(title=f"{HEADLINE} by {kind}")
    for name in (kind, "value ± stderr", "n"):
        grid.add_column(name, justify="left" if name == kind else "right")
    for name, group in record["groups"][kind].items():
        grid.add_row(escape(name), _with_error(group["measures"][HEADLINE]), f"{group['n']:,}")
    return grid


def error_table(record: Record) -> Table:
    """How many answers are wrong for which first reason."""
    grid = Table("what went wrong first", title="wrong answers")
    grid.add_column("n", justify="right")
    for name, count in record["error_classes"].items():
        grid.add_row(name, f"{count:,}")
    return grid


def error_method(record: Record) -> str:
    """How the standard errors were made."""
    found = record["measures"][HEADLINE]
    if found["num_clusters"] > 1:
        return f"standard errors clustered by database ({found['num_clusters']})"
    return "one database only: standard errors take the questions as independent"


def summary(record: Record, path: Path) -> str:
    """The evaluation in one line, execution accuracy first."""
    first, *rest = record["measures"].items()
    head = f"{first[0]} {_with_error(first[1])} (n={first[1]['n']})"
    others = [f"{name} {_with_error(found)}" for name, found in rest]
    return " · ".join([head, *others, f"result {path}"])


def _with_error(found: Estimated) -> str:
    stderr = "n/a" if found["stderr"] is None else f"{found['stderr']:.3f}"
    return f"{found['value']:.3f} ± {stderr}"


def _interval(found: Estimated) -> str:
    interval = found["interval"]
    return "n/a" if interval is None else f"{interval[0]:.3f} – {interval[1]:.3f}"


def write_result_figure(record: Record, name: str, note: str = "", measure: str = HEADLINE) -> Path:
    """Write `measure` as the figure `name`: names, ids and numbers, no text of the data.

    Raises:
        RecordError: the result lacks the measure.
    """
    if measure not in record["measures"]:
        known = ", ".join(record["measures"])
        raise RecordError(f"figure {name}: the result has no {measure!r}; there: {known}")
    found = record["measures"][measure]
    versions = ", ".join(record["versions_used"]) or record["model"]
    notes = (
        f"model {versions}; data {record['data']['name']}; api {record['api']}; "
        f"judge: {record['judge']['description']}; {error_method(record)}; "
        f"{record['num_errors']} requests failed" + (f"; {note}" if note else "")
    )
    return write_figure(
        Figure(
            name,
            value=found["value"],
            unit="share of questions",
            n=found["n"],
            interval=None
            if found["interval"] is None
            else (found["interval"][0], found["interval"][1]),
            notes=notes,
            rows=[
                *_measure_rows(record),
                *_group_rows(record),
                *_class_rows(record),
                *({"flag": flag, "n": count} for flag, count in record["flags"].items()),
            ],
        )
    )


def _measure_rows(record: Record) -> list[dict[str, object]]:
    return [
        {
            "measure": name,
            **{key: found[key] for key in ("value", "stderr", "n", "interval", "bootstrap")},
        }
        for name, found in record["measures"].items()
    ]


def _group_rows(record: Record) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for kind in ("hardness", "shape", "training"):
        for name, group in record["groups"].get(kind, {}).items():
            found = group["measures"][HEADLINE]
            value = {key: found[key] for key in ("value", "stderr", "n")}
            rows.append({"group": kind, "name": name, **value})
    return rows


def _class_rows(record: Record) -> list[dict[str, object]]:
    return [
        {"error_class": name, "n": count, "share": count / record["data"]["n"]}
        for name, count in record["error_classes"].items()
    ]
