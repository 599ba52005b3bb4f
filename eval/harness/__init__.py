"""Our items and our judge under other people's evaluation harnesses."""
