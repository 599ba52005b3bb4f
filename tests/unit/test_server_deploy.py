"""What is deployed beside the server: dashboards ask for metrics that there are."""

import json
import re
from pathlib import Path

import pytest

from server.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "server" / "deploy"
DASHBOARDS = sorted(DEPLOY.glob("grafana-*.json"))
SUFFIXES = re.compile(r"_(total|bucket|count|sum|created)$")


def labels_of(metrics: Metrics) -> dict[str, set[str]]:
    """The labels of each metric, by its name without a suffix."""
    names = metrics.registry._collector_to_names
    return {
        SUFFIXES.sub("", name): set(getattr(collector, "_labelnames", ()))
        for collector, own in names.items()
        for name in own
    }


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_for_metrics_and_labels_that_there_are(path):
    board, labels = json.loads(path.read_text()), labels_of(Metrics())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(asked) >= len(board["panels"]) > 4
    for expression in asked:
        names = {SUFFIXES.sub("", name) for name in re.findall(r"sqlwright_\w+", expression)}
        assert names
        assert names <= set(labels), expression
        known = {"le"}.union(*(labels[name] for name in names))
        groups = re.findall(r"by \(([^)]*)\)", expression)
        assert {word.strip() for group in groups for word in group.split(",")} <= known, expression
