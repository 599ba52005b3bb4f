"""One small grammar of queries in two notations, llguidance's Lark and xgrammar's EBNF, so that the
two engines can be compared on the same language.

Its names are those of the schema, but no column is tied to a table in FROM: neither notation can
say that without rules that carry a parameter, and only llguidance has such.
"""

import json
import re

from eval.task.schema import Schema

# In the notation that both have in common; `column` and `table` come from the schema.
RULES = {
    "root": '"SELECT " items " FROM " table joins where group order',
    "items": 'item (", " item){0,4}',
    "item": 'column | aggregate column ")" | "COUNT(*)"',
    "aggregate": '"COUNT(" | "SUM(" | "AVG(" | "MIN(" | "MAX("',
    "joins": '(" JOIN " table " ON " column " = " column){0,3}',
    "where": '(" WHERE " condition ((" AND " | " OR ") condition){0,3})?',
    "condition": "column comparison value",
    "comparison": '" = " | " <> " | " < " | " <= " | " > " | " >= " | " LIKE "',
    "group": '(" GROUP BY " column (" HAVING COUNT(*)" comparison number)?)?',
    "order": '(" ORDER BY " item (" ASC" | " DESC")? (" LIMIT " number)?)?',
    "value": "text | number",
}
TEXT = "[a-zA-Z0-9 ,.:%_-]"
RULE = re.compile(r'"[^"]*"|\b(?:text|number)\b')


def lark(schema: Schema) -> str:
    """The grammar for llguidance, which wants what is regular as terminals."""
    rules = {name: _as_terminals(body) for name, body in RULES.items()} | _names(schema)
    lines = [f"{'start' if name == 'root' else name}: {body}" for name, body in rules.items()]
    return "\n".join([*lines, f"TEXT: /'{TEXT}{{0,40}}'/", "NUMBER: /-?[0-9]{1,10}/", ""])


def ebnf(schema: Schema) -> str:
    """The grammar for xgrammar."""
    lines = [f"{name} ::= {body}" for name, body in (RULES | _names(schema)).items()]
    return "\n".join([*lines, f'text ::= "\'" {TEXT}{{0,40}} "\'"', 'number ::= "-"? [0-9]{1,10}'])


def _as_terminals(body: str) -> str:
    return RULE.sub(lambda m: m[0].upper() if m[0] in ("text", "number") else m[0], body)


def _names(schema: Schema) -> dict[str, str]:
    columns = {
        f"column{i}": f"{json.dumps(f'{table.name}.')} ({_choice(table.column_names)})"
        for i, table in enumerate(schema.tables)
    }
    tables = _choice(tuple(table.name for table in schema.tables))
    return {"table": tables, "column": " | ".join(columns)} | columns


def _choice(names: tuple[str, ...]) -> str:
    return " | ".join(map(json.dumps, names))
