"""Preference pairs have, with the real tokenizer, the token ids of supervised training."""

from transformers import AutoTokenizer

from eval.task.base_model import embedded_base_model
from eval.task.prompt import PromptFormat
from trainer.pipeline.load import load_source
from trainer.pipeline.tokens import tokenise
from trainer.tuning.dev_set import prompt_of
from trainer.tuning.preference import tokenise_pairs


def test_pairs_have_the_token_ids_of_supervised_training():
    tokenizer = AutoTokenizer.from_pretrained(embedded_base_model())
    rows, form = load_source("samples", limit=20).rows, PromptFormat()
    pairs = [
        {"prompt": prompt_of(row, form), "chosen": row.sql, "rejected": " x\n"} for row in rows
    ]
    columns = tokenise_pairs(pairs, tokenizer, 4096)
    supervised = tokenise(rows, tokenizer, form, 4096).dataset
    prompts, chosen = columns["prompt_ids"], columns["chosen_ids"]
    assert [p + c for p, c in zip(prompts, chosen, strict=True)] == supervised["input_ids"]
    assert [len(c) for c in chosen] == [sum(mask) for mask in supervised["completion_mask"]]
    end = tokenizer.eos_token_id
    assert columns["rejected_ids"] == [[*tokenizer(" x\n")["input_ids"], end]] * len(rows)
    assert tokenizer.decode(chosen[0]) == rows[0].sql + tokenizer.eos_token
