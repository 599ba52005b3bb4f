"""Keywords and values: what a grammar's texts are made of besides names."""

from server.grammar.budget import SHORT
from server.grammar.ground import Ground
from server.grammar.lark import choice

# No text here is the beginning of another that may stand in the same place, unless what can follow
# it begins otherwise than the rest of the other: llguidance takes the longest one that goes on.
KEYWORDS = {
    "SELECT": ("SELECT ",),
    "DISTINCT": ("DISTINCT ",),
    "STAR": ("*",),
    "FROM": (" FROM ",),
    "JOIN": (" JOIN ", " LEFT JOIN "),
    "ON": (" ON ",),
    "WHERE": (" WHERE ",),
    "GROUP_BY": (" GROUP BY ",),
    "HAVING": (" HAVING ",),
    "ORDER_BY": (" ORDER BY ",),
    "DIRECTION": (" ASC", " DESC"),
    "LIMIT": (" LIMIT ",),
    "AND": (" AND ",),
    "OR": (" OR ",),
    "NOT": ("NOT ",),
    "EXISTS": ("EXISTS(SELECT 1 FROM ", "EXISTS(SELECT * FROM "),
    "COMPARE": (" = ", " <> ", " < ", " <= ", " > ", " >= "),
    "EQUALS": (" = ",),
    "BETWEEN": (" BETWEEN ",),
    "LIKE": (" LIKE ", " NOT LIKE "),
    "IN": (" IN (",),
    "IS_NULL": (" IS NULL",),
    "OPERATOR": (" + ", " - ", " * ", " / "),
    "AGGREGATE": ("COUNT(", "SUM(", "AVG(", "MIN(", "MAX("),
    "COUNT_ALL": ("COUNT(*)",),
    "PERCENT": ("100 * ", "100.0 * ", "1.0 * "),
    "CASE": ("CASE WHEN ",),
    "WHEN": (" WHEN ",),
    "THEN": (" THEN ",),
    "ELSE": (" ELSE ",),
    "END_CASE": (" END",),
    "ONE_OR_NONE": (" THEN 1 ELSE 0 END",),
    "OPEN": ("(",),
    "CLOSE": (")",),
    "COMMA": (", ",),
}
NUMBER = r"/-?[0-9]{1,10}|-?[0-9]{1,6}\.[0-9]{1,3}/"
COUNT = r"/[1-9][0-9]{0,3}/"
# What a string may hold: nothing that can't be seen, no backslash, which some dialects read. Of an
# ASCII character a tokenizer makes at most one token, of another up to four.
ASCII = r"[ !-&(-\[\]-~]"
NOT_ASCII = r"[^\x00-\x7f\p{C}\p{Zl}\p{Zp}]"
ANY = r"[^'\\\p{C}\p{Zl}\p{Zp}]"
MODIFIER = r"/(, '(start of (day|month|year)|[+-][0-9]{1,3} (day|month|year|hour|minute)s?)'){1,2}/"


def add_terminals(ground: Ground) -> None:
    """All terminals but names, and the rules of values. What is long costs more of the budget."""
    rules, spelling = ground.rules, ground.spelling
    for name, texts in KEYWORDS.items():
        rules.terminal(name, choice(texts))
    rules.terminal("SET_OPERATOR", choice(spelling.set_operators))
    rules.terminal("CALL", choice(spelling.calls))
    rules.terminal("NUMBER", NUMBER)
    rules.terminal("COUNT", COUNT)
    short, long = _add_texts(ground)
    values, long_values = [short, "NUMBER"], [long]
    if spelling.now:
        rules.terminal("NOW", choice(spelling.now))
        values.append("NOW")
    if spelling.dialect == "sqlite":
        rules.terminal("MODIFIERS", MODIFIER)
        rules.terminal("LONG_NOW", '("DATE("|"DATETIME(")"\'now\'"MODIFIERS")"')
        long_values.append("LONG_NOW")
    rules.terminal("value", "|".join(filter(None, values)))
    rules.terminal("long_value", "|".join(filter(None, long_values)) or values[-1])
    rules.terminal("few_values", "value COMMA value (COMMA value)?")
    many = "value (COMMA value){3,4}|long_value (COMMA value)?|value COMMA long_value"
    rules.terminal("many_values", many)


def _add_texts(ground: Ground) -> tuple[str, str]:
    """Terminals of strings; returns the names of those for values, short and long: where values
    were given, only they stand there, but a LIKE takes any pattern."""
    rules, options = ground.rules, ground.options
    doubled = "|''" if ground.spelling.doubles else ""
    most = options.max_string
    rules.terminal("SHORT_TEXT", f"/'({ASCII}{doubled}){{0,{SHORT}}}'/")
    ascii_only = f"({ASCII}{doubled}){{{SHORT + 1},{most}}}"
    mixed = f"({ASCII}{doubled}){{0,{most // 4}}}{NOT_ASCII}({ANY}{doubled}){{0,{most // 4}}}"
    rules.terminal("LONG_TEXT", f"/'({ascii_only}|{mixed})'/")
    if not options.values:
        return "SHORT_TEXT", "LONG_TEXT"
    names = []
    for name, is_long in (("SHORT_VALUE", False), ("LONG_VALUE", True)):
        texts = [v for v in options.values if (len(v) > SHORT) is is_long and len(v) <= most]
        written = dict.fromkeys(filter(None, map(ground.spelling.string, texts)))
        if written:
            rules.terminal(name, choice(written))
        names.append(name if written else "")
    return names[0], names[1]
