"""Ours against plain TRL in pairs of blocks, and the figure that comes of them.

TRL and ours take turns, so that whatever else slows the machine down slows both. Each block of a
side has the next of several learning rates: speed does not depend on it, and the loss of each side
is that of its best.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eval.task.figure import Figure
from trainer.speed.block import Block, Side, Who

UNIT = "times the tokens/s of plain TRL, after warm-up"
# Sides that are measured besides the pair train on this share of the tokens, once.
EXTRA_SHARE = 0.25


class RunsBlocks(Protocol):
    """`trainer.speed.block.Bench`, or what a test has in its place."""

    def run(self, side: Side, learning_rate: float, *, num_tokens: int | None = None) -> Block: ...


@dataclass(frozen=True)
class Course:
    """What is measured, in order: `pairs` times TRL and ours by the first of each side's batches,
    then once each of the others."""

    trl: tuple[int, ...]
    ours: tuple[int, ...]
    learning_rates: tuple[float, ...]
    pairs: int
    num_tokens: int
    our_epochs: int = 1

    def steps(self) -> Iterator[tuple[Side, float, int | None]]:
        """Side, learning rate and, of those besides the pairs, the number of tokens."""
        first = (Side("trl", self.trl[0]), Side("ours", self.ours[0], self.our_epochs))
        for turn in range(self.pairs):
            for side in first:
                yield side, self.learning_rates[turn % len(self.learning_rates)], None
        fewer = round(EXTRA_SHARE * self.num_tokens)
        others = (
            *(Side("trl", n) for n in self.trl[1:]),
            *(Side("ours", n) for n in self.ours[1:]),
        )
        for side in others:
            yield side, self.learning_rates[0], fewer


def take(course: Course, bench: RunsBlocks, *, is_late: Callable[[], bool]) -> Iterator[Block]:
    """Blocks as they are done; none is begun when it is late, but for the first pair."""
    for number, (side, learning_rate, num_tokens) in enumerate(course.steps()):
        if number >= 2 and is_late():
            return
        yield bench.run(side, learning_rate, num_tokens=num_tokens)


def pairs_of(blocks: Sequence[Block]) -> list[tuple[Block, Block]]:
    """TRL's block and ours of each whole pair."""
    compared = [block for block in blocks if block.dev_loss is not None]
    found: dict[Who, list[Block]] = {
        who: [block for block in compared if block.side.who == who] for who in ("trl", "ours")
    }
    return list(zip(found["trl"], found["ours"], strict=False))


def figure_of(name: str, blocks: Sequence[Block], *, is_whole: bool, context: str) -> Figure:
    """The figure of the pairs so far: the median of their ratios, as interval the least and the
    greatest.

    Raises:
        ValueError: no pair is whole.
    """
    pairs = pairs_of(blocks)
    if not pairs:
        raise ValueError("no pair of blocks is whole")
    ratios = [ours.rate / trl.rate for trl, ours in pairs]
    notes = [
        context,
        losses(pairs),
        f"each pair: the same {pairs[0][0].tokens:,} tokens by both from the start, "
        f"{_epochs(pairs)}; interval: least and greatest ratio of the pairs",
        "tokens of prompts and completions, padding not counted, after the first third of the "
        "steps (at most 10); tokens_per_second_whole: compilation and warm-up included",
        f"with these included the median ratio is {_whole(pairs):.2f}; ours takes "
        f"{statistics.median(ours.seconds / trl.seconds for trl, ours in pairs):.2f} of TRL's time",
    ]
    if not is_whole:
        notes.append("stopped before all blocks were done")
    return Figure(
        name,
        value=round(statistics.median(ratios), 3),
        unit=UNIT,
        n=len(pairs),
        interval=(round(min(ratios), 3), round(max(ratios), 3)) if len(pairs) > 1 else None,
        notes="; ".join(notes),
        rows=rows_of(blocks),
    )


def _epochs(pairs: Sequence[tuple[Block, Block]]) -> str:
    """How often each goes through them: fewer, larger steps need more rounds for the same loss."""
    trl, ours = (side[0].side.epochs for side in zip(*pairs, strict=True))
    return "one epoch" if trl == ours == 1 else f"{trl} epoch by TRL, {ours} by ours"


def _whole(pairs: Sequence[tuple[Block, Block]]) -> float:
    return statistics.median(ours.whole_rate / trl.whole_rate for trl, ours in pairs)


def losses(pairs: Sequence[tuple[Block, Block]]) -> str:
    """What the best learning rate of each side reached, in words."""
    trl, ours = (min(side, key=_loss) for side in zip(*pairs, strict=True))
    verdict = "no higher" if _loss(ours) <= _loss(trl) else "HIGHER"
    return (
        f"dev loss {_loss(ours):.4f} (learning rate {ours.learning_rate:g}) against TRL's "
        f"{_loss(trl):.4f} ({trl.learning_rate:g}): {verdict}"
    )


def _loss(block: Block) -> float:
    assert block.dev_loss is not None
    return block.dev_loss


def rows_of(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """One row a side: speed over its blocks, the most memory, the loss by learning rate."""
    sides = dict.fromkeys(block.side for block in blocks)
    return [_row(side, [b for b in blocks if b.side == side]) for side in sides]


def _row(side: Side, blocks: Sequence[Block]) -> dict[str, Any]:
    rates = [block.rate for block in blocks]
    peaks = [block.peak for block in blocks if block.peak]
    return {
        "trained_by": side.name,
        "blocks": len(blocks),
        "steps": blocks[0].steps,
        "tokens": blocks[0].tokens,
        "tokens_per_second_median": round(statistics.median(rates)),
        "tokens_per_second_min": round(min(rates)),
        "tokens_per_second_max": round(max(rates)),
        "tokens_per_second_whole": [round(block.whole_rate) for block in blocks],
        "peak_gib": _gib(max(p.allocated for p in peaks)) if peaks else None,
        "reserved_gib": _gib(max(p.reserved for p in peaks)) if peaks else None,
        "dev_loss": {
            f"{block.learning_rate:g}": round(block.dev_loss, 4)
            for block in blocks
            if block.dev_loss is not None
        },
    }


def _gib(size: int) -> float:
    return round(size / 2**30, 2)
