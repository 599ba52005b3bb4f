"""Copies of a row with another schema: what makes a model read the prompt, not remember it.

Each module holds one kind of change; `stage.py` draws them. No other model is asked anywhere.
"""
