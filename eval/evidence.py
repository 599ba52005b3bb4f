"""The scores that travel with a bundle."""

from pathlib import Path
from typing import Any

from eval.comparison.compare import ComparisonRecord, compare, comparison_record
from eval.record import Record
from eval.task.bundle import put_evidence, read_bundle


def write_evidence(record: Record, folder: Path, against: Record | None) -> Path:
    """Write the scores to `folder/evidence/eval.json`; with `against`, a result of the base on the
    same questions, also what the adapter fixed and what it broke.

    Raises:
        BundleError: `folder` is no whole bundle.
        CompareError: `against` is of other questions.
    """
    evidence: dict[str, Any] = {
        "digest": read_bundle(folder).digest,
        **{name: record[name] for name in ("model", "data", "judge", "measures", "error_classes")},
    }
    if against:
        evidence["against_base"] = against_base(record, against)
    return put_evidence(folder, "eval.json", evidence)


def against_base(record: Record, base: Record) -> ComparisonRecord:
    """What changed from `base` to `record`.

    Raises:
        CompareError: `base` is of other questions.
    """
    return comparison_record(compare(base, record, names=("the base", "this result")))
