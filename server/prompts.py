"""The prompt for one question: of what its asker may read, as much as fits."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from eval.task.grants import restrict
from eval.task.prompt import BASE_FORMAT
from eval.task.prune import PruneError, prune
from eval.task.schema import Schema
from server.adapters.served import Served
from server.databases import Database
from server.errors import ContextLengthExceeded

BASE_DIALECT = "sqlite"
# What the base model's own chat template adds to a message, tokens.
CHAT_TOKENS = 64
MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, the part of the schema that it shows, and the names that it leaves out."""

    text: str
    schema: Schema
    left_out: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What was left out, in words."""
        more = len(self.left_out) - MAX_NAMED
        named = ", ".join(self.left_out[:MAX_NAMED])
        return f"left out of the prompt to fit: {named}" + (f" and {more} more" if more > 0 else "")


def readable(database: Database, key: str | None) -> Schema:
    """What of the database the caller with the API key `key` may read; maybe no table at all."""
    grants = database.grants_for(key)
    return _restricted(database.schema, grants) if grants else database.schema


# Cached so that what is cached by schema, such as its grammar, is found again.
_restricted = lru_cache(maxsize=1024)(restrict)


def written_dialect(served: Served) -> str:
    """The dialect that the model writes: that which its adapter was trained on."""
    return served.manifest.dialect if served.manifest else BASE_DIALECT


def compose(
    served: Served,
    schema: Schema,
    question: str,
    *,
    count: Callable[[str], int] | None,
    limit: int,
) -> Prompt:
    """The prompt in the served version's own format, of at most `limit` tokens by `count`.

    Without `count` the whole schema is shown, and the engine refuses what is too long for it.

    Raises:
        ContextLengthExceeded: not even the table that the question is most likely about fits.
    """
    prompt_format = served.manifest.prompt_format if served.manifest else BASE_FORMAT

    def render(part: Schema) -> str:
        return prompt_format.render(part, question, written_dialect(served))

    if count is None:
        return Prompt(render(schema), schema)
    most = limit if served.manifest else limit - CHAT_TOKENS
    try:
        pruned = prune(schema, question, lambda part: count(render(part)) <= most)
    except PruneError as error:
        found = count(render(schema))
        raise ContextLengthExceeded(
            f"schema and question are {found} tokens; at most {most} fit, and no table of it does",
            param="ddl",
            hint="send only the tables that the question needs",
        ) from error
    return Prompt(render(pruned.schema), pruned.schema, pruned.left_out)
