"""A tiny random model in this process: what it answers, and that nothing of it is changed."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from eval.ask.local_model import LocalModel, LocalModelError
from eval.dataset import Question
from eval.task.example import Example
from eval.task.prompt import BASE_FORMAT, PromptFormat
from eval.task.schema import parse_ddl
from tests.conftest import make_bundle

SPECIAL = ["<pad>", "<bos>", "<eos>"]
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %} ->{% endif %}"
)
DDL = "CREATE TABLE users (id INT, name TEXT)"
TEXTS = ["Who?", "How many users are there in all cities of France?", "All names", "", "a \ud800 b"]


def tokenizer(**special: str) -> Any:
    """A token a byte."""
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    fast = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    names = special or {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=fast, **names)


def llama(**config: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 999}
    usual = {"vocab_size": 259, "eos_token_id": 2, "bos_token_id": 1, "initializer_range": 0.5}
    return LlamaForCausalLM(LlamaConfig(**sizes | heads | usual | config))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Of a model this small threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plain() -> Any:
    return llama()


@pytest.fixture(scope="module")
def tuned() -> Any:
    model = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=1.0)
    return model


def asked(texts: list[str] = TEXTS) -> list[Question]:
    schema = parse_ddl(DDL)
    examples = [Example(str(i), "shop", text, "SELECT 1") for i, text in enumerate(texts)]
    return [Question(example, Path("shop.sqlite"), DDL, schema) for example in examples]


def make(model: Any, **changes: Any) -> LocalModel:
    return LocalModel(model, tokenizer(), **{"max_new_tokens": 12} | changes)


def test_batches_change_no_answer_and_keep_the_order(plain: Any) -> None:
    one = list(make(plain, batch_size=1).answers(asked()))
    many = list(make(plain, batch_size=3).answers(asked()))
    assert [a.predicted for a in many] == [a.predicted for a in one]
    assert [a.confidence for a in many] == pytest.approx([a.confidence for a in one], rel=1e-3)
    assert len({a.predicted for a in many}) > 1


def test_more_questions_than_a_window_holds(plain: Any) -> None:
    texts = [f"Question {i}" for i in range(18)]
    model = make(plain, batch_size=1, max_new_tokens=2)
    found = [answer.predicted for answer in model.answers(asked(texts))]
    assert found == [next(model.answers(asked([text]))).predicted for text in texts]


def test_no_questions_no_answers(plain: Any) -> None:
    assert list(make(plain).answers([])) == []


def test_the_confidence_is_the_probability_of_the_whole_answer(plain: Any) -> None:
    (question,) = asked(["All names"])
    model = make(plain)
    (answer,) = model.answers([question])
    prompt = tokenizer()(PromptFormat().render(question.schema, "All names"))["input_ids"]
    ids, total = torch.tensor([prompt]), 0.0
    with torch.no_grad():
        for _ in range(answer.completion_tokens or 0):
            logprobs = plain(input_ids=ids).logits[0, -1].log_softmax(-1)
            total += logprobs.max().item()
            ids = torch.cat([ids, logprobs.argmax().view(1, 1)], dim=1)
    assert answer.confidence == pytest.approx(math.exp(total), rel=1e-3)
    assert answer.completion_tokens == 12
    assert answer.truncated


def test_an_answer_ends_at_the_first_stop_of_model_or_tokenizer(plain: Any) -> None:
    (question,) = asked(["All names"])
    whole = _written(plain, question)
    stop = next(i for i, token in enumerate(whole) if token not in whole[:i] and i > 2)
    plain.generation_config.eos_token_id = [whole[stop], 2]
    try:
        (answer,) = make(plain).answers([question])
    finally:
        plain.generation_config.eos_token_id = 2
    assert answer.completion_tokens == stop + 1
    assert not answer.truncated
    assert answer.predicted == tokenizer().decode(whole[:stop]).strip()


def _written(model: Any, question: Question) -> list[int]:
    ids = torch.tensor(
        [tokenizer()(PromptFormat().render(question.schema, "All names"))["input_ids"]]
    )
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(12):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    found: list[int] = ids[0, start:].tolist()
    return found


def test_sampling_and_penalties_of_the_model_are_left_out(plain: Any) -> None:
    expected = list(make(plain).answers(asked()))
    config = plain.generation_config
    config.do_sample, config.temperature, config.repetition_penalty = True, 5.0, 9.0
    try:
        assert list(make(plain).answers(asked())) == expected
    finally:
        config.do_sample, config.temperature, config.repetition_penalty = False, 1.0, 1.0


def test_the_base_is_the_model_without_its_adapter(plain: Any, tuned: Any) -> None:
    model = make(tuned)
    assert model.has_base
    assert not make(plain).has_base
    with_adapter = list(model.answers(asked()))
    without = list(model.base_answers(asked()))
    assert [a.predicted for a in without] == [a.predicted for a in _as_base()]
    assert [a.predicted for a in with_adapter] != [
        a.predicted for a in make(plain).answers(asked())
    ]
    assert list(model.answers(asked())) == with_adapter


def _as_base() -> Iterator[Any]:
    """The answers of the plain model, asked in the same words."""
    new = LoraConfig(r=1, target_modules=["q_proj"])  # adds zero until it is trained
    return make(get_peft_model(llama(), new)).base_answers(asked())


def test_a_base_is_asked_in_its_chat_template_as_the_server_asks_it(tuned: Any) -> None:
    (question,) = asked(["All names"])
    model = make(tuned)
    model.tokenizer.chat_template = TEMPLATE
    text = model.tokenizer.decode(model.base._prompt(question))
    assert text == f"user: {BASE_FORMAT.render(question.schema, 'All names')} ->"
    prompt = PromptFormat().render(question.schema, "All names")
    assert model.tokenizer.decode(model._prompt(question)) == prompt


def test_a_plain_model_has_no_base(plain: Any) -> None:
    with pytest.raises(LocalModelError, match="only a PEFT model has a base"):
        make(plain).base_answers(asked())


def test_a_bundle_says_how_to_ask_and_where_to_stop(tuned: Any, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", prompt_template="{schema}|{question}=", stop="A")
    model = make(tuned, bundle=bundle)
    assert model.tokenizer.decode(model._prompt(asked()[0])).endswith("|Who?=")
    assert tokenizer().convert_tokens_to_ids("A") in model._stops()
    assert tokenizer().convert_tokens_to_ids("A") not in model.base._stops()


@pytest.mark.parametrize("is_training", [True, False])
def test_model_and_tokenizer_stay_as_they_were(tuned: Any, is_training: bool) -> None:
    tuned.train(is_training)
    inner = tuned.base_model.model.model.layers[0]
    inner.train(not is_training)
    model = make(tuned)
    model.tokenizer.padding_side = "right"
    modes = {name: module.training for name, module in tuned.named_modules()}
    answers = model.base_answers(asked())
    next(answers)  # and is left before the end
    answers = model.answers(asked())
    next(answers)
    assert {name: module.training for name, module in tuned.named_modules()} == modes
    assert model.tokenizer.padding_side == "right"
    assert tuned.active_adapters == ["default"]
    assert all(not layer.disable_adapters for layer in tuned.modules() if hasattr(layer, "lora_A"))


def test_modes_come_back_after_a_failure(tuned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.train()

    def fail(**_: Any) -> None:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(tuned, "generate", fail)
    with pytest.raises(LocalModelError, match="too little memory for 5 prompts"):
        list(make(tuned).answers(asked()))
    assert all(module.training for module in tuned.modules())


def test_a_prompt_that_does_not_fit_is_an_error_of_its_own() -> None:
    model = make(llama(max_position_embeddings=300))
    first, second = model.answers(asked(["Who?", "Who? " * 200]))
    assert first.error is None
    assert second.error is not None
    assert "at most 288 fit" in second.error


def test_a_tokenizer_without_end_is_refused() -> None:
    model = LocalModel(llama(eos_token_id=None, bos_token_id=None), tokenizer(pad_token="<pad>"))
    model.model.generation_config.eos_token_id = None
    with pytest.raises(LocalModelError, match="no eos_token"):
        list(model.answers(asked()))


@pytest.mark.parametrize("given", [None, "spider", object(), torch.nn.Linear(1, 1)])
def test_what_is_no_model_is_refused(given: Any) -> None:
    with pytest.raises(LocalModelError, match="expected a transformers or PEFT model"):
        LocalModel(given, tokenizer())


def test_a_model_with_an_encoder_is_refused() -> None:
    config = T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=9)
    with pytest.raises(LocalModelError, match="only decoder-only"):
        LocalModel(T5ForConditionalGeneration(config), tokenizer())


@pytest.mark.parametrize("name", ["batch_size", "max_new_tokens"])
def test_a_number_below_one_is_refused(plain: Any, name: str) -> None:
    with pytest.raises(LocalModelError, match=f"{name} must be at least 1, is 0"):
        make(plain, **{name: 0})


def test_the_tokenizer_beside_the_weights_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-model"
    llama().save_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    with pytest.raises(LocalModelError, match="pass tokenizer="):
        LocalModel(model)
    tokenizer().save_pretrained(folder)
    assert LocalModel(model).tokenizer.eos_token == "<eos>"
    assert LocalModel(model).name == "tiny-model"


def test_a_model_from_nowhere_needs_its_tokenizer(plain: Any) -> None:
    with pytest.raises(LocalModelError, match="does not say where it is from: pass tokenizer="):
        LocalModel(plain)
