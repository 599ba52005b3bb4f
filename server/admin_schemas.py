"""Bodies of the admin API."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SHORT = "[0-9a-f]{12}"


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class PromoteRequest(Body):
    version: str | None = Field(
        None, pattern=f"^{SHORT}$", description="12 hex digits; default: the candidate"
    )


class RolloutRequest(Body):
    version: str = Field(pattern=f"^{SHORT}$", description="the candidate, 12 hex digits")
    share: float = Field(0.1, gt=0, le=1, description="of the alias's questions")
    automatic: bool = Field(True, description="evidence promotes it or rolls it back")


class PinRequest(Body):
    pinned: bool = Field(True, description="keep the alias's versions loaded")


class RefusalOut(BaseModel):
    """Why a version of the store is not served here."""

    version: str
    code: str
    reason: str


class AliasOut(BaseModel):
    """What the store says of an alias, and what this server serves as it."""

    alias: str
    active: str
    previous: str | None
    candidate: str | None
    mode: Literal["", "canary", "shadow"]
    share: float
    automatic: bool
    pinned: bool
    serving: str | None = Field(description="the version that answers here")
    serving_candidate: str | None = Field(description="the candidate, once it is loaded here")
    refused: list[RefusalOut]


class VersionOut(BaseModel):
    """A version in the store."""

    version: str
    bytes: int
    age_seconds: float
    aliases: list[str]


class AdaptersOut(BaseModel):
    aliases: list[AliasOut]
    versions: list[VersionOut]


class ValidatedOut(BaseModel):
    version: str
    admitted: Literal[True] = True
    rank: int
    target_modules: list[str]


class PublishedOut(BaseModel):
    version: str
    alias: str
    state: Literal["active", "canary", "shadow", "stored"]


class RecordsOut(BaseModel):
    """Lines of the audit log, the newest first."""

    records: list[dict[str, Any]]
