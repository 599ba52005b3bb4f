"""Metrics of each adapter version. A label is a version that is served, so series are bounded: they
go when their version does, and beyond `MAX_VERSIONS` all others share one label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

MAX_VERSIONS = 64
OTHER = "other"
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
OUTCOMES = ("valid", "invalid", "truncated", "failed", "passed_on")
KINDS = ("prompt", "completion")


class VersionMetrics:
    """Counts by version, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._names: set[str] = set()
        self.requests = Counter(
            "sqlwright_adapter_requests_total",
            "Requests by version and outcome: valid, invalid, truncated, failed; passed_on of /v1.",
            ["model", "outcome"],
            registry=registry,
        )
        self.tokens = Counter(
            "sqlwright_adapter_tokens_total",
            "Tokens of /generate-sql by version and kind: prompt, completion.",
            ["model", "kind"],
            registry=registry,
        )
        self.seconds = Histogram(
            "sqlwright_adapter_seconds",
            "Time of /generate-sql by version.",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.confidence = Histogram(
            "sqlwright_adapter_confidence",
            "Confidence of answers by version.",
            ["model"],
            buckets=SHARES,
            registry=registry,
        )
        self.residents = Gauge(
            "sqlwright_adapter_resident",
            "1 if the engine has the version loaded, as far as its use tells, else 0.",
            ["model"],
            registry=registry,
        )
        self.distance = Gauge(
            "sqlwright_adapter_fingerprint_distance",
            "Nats between the engine's and the trainer's log-probabilities, when it was loaded.",
            ["model"],
            registry=registry,
        )

    def answered(
        self, name: str, outcome: str, *, tokens: tuple[int, int], seconds: float, confidence: float
    ) -> None:
        """An answer of /generate-sql with `tokens` of prompt and completion."""
        model = self._label(name)
        self.requests.labels(model, outcome).inc()
        for kind, count in zip(KINDS, tokens, strict=True):
            self.tokens.labels(model, kind).inc(count)
        self.seconds.labels(model).observe(seconds)
        self.confidence.labels(model).observe(confidence)

    def counted(self, name: str, outcome: str) -> None:
        """A request of which nothing else is known."""
        self.requests.labels(self._label(name), outcome).inc()

    def resident(self, name: str, is_resident: bool) -> None:
        self.residents.labels(self._label(name)).set(is_resident)

    def proved(self, name: str, distance: float) -> None:
        self.distance.labels(self._label(name)).set(distance)

    def forget(self, name: str) -> None:
        """Remove the series of a version that is served no longer."""
        if name not in self._names:
            return
        self._names.remove(name)
        for outcome in OUTCOMES:
            self.requests.remove(name, outcome)
        for kind in KINDS:
            self.tokens.remove(name, kind)
        for metric in (self.seconds, self.confidence, self.residents, self.distance):
            metric.remove(name)

    def _label(self, name: str) -> str:
        if name in self._names:
            return name
        if len(self._names) >= MAX_VERSIONS:
            return OTHER
        self._names.add(name)
        return name
