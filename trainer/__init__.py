"""Data set in, adapter bundle out: QLoRA fine-tuning of text-to-SQL adapters."""
