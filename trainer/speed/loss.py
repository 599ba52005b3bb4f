"""The loss on rows that were not trained on: one function for every trainer's model."""

from typing import Any

from trainer.tuning.packing import Packer, plan_batches


def completion_loss(model: Any, rows: Any, pad_id: int, *, device_tokens: int = 16_384) -> float:
    """The mean cross entropy (nats) of the completions' tokens of `rows`, a data set of
    `input_ids` and `completion_mask`.

    The rows are packed, so that padding has no part in it. `model`, a PEFT model, is changed: it
    has the attention that packed rows need, and its base is held dequantised, since bitsandbytes
    computes otherwise where no gradient is asked for. What was compiled runs as it was written.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from trainer.tuning.attention import register
    from trainer.tuning.model import dequantise

    model.get_base_model().set_attn_implementation(register())
    dequantise(model.get_base_model())
    lengths = [len(ids) for ids in rows["input_ids"]]
    capacity = max(device_tokens, *lengths)
    plan = plan_batches(lengths, epochs=1, capacity=capacity, per_step=1, seed=0)
    packer = Packer(capacity, max(lengths), max(map(len, plan.batches)), pad_id)
    total, count = 0.0, 0
    model.eval()
    device = next(model.parameters()).device
    with (
        torch.no_grad(),
        torch.autocast(device.type, torch.bfloat16, enabled=torch.cuda.is_available()),
        torch.compiler.set_stance("force_eager"),
    ):
        for batch in plan.batches:
            inputs = {k: v.to(device) for k, v in packer([rows[i] for i in batch]).items()}
            labels = inputs.pop("labels")
            logits = model(**inputs, max_seq_len=packer.max_length, use_cache=False).logits[0]
            total += float(cross_entropy(logits.float(), labels, reduction="sum"))
            count += len(labels)
    return total / count
