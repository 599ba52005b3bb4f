"""Answers of the model that is being trained, in its own process and on its own device.

A small model's decoding is bound by kernel launches: a step takes about as long for 300 sequences
as for one. So sequences are written in rounds, and those that have not ended are batched anew over
all batches: few stragglers then hold up one batch, not each. Knows nothing of SQL or of scores.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from trainer.pipeline.row import Tick

# Half of Spider's queries are written in 24 tokens, nine of ten in 67.
ROUND_TOKENS = 32
# Of one batch, padding included: what its attention masks and its cache may take. Where the device
# has less, a batch is halved.
MAX_BATCH_TOKENS = 1 << 18
MAX_CACHE_BYTES = 16 << 30


class GenerationError(ValueError):
    """A model that can't be asked; the message says why."""


@dataclass
class _Sequence:
    """One answer under way; `place` is its prompt's and its sample's number."""

    place: tuple[int, int]
    prompt: list[int]
    written: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.prompt) + len(self.written)


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 160,
    batch_size: int = 256,
    temperature: float = 0.0,
    num_samples: int = 1,
    seed: int = 0,
    stop_ids: Sequence[int] | None = None,
    tick: Tick | None = None,
) -> list[list[str]]:
    """`num_samples` answers to each prompt, in the prompts' order; greedy at temperature 0.

    A prompt's token ids are those of `tokenizer(prompt)`, as the server sends them. `stop_ids` end
    an answer; by default what ends a text for tokenizer or model, as for the server. `tick` is
    called with the number of answers that have ended. `model` is one of transformers or PEFT, bare
    or wrapped by DDP; it is left as it was found, and so are the random states. In 16 bits a near
    tie between two tokens may fall otherwise in a batch of another shape.

    Raises:
        GenerationError: nothing ends an answer, or a number is out of range.
    """
    _check(max_new_tokens, batch_size, temperature, num_samples)
    inner = causal_lm(model)
    stops = sorted(stop_ids) if stop_ids else _default_stops(inner, tokenizer)
    ids = tokenizer(list(prompts))["input_ids"] if prompts else []
    waiting = [_Sequence((i, k), p) for i, p in enumerate(ids) for k in range(num_samples)]
    texts = [[""] * num_samples for _ in ids]
    with _ready(inner, _settings(stops, temperature)), _seeded(inner.device, seed):
        for sequence in _write(inner, waiting, stops, max_new_tokens, batch_size):
            end = next((i for i, t in enumerate(sequence.written) if t in stops), None)
            i, k = sequence.place
            texts[i][k] = tokenizer.decode(sequence.written[:end], skip_special_tokens=True)
            if tick:
                tick(1)
    return texts


def causal_lm(model: Any) -> Any:
    """The transformers model inside DDP, `torch.compile` and PEFT; LoRA layers stay in it."""
    for name in ("module", "_orig_mod"):
        model = getattr(model, name, model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _check(max_new_tokens: int, batch_size: int, temperature: float, num_samples: int) -> None:
    limits = {"max_new_tokens": max_new_tokens, "batch_size": batch_size}
    for name, value in (limits | {"num_samples": num_samples}).items():
        if value < 1:
            raise GenerationError(f"{name} must be at least 1, is {value}")
    if temperature < 0:
        raise GenerationError(f"temperature must not be negative, is {temperature:g}")
    if num_samples > 1 and not temperature:
        raise GenerationError("at temperature 0 all samples are the same: num_samples must be 1")


def _default_stops(model: Any, tokenizer: Any) -> list[int]:
    ends = getattr(model.generation_config, "eos_token_id", None)
    known = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
    if not (stops := sorted(i for i in known if i is not None)):
        raise GenerationError("the tokenizer has no end-of-sequence token: no answer would end")
    return stops


def _settings(stops: list[int], temperature: float) -> Any:
    """The whole of what decides a token: a model's own penalties and limits are left out."""
    from transformers import GenerationConfig

    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    ends = {"eos_token_id": stops, "pad_token_id": stops[0]}
    return GenerationConfig(**ends, **(sampling if temperature else {"do_sample": False}))


@contextmanager
def _ready(model: Any, settings: Any) -> Iterator[None]:
    """`model` in evaluation mode with cache and SDPA; at the end all is as it was.

    Gradient checkpointing works in training mode only, so it rests by itself. Layers compiled for
    training run uncompiled: else every width of a batch would be compiled.
    """
    import torch

    modes = {module: module.training for module in model.modules()}
    attention, use_cache = model.config._attn_implementation, model.config.use_cache
    own_settings = model.generation_config
    with ExitStack() as stack:
        for module, is_training in modes.items():
            stack.callback(setattr, module, "training", is_training)
        stack.callback(setattr, model, "generation_config", own_settings)
        stack.callback(setattr, model.config, "use_cache", use_cache)
        stack.callback(model.set_attn_implementation, attention)
        model.eval()
        model.set_attn_implementation("sdpa")
        model.config.use_cache = True
        model.generation_config = settings
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_autocast(model))
        yield


def _autocast(model: Any) -> AbstractContextManager[Any]:
    """As in training: float32 adapters on a 16-bit base compute in 16 bits."""
    import torch

    types = {p.dtype for p in model.parameters() if p.is_floating_point()}
    half = next((t for t in (torch.bfloat16, torch.float16) if t in types), None)
    if half is None or torch.float32 not in types:
        return nullcontext()
    return torch.autocast(model.device.type, half)


