"""Adapter bundles in, HTTP out: vLLM as a supervised child behind a FastAPI facade."""
