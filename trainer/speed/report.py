"""The figures of a model's shape: tokens a second at the best, and memory at batch 1."""

from collections.abc import Sequence
from typing import Any

from eval.task.figure import Figure
from trainer.speed.shape import Flops, Speed

GIB = 2**30
NOTES = (
    "random weights, all tokens with a loss; mfu_6n: 6 N FLOPs a token as of full training, "
    "mfu_4n: 4 N + 6 A as LoRA needs (N parameters that multiply, A of the adapter), without "
    "recomputation and attention's own products, as a share of {peak:g} TFLOP/s"
)


def rows_of(speeds: Sequence[Speed], flops: Flops, peak_tflops: float) -> list[dict[str, Any]]:
    """One row a variant, for the figure's file."""
    return [_row(speed, flops, peak_tflops * 1e12) for speed in speeds]


def _row(speed: Speed, flops: Flops, peak_flops: float) -> dict[str, Any]:
    variant = speed.variant
    row: dict[str, Any] = {
        "tokens_per_step": variant.tokens,
        "compiled": variant.is_compiled,
        "base": "held dequantised" if variant.is_dequantised else "nf4",
        "gradient_checkpointing": variant.is_checkpointed,
    }
    if speed.error:
        return row | {"error": speed.error}
    return row | {
        "tokens_per_second": round(speed.rate, 1),
        "peak_gib": round(speed.peak.allocated / GIB, 2) if speed.peak else None,
        "reserved_gib": round(speed.peak.reserved / GIB, 2) if speed.peak else None,
        "mfu_6n": round(speed.rate * flops.full / peak_flops, 4),
        "mfu_4n": round(speed.rate * flops.lora / peak_flops, 4),
    }


def figures_of(
    name: str, speeds: Sequence[Speed], flops: Flops, *, peak_tflops: float, context: str
) -> list[Figure]:
    """`NAME_tokens_per_second`, of the fastest variant, and `NAME_peak_gib`, the most that PyTorch
    took at the smallest batch on a 4-bit base; the latter where memory was counted."""
    rows = rows_of(speeds, flops, peak_tflops)
    notes = f"{context}; {NOTES.format(peak=peak_tflops)}"
    best = max(speeds, key=lambda speed: speed.rate)
    found = [
        Figure(
            f"{name}_tokens_per_second",
            value=round(best.rate, 1),
            unit="tokens/s, the fastest of the rows",
            n=best.variant.num_steps,
            notes=notes,
            rows=rows,
        )
    ]
    least = min(speed.variant.tokens for speed in speeds)
    taken = [
        speed.peak.reserved
        for speed in speeds
        if speed.peak
        and speed.variant.tokens == least
        and not speed.variant.is_dequantised
        and speed.variant.is_checkpointed
    ]
    if taken:
        found.append(
            Figure(
                f"{name}_peak_gib",
                value=round(max(taken) / GIB, 2),
                unit=f"GiB that PyTorch took, {least:,} tokens a step, NF4 base",
                n=len(taken),
                notes=notes,
                rows=rows,
            )
        )
    return found
