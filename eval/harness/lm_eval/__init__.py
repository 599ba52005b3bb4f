"""Tasks for EleutherAI's lm-evaluation-harness: `lm_eval --include_path eval/harness/lm_eval`."""