@contextmanager
def _seeded(device: Any, seed: int) -> Iterator[None]:
    """Random states that start from `seed`; training's own are put back."""
    import torch

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _write(
    model: Any, waiting: list[_Sequence], stops: list[int], max_new_tokens: int, batch_size: int
) -> Iterator[_Sequence]:
    """Each sequence as it ends, at a stop or at `max_new_tokens`."""
    for done in range(0, max_new_tokens, ROUND_TOKENS):
        num_tokens = min(ROUND_TOKENS, max_new_tokens - done)
        unfinished = []
        for batch in _batches(waiting, batch_size, num_tokens, _max_tokens(model)):
            _write_batch(model, batch, stops[0], num_tokens)
            for sequence in batch:
                if len(sequence.written) == max_new_tokens or set(stops) & set(sequence.written):
                    yield sequence
                else:
                    unfinished.append(sequence)
        waiting = unfinished


def _max_tokens(model: Any) -> int:
    """How many tokens a batch may have: SmolLM2-135M's cache takes 23 KB each, Llama-2-7B's 512."""
    config = model.config.get_text_config()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    num_bytes = 2 * config.num_hidden_layers * heads * head_dim * model.dtype.itemsize
    return int(min(MAX_BATCH_TOKENS, MAX_CACHE_BYTES // num_bytes))


def _batches(
    waiting: list[_Sequence], batch_size: int, num_tokens: int, max_tokens: int
) -> Iterator[list[_Sequence]]:
    """Batches of like length and like size, the longest first: what lacks memory fails early."""
    order = sorted(waiting, key=lambda s: (-len(s), s.place))
    if not order:
        return
    even = -(-len(order) // -(-len(order) // batch_size))
    while order:
        size = max(1, min(even, max_tokens // (len(order[0]) + num_tokens)))
        yield order[:size]
        order = order[size:]


def _write_batch(model: Any, batch: list[_Sequence], pad: int, num_tokens: int) -> None:
    """Write up to `num_tokens` on to each sequence; in halves where memory does not suffice.

    Raises:
        torch.OutOfMemoryError: it does not suffice for a single sequence.
    """
    import torch

    try:
        written = _next_tokens(model, batch, pad, num_tokens)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
        written = None
    if written is None:  # outside of the handler, whose traceback holds on to the batch's tensors
        torch.cuda.empty_cache()
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            _write_batch(model, half, pad, num_tokens)
        return
    for sequence, tokens in zip(batch, written, strict=True):
        sequence.written += tokens


def _next_tokens(model: Any, batch: list[_Sequence], pad: int, num_tokens: int) -> list[list[int]]:
    """A row a sequence: what follows a stop token is padding."""
    import torch

    width = max(map(len, batch))
    rows = [[pad] * (width - len(s)) + s.prompt + s.written for s in batch]
    mask = [[0] * (width - len(s)) + [1] * len(s) for s in batch]
    found = model.generate(
        input_ids=torch.tensor(rows, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        max_new_tokens=num_tokens,
    )
    return [list(tokens) for tokens in found[:, width:].tolist()]


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """The active adapter folded into copies of its layers' weights: a third of the kernels.

    W + scale·B·A is worked out in float32 and rounded to the base's dtype, for 4-bit layers that
    which they compute in. The layers themselves are set aside, never written to, so that they are
    back bit for bit. Takes memory for one 16-bit copy of the weights under the adapter.

    Raises:
        GenerationError: the adapter is merged already, or is no plain LoRA on linear layers.
    """
    from peft.tuners.lora import LoraLayer

    layers = [m for m in causal_lm(model).modules() if isinstance(m, LoraLayer)]
    with ExitStack() as stack:
        for layer in layers:
            plain = _folded(layer)
            stack.callback(setattr, layer, "base_layer", layer.base_layer)
            stack.callback(layer.merged_adapters.clear)
            layer.base_layer = plain
            layer.merged_adapters.extend(layer.active_adapters)
        yield


def _folded(layer: Any) -> Any:
    """A plain linear layer that computes what a LoRA layer does."""
    import torch
    from peft.utils.integrations import dequantize_bnb_weight, get_bnb_param_type

    base, names = layer.base_layer, [n for n in layer.active_adapters if n in layer.lora_A]
    is_plain = isinstance(base, torch.nn.Linear) and not any(layer.lora_bias[n] for n in names)
    if layer.merged or layer.lora_variant or not is_plain:
        raise GenerationError("only plain LoRA that is not merged yet can be generated with merged")
    is_4bit = get_bnb_param_type(base.weight) == "4bit"
    if is_4bit and getattr(base.weight.quant_state, "packing_format_for_cpu", False):
        raise GenerationError("4-bit weights that ran on a CPU can't be merged: dequantise them")
    with torch.no_grad():
        weight = dequantize_bnb_weight(base.weight) if is_4bit else base.weight
        delta = sum(layer.get_delta_weight(name).float() for name in names)
        dtype = getattr(base, "compute_dtype", None) or weight.dtype
        folded = torch.nn.Parameter((weight.float() + delta).to(dtype), requires_grad=False)
    plain = torch.nn.Linear(1, 1, bias=False, device="meta")
    plain.in_features, plain.out_features = base.in_features, base.out_features
    plain.weight, plain.bias = folded, base.bias
    return plain
