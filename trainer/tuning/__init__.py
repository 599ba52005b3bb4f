"""Rows of tokens in, adapter weights out: QLoRA over packed rows, and what stops and judges it."""
