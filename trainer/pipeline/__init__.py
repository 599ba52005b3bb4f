"""Data in, rows of tokens out: small named stages that count what they drop and why."""
