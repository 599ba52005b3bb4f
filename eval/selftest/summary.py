"""The tally of a self-test as a table for people and as the project's figure."""

from collections.abc import Iterable
from typing import Any

from eval.selftest.check import FURTHER, Tally
from eval.suite.mutate import KINDS, MAIN_KINDS
from eval.task.figure import Figure


def catch_figure(tally: Tally, name: str) -> Figure:
    """The share of near misses of `MAIN_KINDS` that the suite tells from their gold; in `rows`
    each kind, by execution on the original database alone and with the suite."""
    main = _rates("four kinds", [f"mutant {kind}" for kind in MAIN_KINDS], tally)
    if not main["n"]:
        raise ValueError("no near miss of any of the four kinds was judged")
    return Figure(
        name,
        main["suite"],
        "share",
        main["n"],
        notes=_notes(tally, main),
        rows=[main, *_kind_rows(tally), *_other_rows(tally)],
    )


def _notes(tally: Tally, main: dict[str, Any]) -> str:
    later = sum(survivor.told_later for survivor in tally.survivors)
    wrong = sum(1 for s in tally.wrongly_exposed if s.num_databases)
    return (
        f"near misses of {tally.n['gold']} distinct golds, {tally.with_suite} of them with "
        "generated databases; half of the near misses, by hash, chose the databases, the other "
        "half is judged; those that fail to run are left out, equivalent ones are not: of "
        f"{len(tally.survivors)} survivors of all kinds {len(tally.survivors) - later} are not "
        f"told by {FURTHER} further databases either; by execution on the original alone "
        f"{main['execution']}; golds in other words taken for wrong: {wrong}"
    )


def describe(tally: Tally) -> str:
    """A table in plain text: what was judged, how many, and the shares told from the gold."""
    lines = [f"{'':<34}{'n':>8}{'execution':>11}{'suite':>9}"]
    for row in (
        *_other_rows(tally),
        _rates("four kinds", [f"mutant {kind}" for kind in MAIN_KINDS], tally),
        _rates("all kinds", [f"mutant {kind}" for kind in KINDS], tally),
        *_kind_rows(tally),
    ):
        shares = [f"{row[key]:.4f}" if row["n"] else "-" for key in ("execution", "suite")]
        lines.append(f"{row['what']:<34}{row['n']:>8}{shares[0]:>11}{shares[1]:>9}")
    later = sum(survivor.told_later for survivor in tally.survivors)
    lines.append(
        f"{len(tally.survivors)} near misses survive the suite, {later} of them are told by "
        f"further databases; {tally.with_suite} of {tally.n['gold']} golds have a suite"
    )
    lines += [f"not judged: {reason}" for reason in tally.lost]
    return "\n".join(lines)


def _kind_rows(tally: Tally) -> list[dict[str, Any]]:
    return [_rates(kind, [f"mutant {kind}"], tally) for kind in KINDS]


def _other_rows(tally: Tally) -> list[dict[str, Any]]:
    """Golds, other golds and reworded golds: the shares told from the gold, as everywhere."""
    names = sorted(name for name in tally.n if name.startswith("rewrite "))
    return [_rates(name, [name], tally) for name in ("gold", "shuffled", "neighbour", *names)]


def _rates(what: str, names: Iterable[str], tally: Tally) -> dict[str, Any]:
    names = list(names)
    n = sum(tally.n[name] for name in names)
    execution = 1 - sum(tally.by_execution[name] for name in names) / max(1, n)
    suite = 1 - sum(tally.by_suite[name] for name in names) / max(1, n)
    return {"what": what, "n": n, "execution": round(execution, 4), "suite": round(suite, 4)}
