"""Servers that are read and never written: one module each, one way to reach them."""
