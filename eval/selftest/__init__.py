"""The judge against itself: what it says of golds, of near misses and of golds in other words."""
