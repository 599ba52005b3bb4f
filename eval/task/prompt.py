"""How a question becomes a prompt and how SQL is taken from a completion.

Trainer and server both render through here, so that a tuned model sees the very tokens that it was
trained on; a bundle's manifest records the format it was trained with.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from eval.task.schema import Column, ForeignKey, Schema, Table

# Schema first, question last: vLLM's prefix cache then holds the schema.
TEMPLATE = "-- {dialect}\n{schema}\n-- {question}\n"
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Words that no database, or not SQLite, reads as a bare name.
RESERVED = frozenset(
    """
    add all alter and as autoincrement between by case cast check collate commit constraint create
    cross current_date current_time current_timestamp default deferrable delete distinct drop else
    end escape except exists foreign from full group having in index inner insert intersect into is
    isnull join left like limit natural not nothing notnull null on or order outer primary raise
    references returning right select set table then to transaction union unique update using values
    when where with
    """.split()
)
FENCE = re.compile(r"```(?:\w+)?[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
STATEMENT = re.compile(r"\b(?:SELECT|WITH)\b", re.IGNORECASE)


class PromptError(ValueError):
    """A prompt format that this version can't render."""


def quote(name: str) -> str:
    """`name` as it must be written in SQL: bare where that is possible, else double-quoted."""
    is_bare = PLAIN.fullmatch(name) and name.lower() not in RESERVED
    return name if is_bare else '"' + name.replace('"', '""') + '"'


def _column(column: Column) -> str:
    return f"{quote(column.name)} {column.type}".rstrip()


def serialise_columns(schema: Schema) -> str:
    """One line a table: `singer(singer_id int, name text)`."""
    return "\n".join(
        f"{quote(t.name)}({', '.join(map(_column, t.columns))})" for t in schema.tables
    )


def _key_column(table: Table, column: Column, schema: Schema, prefix: str = "") -> str:
    parts = [prefix + _column(column)]
    if column.name in table.primary_key:
        parts.append("pk")
    for key in table.foreign_keys:
        if key.columns == (column.name,):
            parts.append(f"-> {_target(key, schema)}")
    return " ".join(parts)


def _target(key: ForeignKey, schema: Schema) -> str:
    target = schema.find(key.table)
    references = key.references or (target.primary_key if target else ())
    return ".".join(map(quote, (target.name if target else key.table, *references[:1])))


def serialise_keys(schema: Schema) -> str:
    """One line a table: `table singer: singer_id int pk, band int -> band.band_id, name text`.

    Each name follows a space, as it does in most places of a query: most tokenizers then give it
    the same tokens in both, which a small model copies more easily.
    """
    return "\n".join(
        f"table {quote(t.name)}: {', '.join(_key_column(t, c, schema) for c in t.columns)}"
        for t in schema.tables
    )


def serialise_qualified(schema: Schema) -> str:
    """As `serialise_keys`, with every column as queries name it in a join: `singer.singer_id int`.

    Longer, but a name is copied whole, so that fewer columns come from another table.
    """
    return "\n".join(
        f"table {quote(t.name)}: "
        + ", ".join(_key_column(t, c, schema, f"{quote(t.name)}.") for c in t.columns)
        for t in schema.tables
    )


SERIALISERS: dict[str, Callable[[Schema], str]] = {
    "columns": serialise_columns,
    "keys": serialise_keys,
    "qualified": serialise_qualified,
}


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """How prompts look: a template with `{dialect}`, `{schema}`, `{question}`, and a serialiser.

    With the question before the schema as well a small model reads the schema knowing what is
    asked; the prefix cache then no longer holds the schema.
    """

    template: str = TEMPLATE
    serialisation: str = "keys"

    def __post_init__(self) -> None:
        if self.serialisation not in SERIALISERS:
            known = ", ".join(SERIALISERS)
            raise PromptError(f"unknown serialisation {self.serialisation!r}; known: {known}")
        if self.template.count("{schema}") != 1:
            raise PromptError("the prompt template must hold {schema} once")
        if "{question}" not in self.template:
            raise PromptError("the prompt template must hold {question}")

    def render(self, schema: Schema, question: str, dialect: str = "sqlite") -> str:
        """The prompt for one question; line breaks in the question become spaces."""
        values = {
            "dialect": dialect,
            "schema": SERIALISERS[self.serialisation](schema),
            "question": " ".join(question.split()),
        }
        # One pass, so that braces in a question or a column name are never read as fields.
        return re.sub(r"\{(dialect|schema|question)\}", lambda m: values[m[1]], self.template)


# The base model has no bundle that says how to ask it: this, in its own chat template.
BASE_FORMAT = PromptFormat(
    "Tables of a {dialect} database:\n{schema}\n\n"
    "Write one {dialect} SELECT query that answers this question. Answer with SQL only.\n"
    "{question}",
    "columns",
)


def extract_sql(text: str) -> str:
    """The SQL in a completion, without closing semicolons: the first fenced block that holds a
    query, else from the first line on that starts with SELECT or WITH, else the text itself."""
    blocks = [block for block in FENCE.findall(text) if STATEMENT.search(block)]
    body = (blocks[0] if blocks else text).strip()
    if not blocks and not STATEMENT.match(body):
        lines = body.splitlines()
        starts = [i for i, line in enumerate(lines) if STATEMENT.match(line.strip())]
        body = "\n".join(lines[starts[0] :]) if starts else body
    end = len(body := body.strip() if blocks else body.partition("```")[0].strip())
    while end and (body[end - 1] == ";" or body[end - 1].isspace()):
        end -= 1
    return body[:end]
