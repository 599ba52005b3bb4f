"""Trainer and server see the same tokens: the contract that a tuned model depends on."""

import pytest
from transformers import AutoTokenizer

from eval.task.base_model import SPECIAL_TOKENS, embedded_base_model
from eval.task.samples import sample_examples, sample_schema
from server.generate import FileTokenizer
from tests.integration.live import Live
from trainer.config import TrainConfig
from trainer.data import Pair, tokenise_pair

CONFIG = TrainConfig(alias="contract")
EXAMPLES = sample_examples("test")[::10]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(embedded_base_model())


def test_the_end_of_a_sequence_is_the_same_whatever_library_made_the_tokenizer(tokenizer) -> None:
    found = {name: getattr(tokenizer, name) for name in SPECIAL_TOKENS}
    assert found == SPECIAL_TOKENS


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.id)
def test_the_loss_is_on_completion_and_end_only_and_prompts_have_equal_ids(
    tokenizer, example
) -> None:
    pair = Pair(example, sample_schema(example.db_id))
    row = tokenise_pair(pair, tokenizer, CONFIG)
    cut = row.completion_mask.index(1)
    assert row.completion_mask == [0] * cut + [1] * (len(row.input_ids) - cut)
    prompt = CONFIG.prompt_format.render(pair.schema, example.question, example.dialect)
    served = FileTokenizer(embedded_base_model())
    assert row.input_ids[:cut] == served.ids(prompt)
    assert tokenizer.decode(row.input_ids[cut:-1]) == example.sql
    assert row.input_ids[-1] == served.token_id("<|im_end|>")


def test_the_engine_counts_as_many_prompt_tokens_as_the_trainer(live: Live, tokenizer) -> None:
    example = EXAMPLES[0]
    pair = Pair(example, sample_schema(example.db_id))
    cut = tokenise_pair(pair, tokenizer, CONFIG).completion_mask.index(1)
    answer = live.ask(natural_language_query=example.question, database=example.db_id)
    assert answer["usage"]["prompt_tokens"] == cut
