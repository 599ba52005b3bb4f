"""Two results on the same questions, side by side."""
