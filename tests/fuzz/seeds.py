"""The statements that fuzzing starts from: the hostile corpus without its largest bombs."""

from benchmarks.corpus import CORPUS, load_corpus
from eval.task.dialect import DIALECTS

MAX_CHARACTERS = 2000


def seeds() -> tuple[str, ...]:
    """Each distinct text of the corpus, sorted."""
    texts = {case.sql for case in load_corpus(CORPUS, DIALECTS)}
    return tuple(sorted(text for text in texts if len(text) <= MAX_CHARACTERS))
