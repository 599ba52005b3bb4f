"""What measures, flags and error classes mean, in a sentence for the reader. Knows names only.

The definitions, with their sources, are the docstrings in `eval.measures`.
"""

from eval.queries.diagnose import CLASSES

MEASURES = {
    "execution_accuracy": "The predicted query gives the same rows as the gold query: duplicates "
    "count, order only where the gold query sorts.",
    "execution_accuracy_nonempty": "The same over the questions whose gold answer holds a row, "
    "since every query that finds nothing equals an empty answer.",
    "execution_accuracy_spider": "By Spider's rules: DISTINCT is dropped from both queries, and "
    "columns may stand in any order.",
    "execution_accuracy_bird": "By BIRD's rules: both answers hold the same set of rows, so "
    "duplicates and order do not count.",
    "test_suite_accuracy": "The same rows on several generated databases too, so that a lucky "
    "match on one does not count.",
    "exact_match": "The gold query itself, after both are written in one canonical form.",
    "exact_set_match": "Each clause holds the same parts as in the gold query, in any order; "
    "values are not compared (Spider).",
    "canonical_match": "The gold query after rewriting that cannot change its answer; another "
    "spelling of the same query may be missed.",
    "valid_sql": "One query that reads only tables and columns of the schema.",
    "runs": "The database executes it without an error, within the limits of time and rows.",
    "semantic_similarity_sql": "How alike the texts of both queries are, by sentence embeddings; "
    "high for many wrong queries too.",
    "semantic_similarity_rows": "How alike both answers are as text, by sentence embeddings.",
    "ves": "BIRD's efficiency score: the root of gold time over predicted time, 0 where wrong. "
    "Comparable on one machine only.",
}
FLAGS = {
    "empty_gold": "the gold query finds no rows, so every query that finds nothing is right",
    "zero_gold": "the gold answer is one row of zeros and NULLs, easily hit by accident",
    "lucky_match": "the answer is right on the question's own database, wrong on a generated one",
    "row_order_dependent": "the gold answer depends on the order in which rows are stored, so "
    "one more right or wrong says nothing",
}


def explain_class(name: str) -> str:
    return CLASSES.get(name, "")


def explain_measure(name: str) -> str:
    return MEASURES.get(name, "")


def explain_flag(name: str) -> str:
    return FLAGS.get(name, "")
