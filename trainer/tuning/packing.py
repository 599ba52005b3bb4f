"""Which examples go into which batch, and how a batch looks: one row without padding.

The whole run's batches are planned before it starts: every step has the same number of micro
batches, every epoch its own order. So a run that goes on after a kill, and one on several devices,
see what an undisturbed run on one device sees. Knows nothing of models.
"""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

IGNORED = -100
# Micro batches that are being filled at the same time: more leave less room empty.
NUM_OPEN = 8


@dataclass(frozen=True)
class Plan:
    """`batches[i]` are the examples (by number) of micro batch i; a step takes `per_step`."""

    batches: tuple[tuple[int, ...], ...]
    per_step: int

    @property
    def num_steps(self) -> int:
        return len(self.batches) // self.per_step

    def of_device(self, rank: int, devices: int) -> list[tuple[int, ...]]:
        """The micro batches that device `rank` of `devices` computes, in order.

        Raises:
            ValueError: a step's micro batches can't be shared out evenly.
        """
        if self.per_step % devices:
            raise ValueError(f"{self.per_step} micro batches a step don't divide by {devices}")
        return list(self.batches[rank::devices])


def plan_batches(
    lengths: Sequence[int], *, epochs: float, capacity: int, per_step: int, seed: int
) -> Plan:
    """Pack examples of `lengths` tokens into micro batches of at most `capacity` tokens.

    Each epoch takes every example once in an order of its own; the last, where `epochs` is no whole
    number, takes a share. A last step that is not whole is filled up with the first micro batches.

    Raises:
        ValueError: there are no examples, or one is longer than `capacity`.
    """
    if not lengths or max(lengths) > capacity:
        raise ValueError(f"examples of 1 to {capacity} tokens are needed")
    num_seen = max(1, round(epochs * len(lengths)))
    order: list[int] = []
    while len(order) < num_seen:
        epoch = list(range(len(lengths)))
        random.Random(f"{seed}:{len(order)}").shuffle(epoch)
        order += epoch
    batches = list(_pack(order[:num_seen], lengths, capacity))
    first = itertools.islice(itertools.cycle(batches), -len(batches) % per_step)
    return Plan((*batches, *first), per_step)


def _pack(order: Sequence[int], lengths: Sequence[int], capacity: int) -> Iterator[tuple[int, ...]]:
    """First fit over a few open batches; the fullest is closed when none has room."""
    opened: list[tuple[int, list[int]]] = []
    for number in order:
        length = lengths[number]
        place = next((i for i, (used, _) in enumerate(opened) if used + length <= capacity), None)
        if place is not None:
            used, members = opened[place]
            opened[place] = (used + length, [*members, number])
            continue
        if len(opened) == NUM_OPEN:
            fullest = max(range(NUM_OPEN), key=lambda i: opened[i][0])
            yield tuple(opened.pop(fullest)[1])
        opened.append((length, [number]))
    for _, members in opened:
        yield tuple(members)


@dataclass(frozen=True)
class Packer:
    """Puts examples into one row of exactly `capacity` tokens, so that shapes never change.

    What is left is filled with an example of padding that nothing else sees and that has no loss.
    """

    capacity: int
    max_length: int
    max_examples: int
    pad_id: int

    def __call__(self, examples: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Any]:
        """A batch: `input_ids`, `position_ids` (1, capacity); `cu_seq_lens` (max_examples + 2),
        int32; `logits_to_keep` (n,), the places whose next token is a completion's, and `labels`
        (n,), these next tokens."""
        import torch

        ids: list[int] = []
        positions: list[int] = []
        borders = [0]
        places: list[int] = []
        labels: list[int] = []
        for example in examples:
            start, tokens = len(ids), example["input_ids"]
            first = len(tokens) - sum(example["completion_mask"])
            ids += tokens
            positions += range(len(tokens))
            borders.append(len(ids))
            places += range(start + first - 1, len(ids) - 1)
            labels += tokens[first:]
        rest = self.capacity - len(ids)
        positions += (i % self.max_length for i in range(rest))
        borders += range(len(ids) + self.max_length, self.capacity, self.max_length)
        borders += [self.capacity] * (self.num_borders - len(borders))
        return {
            "input_ids": torch.tensor([ids + [self.pad_id] * rest]),
            "position_ids": torch.tensor([positions]),
            "cu_seq_lens": torch.tensor(borders, dtype=torch.int32),
            "logits_to_keep": torch.tensor(places),
            "labels": torch.tensor(labels),
        }

    @property
    def num_borders(self) -> int:
        """One more than the most examples, those of padding included."""
        return self.max_examples + 2 + self.capacity // self.max_length
