"""Adapters that no server must serve: each kind made from a good bundle, with the code it is due.

`python -m benchmarks.hostile_adapters` has our server's own command look at all of them.
"""
