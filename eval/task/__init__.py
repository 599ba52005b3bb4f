"""The shared kernel: what a question is, and what passes between the four packages.

Imports the standard library and sqlglot only; heavier imports stay inside functions.
"""
