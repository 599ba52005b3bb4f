"""Answers of a transformers or PEFT model that lives in this process.

Greedy, in batches. Knows nothing of scores or files; leaves the model as it found it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from pathlib import Path
from typing import Any

from eval.ask.api import Answer
from eval.dataset import Question
from eval.task.bundle import read_bundle
from eval.task.dialect import resolve_dialect
from eval.task.prompt import BASE_FORMAT, PromptFormat, extract_sql

# So many batches are sorted by length together; answers, which come in order, wait for them.
WINDOW = 16


class LocalModelError(ValueError):
    """A model that can't be asked as it was given; the message says why and what to do."""


class LocalModel:
    """A causal language model of transformers, or one with a PEFT adapter on it.

    Asked in the prompt format of the bundle folder that its adapter was read from (`bundle`), else
    in the default one. Without a `tokenizer` the one that lies beside the model's weights.

    Raises:
        LocalModelError: no such model, no tokenizer to be found, or a number below 1.
        BundleError: `bundle` is no whole bundle.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        bundle: Path | str | None = None,
        batch_size: int = 8,
        max_new_tokens: int = 256,
    ) -> None:
        _check_model(model)
        for name, value in (("batch_size", batch_size), ("max_new_tokens", max_new_tokens)):
            if value < 1:
                raise LocalModelError(f"{name} must be at least 1, is {value}")
        self.model = model
        self.tokenizer = _find_tokenizer(model) if tokenizer is None else tokenizer
        self.manifest = read_bundle(Path(bundle)).manifest if bundle else None
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.is_base = False

    @property
    def has_base(self) -> bool:
        """True for a PEFT model: without its adapter it is its own base."""
        return hasattr(self.model, "peft_config") and hasattr(self.model, "disable_adapter")

    @property
    def base(self) -> "LocalModel":
        """The same model, asked with its adapter disabled.

        Raises:
            LocalModelError: this is no PEFT model.
        """
        if not self.has_base:
            raise LocalModelError("only a PEFT model has a base: its adapter can be disabled")
        base = copy(self)
        base.is_base, base.manifest = True, None
        return base

    @property
    def name(self) -> str:
        """The last part of the model's hub id or folder, with `+adapter` where one is asked."""
        path = getattr(self.model.config, "_name_or_path", "") or type(self.model).__name__
        return Path(path).name + ("+adapter" if self.has_base and not self.is_base else "")

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        """The answer to each question, in order; one whose prompt is too long has an `error`.

        A base is asked as our server asks it: in its chat template, where the tokenizer has one.

        Raises:
            LocalModelError: the device has too little memory for a batch.
        """
        size = self.batch_size * WINDOW
        for start in range(0, len(questions), size):
            yield from self._window([self._prompt(q) for q in questions[start : start + size]])

    def base_answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        """The answers of `base`.

        Raises:
            LocalModelError: this is no PEFT model, or the device has too little memory.
        """
        return self.base.answers(questions)

    def _prompt(self, question: Question) -> list[int]:
        """The token ids that the model reads."""
        usual = BASE_FORMAT if self.is_base else PromptFormat()
        prompt_format = self.manifest.prompt_format if self.manifest else usual
        dialect = resolve_dialect(question.example.dialect)
        text = prompt_format.render(question.schema, question.example.question, dialect)
        text = text.encode("utf-8", "replace").decode()  # no tokenizer takes a lone surrogate
        if self.is_base and self.tokenizer.chat_template:
            messages = [{"role": "user", "content": text}]
            return _ids(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True))
        return _ids(self.tokenizer(text))

    def _window(self, prompts: Sequence[list[int]]) -> list[Answer]:
        """The answers to `prompts`, found in batches of like length so that little is padded."""
        room = _max_positions(self.model) - self.max_new_tokens
        found = {
            i: Answer(error=f"the prompt is {len(ids)} tokens; at most {room} fit")
            for i, ids in enumerate(prompts)
            if len(ids) > room
        }
        order = sorted(set(range(len(prompts))) - set(found), key=lambda i: len(prompts[i]))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            found |= zip(chosen, self._batch([prompts[i] for i in chosen]), strict=True)
        return [found[i] for i in range(len(prompts))]

    def _batch(self, prompts: Sequence[list[int]]) -> list[Answer]:
        from torch import OutOfMemoryError

        stops = self._stops()
        try:
            with _undisturbed(self.model, without_adapter=self.is_base):
                tokens, logprobs = _generate(self.model, prompts, stops, self.max_new_tokens)
        except OutOfMemoryError as error:
            raise LocalModelError(
                f"too little memory for {len(prompts)} prompts at once; pass a smaller batch_size"
            ) from error
        return [self._answer(*pair, stops) for pair in zip(tokens, logprobs, strict=True)]

    def _stops(self) -> list[int]:
        """What ends an answer: the tokens that end or begin a text, and the bundle's own."""
        config = getattr(self.model, "generation_config", None)
        ends = getattr(config, "eos_token_id", None)
        ids = {self.tokenizer.eos_token_id, self.tokenizer.bos_token_id}
        ids |= set(ends) if isinstance(ends, list) else {ends}
        if self.manifest:
            ids.add(self.tokenizer.convert_tokens_to_ids(self.manifest.stop))
        if not (known := sorted(i for i in ids if isinstance(i, int))):
            raise LocalModelError("the tokenizer has no eos_token, so that no answer would end")
        return known

    def _answer(self, tokens: list[int], logprobs: list[float], stops: Sequence[int]) -> Answer:
        """The answer in one row of a batch: what follows its first stop token is padding."""
        end = next((i for i, token in enumerate(tokens) if token in stops), None)
        count = len(tokens) if end is None else end + 1
        text = self.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        total = math.fsum(logprobs[:count])
        return Answer(
            predicted=extract_sql(text),
            model=self.name,
            confidence=None if math.isnan(total) else math.exp(min(total, 0.0)),
            truncated=end is None,
            completion_tokens=count,
        )


