"""Settings of the server: environment variables `SQLWRIGHT_…`; unknown ones are an error."""

import os
import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from eval.task.base_model import BASE_MODEL, cache_folder
from eval.task.samples import DEFAULT
from eval.task.store import default_store
from server.decode.options import Agreement, RepairName, Wanted

PREFIX = "SQLWRIGHT_"
# Read by other parts under the same prefix; not the server's.
FOREIGN = frozenset(
    """
    API_KEY BASE_URL CACHE COMMIT HARDWARE MARIADB POSTGRES TEST_MARIADB TEST_POSTGRES TORCH_INDEX
    URL
    """.split()
)
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class Settings(BaseSettings):
    """Each field is `SQLWRIGHT_NAME` in the environment and `--name` on the command line."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", allow_inf_nan=False
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    store: Path = Field(default_factory=default_store, description="folder of the adapter store")
    databases: Path = Field(
        default_factory=lambda values: values["store"].parent / "databases",
        description="folder of the databases that were registered",
    )
    base_model: str = Field(
        BASE_MODEL, description="base model: the embedded one, a local folder, or a hub id"
    )
    engine_url: str = Field(
        "", description="use the vLLM server at this URL instead of starting one"
    )
    default_adapter: str = Field(
        "spider", description="alias that answers when a request names none"
    )
    default_database: str = Field(
        DEFAULT, description="registered database for requests with neither `database` nor `ddl`"
    )
    api_keys: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list, description="accepted API keys, separated by commas; none: open"
    )
    admin_keys: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list,
        description="keys of the admin API, separated by commas; none: there is no admin API",
    )
    admin_host: str = Field("127.0.0.1", description="address of the admin API's own listener")
    admin_port: int = Field(
        0, ge=0, le=65535, description="port of the admin API's own listener; 0: it has none"
    )
    uploads: bool = Field(False, description="take bundles over the admin API")
    max_upload_bytes: int = Field(
        256 << 20, ge=1024, description="largest uploaded bundle, packed or not, bytes"
    )
    cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="origins allowed by CORS, separated by commas"
    )
    max_body_bytes: int = Field(1 << 20, ge=1024, description="largest request body, bytes")
    max_inflight: int = Field(512, ge=1, description="requests in progress; more get 503")
    max_tokens: int = Field(256, ge=16, le=4096, description="completion tokens of an SQL answer")
    decoding: Wanted = Field(
        "auto", description="how answers are decoded: free, constrained, or auto (free, repaired)"
    )
    repair: RepairName = Field(
        "constrained",
        description="how auto repairs: constrained, continue, agree, execute or none",
    )
    repair_samples: int = Field(
        8, ge=1, le=16, description="samples of a repair by agreement or execution"
    )
    temperature: float = Field(0.7, gt=0, le=2, description="temperature of samples")
    agree_by: Agreement = Field(
        "execution", description="what a vote compares: answers on made-up rows (execution) or text"
    )
    run_queries: bool = Field(
        False, description="let repair=execute run checked queries on registered SQLite files"
    )
    suggest_ms: float = Field(
        20.0, ge=0, le=1000, description="time for suggestions on a valid answer, ms; 0: none"
    )
    max_model_len: int = Field(4096, ge=256, description="context length of the engine, tokens")
    max_num_seqs: int = Field(0, ge=0, description="sequences in one engine step; 0: by the device")
    max_loras: int = Field(4, ge=1, description="adapters in one engine step")
    max_cpu_loras: int = Field(
        0,
        ge=0,
        description="adapters that the engine keeps in memory; 0: by the store, at least 16",
    )
    max_lora_rank: int = Field(
        0,
        description="largest adapter rank: 1, 8, 16, 32, 64, 128, 256, 320 or 512; 0: by the "
        "store, at least 32",
    )
    store_gib: float = Field(
        0.0, ge=0, description="disk that the store may take, GiB; more is refused; 0: no limit"
    )
    rollout_margin: float = Field(
        0.05, gt=0, lt=1, description="share of usable answers by which a candidate may be worse"
    )
    rollout_error: float = Field(
        0.05, gt=0, lt=1, description="probability of each wrong verdict of a rollout, at most"
    )
    rollout_min_pairs: int = Field(30, ge=1, description="questions before a rollout is decided")
    rollout_max_pairs: int = Field(
        5000, ge=1, description="questions after which a rollout waits for an operator"
    )
    rollout_min_agreement: float = Field(
        0.2, ge=0, lt=1, description="share of equal answers below which a candidate is dropped"
    )
    kv_cache_gib: int = Field(2, ge=1, description="memory for the KV cache on a CPU, GiB")
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1, description="share of a GPU's memory")
    request_seconds: float = Field(120.0, gt=0, description="deadline of one request to the engine")
    adapter_seconds: float = Field(
        60.0, gt=0, description="deadline of reading one adapter version, or the aliases"
    )
    start_seconds: float = Field(900.0, gt=0, description="deadline of the engine's start")
    rescan_seconds: float = Field(
        5.0, gt=0, description="time between two scans of the store and of the databases"
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="log level")

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        for name in ("api_keys", "admin_keys", "cors_origins"):
            if isinstance(text := values.get(name), str):
                values[name] = [part.strip() for part in text.split(",") if part.strip()]
        return values

    @field_validator("max_lora_rank")
    @classmethod
    def _known_rank(cls, value: int) -> int:
        if value and value not in RANKS:
            raise ValueError(f"vLLM takes one of {', '.join(map(str, RANKS))}")
        return value

    @field_validator("engine_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", value):
            raise ValueError("must be http://HOST:PORT or https://…")
        return value

    @model_validator(mode="after")
    def _room_for_prompt(self) -> Self:
        if self.max_tokens >= self.max_model_len:
            raise ValueError("max_tokens: must be below max_model_len, to leave room for a prompt")
        return self

    @model_validator(mode="after")
    def _no_wildcard(self) -> Self:
        if "*" in self.cors_origins and self.api_keys:
            raise ValueError("cors_origins: name the origins; '*' is refused where keys are used")
        return self

    @model_validator(mode="after")
    def _keys_apart(self) -> Self:
        if {key.get_secret_value() for key in self.admin_keys} & {
            key.get_secret_value() for key in self.api_keys
        }:
            raise ValueError("admin_keys: must not be among api_keys")
        return self

    @model_validator(mode="after")
    def _rollout_can_end(self) -> Self:
        if self.rollout_min_pairs > self.rollout_max_pairs:
            raise ValueError("rollout_min_pairs: must be at most rollout_max_pairs")
        return self

    @property
    def run_folder(self) -> Path:
        """Where the engine's socket and log stand."""
        return cache_folder() / "run"

    @property
    def versions_folder(self) -> Path:
        """Where this process keeps the adapter versions that its engine may read."""
        return self.run_folder / f"versions-{os.getpid()}"


def unknown_variables() -> list[str]:
    """Environment variables with our prefix that no part reads: a misspelt setting."""
    known = {name.upper() for name in Settings.model_fields} | FOREIGN
    ours = [name for name in os.environ if name.startswith(PREFIX)]
    return sorted(name for name in ours if name.removeprefix(PREFIX) not in known)
