"""How much memory training takes, by arithmetic: before a run, and what to change when one failed.

For decoders with Llama's layers (SmolLM, Qwen, Mistral, …) on one device; others come out roughly.
Nothing is loaded or measured. The figures are a GPU's; a CPU, which computes in 32 bits, takes up
to twice as much.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trainer.config import ALL_LINEAR, TrainConfig

GIB = 2**30
# A base is held dequantised where its 16-bit weights take at most this share of the memory.
DEQUANTISED_SHARE = 0.15
# Half a byte; of every 64 weights one 8-bit scale, of every 256 scales one in 32 bits (Dettmers et
# al. 2023, "QLoRA", section 3: double quantisation).
NF4_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)
# cuBLAS's own memory on a Hopper card, as PyTorch counts it.
WORKSPACE_BYTES = 64 * 2**20
# What is left for tensors beside CUDA's context and the holes between them.
USABLE_SHARE = 0.92
# Activations are worked out again where the estimate without that takes more than this share.
CHECKPOINTING_SHARE = 0.85
# Tokens with a loss, of all tokens: 11.6 % of Spider's.
COMPLETION_SHARE = 1 / 8
LEAST_LENGTH = 256
LEAST_RANK = 4
ATTENTION_INPUTS = frozenset({"q_proj", "k_proj", "v_proj"})
MLP_INPUTS = frozenset({"gate_proj", "up_proj"})


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder with Llama's layers."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    is_tied: bool

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of one layer's matrices."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def num_linear(self) -> int:
        """Parameters of all layers' matrices: those that are quantised."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears.values())

    @property
    def num_parameters(self) -> int:
        norms = (2 * self.layers + 1) * self.hidden
        return self.num_linear + norms + self.vocab * self.hidden * (1 if self.is_tied else 2)

    def targets(self, config: TrainConfig) -> dict[str, tuple[int, int]]:
        """Those of `linears` that get LoRA."""
        everything = config.target_modules == (ALL_LINEAR,)
        return {k: v for k, v in self.linears.items() if everything or k in config.target_modules}

    def num_adapter(self, config: TrainConfig) -> int:
        """Parameters of the adapter: two matrices a target, (rank, inputs) and (outputs, rank)."""
        return self.layers * config.rank * sum(map(sum, self.targets(config).values()))


