"""Other words for the same things in the schema alone: the question's `country` is the schema's
`nation`, and a model learns to link them."""

import random

from trainer.pipeline.augment.concepts import Concepts
from trainer.pipeline.augment.mentions import Phrase, Question
from trainer.pipeline.augment.names import rename_row
from trainer.pipeline.augment.naming import stems
from trainer.pipeline.augment.pool import Pool, synonyms
from trainer.pipeline.row import Row

SHARE = 0.5
MAX_WORDS = 3


def synonym(row: Row, rng: random.Random, pool: Pool) -> Row | None:
    """`row` with synonyms in schema and query; None where no word has one that is free."""
    schema = row.schema
    if schema is None:
        return None
    concepts = Concepts(schema, set(Question(row.question).stems))
    known = synonyms()
    for table in schema.tables:
        phrase = concepts.phrase((table.name, ""))
        if phrase in known and rng.random() < SHARE and (new := _pick(phrase, concepts, rng)):
            concepts.move_words(phrase, new)
    for phrase, keys in concepts.groups().items():
        if phrase in known and rng.random() < SHARE and (new := _pick(phrase, concepts, rng)):
            concepts.move_group(phrase, keys, new)
    return rename_row(row, concepts.texts)


def _pick(phrase: Phrase, concepts: Concepts, rng: random.Random) -> Phrase | None:
    """A synonym all of whose new words are free."""
    free = [
        new
        for new in synonyms()[phrase]
        if concepts.taken.isdisjoint(set(stems(new)) - set(phrase)) and len(new) <= MAX_WORDS
    ]
    if not free:
        return None
    new = rng.choice(free)
    concepts.taken.update(stems(new))
    return new
