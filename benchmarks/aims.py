"""Our figures by name: what each is, what it must reach and what we aim at. Data only."""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["at_least", "at_most", "report"]


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure must be (`must`; None: it is only reported) and what we hope for (`aim`)."""

    name: str
    what: str
    must: float | None = None
    aim: float | None = None
    direction: Direction = "report"

    def verdict(self, value: float) -> str:
        """`met`, `falls short` or `report only`; decided by `must`, never by `aim`."""
        if self.must is None:
            return "report only"
        met = value >= self.must if self.direction == "at_least" else value <= self.must
        return "met" if met else "falls short"


def _at_least(name: str, what: str, must: float | None, aim: float | None = None) -> Aim:
    return Aim(name, what, must, aim, "at_least")


def _at_most(name: str, what: str, must: float) -> Aim:
    return Aim(name, what, must, None, "at_most")


_VS_VLLM = (
    "/generate-sql with check and confidence against plain vLLM completions, H200, {} clients"
)

AIMS = (
    Aim(
        "setup_serve_seconds", "fresh clone, empty caches: make serve to the first answer, 2 cores"
    ),
    Aim("spider_dev_ex_base", "execution accuracy, base model, greedy free decoding"),
    _at_least("spider_dev_ex_bundled", "the same, bundled adapter", 0.45, 0.55),
    Aim("spider_dev_ex_seed_recipe", "the same, rank 16, alpha 32, q_proj and v_proj"),
    _at_least(
        "error_reduction_bundled", "(bundled - base) / (1 - base), SQL extracted", 0.25, 0.45
    ),
    _at_least("spider_dev_ex_best_policy", "bundled adapter, best decoding policy", 0.45, 0.60),
    Aim("spider_dev_valid_free", "share of answers that pass the check, free decoding"),
    _at_least("spider_dev_valid_auto", "the same, automatic policy", 1.0),
    Aim("spider_syn_ex_bundled", "execution accuracy on dev_syn.jsonl, free"),
    _at_least("train_speed_ratio", "tokens/s against plain TRL, no worse dev loss", 4),
    Aim("train_7b_shape_tokens_per_second", "QLoRA, Llama-2-7B shape, length 1,024"),
    _at_most("train_7b_shape_peak_gib", "the same, batch 1", 16),
    _at_most("judge_seconds_spider_dev", "1,026 predictions judged on 2 cores", 20),
    _at_least(
        "judge_mutation_catch_rate", "mutated golds told from golds (test suite)", None, 0.95
    ),
    _at_most("guard_hostile_passed", "unsafe statements passed, of at least 300", 0),
    _at_most("guard_gold_refused", "share of Spider's gold refused", 0.005),
    _at_least("guard_mutation_score", "mutation testing of the check", 0.85),
    _at_least("admission_mutation_score", "mutation testing of adapter admission", 0.85),
    _at_most("check_ms_p50", "one answer against a cached 30-table schema", 1.5),
    _at_most("grammar_build_ms_30_tables", "uncached", 50),
    _at_most("adapters_hostile_accepted", "of at least 40 kinds", 0),
    _at_most("swap_failed", "1,000 adapter swaps under load", 0),
    _at_most("swap_stale", "1,000 adapter swaps under load", 0),
    _at_most("swap_p99_ratio", "1,000 adapter swaps under load", 1.2),
    _at_most("rollout_wrong_promotions", "share of 200 rollouts of a worse candidate", 0.05),
    _at_least("confidence_auroc", "Spider dev, calibrator from other databases", 0.90),
    _at_most("confidence_ece", "Spider dev, calibrator from other databases", 0.05),
    _at_most(
        "promised_error_excess", "realised minus promised error at 0.1, 100 splits, mean", 0.01
    ),
    _at_least("confidence_throughput_ratio", "requests/s with against without, 256 clients", 0.95),
    _at_most("facade_added_ms_p50", "mock engine, 16 clients, completions route", 1),
    _at_most("facade_added_ms_p99", "mock engine, 16 clients, completions route", 3),
    _at_least("generate_sql_rps_per_worker", "mock engine", 400),
    _at_least("throughput_ratio_vs_vllm_1", _VS_VLLM.format(1), 1.0, 1.5),
    _at_least("throughput_ratio_vs_vllm_32", _VS_VLLM.format(32), 1.0, 1.5),
    _at_least("throughput_ratio_vs_vllm_256", _VS_VLLM.format(256), 1.0, 1.5),
    _at_least("throughput_ratio_vs_vllm_1024", _VS_VLLM.format(1024), 1.0, 1.5),
    _at_least("throughput_ratio_vs_vllm_7b_256", "the same, 7B shape, 256 clients", 0.97),
    _at_most("overload_reject_ms_p99", "10 times capacity", 20),
    _at_least("overload_goodput_share", "10 times capacity", 0.95),
    _at_most("disconnect_idle_ms", "client gone to engine idle", 200),
    _at_most("drain_lost", "running requests lost by a drain", 0),
    _at_most("engine_kill_not_ready_ms", "engine killed to not ready", 1000),
    _at_most("api_fuzz_5xx", "schemathesis, all modes, at least 1,000 examples an operation", 0),
    _at_most("axe_violations", "the page, Chromium", 0),
    _at_most("page_kib", "the page, Chromium", 300),
    _at_most("dialect_explain_failures", "of 200 valid answers per real database", 0),
    _at_least("scale_efficiency_4gpu", "requests/s per GPU, four against one", 0.9),
    _at_most("planner_error", "predicted against measured p99, worst of two workloads", 0.15),
)
