"""Queries in canonical text, so that some pairs can be proved to have one answer."""