def _check_model(model: Any) -> None:
    if not callable(getattr(model, "generate", None)) or not hasattr(model, "config"):
        kind = type(model).__name__
        raise LocalModelError(f"expected a transformers or PEFT model, found {kind}")
    if getattr(model.config, "is_encoder_decoder", False):
        raise LocalModelError("only decoder-only models can be asked, this one has an encoder")


def _find_tokenizer(model: Any) -> Any:
    path = getattr(model.config, "_name_or_path", "")
    try:
        from transformers import AutoTokenizer

        if path:
            return AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise LocalModelError(f"no tokenizer at {path!r}: pass tokenizer=") from error
    raise LocalModelError("the model does not say where it is from: pass tokenizer=")


def _ids(encoded: Mapping[str, list[int]]) -> list[int]:
    return list(encoded["input_ids"])


def _max_positions(model: Any) -> float:
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else None
    return getattr(config, "max_position_embeddings", None) or math.inf


@contextmanager
def _undisturbed(model: Any, *, without_adapter: bool) -> Iterator[None]:
    """In evaluation mode, every module set back to its own mode at the end."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with model.disable_adapter() if without_adapter else nullcontext():
            yield
    finally:
        for module, was_training in modes.items():
            module.training = was_training


def _generate(
    model: Any, prompts: Sequence[list[int]], stops: list[int], max_new_tokens: int
) -> tuple[list[list[int]], list[list[float]]]:
    """The tokens of the greedy answers, a row a prompt, and the natural log-probability of each.

    Whatever the model's own generation settings say of sampling or penalties is left out.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    width = max(map(len, prompts))
    padding = [[stops[0]] * (width - len(ids)) for ids in prompts]
    mask = [[0] * len(pad) + [1] * (width - len(pad)) for pad in padding]
    tokens = [pad + ids for pad, ids in zip(padding, prompts, strict=True)]
    logprobs: list[Any] = []

    def record(_: Any, logits: Any) -> Any:
        logprobs.append(torch.log_softmax(logits.float(), dim=-1).amax(dim=-1))
        return logits

    written = model.generate(
        input_ids=torch.tensor(tokens, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        generation_config=GenerationConfig(
            do_sample=False,
            num_beams=1,
            temperature=1.0,
            top_p=1.0,
            top_k=50,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            max_new_tokens=max_new_tokens,
            eos_token_id=stops,
            pad_token_id=stops[0],
            use_cache=True,
        ),
        logits_processor=LogitsProcessorList([record]),
    )
    return written[:, width:].tolist(), torch.stack(logprobs, dim=1).tolist()
