"""Does a question say what its SQL does? Words of direction, comparison and aggregation are looked
for in one and the other; golds that people wrote disagree now and then.

Knows no names: a column called "maximum weight" looks like a maximum.
"""

import re

# Words of a question, and what its SQL must then hold.
SAYS: tuple[tuple[str, str], ...] = (
    (
        r"\b(?<!at )(?:least|lowest|smallest|fewest|minimum|min|earliest|ascending|alphabetical)\b",
        r"\bMIN\(|\bASC\b|ORDER BY (?!.*\bDESC\b)",
    ),
    (
        r"\b(?<!at )(?:most|highest|largest|greatest|maximum|max|latest|descending|biggest)\b",
        r"\bMAX\(|\bDESC\b",
    ),
    (r"\b(?:average|averages|mean)\b", r"\bAVG\("),
    (r"\bat least\b(?! one \w)|\bor more\b", r">="),
    (r"\bat most\b|\bor less\b|\bor fewer\b|\bno more than\b", r"<="),
    (r"\b(?:distinct|different|unique)\b", r"\bDISTINCT\b|GROUP BY|INTERSECT|UNION|EXCEPT"),
    (r"\bbetween\b.*\band\b", r"\bBETWEEN\b|>=.*<=|>.*<"),
)
# What a SQL text holds, and the words of which its question must have one.
NEEDS: tuple[tuple[str, str], ...] = (
    (
        r"\bDESC\b",
        "most|[a-z]+est|maximum|max|recent|recently|top|descending|high to low",
    ),
    (r"\bASC\b.* LIMIT", "least|[a-z]+est|minimum|min|first"),
    (r"\bMAX\(", "most|[a-z]+est|maximum|max"),
    (r"\bMIN\(", "[a-z]+est|least|minimum|min"),
    (r"\bAVG\(", "average|averages|mean"),
    (r"\bSUM\(", "total|sum|totals|combined|overall"),
    (r"\bDISTINCT\b", "distinct|different|unique"),
    (r" > ", "[a-z]+er than|more|greater|higher|larger|above|over|after|exceeds|exceeding|later"),
    (r" < ", "[a-z]+er than|less|fewer|lower|smaller|below|under|before|earlier"),
    (r" >= ", "least|more|less|equal"),
    (r" <= ", "most|less|fewer|more|equal"),
    (r" <> |\bNOT\b|\bEXCEPT\b", "not|no|never|without|other|except|excluding|don't|nor|but"),
    (
        r"\bORDER BY\b(?!.*LIMIT)",
        "order|ordered|sort|sorted|alphabetically|ascending|by",
    ),
    (r"\bOR\b|\bUNION\b", "or|either|and|both|as well"),
    (r"\bINTERSECT\b", "both|and|also|as well"),
    (r"\bBETWEEN\b", "between|range|from"),
    (r"COUNT\(\*\).* FROM ", "many|number|count|numbers|counts|most|fewest|least"),
    (
        r"\bLIKE '%",
        "contains?|containing|includes?|including|substring|words?|has|have|having|ends?|ending"
        "|letter|phrase|string|in",
    ),
    (r"\bLIKE '[^%]", "starts?|starting|begins?|beginning|prefix"),
)


def agrees(question: str, sql: str) -> bool:
    """False where one says a direction, a comparison or an aggregate that the other does not."""
    text = question.lower()
    says = all(re.search(held, sql) for words, held in SAYS if re.search(words, text))
    needs = (words for held, words in NEEDS if re.search(held, sql))
    return says and all(re.search(rf"\b(?:{words})\b", text) for words in needs)
