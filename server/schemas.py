"""The wire: every body that the server reads or writes; unknown fields are refused.

Only fields that are honoured are accepted.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from server.decode.options import Decoding, RepairName, Wanted
from server.suggest import Kind, Proof

MAX_QUESTION = 4000
MAX_SAMPLES = 16


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


def _clean_text(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("must not hold a lone surrogate")
    return text


class GenerateRequest(Wire):
    """A question, and what to ask it of."""

    natural_language_query: str = Field(
        max_length=MAX_QUESTION,
        description="the question, in English",
        examples=["Show me all users who signed up last month"],
    )
    database: str | None = Field(None, max_length=64, description="a registered database")
    ddl: str | None = Field(None, description="CREATE TABLE statements, instead of `database`")
    dialect: str | None = Field(
        None,
        max_length=32,
        description="dialect of `ddl` and of the answer; default: the database's",
    )
    model: str | None = Field(None, max_length=80, description="adapter alias, or alias@version")
    user: str | None = Field(
        None,
        max_length=256,
        description="whoever asks: a canary answers the same one alike; not kept",
    )
    decoding: Wanted | None = Field(
        None,
        description="free, constrained to the schema's grammar, or auto: free, and repaired if the "
        "check refuses it; default: the server's",
    )
    repair: RepairName | None = Field(
        None, description="how auto repairs what does not pass; default: the server's"
    )
    n: int = Field(1, ge=1, le=MAX_SAMPLES, description="samples, of which the vote decides")

    @field_validator("natural_language_query")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not any(c.isprintable() and not c.isspace() for c in value):
            raise ValueError("must not be empty")
        return _clean_text(value)

    @field_validator("ddl")
    @classmethod
    def _no_nul(cls, value: str | None) -> str | None:
        return None if value is None else _clean_text(value)

    @model_validator(mode="after")
    def _one_schema(self) -> "GenerateRequest":
        if self.database is not None and self.ddl is not None:
            raise ValueError("give `database` or `ddl`, not both")
        return self


class ViolationOut(Wire):
    code: str
    message: str
    name: str = ""
    suggestions: list[str] = []


class Usage(Wire):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class SuggestionOut(Wire):
    """What may be better said; `rewrite` is the whole query, `verdict` what is known of it."""

    kind: Kind
    message: str
    clause: str
    rewrite: str | None
    proof: Proof
    num_databases: int
    assumes: list[str]
    verdict: str


class GenerateResponse(Wire):
    """An answer; `valid` says whether it passed the check, `confidence` is raw until calibrated."""

    sql_query: str
    confidence: float = Field(ge=0, le=1)
    calibrated: bool
    valid: bool
    violations: list[ViolationOut]
    dialect: str
    tables: list[str]
    columns: list[str]
    suggestions: list[SuggestionOut]
    abstained: bool
    truncated: bool
    decoding: Decoding = Field(description="what won: free, constrained, continued or sampled")
    repaired: bool = Field(description="it took the place of a first answer that would not do")
    agreement: float | None = Field(
        ge=0, le=1, description="share of the `n` samples that agree with it"
    )
    masked_mass: float = Field(
        ge=0, le=1, description="probability that the grammar took from what the model would write"
    )
    notes: list[str] = Field(description="what else the asker should know, in words")
    model: str
    usage: Usage
    request_id: str
    timings_ms: dict[str, float]


class TableOut(Wire):
    name: str
    columns: list[str]


class DatabaseOut(Wire):
    name: str
    dialect: str
    tables: list[TableOut]


class DatabasesOut(Wire):
    default: str
    databases: list[DatabaseOut]


Stop = str | Annotated[list[str], Field(max_length=4)]


class SamplingFields(Wire):
    """What both OpenAI routes share; the engine honours each of them."""

    model: str = Field(max_length=80)
    max_tokens: int | None = Field(None, ge=1, le=1 << 20)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int = Field(1, ge=1, le=MAX_SAMPLES)
    stream: bool = False
    stream_options: dict[Literal["include_usage"], bool] | None = None
    stop: Stop | None = None
    seed: int | None = Field(None, ge=-(1 << 63), lt=1 << 63)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: Annotated[dict[str, float], Field(max_length=300)] | None = None
    user: str | None = Field(None, max_length=256, description="ignored by the engine, as by vLLM")

    def engine_body(self, model: str) -> dict[str, Any]:
        """The body for the engine, with the adapter's version in the alias's place."""
        return self.model_dump(exclude_none=True, exclude={"user"}) | {"model": model}


class CompletionRequest(SamplingFields):
    prompt: str | Annotated[list[str], Field(min_length=1, max_length=64)]
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    suffix: None = None
    best_of: int | None = Field(None, ge=1, le=1)


class ChatMessage(Wire):
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, StringConstraints(max_length=1 << 20)]
    name: str | None = Field(None, max_length=64)


class ChatRequest(SamplingFields):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=256)]
    max_completion_tokens: int | None = Field(None, ge=1, le=1 << 20)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)


class ModelOut(Wire):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "sqlwright"
    root: str
    parent: str | None = None


class ModelsOut(Wire):
    object: Literal["list"] = "list"
    data: list[ModelOut]
