"""What is measured and how: the target asked, and the plan of the requests; both checked once.

Knows nothing of HTTP.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

DEFAULT_MAX_TOKENS = 128


class BenchError(ValueError):
    """A benchmark that can't be run as asked; the message is one line that says what to change."""


class Api(StrEnum):
    """The routes that can be measured."""

    GENERATE_SQL = "generate-sql"
    COMPLETIONS = "completions"
    CHAT = "chat"


PATHS = {
    Api.GENERATE_SQL: "/generate-sql",
    Api.COMPLETIONS: "/v1/completions",
    Api.CHAT: "/v1/chat/completions",
}


@dataclass(frozen=True)
class Target:
    """Where requests go and what each asks for."""

    base_url: str
    api: Api = Api.GENERATE_SQL
    model: str | None = None
    max_tokens: int | None = None
    logprobs: bool = False
    stream: bool = False
    timeout_seconds: float = 300.0

    def __post_init__(self) -> None:
        _check_url(self.base_url)
        if not (math.isfinite(self.timeout_seconds) and self.timeout_seconds > 0):
            raise BenchError(f"--timeout must be a number above 0, is {self.timeout_seconds}")
        if self.api is Api.GENERATE_SQL:
            for option, value in (("--max-tokens", self.max_tokens), ("--stream", self.stream)):
                if value:
                    raise BenchError(f"{option} is not for --api generate-sql; leave it out")
        if self.logprobs and self.api is not Api.COMPLETIONS:
            raise BenchError("--logprobs is only for --api completions; leave it out")

    @property
    def root(self) -> str:
        """The base URL without the closing `/v1` that OpenAI clients write."""
        return self.base_url.rstrip("/").removesuffix("/v1")

    @property
    def url(self) -> str:
        return self.root + PATHS[self.api]


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BenchError(f"--base-url must be http(s)://HOST[:PORT], is {url!r}")
    if parts.username is not None:
        raise BenchError("--base-url must hold no user name or password; set SQLWRIGHT_API_KEY")


@dataclass(frozen=True)
class Plan:
    """How many requests, at what pace: a closed loop by `concurrency`, or an open one by `rate`.

    `requests` or `seconds` limit each of the `blocks`; `warmup` requests go first, unmeasured.
    """

    requests: int | None = None
    seconds: float | None = None
    concurrency: int | None = None
    rate: float | None = None
    warmup: int = 0
    blocks: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _check_one_of("--requests", self.requests, "--seconds", self.seconds)
        _check_one_of("--concurrency", self.concurrency, "--rate", self.rate)
        if self.warmup < 0 or self.blocks < 1:
            raise BenchError("--warmup must be at least 0 and --blocks at least 1")

    @property
    def loop(self) -> str:
        return "closed" if self.rate is None else "open"


def _check_one_of(first: str, one: float | None, second: str, other: float | None) -> None:
    if (one is None) == (other is None):
        raise BenchError(f"give {first} or {second}, not both")
    for option, value in ((first, one), (second, other)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise BenchError(f"{option} must be a number above 0, is {value}")
