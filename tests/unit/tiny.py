"""A tiny random model with a LoRA adapter, a byte tokenizer, and a database, for trainer tests."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from eval.task.schema import schema_from_sqlite
from trainer.pipeline.row import Row, dump_schema

EOS = 2
DDL = """
CREATE TABLE "pet shop" (id INTEGER PRIMARY KEY, name TEXT, city TEXT, stock INTEGER);
CREATE TABLE pet (id INTEGER PRIMARY KEY, shop INTEGER REFERENCES "pet shop" (id), kind TEXT);
INSERT INTO "pet shop" VALUES (1, 'Zoë''s', 'Ulm', 3), (2, 'Paws', 'Bonn', 3), (3, 'Fin', 'Ulm', 9);
INSERT INTO pet VALUES (1, 1, 'cat'), (2, 1, 'dog'), (3, 2, 'cat'), (4, 3, NULL);
"""


def byte_tokenizer() -> Any:
    """A token a byte; 0 pads, 1 begins, 2 ends."""
    words = ["<pad>", "<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    fast = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=fast, **names)


def llama(**config: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 2048}
    usual = {"vocab_size": 259, "eos_token_id": EOS, "bos_token_id": 1, "initializer_range": 0.5}
    return LlamaForCausalLM(LlamaConfig(**sizes | heads | usual | config))


def lora(model: Any = None, *, seed: int = 0, **config: Any) -> Any:
    """`model` with an adapter that changes what it says."""
    usual: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    usual["task_type"] = "CAUSAL_LM"
    tuned = get_peft_model(model or llama(), LoraConfig(**usual | config))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.3)
    return tuned


def make_database(folder: Path) -> Path:
    path = folder / "shops.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(DDL)
    return path


def row_on(path: Path, sql: str, **fields: Any) -> Row:
    """A row on the database at `path` whose gold query is `sql`."""
    usual = {"id": "r1", "db_id": "shops", "question": "Which?", "database": str(path)}
    usual["schema_json"] = dump_schema(schema_from_sqlite(path))
    return Row(**usual | {"sql": sql} | fields)
