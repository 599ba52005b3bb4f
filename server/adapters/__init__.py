"""Adapter store on disk to versions that the engine serves."""
