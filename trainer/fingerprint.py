"""The adapter's fingerprint: what it changes in the base model's next-token distribution.

Made from the saved bundle on the dense base at serving precision, so that it also proves what was
written. Probe prompts are on our own databases. A server that loads the adapter can replay them:
an adapter that changes nothing, or something else than was trained, shows at once.
`python -m trainer.fingerprint BUNDLE` makes it anew for a bundle that exists.
"""

import sys
from pathlib import Path
from typing import Any

from eval.task.base_model import resolve_base_model
from eval.task.bundle import put_evidence, read_bundle
from eval.task.prompt import PromptFormat
from eval.task.samples import sample_examples, sample_schema
from eval.task.sql import check_sql
from eval.task.tables import Schema

TOP_K = 5


def probe_prompts(prompt_format: PromptFormat) -> list[str]:
    """For each sample database its first test question of one table, with that table alone: a
    server on a CPU reads them all before it serves. Each as it is, and with half of the gold query:
    at the start every tuned model is as good as sure of SELECT, which says little of the rest."""
    first: dict[str, list[str]] = {}
    for example in sample_examples("test"):
        schema = sample_schema(example.db_id)
        names = check_sql(example.sql, schema, example.dialect).tables
        if example.db_id not in first and len(names) == 1:
            alone = Schema(tuple(t for t in schema.tables if t.name in names))
            prompt = prompt_format.render(alone, example.question, example.dialect)
            words = example.sql.split(" ")
            first[example.db_id] = [prompt, prompt + " ".join(words[: len(words) // 2])]
    return [prompt for _, prompts in sorted(first.items()) for prompt in prompts]


def write_fingerprint(folder: Path, base: Path | str) -> dict[str, Any]:
    """Write `evidence/fingerprint.json` of the bundle at `folder`, and return it.

    Its form: `{"digest", "top_k", "dtype", "probes": [{"prompt", "tokens", "tuned", "base"}]}`;
    `tokens` are the ids of the tuned model's top-k first completion tokens, `tuned` and `base`
    the natural log-probabilities of just these.

    Raises:
        BundleError: `folder` is no whole bundle.
    """
    bundle = read_bundle(folder)
    model, tokenizer, dtype = _load(base, folder)
    probes = [
        _probe(model, tokenizer, prompt) for prompt in probe_prompts(bundle.manifest.prompt_format)
    ]
    record = {"digest": bundle.digest, "top_k": TOP_K, "dtype": dtype, "probes": probes}
    put_evidence(folder, "fingerprint.json", record)
    return record


def _load(base: Path | str, folder: Path) -> tuple[Any, Any, str]:
    """The dense base (bfloat16 on a GPU, float32 on a CPU, as served) with the saved adapter."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trainer.tuning.model import compute_dtype, device

    dtype = compute_dtype()
    dense = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    model = PeftModel.from_pretrained(dense.to(device()), str(folder)).eval()
    return model, AutoTokenizer.from_pretrained(base), str(dtype).removeprefix("torch.")


def _probe(model: Any, tokenizer: Any, prompt: str) -> dict[str, Any]:
    tuned = _logprobs(model, tokenizer, prompt)
    with model.disable_adapter():
        base = _logprobs(model, tokenizer, prompt)
    tokens = tuned.topk(TOP_K).indices
    return {
        "prompt": prompt,
        "tokens": tokens.tolist(),
        "tuned": [round(v, 5) for v in tuned[tokens].tolist()],
        "base": [round(v, 5) for v in base[tokens].tolist()],
    }


def _logprobs(model: Any, tokenizer: Any, prompt: str) -> Any:
    """Log-probabilities over the vocabulary (float32) of the token after `prompt`."""
    import torch

    ids = tokenizer(prompt, return_tensors="pt")["input_ids"].to(model.device)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, -1]
    return torch.log_softmax(logits.float(), dim=-1)


def main() -> None:
    folder = Path(sys.argv[1])
    base = resolve_base_model(read_bundle(folder).manifest.base_model)
    write_fingerprint(folder, base)


if __name__ == "__main__":
    main()
