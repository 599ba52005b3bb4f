"""A question as chat messages for a general model, and the final text of its reply.

Knows nothing of SQL inside that text, of data sets or of HTTP.
"""

from collections.abc import Mapping
from typing import Any

# What the databases call themselves; other dialects go by sqlglot's name.
NAMES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "mysql": "MySQL"}

# Each rule answers a habit of general models that execution accuracy counts as wrong: extra
# columns to be helpful, DISTINCT or LIMIT to be safe, prose around the query.
SYSTEM = """\
You are an expert in {dialect}. You are given a database schema and a question. \
Answer with exactly one {dialect} query whose result answers the question.

Rules:
- Write only the SQL: no explanation, no comments, no Markdown.
- Write one statement that only reads: it starts with SELECT or WITH.
- Use only tables and columns of the schema, spelled as there. Join tables along their keys.
- Select exactly what the question asks for, in the order in which it asks: no further columns.
- Use DISTINCT, ORDER BY and LIMIT only where the question calls for them.
- Compare with the values that the question names, written as there."""

Message = dict[str, str]


def messages(ddl: str, question: str, dialect: str) -> list[Message]:
    """System and user message for `question` on the tables of `ddl`; `dialect` is sqlglot's name.

    The schema comes before the question, so that a server's prefix cache holds it.
    """
    system = SYSTEM.replace("{dialect}", NAMES.get(dialect, dialect))
    user = f"Schema:\n\n{ddl.strip()}\n\nQuestion: {' '.join(question.split())}"
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def final_text(message: Mapping[str, Any]) -> str:
    """What the model said at last: without its thinking, which some servers leave in the content.

    Empty for a refusal, a tool call, or thinking that ran out of tokens: those have no content.

    Raises:
        TypeError: the content is of a shape that no server is known to send.
    """
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content)
    if content is not None and not isinstance(content, str):
        raise TypeError(f"expected text, found {type(content).__name__}")
    spoken = (content or "").rpartition("</think>")[2]
    return spoken.partition("<think>")[0].strip()
