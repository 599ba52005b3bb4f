"""`benchmarks.policies` with real evaluations, each a process of its own."""

import json
from pathlib import Path
from typing import Any

from benchmarks.policies import AUTO, FREE
from tests.unit.evaluating import ROWS, Engine, serving
from tests.unit.test_bench_policies import asked as asked
from tests.unit.test_bench_policies import run


class Halting(Engine):
    """Knows the answers on the zoo only; those on the band only where it may repair."""

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, reply = super().answer(path, body)
        if body["decoding"] == "free" and "singer" in body["ddl"]:
            reply |= {"sql_query": "SELECT gone FROM nowhere", "valid": False}
        return status, reply


def test_the_best_policy_is_found_and_paired_with_free_decoding(asked: Path) -> None:
    engine = Halting()
    with serving(engine) as url:
        done = run(url, "--policy", AUTO, "--results", "figures")
        assert done.exit_code == 0, done.output
        assert len(engine.asked) == 2 * len(ROWS)
        again = run(url, "--policy", AUTO, "--results", "figures")
    assert again.exit_code == 0, again.output
    assert len(engine.asked) == 2 * len(ROWS)  # what was asked before is not asked again
    free, auto = json.loads(done.stdout)["rows"]
    assert (free["policy"], auto["policy"]) == (FREE, AUTO)
    assert (free["accuracy"], auto["accuracy"]) == (2 / 6, 1.0)
    assert (free["valid"], auto["valid"]) == (2 / 6, 1.0)
    assert (auto["fixed"], auto["broke"], auto["points_over_free"]) == (4, 0, 66.67)
    best = json.loads((asked.parent / "figures/spider_dev_ex_best_policy.json").read_text())
    assert (best["value"], best["n"], len(best["rows"])) == (1.0, 6, 2)
    assert "best policy: auto" in best["notes"]
    valid = asked.parent / "figures/spider_dev_valid_{}.json"
    assert json.loads(Path(str(valid).format(FREE)).read_text())["value"] == 2 / 6
    assert json.loads(Path(str(valid).format(AUTO)).read_text())["value"] == 1.0
