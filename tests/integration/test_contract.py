"""Trainer and server see the same tokens: the contract that a tuned model depends on."""

import json
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from eval.task.base_model import BYTE_LEVEL, SPECIAL_TOKENS, embedded_base_model, of_bytes
from eval.task.bundle import read_bundle
from eval.task.prompt import PromptFormat
from eval.task.samples import sample_examples, sample_schema
from server.generate import FileTokenizer
from tests.integration.live import Live
from trainer.pipeline.row import Row, dump_schema
from trainer.pipeline.tokens import tokenise

BUNDLED = Path(__file__).parents[2] / "server" / "bundled" / "spider"
FORMATS = {
    "default": PromptFormat(),
    "bundled": read_bundle(BUNDLED).manifest.prompt_format,
    "question twice": PromptFormat("-- {question}\n{schema}\n-- {question}\n", "qualified"),
}
EXAMPLES = sample_examples("test")[::10]
ROWS = [
    Row(
        e.id, e.db_id, e.question, e.sql, e.dialect, schema_json=dump_schema(sample_schema(e.db_id))
    )
    for e in EXAMPLES
]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(embedded_base_model())


def test_the_end_of_a_sequence_is_the_same_whatever_library_made_the_tokenizer(tokenizer) -> None:
    found = {name: getattr(tokenizer, name) for name in SPECIAL_TOKENS}
    assert found == SPECIAL_TOKENS


def allowed_after(backend: Any, text: str, grammar: str) -> set[str]:
    """The tokens that the engine's grammar library allows after the token `text`."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL_TOKENS)
    size = len(tokenizer)
    matcher = LLMatcher(
        from_tokenizer(tokenizer, n_vocab=size), LLMatcher.grammar_from_lark(grammar)
    )
    assert matcher.consume_tokens(tokenizer.encode(text, add_special_tokens=False))
    mask = matcher.compute_bitmask()
    ids = (i for i in range(size) if mask[i // 8] >> (i % 8) & 1)
    return {tokenizer.decode([i]) for i in ids}


def as_transformers_5_17_reads_it(backend: Any) -> Any:
    """The same ids, with what SentencePiece's tokenizers need laid over them."""
    state = json.loads(backend.to_str())
    state["model"] |= {"byte_fallback": True, "fuse_unk": True, "unk_token": "<|endoftext|>"}
    marks = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    decoders = [{"type": "ByteFallback"}, {"type": "Fuse"}, marks, BYTE_LEVEL]
    state["decoder"] = {"type": "Sequence", "decoders": decoders}
    return Tokenizer.from_str(json.dumps(state))


def test_grammars_read_the_base_models_spaces_whatever_library_made_the_tokenizer(tokenizer):
    grammar = 'start: "SELECT " ("id" | "name")'
    meant = {f" {word[:length]}" for word in ("id", "name") for length in range(5)}
    own = tokenizer.backend_tokenizer
    other = as_transformers_5_17_reads_it(own)
    assert other.encode("SELECT name").ids == own.encode("SELECT name").ids
    assert allowed_after(own, "SELECT", grammar) <= meant
    assert allowed_after(other, "SELECT", grammar).isdisjoint(meant)  # why `of_bytes` is needed
    assert allowed_after(of_bytes(other), "SELECT", grammar) == allowed_after(
        own, "SELECT", grammar
    )


def test_the_base_model_keeps_its_chat_template(tokenizer) -> None:
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n")


@pytest.mark.parametrize("name", FORMATS)
def test_the_loss_is_on_completion_and_end_only_and_prompts_have_equal_ids(tokenizer, name) -> None:
    prompt_format = FORMATS[name]
    served = FileTokenizer(embedded_base_model())
    trained = tokenise(ROWS, tokenizer, prompt_format, 4096).dataset
    for row, ids, mask in zip(ROWS, trained["input_ids"], trained["completion_mask"], strict=True):
        cut = mask.index(1)
        assert mask == [0] * cut + [1] * (len(ids) - cut)
        prompt = prompt_format.render(sample_schema(row.db_id), row.question, row.dialect)
        assert ids[:cut] == served.ids(prompt)
        assert tokenizer.decode(ids[cut:-1]) == row.sql
        assert ids[-1] == served.token_id("<|im_end|>")


def test_the_engine_counts_as_many_prompt_tokens_as_the_trainer(live: Live, tokenizer) -> None:
    row = ROWS[0]
    trained = tokenise([row], tokenizer, FORMATS["bundled"], 4096).dataset
    cut = trained["completion_mask"][0].index(1)
    answer = live.ask(natural_language_query=row.question, database=row.db_id)
    assert answer["usage"]["prompt_tokens"] == cut
