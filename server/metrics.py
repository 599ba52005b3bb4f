"""The server's own Prometheus metrics: prefix `sqlwright_`, seconds, labels from closed sets."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from server.adapters.version_metrics import VersionMetrics

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """One set of metrics in one registry, so that tests and workers don't share state."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.answers = Counter(
            "sqlwright_answers_total",
            "Answers of /generate-sql by outcome: valid, invalid, truncated.",
            ["outcome"],
            registry=registry,
        )
        self.stage = Histogram(
            "sqlwright_stage_seconds",
            "Time in each stage of /generate-sql: prompt, engine, check, vote, repair, score, "
            "suggest.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.decodings = Counter(
            "sqlwright_decodings_total",
            "Answers of /generate-sql by what won: free, constrained, continued, sampled.",
            ["decoding"],
            registry=registry,
        )
        self.repairs = Counter(
            "sqlwright_repairs_total",
            "Answers that would not do, by repair and outcome: repaired, failed.",
            ["repair", "outcome"],
            registry=registry,
        )
        self.grammar_build = Histogram(
            "sqlwright_grammar_build_seconds",
            "Time to make the grammar of a schema that was not in the cache.",
            buckets=SECONDS,
            registry=registry,
        )
        self.grammar_cache = Counter(
            "sqlwright_grammar_cache_total",
            "Grammars that were asked for, by outcome: hit, miss.",
            ["outcome"],
            registry=registry,
        )
        self.confidence = Histogram(
            "sqlwright_confidence",
            "Confidence of answers, raw until calibrated.",
            buckets=SHARES,
            registry=registry,
        )
        self.tokens = Counter(
            "sqlwright_tokens_total",
            "Tokens of /generate-sql by kind: prompt, completion.",
            ["kind"],
            registry=registry,
        )
        self.adapter_loads = Counter(
            "sqlwright_adapter_loads_total",
            "Adapter versions that the store offered, by outcome: served, refused.",
            ["outcome"],
            registry=registry,
        )
        self.adapter_load_seconds = Histogram(
            "sqlwright_adapter_load_seconds",
            "Time to read, check, copy, load and prove a version, refused ones included.",
            buckets=SECONDS,
            registry=registry,
        )
        self.adapter_evictions = Counter(
            "sqlwright_adapter_evictions_total",
            "Versions that the engine dropped for others in use, as far as their use tells.",
            registry=registry,
        )
        self.by_version = VersionMetrics(registry)
        self.trials = Counter(
            "sqlwright_rollout_trials_total",
            "Questions that a rollout compares by: pair, active, candidate; dropped, failed.",
            ["kind"],
            registry=registry,
        )
        self.rollouts = Counter(
            "sqlwright_rollouts_decided_total",
            "Rollouts that this server ended by their evidence: promote, roll_back.",
            ["verdict"],
            registry=registry,
        )
        self.rollout_share = Gauge(
            "sqlwright_rollout_share",
            "Share of questions that the candidate of a rollout in progress is asked, by alias and "
            "mode: canary, shadow.",
            ["alias", "mode"],
            registry=registry,
        )
        self.adapter_refusals = Counter(
            "sqlwright_adapter_refusals_total",
            "Adapter versions that were refused, by code; see server/adapters/refusal.py.",
            ["code"],
            registry=registry,
        )
        self.adapters = Gauge("sqlwright_adapters", "Aliases being served.", registry=registry)
        self.inflight = Gauge(
            "sqlwright_inflight_requests", "Requests in progress.", registry=registry
        )
        self.rejected = Counter(
            "sqlwright_rejected_total",
            "Requests refused at the door, by reason: overloaded, too_large, unauthorized.",
            ["reason"],
            registry=registry,
        )
        self.engine_ready = Gauge(
            "sqlwright_engine_ready", "1 while the engine answers, else 0.", registry=registry
        )
        self.engine_restarts = Gauge(
            "sqlwright_engine_restarts", "Restarts of the engine's process.", registry=registry
        )

    def follow_restarts(self, count: Callable[[], float]) -> None:
        self.engine_restarts.set_function(count)