def shape_of(model_config: Any) -> Shape:
    """The sizes in a transformers config; a model with no `intermediate_size` has the usual one."""
    config = model_config.get_text_config()
    heads = config.num_attention_heads
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocab=config.vocab_size,
        is_tied=bool(config.tie_word_embeddings),
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak, when the backward pass begins. `adapter` is weights and gradients;
    `activations` what the forward pass keeps, and matrices while they are dequantised."""

    weights: int
    adapter: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        parts = self.weights + self.adapter + self.optimizer + self.activations + self.logits
        return parts + WORKSPACE_BYTES

    def __str__(self) -> str:
        names = ("weights", "adapter", "optimizer", "activations", "logits")
        return ", ".join(f"{name} {getattr(self, name) / GIB:.2f}" for name in names)


def estimate(
    config: TrainConfig,
    shape: Shape,
    total_bytes: int,
    *,
    is_compiled: bool | None = None,
    completion_share: float = COMPLETION_SHARE,
) -> Memory:
    """What one device needs; `total_bytes`, its memory, decides where the recipe says `auto`.

    Adapter and optimiser: PEFT keeps LoRA in 32 bits, so 4 bytes a weight, 4 its gradient, 8 Adam's
    two moments. Logits: of completions only; 4 bytes each for log-probabilities, their gradient and
    the logits' gradient. `is_compiled` None: as the recipe's `compile`, `auto` as not compiled.
    """
    num_adapter = shape.num_adapter(config)
    keeps_layers = not is_checkpointed(config, shape, total_bytes)
    compiled = config.compile == "always" if is_compiled is None else is_compiled
    held_in_16_bits = is_dequantised(config, shape, total_bytes)
    layer = layer_bytes(config, shape, is_compiled=compiled, is_plain=held_in_16_bits)
    kept = shape.layers * layer if keeps_layers else shape.layers * 2 * shape.hidden + layer
    largest = max(inputs * outputs for inputs, outputs in shape.linears.values())
    return Memory(
        weights=_weight_bytes(shape, is_plain=held_in_16_bits),
        adapter=8 * num_adapter,
        optimizer=8 * num_adapter,
        activations=kept * config.device_tokens + (0 if held_in_16_bits else 2 * largest),
        logits=round(12 * shape.vocab * completion_share * config.device_tokens),
    )


def layer_bytes(config: TrainConfig, shape: Shape, *, is_compiled: bool, is_plain: bool) -> int:
    """Bytes a token that one layer's forward pass keeps for the backward pass.

    Counted from the graph, in 16 bits unless said otherwise. Always: attention's queries, keys,
    values (repeated for each head) and output; of the MLP gate and up. For LoRA, which needs its
    inputs: the product of gate and up, and `rank` numbers a target. Not compiled: both norms'
    inputs in 32 bits, the activated gate, and a copy of the input for each target, since PEFT casts
    it (a 4-bit layer does not under autocast, and its neighbours share one input). Compiled: the
    layer's input in 32 bits, what comes between its halves, one input for all neighbours, and the
    rest is worked out again (PyTorch's min-cut partitioner).
    """
    targets = shape.targets(config)
    attention = 4 * 2 * shape.heads * shape.head_dim
    ranks = 2 * config.rank * len(targets)
    gates = 2 * 2 * shape.intermediate
    if is_compiled:
        return attention + ranks + gates + 6 * shape.hidden + _shared_inputs(targets, shape)
    inputs = (
        sum(2 * width for width, _ in targets.values())
        if is_plain
        else _shared_inputs(targets, shape)
    )
    return attention + ranks + gates + 2 * shape.intermediate + 8 * shape.hidden + inputs


def _shared_inputs(targets: Mapping[str, object], shape: Shape) -> int:
    halves = sum(bool(group & targets.keys()) for group in (ATTENTION_INPUTS, MLP_INPUTS))
    return 2 * shape.hidden * halves + 2 * shape.intermediate * ("down_proj" in targets)


def _weight_bytes(shape: Shape, *, is_plain: bool) -> int:
    linear = shape.num_linear
    return round(2 * (shape.num_parameters - linear) + linear * (2 if is_plain else NF4_BYTES))


def is_dequantised(config: TrainConfig, shape: Shape, total_bytes: int) -> bool:
    """True if the layers' matrices are held in 16 bits."""
    if config.quantisation == "none" or config.dequantise != "auto":
        return config.quantisation == "none" or config.dequantise == "always"
    return 2 * shape.num_parameters <= DEQUANTISED_SHARE * total_bytes


def is_checkpointed(config: TrainConfig, shape: Shape, total_bytes: int) -> bool:
    """True if the backward pass works activations out again."""
    if config.gradient_checkpointing == "auto":
        return checkpointing_needed(config, shape, total_bytes)
    return config.gradient_checkpointing == "always"


def checkpointing_needed(config: TrainConfig, shape: Shape, total_bytes: int) -> bool:
    """True if memory would be short without gradient checkpointing."""
    without = replace(config, gradient_checkpointing="never")
    return estimate(without, shape, total_bytes).total > CHECKPOINTING_SHARE * total_bytes


def fits(
    config: TrainConfig,
    shape: Shape,
    total_bytes: int,
    *,
    completion_share: float = COMPLETION_SHARE,
) -> bool:
    """True if the estimate leaves enough of `total_bytes` for what is not counted."""
    needed = estimate(config, shape, total_bytes, completion_share=completion_share)
    return needed.total <= USABLE_SHARE * total_bytes


def remedy(config: TrainConfig, shape: Shape, total_bytes: int) -> str:
    """The overrides that make a run fit: `device_tokens=8192 …`; "" where nothing helps."""
    return next((text for text, less in _smaller(config) if fits(less, shape, total_bytes)), "")


def out_of_memory(
    config: TrainConfig, said: str, shape: Shape | None = None, total_bytes: int = 0
) -> str:
    """One line for a run that ran out of memory: what to set. With `shape` and `total_bytes` as
    much as the estimate asks for, at least the next step.

    `said` is the error's text; of it the first sentence is repeated.
    """
    steps = list(_smaller(config))
    asked = remedy(config, shape, total_bytes) if shape else ""
    what = asked or (steps[0][0] if steps else "a smaller base_model")
    reason = " ".join(said.split()).partition(". ")[0].rstrip(".")
    return f"out of memory ({reason}): set {what}"


def _smaller(config: TrainConfig) -> Iterator[tuple[str, TrainConfig]]:
    """The config with less and less to hold, and the overrides that lead there: first what leaves
    the result as it is, last what costs quality."""
    given, now = config, config
    while (less := _next_smaller(now)) is not None:
        now = less
        changed = ("device_tokens", "gradient_checkpointing", "dequantise", "max_length", "rank")
        yield (
            " ".join(
                f"{k}={getattr(now, k)}" for k in changed if getattr(now, k) != getattr(given, k)
            ),
            now,
        )


def _next_smaller(config: TrainConfig) -> TrainConfig | None:
    half = config.device_tokens // 2
    if half >= config.max_length and config.batch_tokens % half == 0:
        return replace(config, device_tokens=half)
    if config.gradient_checkpointing != "always":
        return replace(config, gradient_checkpointing="always")
    if config.quantisation == "nf4" and config.dequantise != "never" and not config.dense_share:
        return replace(config, dequantise="never")
    shorter = max(config.max_length // 2, LEAST_LENGTH)
    if shorter < config.max_length and half >= shorter and config.batch_tokens % half == 0:
        return replace(config, max_length=shorter, device_tokens=half)
    if config.rank // 2 >= LEAST_RANK:
        return replace(config, rank=config.rank // 2)
    return None
