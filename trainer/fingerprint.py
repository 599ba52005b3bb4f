"""The adapter's fingerprint: what it changes in the base model's next-token distribution.

Probe prompts are on our own databases. A server that loads the adapter replays them: an adapter
that changes nothing, or something else than was trained, shows at once.
"""

from typing import Any

from eval.task.prompt import PromptFormat
from eval.task.samples import sample_examples, sample_schema

TOP_K = 5


def probe_prompts(prompt_format: PromptFormat) -> list[str]:
    """One prompt a sample database: its first test question."""
    first = {e.db_id: e for e in reversed(sample_examples("test"))}
    return [
        prompt_format.render(sample_schema(db_id), example.question, example.dialect)
        for db_id, example in sorted(first.items())
    ]


def fingerprint(model: Any, tokenizer: Any, prompt_format: PromptFormat) -> dict[str, Any]:
    """Top-k log-probabilities of the first completion token, of the tuned model and of the base.

    Returns:
        `{"top_k", "dtype", "probes": [{"prompt", "tokens", "tuned", "base"}]}`; `tokens` are ids,
        `tuned` and `base` natural logarithms for just these tokens.
    """
    probes = []
    for prompt in probe_prompts(prompt_format):
        tuned = _logprobs(model, tokenizer, prompt)
        with model.disable_adapter():
            base = _logprobs(model, tokenizer, prompt)
        tokens = tuned.topk(TOP_K).indices
        probes.append(
            {
                "prompt": prompt,
                "tokens": tokens.tolist(),
                "tuned": [round(v, 5) for v in tuned[tokens].tolist()],
                "base": [round(v, 5) for v in base[tokens].tolist()],
            }
        )
    return {"top_k": TOP_K, "dtype": "nf4 base, bfloat16 compute", "probes": probes}


def _logprobs(model: Any, tokenizer: Any, prompt: str) -> Any:
    """Log-probabilities over the vocabulary (float32) of the token after `prompt`."""
    import torch

    ids = tokenizer(prompt, return_tensors="pt")["input_ids"].to(model.device)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, -1]
    return torch.log_softmax(logits.float(), dim=-1)
